//! Services, their backends and checks.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{FromName, HostName};

/// One `[[service]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Unique name.
    pub name: String,
    /// At least one, no address twice.
    pub vips: Vec<IpAddr>,
    /// Service port: what clients dial.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Forwarding mode.
    pub mode: Mode,
    /// Internal port of backends that name none; `None`: the service port.
    pub internal_port: Option<u16>,
    /// Health check of backends that name none.
    pub check: Option<Check>,
    /// What a TCP packet without a flow gets.
    pub on_miss: OnMiss,
    /// What happens to new connections while every backend is down.
    pub panic: Panic,
    /// Backends in the file's order, then those of [`Self::names`]; names and (address, port) are unique in a service.
    pub backends: Vec<BackendConfig>,
    /// Backends that the file gives by name, in its order. [`crate::config::expand`] makes backends of them.
    pub names: Vec<NamedBackend>,
}

impl ServiceConfig {
    /// The check that applies to a backend of this service.
    pub fn check_of<'a>(&'a self, backend: &'a BackendConfig) -> Option<&'a Check> {
        backend.check.as_ref().or(self.check.as_ref())
    }

    /// The check that is done now: none while the backend is in maintenance.
    pub fn probed_with<'a>(&'a self, backend: &'a BackendConfig) -> Option<&'a Check> {
        self.check_of(backend).filter(|_| backend.state != AdminState::Maint)
    }
}

/// Layer-4 protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => lb_common::net::IPPROTO_TCP,
            Self::Udp => lb_common::net::IPPROTO_UDP,
        }
    }

    /// As in the config file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Forwarding mode of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Destination and source rewritten; the reply returns through us.
    FullNat,
    /// Destination rewritten only; we are the backends' gateway.
    Gateway,
}

impl Mode {
    /// As in the config file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FullNat => "full_nat",
            Self::Gateway => "gateway",
        }
    }
}

/// What a TCP packet that opens nothing and has no flow gets in full NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMiss {
    /// A reset, at a limited rate.
    Reset,
    /// Nothing.
    Drop,
}

/// What happens to new connections while every backend of a service is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Panic {
    /// A counted drop (`no_backend`).
    Refuse,
    /// They go to all backends as if these were up.
    UseAll,
}

impl Panic {
    /// As in the config file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::UseAll => "use_all",
        }
    }
}

/// One `[[service.backend]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendConfig {
    /// Unique in its service; `address:port` (`[v6]:port`) where the file gives none.
    pub name: String,
    /// Address.
    pub address: IpAddr,
    /// Internal port, resolved: the backend's own, else the service's `internal_port`, else the service port.
    pub port: u16,
    /// 0 to 1000; 0 takes no new flows.
    pub weight: u32,
    /// What the operator wants of it.
    pub state: AdminState,
    /// Its own check; `None`: the service's.
    pub check: Option<Check>,
    /// The entry that gave it, where the file gives a name instead of an address.
    pub from: Option<FromName>,
}

/// One `[[service.backend]]` with a host's name for its address: a backend for each address that the name has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedBackend {
    /// Unique in its service; `host:port` where the file gives none.
    pub name: String,
    /// What is looked up.
    pub host: HostName,
    /// Internal port of each.
    pub port: u16,
    /// Weight of each.
    pub weight: u32,
    /// What the operator wants of each.
    pub state: AdminState,
    /// Check of each; `None`: the service's.
    pub check: Option<Check>,
}

/// What the operator wants of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminState {
    /// Takes new connections when healthy.
    #[default]
    Ready,
    /// No new connections, old ones finish; it is still probed.
    Drain,
    /// As [`AdminState::Drain`], and it is not probed.
    Maint,
}

impl AdminState {
    /// As in the config file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }
}

/// A health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is done.
    pub kind: CheckKind,
    /// Another port than the backend's internal port.
    pub port: Option<u16>,
    /// `port` may differ from the internal port.
    pub other_port: bool,
    /// From the start of one probe to the start of the next.
    pub interval: Duration,
    /// A probe that takes longer has failed.
    pub timeout: Duration,
    /// Good probes in a row before a backend that was down is up.
    pub rise: u32,
    /// Bad probes in a row before a backend that was up is down.
    pub fall: u32,
}

impl Check {
    /// What is probed of a backend.
    pub fn target(&self, backend: &BackendConfig) -> SocketAddr {
        SocketAddr::new(backend.address, self.port.unwrap_or(backend.port))
    }
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// Connects.
    Tcp,
    /// Connects, sends a GET, reads the answer.
    Http(HttpCheck),
    /// The same inside TLS.
    Https(HttpCheck, TlsCheck),
}

/// What an HTTP probe asks for and accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCheck {
    /// Request target, with its leading slash.
    pub path: String,
    /// Accepted status codes; not empty.
    pub status: Vec<u16>,
    /// `Host` header; `None`: address and port. Of a backend by name it is there after [`crate::config::expand`].
    pub host: Option<String>,
    /// Text that the body must hold; not empty. `None`: the body is not read.
    pub body: Option<String>,
}

/// What an HTTPS probe asks for and believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsCheck {
    /// Server name; `None`: `host`, else no name and the address is verified.
    pub sni: Option<String>,
    /// Which certificates are believed.
    pub verify: Verify,
}

/// Which certificates are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Any.
    Nothing,
    /// Those that one of these has signed.
    Roots(Roots),
}

/// Where roots come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// The host's own.
    System,
    /// A PEM file, by its absolute path.
    File(PathBuf),
}
