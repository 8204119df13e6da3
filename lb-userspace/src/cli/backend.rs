//! `xlb backend ...` and `xlb reload`: one API call each.

mod list;

use super::args::{BackendAddArgs, BackendCommand, BackendRemoveArgs, ChangeArgs, Format, ReloadArgs};
use super::client::{Client, path_segment};
use super::drain;
use super::exit::{CliError, Exit};
use super::output;
use super::removed::removed;
use crate::view::{AddBackend, AdminState, Changed, Reloaded, SetBackend};

/// Runs `xlb backend ...`.
pub(super) fn backend(command: &BackendCommand) -> Result<Exit, CliError> {
    match command {
        BackendCommand::List(args) => list::list(args),
        BackendCommand::Add(args) => add(args),
        BackendCommand::Remove(args) => remove(args),
        BackendCommand::Weight(args) => {
            let request = SetBackend {
                weight: Some(args.weight),
                ..SetBackend::default()
            };
            let changed = set(&args.service, &args.backend, request, &args.change)?;
            print(&changed, &args.change)
        }
        BackendCommand::Ready(args) => {
            let changed = state(&args.service, &args.backend, AdminState::Ready, &args.change)?;
            print(&changed, &args.change)
        }
        BackendCommand::Maint(args) => {
            let changed = state(&args.service, &args.backend, AdminState::Maint, &args.change)?;
            print(&changed, &args.change)
        }
        BackendCommand::Drain(args) => {
            let changed = state(&args.service, &args.backend, AdminState::Drain, &args.change)?;
            print(&changed, &args.change)?;
            if args.wait {
                return drain::wait(args, changed.backend.as_ref().unwrap_or(&args.backend));
            }
            Ok(Exit::Ok)
        }
    }
}

fn state(service: &str, backend: &str, state: AdminState, args: &ChangeArgs) -> Result<Changed, CliError> {
    let request = SetBackend {
        state: Some(state),
        ..SetBackend::default()
    };
    set(service, backend, request, args)
}

fn set(service: &str, backend: &str, mut request: SetBackend, args: &ChangeArgs) -> Result<Changed, CliError> {
    request.runtime = args.runtime;
    let path = format!(
        "/v1/services/{}/backends/{}",
        path_segment(service),
        path_segment(backend)
    );
    Client::from(&args.to).patch(&path, &request)
}

fn add(args: &BackendAddArgs) -> Result<Exit, CliError> {
    let request = AddBackend {
        service: args.service.clone(),
        name: args.name.clone(),
        address: args.target.address,
        port: args.target.port,
        weight: args.weight,
        runtime: args.change.runtime,
    };
    let changed: Changed = Client::from(&args.change.to).post("/v1/backends", &request)?;
    print(&changed, &args.change)
}

fn remove(args: &BackendRemoveArgs) -> Result<Exit, CliError> {
    let path = format!(
        "/v1/services/{}/backends/{}?runtime={}",
        path_segment(&args.service),
        path_segment(&args.backend),
        args.change.runtime,
    );
    let changed: Changed = Client::from(&args.change.to).delete(&path)?;
    removed(&changed, &args.change)
}

/// The answer to a change.
pub(super) fn print(changed: &Changed, args: &ChangeArgs) -> Result<Exit, CliError> {
    match args.output {
        Format::Json => output::versioned_json(changed)?,
        Format::Table => output::text(&format!("{}\n", changed.message))?,
    }
    warn(changed);
    Ok(Exit::Ok)
}

/// What a change leads to, on standard error.
pub(super) fn warn(changed: &Changed) {
    for warning in &changed.warnings {
        let next = warning.next.as_ref().map(|next| format!("\n  next: {next}"));
        let code = Some(&warning.code).filter(|code| code.starts_with("XLB"));
        let code = code.map(|code| format!("[{code}]")).unwrap_or_default();
        output::note(&format!(
            "warning{code}: {}{}",
            warning.message,
            next.unwrap_or_default()
        ));
    }
}

/// Runs `xlb reload`.
pub(super) fn reload(args: &ReloadArgs) -> Result<Exit, CliError> {
    let reloaded: Reloaded = Client::from(&args.to).post("/v1/reload", &())?;
    match args.output {
        Format::Json => output::versioned_json(&reloaded)?,
        Format::Table => {
            for warning in &reloaded.warnings {
                output::note(warning);
            }
            output::text(&format!("{}\n", reloaded.message))?;
        }
    }
    Ok(Exit::Ok)
}
