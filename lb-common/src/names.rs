//! Names of maps and programs: what stands in the object, under the pin directory and in bpftool.
//!
//! The kernel cuts a map's name at 15 bytes; every name here fits.

macro_rules! map_names {
    ($($(#[$doc:meta])* $konst:ident = $name:literal;)*) => {
        $($(#[$doc])* pub const $konst: &str = $name; const _: () = assert!($name.len() <= 15);)*
        /// Every map of the object, in the order of docs/maps.md.
        pub const MAPS: &[&str] = &[$($name),*];
    };
}

map_names! {
    /// One [`crate::abi::Settings`].
    SETTINGS = "xlb_settings";
    /// Bitmap of what may be ours: [`crate::abi::OursBlock`].
    OURS = "xlb_ours";
    /// Attached interfaces: [`crate::abi::Iface`].
    IFACES = "xlb_ifaces";
    /// Service ports and gateway-mode internal ports: [`crate::abi::EndpointKey`] to [`crate::abi::Endpoint`].
    ENDPOINTS = "xlb_endpoints";
    /// VIPs and SNAT addresses: [`crate::abi::AddrKey`] to [`crate::abi::AddrRole`].
    ADDRS = "xlb_addrs";
    /// Services by id: [`crate::abi::Service`].
    SERVICES = "xlb_services";
    /// Backends by id: [`crate::abi::Backend`].
    BACKENDS = "xlb_backends";
    /// Ring arena: [`crate::abi::RingSlot`].
    RINGS = "xlb_rings";
    /// SNAT addresses by index: [`crate::abi::SnatAddr`].
    SNAT = "xlb_snat";
    /// Established IPv4 flows.
    FLOWS4 = "xlb_flows4";
    /// Established IPv6 flows.
    FLOWS6 = "xlb_flows6";
    /// Half-open IPv4 flows.
    HALF4 = "xlb_half4";
    /// Half-open IPv6 flows.
    HALF6 = "xlb_half6";
    /// IPv4 connections in the order the sweep looks at them.
    SWEEP4 = "xlb_sweep4";
    /// IPv6 connections in the order the sweep looks at them.
    SWEEP6 = "xlb_sweep6";
    /// Per-CPU counters by backend id: [`crate::abi::BackendStats`].
    BACKEND_STATS = "xlb_backend_st";
    /// Per-CPU counters by reason: [`crate::abi::ReasonStats`].
    REASON_STATS = "xlb_reason_st";
    /// Per-CPU scratch and allocators: [`crate::abi::CpuState`].
    CPU = "xlb_cpu";
    /// Interfaces to redirect to (DEVMAP_HASH by ifindex).
    TX_PORTS = "xlb_tx_ports";
    /// What the kernel failed to transmit after a redirect, by ifindex: [`crate::abi::TxErrors`].
    TX_ERRORS = "xlb_tx_errors";
    /// The program's own scratch for IPv4; no part of the ABI.
    WORK4 = "xlb_work4";
    /// The program's own scratch for IPv6; no part of the ABI.
    WORK6 = "xlb_work6";
    /// Names of services and backends by id: [`crate::abi::NameKey`] to [`crate::abi::Name`].
    NAMES = "xlb_names";
}

/// The XDP program.
pub const PROGRAM_XDP: &str = "xlb";
/// The XDP-type program the agent runs (never attached) to reclaim expired connections.
pub const PROGRAM_SWEEP: &str = "xlb_sweep";
/// Raw tracepoint `xdp_redirect_err`.
pub const PROGRAM_REDIRECT_ERR: &str = "xlb_redir_err";
/// Raw tracepoint `xdp_devmap_xmit`.
pub const PROGRAM_DEVMAP_XMIT: &str = "xlb_devmap_tx";

/// `.rodata` switch: kernel ticks per second (`CONFIG_HZ`), a constant of the machine.
pub const RODATA_HZ: &str = "XLB_HZ";
/// `.rodata`: byte offset of `net_device.ifindex` in this kernel.
pub const RODATA_IFINDEX_AT: &str = "XLB_IFINDEX_AT";
/// `.rodata`: byte offset of `net_device.nd_net` in this kernel.
pub const RODATA_NET_AT: &str = "XLB_NET_AT";
/// `.rodata`: byte offset of `net.ns.inum` in this kernel.
pub const RODATA_INUM_AT: &str = "XLB_INUM_AT";
/// `.rodata`: number of the agent's network namespace.
pub const RODATA_NETNS: &str = "XLB_NETNS";
