//! `GET /v1/services`, and the table of `xlb status`: services and backends with state, health, counters, rates.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{AdminState, Timestamp};

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// Id in the maps; absent until it is applied.
    pub id: Option<u32>,
    /// Virtual addresses; empty in a removed service.
    pub vips: Vec<IpAddr>,
    /// Service port; 0 in a removed service.
    pub port: u16,
    /// `tcp` or `udp`; `-` in a removed service.
    pub protocol: String,
    /// `full_nat` or `gateway`; `-` in a removed service.
    pub mode: String,
    /// Whether it takes new connections.
    pub state: ServiceState,
    /// Families whose every backend is down.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub all_down: Vec<AllDownView>,
    /// Sum over its backends.
    pub counters: CountersView,
    /// Sum over its backends.
    pub rates: RatesView,
    /// Backends, worst first.
    pub backends: Vec<BackendView>,
}

/// A family of a service whose every backend is down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllDownView {
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// The config's `panic`: `refuse` (new connections are dropped) or `use_all` (they go to all backends).
    pub panic: String,
    /// Since when.
    pub since: Timestamp,
}

/// Whether a service takes new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// No backend takes new connections.
    Down,
    /// Some of its backends do not.
    Degraded,
    /// All of them do.
    Up,
    /// No longer in the config; its last connections go on.
    Removed,
}

impl ServiceState {
    /// As in JSON and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Degraded => "degraded",
            Self::Up => "up",
            Self::Removed => "removed",
        }
    }
}

/// One backend of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendView {
    /// Its name inside the service.
    pub name: String,
    /// Id in the maps; absent until it is applied.
    pub id: Option<u32>,
    /// Address.
    pub address: IpAddr,
    /// Port it listens on.
    pub internal_port: u16,
    /// Share of new connections against its siblings.
    pub weight: u32,
    /// What the kernel program does with it.
    pub state: BackendState,
    /// What the operator wants of it: `ready`, `drain` or `maint`.
    #[serde(default)]
    pub admin: AdminState,
    /// What the checks say.
    pub health: HealthView,
    /// When the state became what it is; absent before the first check of an adopted backend.
    pub since: Option<Timestamp>,
    /// What is checked: `tcp 2s`, `http /healthz 2s`, `none`.
    pub check: String,
    /// Established connections.
    pub flows: u64,
    /// Counters since the maps were made.
    pub counters: CountersView,
    /// Over the latest second or more.
    pub rates: RatesView,
    /// Next hop towards it; absent while unknown.
    pub hop: Option<HopView>,
    /// The name that it is an address of, where the config gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<FromNameView>,
}

/// Where a backend comes from that the config gives by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FromNameView {
    /// The name of its entry, which commands take.
    pub entry: String,
    /// The host that is looked up.
    pub host: String,
}

/// State of a backend in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendState {
    /// Failed its checks: no new flows.
    Down,
    /// Configured, not in the maps yet.
    Pending,
    /// In maintenance: takes no new flows and is not probed; old ones go on.
    Maint,
    /// Takes no new flows; old ones go on.
    Draining,
    /// Takes new flows.
    Active,
    /// Removed from the config; its last flows go on.
    Removed,
}

impl BackendState {
    /// As in JSON and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Pending => "pending",
            Self::Maint => "maint",
            Self::Removed => "removed",
            Self::Draining => "draining",
            Self::Active => "active",
        }
    }
}

/// What the checks of one backend say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthView {
    /// One word.
    pub verdict: Verdict,
    /// The port verdict of the newest probe (`refused`, `filtered`, ...); absent before the first.
    pub port_verdict: Option<String>,
    /// A sentence: which port, how, since when, how often.
    pub text: String,
    /// The next step while it is out.
    pub next: Option<String>,
    /// Probes with the newest outcome in a row.
    pub in_a_row: u32,
    /// How long the newest probe took.
    pub took_us: Option<u64>,
    /// When the verdict became what it is.
    pub since: Option<Timestamp>,
    /// The finer cause of the port verdict (`expired`, `host`, ...), where its word has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_verdict_cause: Option<String>,
    /// The port that is probed, where it is not the internal port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probed_port: Option<u16>,
    /// When the first probe of those in a row ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_verdict_since: Option<Timestamp>,
    /// The last ten changes of the port verdict, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<VerdictChangeView>,
}

/// One change of a port verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictChangeView {
    /// When.
    pub at: Timestamp,
    /// Port verdict before; absent when it was the first.
    pub old: Option<String>,
    /// Port verdict after.
    pub new: String,
    /// What the probe found, with the next step.
    pub cause: String,
}

/// Health in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Enough good probes.
    Up,
    /// Enough bad probes.
    Down,
    /// No probe has ended yet.
    Unknown,
    /// The service has no check.
    Unchecked,
}

/// Counters of a backend or service. "In" is from clients, "out" to clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountersView {
    /// Packets from clients.
    pub packets_in: u64,
    /// Bytes from clients, Ethernet header included.
    pub bytes_in: u64,
    /// Packets to clients.
    pub packets_out: u64,
    /// Bytes to clients, Ethernet header included.
    pub bytes_out: u64,
    /// New connections, half-open ones included.
    pub flows_new: u64,
    /// Connections that were established.
    pub flows_opened: u64,
    /// Established connections that ended.
    pub flows_closed: u64,
    /// Handshakes the backend refused.
    pub flows_refused: u64,
}

/// Rates of a backend or service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RatesView {
    /// New connections per second.
    pub new_per_s: f64,
    /// Packets per second, both directions.
    pub packets_per_s: f64,
    /// Bits per second, both directions.
    pub bits_per_s: f64,
}

/// Next hop of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HopView {
    /// MAC of the backend or its router.
    pub mac: String,
    /// Interface towards it.
    pub interface: String,
}
