//! A flow outside of a map ([`Flow`]), an entry inside one ([`Entry`]), and when a connection has expired.

mod entry;
mod expiry;
mod half;
mod hit;
mod promote;
mod reclaim;
mod tail;

pub use entry::{Entry, EntryValue, Life};
pub use expiry::{half_open_expired, half_open_idle, idle_ticks, is_expired};
pub use half::half_hit;
pub use hit::{Gone, hit, is_closing, is_gone, touch};
pub use promote::promote;
pub use reclaim::{ReclaimError, reclaim, reclaim_expired, release_half};
pub use tail::{Edit, Hop, State, Tail, Words4, Words6};

use crate::{family::Family, packet::MacWords};

/// The value of a flow entry with the address type of its family; field by field as `FlowValue4` documents them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "lb_common::abi::FlowValue4 documents each field")]
pub struct Flow<A> {
    pub conn_id: u64,
    pub new_src: A,
    pub new_dst: A,
    pub new_src_port: u16,
    pub new_dst_port: u16,
    pub l3_delta: u16,
    pub l4_delta: u16,
    pub last_seen: u32,
    pub backend_id: u32,
    pub peer_mac: MacWords,
    pub own_mac: MacWords,
    pub ifindex: u32,
    pub direction: u8,
    pub tcp_seen: u8,
    pub mode: u8,
    pub flags: u8,
    pub backend_isn: u32,
    pub created: u32,
    pub key_tag: u32,
}

impl<A: Copy> Flow<A> {
    /// Key of the other direction's entry: its packets come in as ours go out, turned round.
    #[inline(always)]
    pub fn peer_key<F: Family<Addr = A>>(&self, protocol: u8) -> F::Key {
        F::key(
            self.new_dst,
            self.new_src,
            self.new_dst_port,
            self.new_src_port,
            protocol,
        )
    }
}
