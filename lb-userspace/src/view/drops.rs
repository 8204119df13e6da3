//! `GET /v1/drops`: why packets were dropped, left to the kernel or answered, and what the kernel failed to send.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// Counts since the maps were made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DropsView {
    /// [`super::SCHEMA`].
    pub schema: u32,
    /// When the counters were read.
    pub now: Timestamp,
    /// Seconds the rates were measured over; 0 before the command has sampled twice.
    pub interval_s: f64,
    /// Every drop reason, also those that never happened.
    pub drops: Vec<DropRow>,
    /// Every reason to leave a packet to the kernel.
    pub passes: Vec<PassRow>,
    /// Every reason to answer a packet.
    pub answers: Vec<AnswerRow>,
    /// What was lost after the program had said "redirect", by interface.
    pub tx_errors: Vec<TxErrorRow>,
    /// Whether `tx_errors` can be trusted: absent, or why the tracepoints are not attached.
    pub tx_errors_missing: Option<String>,
    /// Counters that are no reason.
    pub cpu: CpuCountersView,
}

/// One reason. (Three names for one shape, so that a table cannot mix them.)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DropRow {
    /// Name, as in metrics and docs/reasons.md.
    pub reason: String,
    /// Packets.
    pub packets: u64,
    /// Bytes, Ethernet header included.
    pub bytes: u64,
    /// Packets per second over the interval.
    pub packets_per_s: f64,
    /// What it means and what to do.
    pub meaning: String,
}

/// A reason to leave a packet to the kernel.
pub type PassRow = DropRow;
/// A reason to answer a packet.
pub type AnswerRow = DropRow;

/// Transmit failures of one interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TxErrorRow {
    /// Interface name, `#7` when it has none any more, `-` when the device map had no entry.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// Frames refused at redirect.
    pub redirect_errors: u64,
    /// Frames the driver did not take.
    pub xmit_drops: u64,
    /// Failures per second over the interval.
    pub errors_per_s: f64,
    /// Newest redirect error, in words.
    pub last_redirect_error: Option<String>,
    /// Newest transmit error, in words.
    pub last_xmit_error: Option<String>,
}

/// Sums over `xlb_cpu`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuCountersView {
    /// Connections made.
    pub connections: u64,
    /// Times a client-side next hop moved.
    pub hops_moved: u64,
    /// SNAT tuples reused less than 60 s after they had closed.
    pub tuples_reused_early: u64,
}
