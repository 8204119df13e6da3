//! `xlb_addrs`: HASH. VIPs (echo is answered for them), SNAT addresses (what arrives there without a flow is dropped) and,
//! with gateway-mode services, the interfaces' own addresses. Asked only when no flow matched.

use bytemuck::{Pod, Zeroable};

/// Key of `xlb_addrs`.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct AddrKey {
    /// Address (IPv4 mapped).
    pub address: [u8; 16],
}

super::layout!(AddrKey, size 16, align 4, { address: 0 });

/// Value of `xlb_addrs`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct AddrRole {
    /// [`role`] bits.
    pub roles: u32,
}

super::layout!(AddrRole, size 4, align 4, { roles: 0 });

/// Bits of [`AddrRole::roles`].
pub mod role {
    /// Clients dial it.
    pub const VIP: u32 = 1;
    /// We send from it to backends.
    pub const SNAT: u32 = 2;
    /// An attached interface's own address: what a gateway-mode backend sends there (its answer to a health check) stays
    /// on this machine and passes.
    pub const LOCAL: u32 = 4;
}
