//! Sizes: what the maps are declared with, what `[limits]` may set, and ceilings that are part of the ABI.

/// Connections of one family that can be established at once (default of `[limits] connections`).
pub const DEFAULT_CONNECTIONS: u32 = 262_144;
/// Half-open connections of one family (default of `[limits] half_open`).
pub const DEFAULT_HALF_OPEN: u32 = 65_536;
/// Services (default of `[limits] services`).
pub const DEFAULT_SERVICES: u32 = 1_024;
/// Memberships of a backend in a service (default of `[limits] backends`).
pub const DEFAULT_BACKENDS: u32 = 4_096;
/// Slots of the ring arena, four bytes each (default of `[limits] ring_slots`).
pub const DEFAULT_RING_SLOTS: u32 = 1_048_576;
/// VIP, protocol and port combinations plus gateway-mode backend ports (default of `[limits] endpoints`).
pub const DEFAULT_ENDPOINTS: u32 = 8_192;
/// VIPs and SNAT addresses together.
pub const MAX_ADDRESSES: u32 = 16_384;
/// SNAT addresses of one family. A power of two: the program masks with it.
pub const MAX_SNAT_ADDRESSES: u32 = 64;
/// Slots of the largest ring of one service.
pub const MAX_RING_SIZE: u32 = 65_536;
/// Tuples a SNAT claim tries before it gives up.
pub const SNAT_PROBES: u32 = 24;
/// Tuples after which a SNAT claim stops if all of them closed lately: they come round faster than they expire.
pub const SNAT_CROWDED_PROBES: u32 = 6;
/// Ports of a SNAT range in which claims walk with a stride and may stop early.
pub const SNAT_LARGE_RANGE: u32 = 1_024;
/// Interfaces that packets can be redirected to.
pub const MAX_TX_PORTS: u32 = 256;
/// Bytes of a name in `xlb_names`, the closing zero included.
pub const NAME_BYTES: usize = 64;

/// Default lowest `snat_ports` port: above `check_ports`, so that probes and SNAT never meet.
pub const DEFAULT_SNAT_PORT_MIN: u16 = 10_240;
/// Default highest `snat_ports` port: below the kernel's ephemeral range (32768-60999).
pub const DEFAULT_SNAT_PORT_MAX: u16 = 32_767;
/// Default lowest `check_ports` port.
pub const DEFAULT_CHECK_PORT_MIN: u16 = 9_216;
/// Default highest `check_ports` port.
pub const DEFAULT_CHECK_PORT_MAX: u16 = 10_239;

/// Default lifetime of a half-open connection, in seconds.
pub const DEFAULT_HALF_OPEN_S: u32 = 10;
/// Default lifetime of an idle established TCP connection, in seconds.
pub const DEFAULT_ESTABLISHED_S: u32 = 3_600;
/// Default lifetime of a closing or reset TCP connection, in seconds.
pub const DEFAULT_CLOSING_S: u32 = 30;
/// Default lifetime of an idle UDP flow that was never answered, in seconds.
pub const DEFAULT_UDP_S: u32 = 60;
/// Default lifetime of an idle UDP flow that was answered, in seconds.
pub const DEFAULT_UDP_ANSWERED_S: u32 = 180;
/// Default limit of TCP resets the program itself sends, per second and CPU.
pub const DEFAULT_RST_PER_SECOND: u32 = 1_000;
