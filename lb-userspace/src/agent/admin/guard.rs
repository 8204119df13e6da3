//! Who asks, and against which desired state: a write that was made against another one is refused, so that nobody
//! overwrites what he has not seen (HTTP's If-Match, RFC 9110, 13.1.1).

use crate::agent::desired::Desired;
use crate::view::{ApiError, ErrorCode};

/// Who asks for a change.
#[derive(Clone, Debug)]
pub struct Caller {
    /// For the log and the list of overrides.
    pub by: String,
    /// What the change was made against.
    pub expected: Expected,
}

/// The desired state that a write was made against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Whichever runs.
    Any,
    /// One of these revisions, as the caller wrote them.
    OneOf(Vec<String>),
}

impl Caller {
    /// The agent itself, for this reason.
    pub fn agent(cause: &str) -> Self {
        Self {
            by: cause.to_owned(),
            expected: Expected::Any,
        }
    }

    /// Refuses what was made against another state than `current`.
    pub(super) fn refuse_unless_seen(&self, current: &Desired) -> Result<(), ApiError> {
        let Expected::OneOf(revisions) = &self.expected else {
            return Ok(());
        };
        let running = current.revision;
        if revisions.iter().any(|revision| *revision == running.to_string()) {
            return Ok(());
        }
        let parsed = revisions.iter().filter_map(|revision| revision.parse().ok());
        let why = if parsed.into_iter().any(|revision| running.is_of_run(revision)) {
            "somebody changed it in between"
        } else {
            "no state since this agent's start has that name"
        };
        Err(ApiError {
            code: ErrorCode::RevisionMoved,
            message: format!(
                "the change was made against revision {}, and {running} is what runs: {why}; nothing was changed",
                revisions.join(" or "),
            ),
            next: Some(format!(
                "look again (xlb status, xlb override list); if the change is still wanted: --if-revision {running}"
            )),
        })
    }
}
