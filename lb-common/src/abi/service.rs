//! `xlb_services`: ARRAY by service id. Read when a new flow is made.

use bytemuck::{Pod, Zeroable};

/// One service. All zero is an empty slot.
///
/// Ring offset and size share one aligned 64-bit word so that one load reads a matching pair; the agent frees the old
/// slots of a swapped ring only after a grace period.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Service {
    /// First slot of the IPv4 ring in `xlb_rings`.
    pub ring4_offset: u32,
    /// Slots of the IPv4 ring, a power of two; 0: no IPv4 backend takes new flows.
    pub ring4_size: u32,
    /// First slot of the IPv6 ring in `xlb_rings`.
    pub ring6_offset: u32,
    /// Slots of the IPv6 ring, a power of two; 0: no IPv6 backend takes new flows.
    pub ring6_size: u32,
    /// Port clients dial, host order.
    pub service_port: u16,
    /// IP protocol number: 6 or 17.
    pub protocol: u8,
    /// One of [`mode`].
    pub mode: u8,
    /// One of [`on_miss`].
    pub on_miss: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// Count of changes of this entry, for people.
    pub generation: u32,
    /// Zero.
    pub reserved2: u32,
}

super::layout!(Service, size 32, align 8, { ring4_offset: 0, ring6_offset: 8, service_port: 16, mode: 19, on_miss: 20 });

/// Values of [`Service::mode`]. 0 is an empty slot.
pub mod mode {
    /// Destination and source rewritten; the reply returns through us.
    pub const FULL_NAT: u8 = 1;
    /// Destination rewritten only; we are the backends' gateway.
    pub const GATEWAY: u8 = 2;
}

/// Values of [`Service::on_miss`]: what a TCP packet that opens nothing and has no flow gets in full NAT.
pub mod on_miss {
    /// A reset, at a limited rate.
    pub const RESET: u8 = 0;
    /// Nothing.
    pub const DROP: u8 = 1;
}
