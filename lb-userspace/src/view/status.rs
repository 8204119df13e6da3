//! `GET /v1/status` and `GET /v1/services`: the agent, its interfaces and addresses, services and backends.

use std::{net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{NameView, Revision, ServiceView, Timestamp};

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
    /// Backends by name: what the DNS said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<NameView>,
    /// Services, worst first.
    pub services: Vec<ServiceView>,
}

impl StatusView {
    /// Adds what an operator should look at first.
    pub fn add_problem(&mut self, problem: WarningView) {
        self.warnings.insert(0, problem);
        self.overall = Overall::Degraded;
    }
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
    /// What the process can do.
    pub confinement: ConfinementView,
}

/// What the agent's process may still do, after it gave up the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfinementView {
    /// Its capabilities, by name.
    pub capabilities: Vec<String>,
    /// Whether Landlock limits which files it reaches: `limited`, `partly limited`, `not limited`.
    pub files: String,
}

/// The config file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigView {
    /// Its path.
    pub path: PathBuf,
    /// When the running content was read.
    pub loaded: Timestamp,
    /// The desired state: it moves with the file and the overrides, not with health.
    #[serde(default)]
    pub revision: Revision,
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

impl AddressRole {
    /// As sentences name it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Vip => "VIP",
            Self::Snat => "SNAT address",
        }
    }
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

impl AddressView {
    /// Nobody answers for it.
    pub fn is_missing(&self) -> bool {
        self.presence == "missing"
    }

    /// What stands in the way of packets to it, if anything does.
    pub fn obstacle(&self) -> Option<String> {
        let (role, address) = (self.role.title(), self.address);
        match self.presence.as_str() {
            "missing" => Some(format!(
                "{role} {address} is not an address of this host: nobody answers ARP or neighbour discovery for it"
            )),
            "routed" => Some(format!(
                "{role} {address} is outside our networks: a router must send it here"
            )),
            _ => None,
        }
    }
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
    /// `add`, `remove`, `weight`, `ready`, `drain` or `maint`; of a whole service `add_service` or `remove_service`.
    pub action: String,
    /// The weight of an `add` or `weight` that names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Service name.
    pub service: String,
    /// Backend name; absent where it is about a whole service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Who asked for it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

impl OverrideView {
    /// What was done, with its number: `drain`, `weight 50`, `add service`.
    pub fn what(&self) -> String {
        match (self.action.as_str(), self.weight) {
            ("weight", Some(weight)) => format!("weight {weight}"),
            (action, _) => action.replace('_', " "),
        }
    }

    /// What it is about: `web/a`, or `web` where it is a whole service.
    pub fn object(&self) -> String {
        match &self.backend {
            Some(backend) => format!("{}/{backend}", self.service),
            None => self.service.clone(),
        }
    }
}
