//! The signals that the agent answers: reload and stop. What they mean is the main loop's business.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::run::{AgentError, system};

/// The signals that are ours. Taken before the program is loaded, which lasts seconds: a reload or a stop in that time
/// waits, where it would otherwise kill.
pub(super) struct Signals {
    pub(super) hangup: Signal,
    pub(super) terminate: Signal,
    pub(super) interrupt: Signal,
}

impl Signals {
    pub(super) fn take() -> Result<Self, AgentError> {
        Ok(Self {
            hangup: signal(SignalKind::hangup()).map_err(system("handle SIGHUP"))?,
            terminate: signal(SignalKind::terminate()).map_err(system("handle SIGTERM"))?,
            interrupt: signal(SignalKind::interrupt()).map_err(system("handle SIGINT"))?,
        })
    }
}
