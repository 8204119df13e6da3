//! `xlb_snat`: ARRAY of twice [`crate::limits::MAX_SNAT_ADDRESSES`]: IPv4 addresses from 0, IPv6 from the middle.

use bytemuck::{Pod, Zeroable};

/// One address we send from towards backends.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SnatAddr {
    /// Address (IPv4 mapped).
    pub address: [u8; 16],
}

super::layout!(SnatAddr, size 16, align 4, { address: 0 });
