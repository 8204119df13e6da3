//! `xlb_settings`: ARRAY of one entry. Seeds, ranges, lifetimes: everything the program reads that may change at run
//! time and is not about one object.

use bytemuck::{Pod, Zeroable};

/// The one value of `xlb_settings`. All zero (no agent yet) makes the program pass everything to the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// [`super::ABI_VERSION`] of the agent that wrote it. The program asks it of frames from interfaces without an entry,
    /// else [`super::Iface::abi_version`].
    pub abi_version: u32,
    /// Seed of the flow hash; the same on every node of a fleet.
    pub hash_seed: u32,
    /// IPv4 SNAT addresses in `xlb_snat` from index 0.
    pub snat4_count: u32,
    /// IPv6 SNAT addresses in `xlb_snat` from index [`crate::limits::MAX_SNAT_ADDRESSES`].
    pub snat6_count: u32,
    /// Lowest SNAT port, host order, inclusive.
    pub snat_port_min: u16,
    /// Highest SNAT port, host order, inclusive.
    pub snat_port_max: u16,
    /// Lifetime of a half-open connection, in ticks.
    pub half_open_ticks: u32,
    /// Lifetime of an idle established TCP connection, in ticks.
    pub established_ticks: u32,
    /// Lifetime of a TCP connection with FIN or RST seen in this direction, in ticks.
    pub closing_ticks: u32,
    /// Lifetime of an idle UDP flow that was never answered, in ticks.
    pub udp_ticks: u32,
    /// Lifetime of an idle UDP flow that was answered, in ticks.
    pub udp_answered_ticks: u32,
    /// TCP resets the program may send, per second and CPU.
    pub rst_per_second: u32,
    /// Zero.
    pub reserved: u32,
}

super::layout!(Settings, size 48, align 4, { snat_port_min: 16, half_open_ticks: 20, rst_per_second: 40 });
