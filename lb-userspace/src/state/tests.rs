//! Whole steps: config and events to images, images to ops, ops applied one by one.

mod addresses;
mod changes;
mod lifetimes;
mod panic;
mod scale;
mod settings;
mod states;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lb_common::abi::{Backend, Service, backend_state, endpoint_kind, hop_flag};
use lb_common::limits::MAX_SNAT_ADDRESSES;

use super::ours::{self, Claim};
use super::spans::GRACE;
use super::*;
use crate::config::{self, AdminState, Config};

/// A reconcile task in small: inputs, the image in the "kernel", ids.
struct World {
    config: Config,
    links: Links,
    hops: HashMap<IpAddr, Hop>,
    health: HashMap<BackendRef, HealthState>,
    admin: HashMap<BackendRef, AdminState>,
    live: HashMap<u32, u64>,
    now: Duration,
    image: Image,
    ids: Ids,
    /// When a span was last named by the image in force.
    last_named: BTreeMap<(u32, u32), Duration>,
}

impl World {
    fn new(text: &str) -> Self {
        let mut world = Self {
            config: parsed(text),
            links: links(&[("eth0", 2, "192.0.2.10/24"), ("eth1", 3, "10.0.0.1/24")]),
            hops: HashMap::new(),
            health: HashMap::new(),
            admin: HashMap::new(),
            live: HashMap::new(),
            now: Duration::from_secs(100),
            image: Image::default(),
            ids: Ids::default(),
            last_named: BTreeMap::new(),
        };
        world.find_hops();
        world
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            config: &self.config,
            links: &self.links,
            hops: &self.hops,
            health: &self.health,
            live_flows: &self.live,
            now: self.now,
            hz: 250,
        }
    }

    fn find_hops(&mut self) {
        for backend in self.config.services.iter().flat_map(|service| &service.backends) {
            let hop = Hop {
                dst_mac: [2, 0, 0, 0, 1, 1],
                src_mac: [2, 0, 0, 0, 0, 3],
                ifindex: 3,
            };
            self.hops.insert(backend.address, hop);
        }
    }

    fn compiled(&mut self) -> Result<Image, CompileError> {
        for service in &mut self.config.services {
            let service = Arc::make_mut(service);
            for backend in &mut service.backends {
                let name = BackendRef {
                    service: service.name.clone(),
                    backend: backend.name.clone(),
                };
                backend.state = self.admin.get(&name).copied().unwrap_or_default();
            }
        }
        let mut ids = std::mem::take(&mut self.ids);
        let image = compile(&self.inputs(), &self.image, &mut ids);
        self.ids = ids;
        image
    }

    /// One change: compile, diff, apply op by op with every invariant checked after each.
    fn step(&mut self) -> Vec<Op> {
        let new = self.compiled().expect("the config fits");
        let ops = diff(&self.image, &new);
        let old = self.image.clone();
        for op in &ops {
            self.check_ring_write(op);
            self.image.apply(op);
            check(&old, &self.image, &new, op);
            let now = self.now;
            self.last_named.extend(self.image.ring_spans().map(|span| (span, now)));
        }
        assert_eq!(self.image, new);
        assert_eq!(diff(&self.image, &new), []);
        let now = self.now;
        self.last_named.extend(self.image.ring_spans().map(|span| (span, now)));
        ops
    }

    fn load(&mut self, text: &str) -> Vec<Op> {
        self.config = parsed(text);
        self.find_hops();
        self.step()
    }

    fn pass(&mut self, time: Duration) {
        let now = self.now;
        self.last_named.extend(self.image.ring_spans().map(|span| (span, now)));
        self.now += time;
    }

    /// The agent dies and another one adopts the maps.
    fn restart(&mut self) {
        self.ids = Ids::recover(&self.image, self.now);
        // A process takes longer to start than a packet to leave the program: no grace is left to keep.
        self.last_named.clear();
        self.health.clear();
        self.links = Links::default();
        self.hops.clear();
    }

    fn check_ring_write(&self, op: &Op) {
        let Op::RingWrite { offset, slots } = op else {
            return;
        };
        let end = offset + slots.len() as u32;
        for ((start, size), at) in &self.last_named {
            let overlaps = *start < end && *offset < start + size;
            assert!(
                !overlaps || self.now.saturating_sub(*at) >= GRACE,
                "{offset}+{} was in use until {at:?}",
                slots.len()
            );
        }
    }

    fn service(&self, name: &str) -> (u32, Service) {
        let name = names::to_name(&names::of_service(name));
        let (key, _) = self
            .image
            .names
            .iter()
            .find(|(key, n)| key.kind == 1 && **n == name)
            .expect("service name");
        (key.id, self.image.services[&key.id])
    }

    /// The backend of this name, the configured one if there are several.
    fn backend(&self, service: &str, backend: &str) -> (u32, Backend) {
        let name = names::to_name(&names::of_backend(service, backend));
        let named = self.image.names.iter().filter(|(key, n)| key.kind == 2 && **n == name);
        let mut found: Vec<(u32, Backend)> = named.map(|(key, _)| (key.id, self.image.backends[&key.id])).collect();
        found.sort_by_key(|(_, backend)| backend.state == backend_state::REMOVED);
        *found
            .first()
            .unwrap_or_else(|| panic!("no backend {service}/{backend}"))
    }

    fn state(&self, service: &str, backend: &str) -> u8 {
        self.backend(service, backend).1.state
    }

    fn set_health(&mut self, service: &str, backend: &str, state: HealthState) {
        self.health.insert(reference(service, backend), state);
    }
}

