//! Exit codes (OPERATORS.md) and the errors that lead to them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::view::{ApiError, ErrorCode};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, and all is well.
    Ok,
    /// Done, and there is a problem: degraded, a difference, a finding.
    Problem,
    /// The arguments make no sense.
    Usage,
    /// No agent answers.
    Unreachable,
    /// It took too long.
    Timeout,
    /// Not permitted.
    Denied,
    /// The config does not pass the check at start (`EX_CONFIG`).
    BadConfig,
}

impl Exit {
    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Problem => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Timeout => 4,
            Self::Denied => 5,
            Self::BadConfig => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Nobody listens on the socket.
    #[error(
        "no agent answers on {}: {source}\n  next: start one with 'xlb run --config FILE', or name its socket with --socket or XLB_SOCKET",
        socket.display()
    )]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What connect said.
        source: std::io::Error,
    },
    /// The socket may not be opened by this user.
    #[error(
        "the agent's socket {} may not be used by this user: {source}\n  next: run as root or as a member of the socket's group ('ls -l {}')",
        socket.display(), socket.display()
    )]
    Denied {
        /// The socket.
        socket: PathBuf,
        /// What connect said.
        source: std::io::Error,
    },
    /// The agent did not answer in time.
    #[error(
        "the agent on {}{} did not answer within {} s\n  next: its log ('journalctl -u xlb'); where it is stuck, kill it (-9) and \
         start it again: traffic goes on meanwhile",
        socket.display(), process(*.pid), within.as_secs_f32()
    )]
    Timeout {
        /// The socket.
        socket: PathBuf,
        /// The process that listens there.
        pid: Option<i32>,
        /// How long was waited.
        within: Duration,
    },
    /// There is an agent, and it takes no connections.
    #[error(
        "the agent on {} takes no connections: {source}\n  next: its log ('journalctl -u xlb'), 'ss -xlp' for its pid; where it is \
         stuck, kill it (-9) and start it again: traffic goes on meanwhile",
        socket.display()
    )]
    NotAccepting {
        /// The socket.
        socket: PathBuf,
        /// What connect said.
        source: std::io::Error,
    },
    /// The connection broke, or the answer is no answer of ours.
    #[error("the agent on {} gave no usable answer: {what}\n  next: look at its log, and that both are the same version", socket.display())]
    Protocol {
        /// The socket.
        socket: PathBuf,
        /// What happened.
        what: String,
    },
    /// The agent refused.
    #[error("{}{}", .0.message, next(.0.next.as_deref()))]
    Refused(ApiError),
    /// The config does not pass at start.
    #[error("{0}")]
    BadConfig(String),
    /// Not permitted by the system.
    #[error("{0}")]
    NotPermitted(String),
    /// Anything else, told in full.
    #[error("{0}")]
    Problem(String),
}

impl CliError {
    /// The exit code it leads to.
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } => Exit::Unreachable,
            Self::Denied { .. } | Self::NotPermitted(_) => Exit::Denied,
            Self::Timeout { .. } | Self::NotAccepting { .. } => Exit::Timeout,
            Self::Refused(error) => match error.code {
                ErrorCode::BadRequest => Exit::Usage,
                _ => Exit::Problem,
            },
            Self::BadConfig(_) => Exit::BadConfig,
            Self::Protocol { .. } | Self::Problem(_) => Exit::Problem,
        }
    }
}

fn process(pid: Option<i32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

fn next(step: Option<&str>) -> String {
    step.map(|step| format!("\n  next: {step}")).unwrap_or_default()
}
