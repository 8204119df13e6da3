//! `xlb status`: one screen, worst first; the exit code is the health.

mod header;
mod rows;
#[cfg(test)]
mod tests;
mod text;

pub(super) use rows::{sentences, table, without_backends};
pub(super) use text::Detail;
pub use text::status_text;

use super::args::{StatusArgs, WideFormat};
use super::client::Client;
use super::exit::{CliError, Exit};
use super::output::{self, Paint};
use crate::view::{Overall, StatusView};

/// Asks, prints, and judges.
pub(super) fn status(args: &StatusArgs) -> Result<Exit, CliError> {
    let view: StatusView = Client::from(&args.socket).get("/v1/status")?;
    match args.output {
        WideFormat::Json => output::json(&view)?,
        WideFormat::Table => output::text(&status_text(&view, Paint::for_stdout(), Detail::Screen))?,
        WideFormat::Wide => output::text(&status_text(&view, Paint::for_stdout(), Detail::Wide))?,
    }
    Ok(match view.overall {
        Overall::Ok => Exit::Ok,
        Overall::Degraded => Exit::Problem,
    })
}
