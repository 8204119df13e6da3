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
use crate::view::{FlowState, FlowView};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// A handshake that was on its way when the drain began may still become a connection: nothing must be seen twice.
const EMPTY_LOOKS: u32 = 2;

/// Waits for the backend of this name; progress goes to standard error.
pub(super) fn wait(args: &BackendDrainArgs, backend: &str) -> Result<Exit, CliError> {
    let client = Client::from(&args.change.socket);
    let mut progress = Progress::default();
    let end = Instant::now() + args.timeout;
    let mut empty = 0;
    loop {
        let left = left(&client, &args.service, backend)?;
        empty = if left == 0 { empty + 1 } else { 0 };
        if empty == EMPTY_LOOKS {
            progress.end();
            output::note(&format!(
                "backend {} of service {} has no open connection",
                backend, args.service
            ));
            return Ok(Exit::Ok);
        }
        progress.show(left);
        if Instant::now() >= end {
            progress.end();
            output::error(&format!(
                "backend {} of service {} still has {left} open connections after {} s; it takes no new ones\n  next: xlb \
                 flows --service {} --backend {}; wait longer with --timeout, or stop the server to end them",
                backend,
                args.service,
                args.timeout.as_secs(),
                args.service,
                backend
            ));
            return Ok(Exit::Timeout);
        }
        sleep(EVERY.min(end.saturating_duration_since(Instant::now())));
    }
}

/// Open connections of a backend, half-open ones included.
fn left(client: &Client, service: &str, backend: &str) -> Result<u64, CliError> {
    let path = format!(
        "/v1/flows?service={}&backend={}",
        path_segment(service),
        path_segment(backend)
    );
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
            drop(write!(io::stderr().lock(), "\r{left} open connections left "));
        } else {
            output::note(&format!("{left} open connections left"));
        }
    }

    fn end(&self) {
        if self.shown.is_some() && io::stderr().is_terminal() {
            drop(writeln!(io::stderr().lock()));
        }
    }
}
