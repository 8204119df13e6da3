//! `xlb_ifaces`: ARRAY of [`IFACE_SLOTS`], index `ifindex % IFACE_SLOTS`. The interfaces the program is attached to.

use bytemuck::{Pod, Zeroable};

/// Slots of the map; a power of two. Two attached interfaces must not share one (the agent refuses).
pub const IFACE_SLOTS: u32 = 4_096;
const _: () = assert!(IFACE_SLOTS.is_power_of_two());

/// One attached interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Iface {
    /// Its index; 0 in an empty slot.
    pub ifindex: u32,
    /// Its own MAC. Frames to another MAC pass to the kernel.
    pub mac: [u8; 6],
    /// [`iface_flag`] bits.
    pub flags: u16,
    /// [`super::ABI_VERSION`] of the agent that wrote it, after everything that a packet on this interface can lead to. The
    /// program forwards nothing when it differs.
    pub abi_version: u32,
}

super::layout!(Iface, size 16, align 4, { mac: 4, flags: 10, abi_version: 12 });

/// Bits of [`Iface::flags`].
pub mod iface_flag {
    /// A packet that leaves where it came in goes out by `XDP_TX`; otherwise through the device map.
    pub const TX: u16 = 1;
}
