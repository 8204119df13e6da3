//! The layout of every map, one map a file. Integers and bytes only, `repr(C)`, [`bytemuck::Pod`] (which refuses
//! padding), named fields (bpftool prints them), sizes and offsets asserted.
//!
//! Addresses and MACs are bytes in wire order; ports and all other numbers are host order; times are kernel ticks
//! (jiffies), cut to 32 bits.

mod addrs;
mod backend;
mod cpu;
mod endpoints;
mod flow;
mod ifaces;
mod names;
mod ours;
mod ring;
mod service;
mod settings;
mod snat;
mod stats;
mod sweep;
mod tx;

pub use addrs::{AddrKey, AddrRole, role};
pub use backend::{Backend, backend_state, hop_flag};
pub use cpu::CpuState;
pub use endpoints::{Endpoint, EndpointKey, endpoint_kind};
pub use flow::{FlowKey4, FlowKey6, FlowValue4, FlowValue6, direction, flow_flag, tcp_seen};
pub use ifaces::{IFACE_SLOTS, Iface, iface_flag};
pub use names::{Name, NameKey, name_kind};
pub use ours::{OURS_BLOCKS, OursBlock};
pub use ring::RingSlot;
pub use service::{Service, mode, on_miss};
pub use settings::Settings;
pub use snat::SnatAddr;
pub use stats::{BackendStats, ReasonStats};
pub use sweep::{SweepItem4, SweepItem6};
pub use tx::TxErrors;

/// Version of everything in this module. Pinned maps of another version are not adopted.
pub const ABI_VERSION: u32 = 3;

/// Asserts size, alignment and field offsets of an ABI type at compile time.
macro_rules! layout {
    ($ty:ty, size $size:literal, align $align:literal, { $($field:ident: $offset:literal),* $(,)? }) => {
        const _: () = assert!(size_of::<$ty>() == $size);
        const _: () = assert!(align_of::<$ty>() == $align);
        $(const _: () = assert!(core::mem::offset_of!($ty, $field) == $offset);)*
    };
}
use layout;
