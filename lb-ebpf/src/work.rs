//! What the slow path works on. It stands in a per-CPU map, not on the stack: keys and values of IPv6 flows alone
//! would fill the 512 bytes that a program and all its subprograms share.
//!
//! One packet at a time uses it: XDP programs do not interrupt each other on a CPU.

use crate::{
    claim::{OurSide, Wanted},
    family::Family,
    flow::Flow,
    forward::Ingress,
    parse::{Facts, L4},
};

/// Scratch of one family.
#[repr(C)]
pub struct Work<F: Family> {
    /// The packet's key, and so the key of its own flow.
    pub key: F::Key,
    /// Key of the other direction.
    pub peer_key: F::Key,
    /// Key of a connection that is in the way: its forward entry.
    pub owner_key: F::Key,
    /// Key of the other direction of `owner_key`; scratch of `flow::reclaim` alone.
    pub reclaim_key: F::Key,
    /// The packet's flow, copied from a table or being made.
    pub flow: Flow<F::Addr>,
    /// The other direction's flow.
    pub peer: Flow<F::Addr>,
    /// A value on its way into a table.
    pub value: F::Value,
    /// An item of the sweep queue.
    pub item: F::SweepItem,
    /// What the packet says.
    pub facts: Facts<F>,
    /// What its TCP or UDP header says.
    pub l4: L4,
    /// Where it came in.
    pub ingress: Ingress,
    /// Tag of `key`, once it is known that no established flow has that.
    pub tag: u32,
    /// Hash of a new flow.
    pub hash: u32,
    /// What a new connection wants at the backend.
    pub wanted: Wanted<F::Addr>,
    /// Our side of the tuple that is tried, and in the end claimed.
    pub ours: OurSide<F::Addr>,
    /// Scratch of `claim` alone: what came of a try.
    pub outcome: u64,
    /// Likewise: the best outcome before it.
    pub oldest: u64,
    /// Likewise: the best outcome of all tries so far.
    pub winners: u64,
    /// Likewise: the try it is of.
    pub winner: u32,
    /// Likewise: after how many tries the search ends if each met a tuple that closed lately.
    pub crowded_probes: u32,
    /// Of the tuples tried, those whose owner's backend closed or reset less than half of `closing` ago.
    pub closed_lately: u32,
}
