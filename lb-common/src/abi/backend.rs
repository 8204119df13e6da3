//! `xlb_backends`: ARRAY by backend id. A backend id is one membership of a backend in a service. Every packet from a
//! client reads one entry: where the backend is on the wire.

use bytemuck::{Pod, Zeroable};

/// One membership of a backend in a service. All zero is an empty slot.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Backend {
    /// Address (IPv4 mapped).
    pub address: [u8; 16],
    /// MAC of the next hop towards it.
    pub hop_dst_mac: [u8; 6],
    /// MAC of our interface towards it.
    pub hop_src_mac: [u8; 6],
    /// Interface towards it; meaningful with [`hop_flag::VALID`].
    pub hop_ifindex: u32,
    /// Service it belongs to.
    pub service_id: u32,
    /// Port it listens on, host order.
    pub internal_port: u16,
    /// One of [`backend_state`].
    pub state: u8,
    /// [`hop_flag`] bits.
    pub hop_flags: u8,
    /// Weight in the ring, for people.
    pub weight: u32,
    /// Zero.
    pub reserved: [u32; 5],
}

super::layout!(Backend, size 64, align 8, {
    hop_dst_mac: 16, hop_src_mac: 22, hop_ifindex: 28, service_id: 32, internal_port: 36, state: 38, hop_flags: 39,
    weight: 40,
});

/// Values of [`Backend::state`].
pub mod backend_state {
    /// Empty slot.
    pub const EMPTY: u8 = 0;
    /// Takes new flows.
    pub const ACTIVE: u8 = 1;
    /// Takes no new flows; old ones go on.
    pub const DRAINING: u8 = 2;
    /// Failed its checks: no new flows; TCP flows go on, UDP flows choose again.
    pub const DOWN: u8 = 3;
    /// Removed from the service, kept until no flow names it: as `DOWN`.
    pub const REMOVED: u8 = 4;
}

/// Bits of [`Backend::hop_flags`].
pub mod hop_flag {
    /// The next hop is known.
    pub const VALID: u8 = 1;
    /// A packet that came in on `hop_ifindex` leaves by `XDP_TX`; otherwise through the device map.
    pub const TX: u8 = 2;
}
