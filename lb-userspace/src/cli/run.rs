//! `xlb run`: the agent in the foreground.

use tracing_subscriber::EnvFilter;

use super::args::{LogFormat, RunArgs};
use super::exit::{CliError, Exit};
use super::output::Paint;
use crate::agent::{self, AgentError, RunOptions};
use crate::dataplane::{DataplaneError, LogObject};

/// Runs until a signal.
pub(super) fn run(args: &RunArgs) -> Result<Exit, CliError> {
    // netlink_proto calls every message it does not know an error, and the kernel has many.
    let directives = format!("netlink_proto=off,{}", args.log);
    let filter = EnvFilter::try_new(directives).map_err(|error| {
        CliError::Problem(format!(
            "--log '{}': {error}; next: --log info, or --log info,lb_userspace::health=debug",
            args.log
        ))
    })?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(Paint::for_stderr() == Paint::Color)
        .with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
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
        _ => CliError::Problem(error.to_string()),
    }
}

pub(super) fn denied(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::PermissionDenied
}
