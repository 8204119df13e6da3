//! `xlb_backend_st`: PERCPU_ARRAY by backend id. `xlb_reason_st`: PERCPU_ARRAY by [`crate::reason`] index. Plain adds
//! on the packet's CPU; a reader sums the CPUs.

use bytemuck::{Pod, Zeroable};

/// Counters of one membership. A service's are the sum of its backends'.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct BackendStats {
    /// Packets forwarded from clients.
    pub packets_in: u64,
    /// Bytes forwarded from clients, Ethernet header included.
    pub bytes_in: u64,
    /// Packets forwarded to clients.
    pub packets_out: u64,
    /// Bytes forwarded to clients, Ethernet header included.
    pub bytes_out: u64,
    /// New connections, half-open ones included.
    pub flows_new: u64,
    /// Connections that were established (promoted).
    pub flows_opened: u64,
    /// Established connections that were reclaimed. Live ones are `flows_opened - flows_closed`.
    pub flows_closed: u64,
    /// RST answered by the backend to a half-open connection.
    pub flows_refused: u64,
}

super::layout!(BackendStats, size 64, align 8, { packets_in: 0, flows_new: 32, flows_closed: 48 });

/// Packets that ended with one reason.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ReasonStats {
    /// Packets.
    pub packets: u64,
    /// Bytes, Ethernet header included.
    pub bytes: u64,
}

super::layout!(ReasonStats, size 16, align 8, { packets: 0, bytes: 8 });
