//! What the writer publishes: one immutable value that every reader takes whole.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::backoff::Backoff;
use super::book::Records;
use super::ports::Port;
use super::stats::Sample;
use crate::agent::{Confinement, Desired};
use crate::config::Panic;
use crate::neigh::HopProblem;
use crate::state::{BackendRef, Family, Image, Links};
use crate::view::{AddressView, Timestamp, WarningView};

/// The agent at one moment. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What does not change while the agent runs.
    pub origin: Arc<Origin>,
    /// Images applied since the start.
    pub generation: u64,
    /// When the newest was.
    pub applied: Timestamp,
    /// What the operator wants.
    pub desired: Arc<Desired>,
    /// What is in the maps.
    pub image: Arc<Image>,
    /// Backend ids by name, from the image.
    pub backend_ids: Arc<HashMap<BackendRef, u32>>,
    /// Service ids by name, from the image.
    pub service_ids: Arc<HashMap<String, u32>>,
    /// Every backend's `service/backend` by id, removed ones included.
    pub names: Arc<HashMap<u32, String>>,
    /// When each backend's state became what it is; adopted states are absent.
    pub since: Arc<HashMap<u32, Timestamp>>,
    /// Services and families whose every backend is down, what then happens, and since when.
    pub all_down: Arc<BTreeMap<(String, Family), (Panic, Timestamp)>>,
    /// What the checks say.
    pub health: Arc<Records>,
    /// Interfaces and addresses.
    pub links: Arc<Links>,
    /// Why some backends have no next hop.
    pub hop_problems: Arc<BTreeMap<IpAddr, HopProblem>>,
    /// Configured interfaces.
    pub ports: Arc<Vec<Port>>,
    /// VIPs and SNAT addresses.
    pub presence: Arc<Vec<AddressView>>,
    /// Counters.
    pub sample: Arc<Sample>,
    /// Writes that failed.
    pub failed_ops: Vec<FailedOp>,
    /// Why the newest compile gave no image, and similar.
    pub warnings: Vec<WarningView>,
}

/// What does not change while the agent runs.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Process id.
    pub pid: u32,
    /// Start of the process.
    pub started: Timestamp,
    /// Pins.
    pub pin_dir: PathBuf,
    /// What is switched on in the program.
    pub features: Vec<String>,
    /// `fresh` or `adopted`.
    pub adoption: &'static str,
    /// What works less well than it should, in words.
    pub warnings: Vec<String>,
    /// What the agent gave up.
    pub confinement: Confinement,
    /// The config the agent was started with: keys that only a restart can change are compared with it.
    pub config: crate::config::Config,
}

/// One write that failed.
#[derive(Clone, Debug)]
pub struct FailedOp {
    /// The write.
    pub op: String,
    /// Why.
    pub error: String,
    /// How often, and when to try again.
    pub backoff: Backoff,
    /// First failure.
    pub since: Timestamp,
}

impl FailedOp {
    /// Time until the next try, at `now`.
    pub fn retry_in_ms(&self, now: Instant) -> u64 {
        self.backoff.next.saturating_duration_since(now).as_millis() as u64
    }
}
