//! The single writer: it alone owns the dataplane. Everything that happens (config, API, probes, netlink, clocks) reaches it
//! through one channel; it compiles the desired image, applies the difference in a safe order and publishes an immutable
//! [`Snapshot`]. It must not block on anything but map system calls.

mod backoff;
mod book;
mod change;
mod chores;
#[cfg(test)]
pub(crate) mod fixture;
mod fold;
mod history;
mod index;
mod outputs;
mod pass;
mod ports;
mod report;
mod settings;
mod snapshot;
mod states;
mod stats;
mod sweep;
mod take;
mod taken_out;
mod warnings;
mod writer;

use std::sync::Arc;

use tokio::sync::oneshot;

pub use book::{Book, Record};
pub use outputs::VipsWanted;
pub use ports::{Port, PortState};
pub use report::{drops_view, status_view};
pub use snapshot::{FailedOp, Origin, Snapshot};
pub use stats::{Sample, Sampler};
pub(crate) use taken_out::newly_taken_out;
pub use writer::{Outputs, Start, Writer};

use crate::agent::Desired;
use crate::dataplane::CpuTotals;
use crate::health::ProbeResult;
use crate::neigh::NetUpdate;
use crate::state::CompileError;
use crate::view::AddressView;

/// Everything that reaches the writer.
#[derive(Debug)]
pub enum Event {
    /// The operator wants something else.
    Desired {
        /// The whole desired state.
        desired: Arc<Desired>,
        /// Gets the generation that holds it.
        reply: oneshot::Sender<Result<u64, ApplyError>>,
    },
    /// A probe has ended.
    Probe(ProbeResult),
    /// Interfaces, addresses or next hops are not what they were.
    Net(NetUpdate),
    /// Whether VIPs and SNAT addresses are here.
    Presence(Vec<AddressView>),
    /// Somebody wants counters of now.
    Sample {
        /// Gets the snapshot with them.
        reply: oneshot::Sender<Arc<Snapshot>>,
    },
    /// Somebody wants the reasons' counters.
    Drops {
        /// Gets them, or why they cannot be read.
        reply: oneshot::Sender<Result<Drops, String>>,
    },
    /// The agent ends; pins and traffic stay.
    Stop,
}

/// Counters of reasons as read from the maps.
#[derive(Clone, Debug)]
pub struct Drops {
    /// By index of [`lb_common::reason`].
    pub reasons: Vec<lb_common::abi::ReasonStats>,
    /// By ifindex.
    pub tx_errors: std::collections::BTreeMap<u32, lb_common::abi::TxErrors>,
    /// Summed over CPUs.
    pub cpu: CpuTotals,
    /// Why `tx_errors` is not complete.
    pub tx_errors_missing: Option<String>,
}

/// Why a desired state is not in the maps.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// No image could be made of it.
    #[error("{0}")]
    Compile(#[from] CompileError),
    /// Writes failed.
    #[error("map write {op} failed: {error} ({left} more writes wait for it)")]
    Ops {
        /// The first that failed.
        op: String,
        /// Why.
        error: String,
        /// Writes that were not tried because of it.
        left: usize,
    },
    /// The writer is gone.
    #[error("the agent is stopping")]
    Stopped,
}
