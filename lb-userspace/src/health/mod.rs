//! Probes of the backends' internal ports: when each runs, how it connects, and the verdict. A verdict says exactly
//! what happened on the wire and what to do about it; what a row of verdicts means for a backend (rise, fall) is
//! decided in [`crate::state`].
//!
//! A probe leaves through the host's own network stack, from the address that also carries traffic and a port in
//! `check_ports`, which XDP leaves alone. It must never disturb another probe, however long it hangs.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::config::HttpCheck;
use crate::state::BackendRef;

mod blind;
mod body;
mod connect;
mod http;
mod icmp;
mod pulse;
mod scheduler;
mod sentence;
mod tap;
mod tls;
mod trust;
mod verdict;
mod words;

pub use scheduler::start;
pub use tls::TlsSetup;
pub use trust::{Client, Trust, TrustError, look_at_roots};
pub use verdict::{BadBody, BodyEnd, Judgement, PortVerdict, ProbeFault, Speaks, TlsCause, Unreachable};
pub use words::{Cause, WORDS, Word};

/// One probe: what is checked, how, how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Whom the verdict is about. One probe runs per backend; a second one with the same name replaces the first.
    pub backend: BackendRef,
    /// Address and internal port.
    pub target: SocketAddr,
    /// What is done there.
    pub kind: ProbeKind,
    /// From the start of one run to the start of the next; varied by a tenth either way.
    pub interval: Duration,
    /// Limit of a whole run, connecting included.
    pub timeout: Duration,
    /// Our address; `None`: the kernel chooses.
    pub source: Option<IpAddr>,
    /// Ports to bind to (`check_ports`).
    pub source_ports: RangeInclusive<u16>,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// Connects, and sees whether the server closes at once.
    Tcp,
    /// Connects, sends a GET, reads status line and headers, and the body where a text is wanted.
    Http(HttpCheck),
    /// The same inside TLS.
    Https(HttpCheck, TlsSetup),
}

/// The end of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeResult {
    /// Whom it is about.
    pub backend: BackendRef,
    /// Address and internal port that were probed.
    pub target: SocketAddr,
    /// What happened.
    pub verdict: PortVerdict,
    /// How long the run took.
    pub took: Duration,
    /// When it ended.
    pub at: Instant,
}

impl ProbeResult {
    /// The verdict in words, with the next step.
    pub fn sentence(&self) -> String {
        self.verdict.sentence(self.target)
    }
}
