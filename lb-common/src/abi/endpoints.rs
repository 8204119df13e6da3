//! `xlb_endpoints`: HASH. What an exact (address, port, protocol) means: a service port, or the internal port of a
//! gateway-mode backend. Asked only when no flow matched.

use bytemuck::{Pod, Zeroable};

/// Key of `xlb_endpoints`.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct EndpointKey {
    /// VIP or backend address (IPv4 mapped).
    pub address: [u8; 16],
    /// Service port or internal port, host order.
    pub port: u16,
    /// IP protocol number: 6 or 17.
    pub protocol: u8,
    /// Zero.
    pub reserved: u8,
}

super::layout!(EndpointKey, size 20, align 4, { address: 0, port: 16, protocol: 18 });

/// Value of `xlb_endpoints`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Endpoint {
    /// Service id: index into `xlb_services`.
    pub service_id: u32,
    /// One of [`endpoint_kind`].
    pub kind: u32,
}

super::layout!(Endpoint, size 8, align 4, { service_id: 0, kind: 4 });

/// Values of [`Endpoint::kind`].
pub mod endpoint_kind {
    /// A service port that clients dial.
    pub const SERVICE: u32 = 1;
    /// The internal port of a backend of a gateway-mode service: its replies must match a flow.
    pub const GATEWAY_BACKEND: u32 = 2;
}
