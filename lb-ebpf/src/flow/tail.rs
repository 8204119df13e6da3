//! A flow's value as the words it is made of. The fast path reads few and wide ones, and writes them into the packet between
//! its two looks at the entry's id.

use bytemuck::{Pod, Zeroable, cast_ref};
use lb_common::abi::{Backend, FlowValue4, FlowValue6, tcp_seen};

use crate::packet::{Offset, Packet};

const _: () = assert!(
    cfg!(target_endian = "little"),
    "words are taken apart as the BPF target has them"
);

/// What stands behind the addresses of a [`FlowValue4`] or [`FlowValue6`], and ends it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Tail {
    /// Ports to write and checksum differences.
    pub edit: Edit,
    /// Tick of the last packet.
    pub last_seen: u32,
    /// Backend.
    pub backend_id: u32,
    /// Next hop towards the client.
    pub hop: Hop,
    /// Direction, TCP flags seen, mode, flow flags.
    pub state: State,
    /// The backend's initial sequence number.
    pub backend_isn: u32,
    /// Tick of the first packet.
    pub created: u32,
    /// Mix of the key.
    pub key_tag: u32,
}

/// A [`FlowValue4`] in words.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Words4 {
    conn_id: u64,
    /// Addresses to write, source first.
    pub pair: u64,
    /// What follows.
    pub tail: Tail,
}

/// A [`FlowValue6`] in words.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Words6 {
    conn_id: u64,
    /// Addresses to write, source first.
    pub pair: [u64; 4],
    /// What follows.
    pub tail: Tail,
}

macro_rules! is_tail_of {
    ($value:ty) => {
        const _: () = {
            const START: usize = size_of::<$value>() - size_of::<Tail>();
            assert!(START == core::mem::offset_of!($value, new_dst_port));
            assert!(START + core::mem::offset_of!(Tail, last_seen) == core::mem::offset_of!($value, last_seen));
            assert!(START + core::mem::offset_of!(Tail, backend_id) == core::mem::offset_of!($value, backend_id));
            assert!(START + core::mem::offset_of!(Tail, hop) == core::mem::offset_of!($value, peer_mac));
            assert!(START + core::mem::offset_of!(Tail, state) == core::mem::offset_of!($value, direction));
            assert!(START + core::mem::offset_of!(Tail, key_tag) == core::mem::offset_of!($value, key_tag));
        };
    };
}

is_tail_of!(FlowValue4);
is_tail_of!(FlowValue6);

/// `new_dst_port` and `new_src_port` in one word, `l3_delta`, `l4_delta`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Edit {
    ports: u32,
    l3_delta: u16,
    l4_delta: u16,
}

impl Edit {
    /// Both ports as they stand in a header.
    #[inline(always)]
    pub fn ports(self) -> [u8; 4] {
        self.ports.to_be_bytes()
    }

    /// Difference for the IPv4 header checksum.
    #[inline(always)]
    pub fn l3_delta(self) -> u16 {
        self.l3_delta
    }

    /// Difference for the TCP or UDP checksum.
    #[inline(always)]
    pub fn l4_delta(self) -> u16 {
        self.l4_delta
    }
}

/// `direction`, `tcp_seen`, `mode` and `flags` in one word.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct State(u32);

impl State {
    /// Whether it has this `direction` and saw no RST. A FIN changes nothing for the packets behind it.
    #[inline(always)]
    pub fn is_open(self, direction: u8) -> bool {
        self.0 as u16 & !((tcp_seen::FIN as u16) << 8) == direction as u16
    }

    /// `flow_flag` bits.
    #[inline(always)]
    pub fn flags(self) -> u8 {
        (self.0 >> 24) as u8
    }
}

/// Destination MAC, source MAC and interface of a next hop, as flows and backends have them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Hop {
    head: u64,
    rest: u32,
    ifindex: u32,
}

impl Hop {
    /// A backend's.
    #[inline(always)]
    pub fn of(backend: &Backend) -> Self {
        const FIRST: usize = core::mem::offset_of!(Backend, hop_dst_mac) / 8;
        const _: () = assert!(FIRST == 2 && core::mem::offset_of!(Backend, hop_ifindex) == 28);
        let [_, _, head, rest, ..]: &[u64; 8] = cast_ref(backend);
        Self {
            head: *head,
            rest: *rest as u32,
            ifindex: backend.hop_ifindex,
        }
    }

    /// Interface.
    #[inline(always)]
    pub fn ifindex(self) -> u32 {
        self.ifindex
    }

    /// Whether the destination MAC is the one a frame comes from.
    #[inline(always)]
    pub fn is_sender_of<P: Packet>(self, packet: &P) -> bool {
        // Its last two bytes are the EtherType.
        packet
            .get::<[u8; 8]>(Offset::START.plus(6))
            .is_some_and(|sender| (u64::from_ne_bytes(*sender) ^ self.head) << 16 == 0)
    }

    /// Writes both MACs.
    #[inline(always)]
    pub fn put<P: Packet>(self, packet: &mut P) -> Option<()> {
        *packet.get_mut::<[u8; 8]>(Offset::START)? = self.head.to_ne_bytes();
        *packet.get_mut::<[u8; 4]>(Offset::START.plus(8))? = self.rest.to_ne_bytes();
        Some(())
    }
}
