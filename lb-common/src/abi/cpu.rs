//! `xlb_cpu`: PERCPU_ARRAY of one entry. Connection ids and the token bucket of resets.

use bytemuck::{Pod, Zeroable};

/// State of one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct CpuState {
    /// Connections made on this CPU; the low 40 bits of the next connection id.
    pub connections: u64,
    /// Low 32 bits of the tick at which the bucket was last filled.
    pub rst_filled_at: u32,
    /// Resets that may be sent before the next fill.
    pub rst_tokens: u32,
    /// Times a reply entry's next hop was rewritten because the client's side changed its MAC or interface.
    pub hops_moved: u64,
    /// SNAT tuples taken over less than 60 s after they had closed.
    pub tuples_reused_early: u64,
}

super::layout!(CpuState, size 32, align 8, { connections: 0, rst_filled_at: 8, rst_tokens: 12, hops_moved: 16 });
