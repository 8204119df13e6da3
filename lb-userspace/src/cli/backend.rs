//! `xlb backend add|remove` and `xlb reload`: one API call each.

use super::args::{BackendAddArgs, BackendCommand, BackendRemoveArgs, ChangeArgs, Format, ReloadArgs};
use super::client::{Client, path_segment};
use super::exit::{CliError, Exit};
use super::output;
use crate::view::{AddBackend, Changed, Reloaded};

/// Runs `xlb backend ...`.
pub(super) fn backend(command: &BackendCommand) -> Result<Exit, CliError> {
    match command {
        BackendCommand::Add(args) => add(args),
        BackendCommand::Remove(args) => remove(args),
    }
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
    let changed: Changed = Client::from(&args.change.socket).post("/v1/backends", &request)?;
    print(&changed, &args.change)
}

fn remove(args: &BackendRemoveArgs) -> Result<Exit, CliError> {
    let path = format!(
        "/v1/services/{}/backends/{}?runtime={}",
        path_segment(&args.service),
        path_segment(&args.backend),
        args.change.runtime,
    );
    let changed: Changed = Client::from(&args.change.socket).delete(&path)?;
    print(&changed, &args.change)
}

fn print(changed: &Changed, args: &ChangeArgs) -> Result<Exit, CliError> {
    match args.output {
        Format::Json => output::json(changed)?,
        Format::Table => output::text(&format!("{}\n", changed.message))?,
    }
    Ok(Exit::Ok)
}

/// Runs `xlb reload`.
pub(super) fn reload(args: &ReloadArgs) -> Result<Exit, CliError> {
    let reloaded: Reloaded = Client::from(&args.socket).post("/v1/reload", &())?;
    match args.output {
        Format::Json => output::json(&reloaded)?,
        Format::Table => {
            for warning in &reloaded.warnings {
                output::note(warning);
            }
            output::text(&format!("reloaded; generation {}\n", reloaded.generation))?;
        }
    }
    Ok(Exit::Ok)
}
