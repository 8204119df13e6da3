//! `xlb run`: the agent in the foreground.

use super::args::RunArgs;
use super::exit::{CliError, Exit};
use super::logs;
use crate::agent::{self, AgentError, RunOptions};
use crate::dataplane::{DataplaneError, LogObject};

/// Runs until a signal.
pub(super) fn run(args: &RunArgs) -> Result<Exit, CliError> {
    logs::start(args.log_format, &args.log)?;
    let options = RunOptions {
        config: args.config.clone(),
        packet_log: if args.trace_packets {
            LogObject::On
        } else {
            LogObject::Off
        },
    };
    agent::run(&options).map_err(cli_error)?;
    Ok(Exit::Ok)
}

fn cli_error(error: AgentError) -> CliError {
    match &error {
        AgentError::Config(_) | AgentError::Apply(_) => CliError::BadConfig(error.to_string()),
        AgentError::Dataplane(DataplaneError::PinDir { source, .. }) if denied(source) => {
            CliError::NotPermitted(error.to_string())
        }
        AgentError::Capabilities(_) => CliError::NotPermitted(error.to_string()),
        _ => CliError::Problem(error.to_string()),
    }
}

pub(super) fn denied(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::PermissionDenied
}
