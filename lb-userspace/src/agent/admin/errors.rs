//! Refusals in words: what was found, that nothing was changed, and the next step.

use std::path::Path;

use crate::agent::confine;
use crate::agent::desired::{Desired, DesiredError};
use crate::agent::stage::StageError;
use crate::config::write_back::WriteBackError;
use crate::reconcile::ApplyError;
use crate::view::{ApiError, ErrorCode};

const ONLY_RUNS: &str = "it runs but is not in the config file (added with --runtime): repeat with --runtime";

/// What helps when the file is not accepted.
pub(super) fn next_after(error: &DesiredError, path: &Path) -> String {
    match error {
        DesiredError::Read { .. } if confine::is_refused(path) => {
            "the running agent reaches only files under the directories it was started with (docs/running.md): restart it".to_owned()
        }
        _ => format!("correct the file, then: xlb check {}", path.display()),
    }
}

pub(super) fn desired_error(error: &DesiredError, current: &Desired) -> ApiError {
    let (code, next) = match error {
        DesiredError::Change(WriteBackError::NoSuchService { service, .. }) => {
            let next = match current.service(service) {
                Some(_) => ONLY_RUNS.to_owned(),
                None => "xlb service list".to_owned(),
            };
            (ErrorCode::NotFound, Some(next))
        }
        DesiredError::Change(WriteBackError::NoSuchBackend { service, backend, .. }) => {
            let next = match current.backend(service, backend) {
                Some(_) => ONLY_RUNS.to_owned(),
                None => format!("xlb backend list {service}"),
            };
            (ErrorCode::NotFound, Some(next))
        }
        DesiredError::Change(WriteBackError::Duplicate { .. } | WriteBackError::ServiceExists { .. }) => {
            (ErrorCode::Exists, None)
        }
        DesiredError::Misfit(misfit) => {
            let service = &misfit.service;
            let next = format!("xlb override save {service} or xlb override drop {service}, then again");
            (ErrorCode::OverrideInTheWay, Some(next))
        }
        DesiredError::Change(_)
        | DesiredError::Read { .. }
        | DesiredError::Check { .. }
        | DesiredError::WouldBreak { .. }
        | DesiredError::Trust { .. } => (ErrorCode::BadConfig, None),
    };
    ApiError {
        code,
        message: unchanged(&error.to_string()),
        next,
    }
}

/// With what became of it: behind a quoted line on a line of its own.
fn unchanged(error: &str) -> String {
    let end = if error.contains('\n') { "\n" } else { "; " };
    format!("{error}{end}nothing was changed")
}

pub(super) fn stage_error(error: &StageError, undone: &str) -> ApiError {
    let code = error.code().id;
    let next = match error {
        StageError::ChangedOnDisk(_) => "xlb reload, then again; or --runtime to change only the running state",
        _ => "repeat with --runtime to change only the running state",
    };
    ApiError {
        code: ErrorCode::NotWritable,
        message: format!("{code}: {error}; {undone}"),
        next: Some(format!("{next}; more: xlb explain {code}")),
    }
}

pub(super) fn apply_error(error: &ApplyError, undone: &str) -> ApiError {
    let code = match error {
        ApplyError::Stopped => ErrorCode::Unavailable,
        ApplyError::Compile(_) => ErrorCode::BadConfig,
        ApplyError::Ops { .. } => ErrorCode::ApplyFailed,
    };
    ApiError {
        code,
        message: format!("{error}; {undone}"),
        next: Some("xlb status".to_owned()),
    }
}
