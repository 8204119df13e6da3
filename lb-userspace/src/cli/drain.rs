//! `xlb backend drain --wait`: what a drained backend still has, until it has nothing.
//!
//! Connections that have ended stay in the table for their `closing` time; they do not count here.

use std::io::{self, IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::args::BackendDrainArgs;
use super::client::{Client, path_segment};
use super::exit::{CliError, Exit};
use super::output;
use crate::view::{ErrorCode, FlowState, FlowView};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// A handshake that was on its way when the drain began may still become a connection: nothing must be seen twice.
const EMPTY_LOOKS: u32 = 2;

/// Waits for the backend of this name; progress goes to standard error.
pub(super) fn wait(args: &BackendDrainArgs, backend: &str) -> Result<Exit, CliError> {
    let client = Client::from(&args.change.to.socket);
    let mut progress = Progress::default();
    let end = Instant::now() + args.timeout;
    let mut empty = 0;
    loop {
        let left = match left(&client, &args.service, Some(backend)) {
            // Removed meanwhile, and the maps have forgotten it, because nothing was left.
            Err(CliError::Refused(error)) if error.code == ErrorCode::NotFound => 0,
            left => left?,
        };
        empty = if left == 0 { empty + 1 } else { 0 };
        if empty == EMPTY_LOOKS {
            progress.end();
            output::note(&format!(
                "backend {backend} of service {} has no open connection",
                args.service
            ));
            return Ok(Exit::Ok);
        }
        progress.show(left);
        if Instant::now() >= end {
            progress.end();
            output::error(&timed_out(args, backend, left));
            return Ok(Exit::Timeout);
        }
        sleep(EVERY.min(end.saturating_duration_since(Instant::now())));
    }
}

fn timed_out(args: &BackendDrainArgs, backend: &str, left: u64) -> String {
    let service = &args.service;
    format!(
        "backend {backend} of service {service} still has {} after {} s; it takes no new ones\n  next: xlb flows --service \
         {service} --backend {backend}; wait longer with --timeout, or stop the server to end them",
        connections(left),
        args.timeout.as_secs(),
    )
}

pub(super) fn connections(count: u64) -> String {
    match count {
        1 => "1 open connection".to_owned(),
        _ => format!("{count} open connections"),
    }
}

/// Open connections of a service or of one of its backends, half-open ones included.
pub(super) fn left(client: &Client, service: &str, backend: Option<&str>) -> Result<u64, CliError> {
    let mut path = format!("/v1/flows?service={}", path_segment(service));
    if let Some(backend) = backend {
        path = format!("{path}&backend={}", path_segment(backend));
    }
    let mut open = 0;
    client.lines(&path, |line| {
        let flow: FlowView = serde_json::from_slice(line).map_err(|error| {
            CliError::Problem(format!(
                "a line of the agent's is no connection ({error})\n  next: use the agent's own version of xlb"
            ))
        })?;
        if flow.state != FlowState::Closing {
            open += 1;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(open)
}

/// In place on a terminal, else a line for each change.
#[derive(Debug, Default)]
struct Progress {
    shown: Option<u64>,
}

impl Progress {
    fn show(&mut self, left: u64) {
        if self.shown == Some(left) {
            return;
        }
        self.shown = Some(left);
        if io::stderr().is_terminal() {
            // Nothing can be done where this fails.
            drop(write!(io::stderr().lock(), "\r{} left\u{1b}[K", connections(left)));
        } else {
            output::note(&format!("{} left", connections(left)));
        }
    }

    fn end(&self) {
        if self.shown.is_some() && io::stderr().is_terminal() {
            drop(writeln!(io::stderr().lock()));
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::{BackendCommand, Cli, Command};

    fn args(words: &[&str]) -> BackendDrainArgs {
        let words = ["xlb", "backend", "drain"].iter().chain(words);
        match Cli::try_parse_from(words).expect("a good line").command {
            Command::Backend {
                command: BackendCommand::Drain(args),
            } => args,
            other => panic!("wanted a drain, got {other:?}"),
        }
    }

    #[test]
    fn a_wait_is_ten_minutes_unless_it_is_told() {
        assert_eq!(args(&["web", "a", "--wait"]).timeout, Duration::from_secs(600));
        assert_eq!(
            args(&["web", "a", "--wait", "--timeout", "90s"]).timeout,
            Duration::from_secs(90)
        );
    }

    #[test]
    fn what_is_left_at_the_end_of_the_time_is_said_with_the_next_step() {
        let args = args(&["web", "a", "--wait", "--timeout", "2m"]);
        insta::assert_snapshot!(timed_out(&args, "a", 1));
        insta::assert_snapshot!(timed_out(&args, "a", 12));
    }
}
