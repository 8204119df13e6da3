//! Snapshots for tests: a real config through the real compiler, without a kernel.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_common::abi::BackendStats;

use super::book::{Book, Moment};
use super::snapshot::{Origin, Snapshot};
use super::stats::Sampler;
use crate::agent::{Confinement, Desired};
use crate::dataplane::AttachMode;
use crate::health::{PortVerdict, ProbeResult};
use crate::state::{self, BackendRef, Hop, Ids, Image, Inputs, Link, Links, TxWay};
use crate::view::{AddressRole, AddressView, Timestamp};

use super::ports::{Port, PortState};

/// Two services: `web` with three backends on their own ports, `dns` without a check.
pub(crate) const CONFIG: &str = r#"[agent]
interfaces = ["eth0"]

[[service]]
name = "web"
vip = ["203.0.113.10"]
port = 80
protocol = "tcp"
check = { tcp = {}, interval = "2s", timeout = "1s", rise = 2, fall = 3 }

[[service.backend]]
name = "a"
address = "10.0.0.11"
port = 8081

[[service.backend]]
address = "10.0.0.12"
port = 9000
weight = 50

[[service]]
name = "dns"
vip = ["203.0.113.10"]
port = 53
protocol = "udp"

[[service.backend]]
name = "d"
address = "10.0.0.13"
port = 5353
"#;

/// 2001-09-09T01:46:40Z, when the fixture's agent started.
pub(crate) const START: Timestamp = Timestamp { unix_s: 1_000_000_000 };

/// A snapshot in the making.
pub(crate) struct Fixture {
    pub(crate) desired: Arc<Desired>,
    pub(crate) links: Links,
    pub(crate) hops: HashMap<IpAddr, Hop>,
    pub(crate) book: Book,
    pub(crate) image: Image,
    pub(crate) ids: Ids,
    pub(crate) sampler: Sampler,
    pub(crate) presence: Vec<AddressView>,
    pub(crate) port: PortState,
    began: Instant,
}

impl Fixture {
    /// An agent that has just started with `config`; nothing has been checked.
    pub(crate) fn new(config: &str) -> Self {
        let path = Path::new("/etc/xlb/xlb.toml");
        let desired = Desired::from_text(path, config.to_owned(), START).expect("a good config");
        let mut book = Book::default();
        book.follow(&desired.config, moment(0));
        let link = Link {
            ifindex: 2,
            name: "eth0".to_owned(),
            mac: [2, 0, 0, 0, 0, 1],
            mtu_bytes: 1500,
            up: true,
            driver: "veth".to_owned(),
            tx: TxWay::Redirect,
        };
        let own = "10.0.0.1/24".parse().expect("an address");
        let hop = Hop {
            dst_mac: [2, 0, 0, 0, 0, 9],
            src_mac: [2, 0, 0, 0, 0, 1],
            ifindex: 2,
        };
        let backends = desired.config.services.iter().flat_map(|service| &service.backends);
        let hops = backends.map(|backend| (backend.address, hop)).collect();
        Self {
            desired: Arc::new(desired),
            links: Links {
                by_name: BTreeMap::from([(link.name.clone(), link)]),
                addresses: vec![(2, own)],
            },
            hops,
            book,
            image: Image::default(),
            ids: Ids::default(),
            sampler: Sampler::default(),
            presence: Vec::new(),
            port: PortState::Attached {
                ifindex: 2,
                mode: AttachMode::Native,
            },
            began: Instant::now(),
        }
    }

    /// Probes of `service/backend` end with `verdict`, one a second from `from_s` on, `times` in a row.
    pub(crate) fn probe(&mut self, name: &str, verdict: &PortVerdict, from_s: u64, times: u64) {
        let (service, backend) = name.split_once('/').expect("service/backend");
        let backend = BackendRef {
            service: service.to_owned(),
            backend: backend.to_owned(),
        };
        let target = self.book.records().get(&backend).expect("a checked backend").target;
        for s in from_s..from_s + times {
            let result = ProbeResult {
                backend: backend.clone(),
                target,
                verdict: verdict.clone(),
                took: Duration::from_micros(420),
                at: self.began,
            };
            self.book.observe(&result, moment(s));
        }
    }

    /// A VIP that nobody answers for.
    pub(crate) fn vip_missing(&mut self, address: &str) {
        self.presence.push(AddressView {
            address: address.parse().expect("an address"),
            role: AddressRole::Vip,
            presence: "missing".to_owned(),
            interface: None,
            next: Some(format!("ip addr add {address}/32 dev eth0")),
        });
    }

    /// Compiles and publishes, with the counters at `seconds` after the start.
    pub(crate) fn snapshot(&mut self, seconds: u64, counters: HashMap<u32, BackendStats>) -> Arc<Snapshot> {
        let live_flows = HashMap::new();
        let inputs = Inputs {
            config: &self.desired.config,
            links: &self.links,
            hops: &self.hops,
            health: self.book.states(),
            live_flows: &live_flows,
            now: Duration::from_secs(seconds),
            hz: 250,
        };
        self.image = state::compile(&inputs, &self.image, &mut self.ids).expect("an image");
        let all_down = state::panic::all_down(&inputs)
            .into_iter()
            .map(|(key, policy)| (key, (policy, moment(seconds).wall)));
        let index = super::index::index(&self.desired.config, &self.image);
        let sample = self.sampler.record(self.began + Duration::from_secs(seconds), counters);
        Arc::new(Snapshot {
            origin: Arc::new(Origin {
                pid: 4242,
                started: START,
                pin_dir: "/sys/fs/bpf/xlb".into(),
                features: vec!["full_nat".to_owned()],
                adoption: "fresh",
                warnings: Vec::new(),
                confinement: Confinement {
                    capabilities: vec!["CAP_BPF".to_owned(), "CAP_NET_ADMIN".to_owned()],
                    files: "limited",
                    ..Confinement::default()
                },
                config: self.desired.config.clone(),
            }),
            generation: 3,
            applied: moment(seconds).wall,
            desired: Arc::clone(&self.desired),
            image: Arc::new(self.image.clone()),
            since: Arc::new(index.names.keys().map(|id| (*id, moment(1).wall)).collect()),
            backend_ids: Arc::new(index.backends),
            service_ids: Arc::new(index.services),
            names: Arc::new(index.names),
            all_down: Arc::new(all_down.collect()),
            health: self.book.records(),
            links: Arc::new(self.links.clone()),
            hop_problems: Arc::default(),
            ports: Arc::new(vec![Port {
                name: "eth0".to_owned(),
                state: self.port.clone(),
            }]),
            presence: Arc::new(self.presence.clone()),
            sample,
            failed_ops: Vec::new(),
            warnings: Vec::new(),
        })
    }
}

/// `seconds` after the start.
pub(crate) fn moment(seconds: u64) -> Moment {
    Moment {
        monotonic: Duration::from_secs(seconds),
        wall: Timestamp {
            unix_s: START.unix_s + seconds,
        },
    }
}
