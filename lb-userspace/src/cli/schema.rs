//! `xlb schema`: the config's JSON schema, for editors.

use super::exit::{CliError, Exit};
use super::output;
use crate::config;

/// Prints it.
pub(super) fn schema() -> Result<Exit, CliError> {
    output::json(&config::schema())?;
    Ok(Exit::Ok)
}