fn reference(service: &str, backend: &str) -> BackendRef {
    BackendRef {
        service: service.to_owned(),
        backend: backend.to_owned(),
    }
}

fn parsed(text: &str) -> Config {
    match config::parse(Path::new("test.toml"), text) {
        Ok((config, _)) => config,
        Err(errors) => panic!("{}", errors.iter().map(|e| e.rendered.as_str()).collect::<String>()),
    }
}

fn links(addresses: &[(&str, u32, &str)]) -> Links {
    let mut links = Links::default();
    for (name, ifindex, address) in addresses {
        let link = Link {
            ifindex: *ifindex,
            name: (*name).to_owned(),
            mac: [2, 0, 0, 0, 0, *ifindex as u8],
            mtu_bytes: 1500,
            up: true,
            driver: "veth".to_owned(),
            tx: TxWay::Redirect,
        };
        links.by_name.insert((*name).to_owned(), link);
        links.addresses.push((*ifindex, address.parse().expect("address")));
    }
    links
}

/// Every invariant of `diff`'s module head, on the image after one op.
fn check(old: &Image, image: &Image, new: &Image, op: &Op) {
    for (id, service) in &image.services {
        for (offset, size) in [
            (service.ring4_offset, service.ring4_size),
            (service.ring6_offset, service.ring6_size),
        ] {
            if size == 0 {
                continue;
            }
            let slots = image
                .rings
                .get(&offset)
                .unwrap_or_else(|| panic!("{op:?}: no ring at {offset}"));
            assert_eq!(slots.len(), size as usize, "{op:?}");
            for slot in slots.iter() {
                let backend = image
                    .backends
                    .get(slot)
                    .unwrap_or_else(|| panic!("{op:?}: no backend {slot}"));
                assert_eq!(backend.service_id, *id, "{op:?}");
                assert_ne!(backend.state, backend_state::EMPTY, "{op:?}");
            }
            let active = |image: &Image, slot: &u32| {
                image
                    .backends
                    .get(slot)
                    .is_some_and(|backend| backend.state == backend_state::ACTIVE)
            };
            // Who takes flows before and after takes them all the time.
            let always: Vec<&u32> = slots
                .iter()
                .filter(|slot| active(old, slot) && active(new, slot))
                .collect();
            assert!(always.iter().all(|slot| active(image, slot)), "{op:?}");
        }
    }
    for (key, endpoint) in &image.endpoints {
        // What a removed backend sends is known as a backend's for longer than its service.
        let of_removed = endpoint.kind == endpoint_kind::GATEWAY_BACKEND
            && image.backends.values().any(|backend| backend.address == key.address);
        assert!(
            of_removed || image.services.contains_key(&endpoint.service_id),
            "{op:?}: {key:?}"
        );
        assert!([endpoint_kind::SERVICE, endpoint_kind::GATEWAY_BACKEND].contains(&endpoint.kind));
    }
    // Bits: of endpoints and of the SNAT addresses that are in use.
    let settings = &image.settings;
    let mut needed: Vec<Claim> = ours::claims(&Image {
        settings: *settings,
        endpoints: image.endpoints.clone(),
        ..Image::default()
    })
    .into_iter()
    .collect();
    for (first, count) in [(0, settings.snat4_count), (MAX_SNAT_ADDRESSES, settings.snat6_count)] {
        for index in first..first + count {
            let address = image
                .snat
                .get(&index)
                .unwrap_or_else(|| panic!("{op:?}: no SNAT address {index}"))
                .address;
            let role = image
                .addrs
                .iter()
                .find(|(key, _)| key.address == address)
                .map_or(0, |(_, value)| value.roles);
            assert_ne!(
                role & lb_common::abi::role::SNAT,
                0,
                "{op:?}: SNAT address without its role"
            );
            needed.push(Claim::Destination {
                address,
                min: settings.snat_port_min,
                max: settings.snat_port_max,
            });
        }
    }
    for (block, bits) in ours::bitmap(&needed) {
        let has = image.ours.get(&block).copied().unwrap_or(0);
        assert_eq!(bits & !has, 0, "{op:?}: bits missing in block {block}");
    }
    for backend in image.backends.values() {
        let way_out = backend.hop_flags & hop_flag::VALID != 0 && new.tx_ports.contains(&backend.hop_ifindex);
        assert!(
            !way_out || image.tx_ports.contains(&backend.hop_ifindex),
            "{op:?}: no way out"
        );
    }
}

/// Two services over three backends, the second one without a check.
const TWO: &str = r#"
[agent]
interfaces = ["eth0", "eth1"]
[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
internal_port = 8080
check = { tcp = {} }
backend = [{ name = "a", address = "10.0.0.11" }, { name = "b", address = "10.0.0.12" }, { name = "c", address = "10.0.0.13", weight = 50 }]
[[service]]
name = "dns"
vip = "203.0.113.10"
port = 53
protocol = "udp"
backend = [{ name = "a", address = "10.0.0.11" }, { name = "b", address = "10.0.0.12" }]
"#;
