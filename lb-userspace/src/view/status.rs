//! `GET /v1/status` and `GET /v1/services`: the agent, its interfaces and addresses, services and backends.

use std::{net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// Everything on the status screen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// [`super::SCHEMA`].
    pub schema: u32,
    /// The health of the whole, which is the exit code of `xlb status`.
    pub overall: Overall,
    /// When this was put together.
    pub now: Timestamp,
    /// The process.
    pub agent: AgentView,
    /// The kernel program.
    pub program: ProgramView,
    /// Configured interfaces, attached or not.
    pub interfaces: Vec<InterfaceView>,
    /// Where full NAT sends from.
    pub snat: SnatView,
    /// VIPs and SNAT addresses: whether packets to them reach this machine.
    pub addresses: Vec<AddressView>,
    /// How full the tables are.
    pub tables: Vec<TableView>,
    /// What an operator should look at, worst first.
    pub warnings: Vec<WarningView>,
    /// Map writes that failed and are tried again.
    pub failed_ops: Vec<FailedOpView>,
    /// Changes made with `--runtime`, which are not in the config file.
    pub overrides: Vec<OverrideView>,
    /// Services, worst first.
    pub services: Vec<ServiceView>,
}

/// One word for the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overall {
    /// Nothing to do.
    Ok,
    /// Something is out: a backend, an interface, an address, the config or a map write.
    Degraded,
}

/// The agent process and its config.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentView {
    /// Version of the binary.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started: Timestamp,
    /// Count of images applied to the kernel since the start.
    pub generation: u64,
    /// When the newest of them was applied.
    pub applied: Timestamp,
    /// Where the desired state comes from.
    pub config: ConfigView,
}

/// The config file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigView {
    /// Its path.
    pub path: PathBuf,
    /// When the running content was read.
    pub loaded: Timestamp,
    /// Why the newest reload was refused; the running state is the one before it.
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_at: Option<Timestamp>,
}

/// The loaded program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProgramView {
    /// Version of the map layout.
    pub abi_version: u32,
    /// Where maps, programs and links are pinned.
    pub pin_dir: PathBuf,
    /// What is switched on in it (`full_nat`, `packet_log`, ...).
    pub features: Vec<String>,
    /// Whether this agent found maps and flows of an earlier one: `fresh` or `adopted`.
    pub adoption: String,
}

/// One configured interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InterfaceView {
    /// Its name.
    pub name: String,
    /// Its index; absent when there is no such interface.
    pub ifindex: Option<u32>,
    /// Whether it is up.
    pub up: bool,
    /// `native`, `generic`; absent when the program is not attached.
    pub xdp_mode: Option<String>,
    /// How a packet leaves where it came in: `tx` or `redirect`.
    pub tx_way: Option<String>,
    /// Kernel driver.
    pub driver: Option<String>,
    /// MTU.
    pub mtu_bytes: Option<u32>,
    /// Why it is not attached.
    pub error: Option<String>,
}

/// SNAT addresses and ports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnatView {
    /// In the order of `xlb_snat`.
    pub addresses: Vec<IpAddr>,
    /// Lowest port.
    pub port_min: u16,
    /// Highest port.
    pub port_max: u16,
}

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressRole {
    /// Clients dial it.
    Vip,
    /// We send from it.
    Snat,
}

/// Presence of one address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddressView {
    /// The address.
    pub address: IpAddr,
    /// What it is for.
    pub role: AddressRole,
    /// `local`, `routed` or `missing`.
    pub presence: String,
    /// The interface that holds it.
    pub interface: Option<String>,
    /// The command that adds it, where it is missing.
    pub next: Option<String>,
}

/// Use of one table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableView {
    /// Map name.
    pub name: String,
    /// Entries (connections for flow tables) in use.
    pub used: u64,
    /// Entries it can hold.
    pub capacity: u64,
}

/// One thing to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarningView {
    /// Short stable name.
    pub code: String,
    /// What it is about and what is wrong.
    pub message: String,
    /// The next step, a command where there is one.
    pub next: Option<String>,
}

/// One map write that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailedOpView {
    /// The write.
    pub op: String,
    /// The error.
    pub error: String,
    /// How often it has failed in a row.
    pub attempts: u32,
    /// When it failed first.
    pub since: Timestamp,
    /// Milliseconds until the next try.
    pub retry_in_ms: u64,
}

/// One change that lives only in the running agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverrideView {
    /// `add` or `remove`.
    pub action: String,
    /// Service name.
    pub service: String,
    /// Backend name.
    pub backend: String,
    /// Who asked for it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// Id in the maps; absent until it is applied.
    pub id: Option<u32>,
    /// Virtual addresses.
    pub vips: Vec<IpAddr>,
    /// Service port.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// `full_nat` or `gateway`.
    pub mode: String,
    /// Whether it takes new connections.
    pub state: ServiceState,
    /// Sum over its backends.
    pub counters: CountersView,
    /// Sum over its backends.
    pub rates: RatesView,
    /// Backends, worst first.
    pub backends: Vec<BackendView>,
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
}

/// State of a backend in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendState {
    /// Failed its checks: no new flows.
    Down,
    /// Configured, not in the maps yet.
    Pending,
    /// Removed from the config; its last flows go on.
    Removed,
    /// Takes no new flows; old ones go on.
    Draining,
    /// Takes new flows.
    Active,
}

impl BackendState {
    /// As in JSON and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Pending => "pending",
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
