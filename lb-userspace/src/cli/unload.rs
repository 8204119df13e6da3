//! `xlb unload`: works without an agent, and only without one.

use serde::Serialize;

use super::args::{Format, UnloadArgs};
use super::exit::{CliError, Exit};
use super::output;
use super::run::denied;
use crate::dataplane::{Dataplane, DataplaneError};
use crate::view::SCHEMA;

/// The JSON answer.
#[derive(Debug, Serialize)]
struct UnloadView {
    schema: u32,
    pin_dir: std::path::PathBuf,
    interfaces: Vec<String>,
    pins_removed: usize,
    kept: Vec<std::path::PathBuf>,
}

/// Detaches and removes.
pub(super) fn unload(args: &UnloadArgs) -> Result<Exit, CliError> {
    let unloaded = Dataplane::unload(&args.pin_dir).map_err(|error| match &error {
        DataplaneError::PinDir { source, .. } if denied(source) => CliError::NotPermitted(error.to_string()),
        _ => CliError::Problem(error.to_string()),
    })?;
    let view = UnloadView {
        schema: SCHEMA,
        pin_dir: args.pin_dir.clone(),
        interfaces: unloaded.interfaces,
        pins_removed: unloaded.removed,
        kept: unloaded.kept,
    };
    match args.output {
        Format::Json => output::json(&view)?,
        Format::Table => output::text(&text(&view))?,
    }
    Ok(Exit::Ok)
}

fn text(view: &UnloadView) -> String {
    let directory = view.pin_dir.display();
    if view.pins_removed == 0 && view.interfaces.is_empty() {
        return format!("nothing is loaded under {directory}\n");
    }
    let interfaces = if view.interfaces.is_empty() {
        "no interface was attached".to_owned()
    } else {
        format!("detached {}", view.interfaces.join(", "))
    };
    let mut text = format!(
        "{interfaces}; removed {} pins under {directory}; nothing is forwarded any more, connections are lost\n",
        view.pins_removed
    );
    for kept in &view.kept {
        output::line(&mut text, &format!("kept {}: not made by xlb", kept.display()));
    }
    text
}
