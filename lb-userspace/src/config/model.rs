//! The checked config: what the rest of the agent may rely on. Made by [`super::parse`] only.

mod dns;
mod service;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lb_common::limits;

pub use dns::{DnsConfig, OnEmpty};
pub use service::{
    AdminState, BackendConfig, Check, CheckKind, HttpCheck, Mode, NamedBackend, OnMiss, Panic, Protocol, Roots,
    ServiceConfig, TlsCheck, Verify,
};

/// A config without errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[agent]`.
    pub agent: AgentConfig,
    /// `[limits]`.
    pub limits: Limits,
    /// `[timeouts]`.
    pub timeouts: Timeouts,
    /// `[dns]`.
    pub dns: DnsConfig,
    /// `[[service]]`, in the file's order. Shared: a change of one leaves the others as they were, in the same place.
    pub services: Vec<Arc<ServiceConfig>>,
}

impl Config {
    /// Whether a backend is given by name.
    pub fn has_names(&self) -> bool {
        self.services.iter().any(|service| !service.names.is_empty())
    }

    /// The TLS side of every HTTPS check.
    pub fn tls_checks(&self) -> impl Iterator<Item = &TlsCheck> {
        let checks = self.services.iter().flat_map(|service| {
            let of_backends = service.backends.iter().filter_map(|backend| backend.check.as_ref());
            let of_names = service.names.iter().filter_map(|entry| entry.check.as_ref());
            service.check.iter().chain(of_backends).chain(of_names)
        });
        checks.filter_map(|check| match &check.kind {
            CheckKind::Https(_, tls) => Some(tls),
            CheckKind::Tcp | CheckKind::Http(_) => None,
        })
    }
}

/// `[agent]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// Interfaces to attach to; at least one, no name twice.
    pub interfaces: Vec<String>,
    /// How the program is attached.
    pub xdp_mode: XdpMode,
    /// How packets leave.
    pub tx: TxChoice,
    /// Sources towards backends. Empty: the interfaces' own global-scope addresses.
    pub snat_addresses: Vec<IpAddr>,
    /// SNAT ports.
    pub snat_ports: PortRange,
    /// Ports that health probes bind to.
    pub check_ports: PortRange,
    /// The agent adds VIPs to the first interface and removes them.
    pub manage_vip: bool,
    /// Seed of rings and flow hash; the same on every node of a fleet.
    pub hash_seed: u32,
    /// TCP resets the program sends itself, per second and CPU.
    pub rst_per_second: u32,
    /// API socket.
    pub socket: PathBuf,
    /// Group that may use the API socket, by name or number; `None`: the agent's own.
    pub socket_group: Option<String>,
    /// Read-only HTTP listener; `None` switches it off.
    pub http: Option<SocketAddr>,
    /// Directory of pinned maps, programs and links.
    pub pin_dir: PathBuf,
    /// Directory of what the agent keeps over restarts: changes made with `--runtime`.
    pub state_dir: PathBuf,
    /// The program that writes the config file, so that nobody else may; `none`: there is none, whatever the file's head
    /// says.
    pub managed_by: Option<String>,
    /// Whether a change of the config file is reloaded by itself.
    pub watch: bool,
    /// Whether the agent gives up the files and capabilities that it does not need.
    pub sandbox: bool,
}

/// How the XDP program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// By the driver, or not at all.
    Native,
    /// By the driver where it can, else generic.
    Auto,
    /// By the kernel's generic hook.
    Generic,
}

/// How a packet leaves by the interface it came in on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxChoice {
    /// By driver: veth redirects, others transmit.
    Auto,
    /// `XDP_TX`.
    Tx,
    /// Through the device map.
    Redirect,
}

/// Ports from `min` to `max`, both included; `min <= max`, `min > 0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// Lowest port.
    pub min: u16,
    /// Highest port.
    pub max: u16,
}

impl PortRange {
    /// As a standard range.
    pub const fn ports(self) -> RangeInclusive<u16> {
        self.min..=self.max
    }

    /// Whether `port` is inside.
    pub const fn contains(self, port: u16) -> bool {
        self.min <= port && port <= self.max
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.min, self.max)
    }
}

/// `[limits]`: entries of the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Established connections of one family.
    pub connections: u32,
    /// Half-open connections of one family.
    pub half_open: u32,
    /// Services.
    pub services: u32,
    /// Memberships of backends in services.
    pub backends: u32,
    /// Slots of the ring arena.
    pub ring_slots: u32,
    /// Service ports by VIP plus internal ports of gateway-mode backends.
    pub endpoints: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: limits::DEFAULT_CONNECTIONS,
            half_open: limits::DEFAULT_HALF_OPEN,
            services: limits::DEFAULT_SERVICES,
            backends: limits::DEFAULT_BACKENDS,
            ring_slots: limits::DEFAULT_RING_SLOTS,
            endpoints: limits::DEFAULT_ENDPOINTS,
        }
    }
}

/// `[timeouts]`: how long idle connections live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Half-open.
    pub half_open: Duration,
    /// Established TCP.
    pub established: Duration,
    /// TCP after FIN or RST.
    pub closing: Duration,
    /// UDP never answered.
    pub udp: Duration,
    /// UDP answered.
    pub udp_answered: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        Self {
            half_open: seconds(limits::DEFAULT_HALF_OPEN_S),
            established: seconds(limits::DEFAULT_ESTABLISHED_S),
            closing: seconds(limits::DEFAULT_CLOSING_S),
            udp: seconds(limits::DEFAULT_UDP_S),
            udp_answered: seconds(limits::DEFAULT_UDP_ANSWERED_S),
        }
    }
}
