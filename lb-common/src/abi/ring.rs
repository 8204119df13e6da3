//! `xlb_rings`: ARRAY. The arena that all rings are cut from: a service owns `offset .. offset + size`.

use bytemuck::{Pod, Zeroable};

/// One slot of a ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct RingSlot {
    /// Backend that new flows with this slot's hash go to.
    pub backend_id: u32,
}

super::layout!(RingSlot, size 4, align 4, { backend_id: 0 });
