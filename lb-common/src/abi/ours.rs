//! `xlb_ours`: ARRAY of [`OURS_BLOCKS`]. A bitmap that says at the price of one inlined array lookup that a packet is
//! *not* ours. A set bit proves nothing (bits are shared); a clear one does. [`crate::hash::ours`] says which bit.

use bytemuck::{Pod, Zeroable};

/// Blocks of the bitmap; a power of two.
pub const OURS_BLOCKS: u32 = 16_384;
const _: () = assert!(OURS_BLOCKS.is_power_of_two() && OURS_BLOCKS <= 65_536);

/// 64 bits of the bitmap.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct OursBlock {
    /// The bits; bit 0 is the lowest.
    pub bits: u64,
}

super::layout!(OursBlock, size 8, align 8, { bits: 0 });
