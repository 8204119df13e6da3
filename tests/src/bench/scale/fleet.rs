//! A configuration of so many services and backends, and the image that the agent would make of it: text, check, compile.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow};
use lb_userspace::config::{self, Limits};
use lb_userspace::dataplane::kernel_hz;
use lb_userspace::state::rings::ring_size;
use lb_userspace::state::{Hop, Ids, Image, Inputs, Link, Links, TxWay, compile};

use crate::kernel::Lab;
use crate::model::iface_mac;
use crate::model::sample::{BACKEND_MAC, Family};

const SERVICE_PORT: u16 = 443;
const INTERNAL_PORT: u16 = 8443;
const SNAT_ADDRESSES: u16 = 4;
/// As the config's text names them.
const CLIENT_SIDE: &str = "clients";
const BACKEND_SIDE: &str = "backends";

/// TCP services in full NAT, all of one family and each with its own VIP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fleet {
    /// Of every address.
    pub(super) family: Family,
    /// How many services.
    pub(super) services: u32,
    /// Backends of each, no address twice.
    pub(super) backends_each: u32,
    /// Room for established connections.
    pub(super) connections: u32,
    /// Room for half-open connections.
    pub(super) half_open: u32,
}

impl Fleet {
    /// All backends.
    pub(super) const fn backends(&self) -> u32 {
        self.services * self.backends_each
    }

    /// What client `number` dials: clients take turns among the services.
    pub(super) fn dial(&self, number: u32) -> SocketAddr {
        SocketAddr::new(self.vip(number % self.services), SERVICE_PORT)
    }

    /// Just the room that it needs.
    pub(super) fn limits(&self) -> Limits {
        let ring = ring_size((0..self.backends_each).map(|_| config::DEFAULT_WEIGHT));
        Limits {
            connections: self.connections,
            half_open: self.half_open,
            // Ids begin at 1, and so do slots that are used.
            services: self.services + 1,
            backends: self.backends() + 1,
            ring_slots: (self.services * ring).max(256),
            endpoints: self.services,
        }
    }

    /// What the agent would write into its maps.
    pub(super) fn image(&self, lab: &Lab) -> Result<Image> {
        let text = self.text();
        let parsed = config::parse(Path::new("scale.toml"), &text);
        let (config, _) = parsed.map_err(|found| {
            let text: String = found.iter().map(|one| one.rendered.as_str()).collect();
            anyhow!(
                "the config of {} services does not pass its check:\n{text}",
                self.services
            )
        })?;
        let hop = Hop {
            dst_mac: BACKEND_MAC,
            src_mac: iface_mac(lab.backend_side),
            ifindex: lab.backend_side,
        };
        let backends = config.services.iter().flat_map(|service| &service.backends);
        let hops: HashMap<IpAddr, Hop> = backends.map(|backend| (backend.address, hop)).collect();
        let inputs = Inputs {
            config: &config,
            links: &links(lab),
            hops: &hops,
            health: &HashMap::new(),
            live_flows: &HashMap::new(),
            now: Duration::ZERO,
            hz: kernel_hz()?,
        };
        Ok(compile(&inputs, &Image::default(), &mut Ids::default())?)
    }

    fn text(&self) -> String {
        let limits = self.limits();
        let snat: Vec<String> = (1..=SNAT_ADDRESSES)
            .map(|number| format!("\"{}\"", self.address(0xc000_0200, 0xffff, number.into())))
            .collect();
        let mut text = format!(
            "[agent]\ninterfaces = [\"{CLIENT_SIDE}\", \"{BACKEND_SIDE}\"]\nsnat_addresses = [{}]\n\
             [timeouts]\nhalf_open = \"300s\"\n\
             [limits]\nconnections = {}\nhalf_open = {}\nservices = {}\nbackends = {}\nring_slots = {}\nendpoints = {}\n",
            snat.join(", "),
            limits.connections,
            limits.half_open,
            limits.services,
            limits.backends,
            limits.ring_slots,
            limits.endpoints
        );
        for service in 0..self.services {
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "[[service]]\nname = \"s{service}\"\nvip = \"{}\"\nport = {SERVICE_PORT}\nbackend = [",
                self.vip(service)
            );
            for backend in 0..self.backends_each {
                let address = self.address(0x0a00_0000, 2, 1 + service * self.backends_each + backend);
                let _ = write!(text, "{{ address = \"{address}\", port = {INTERNAL_PORT} }}, ");
            }
            text += "]\n";
        }
        text
    }

    fn vip(&self, service: u32) -> IpAddr {
        self.address(0xc612_0000, 1, 1 + service)
    }

    /// An address of a kind: `v4` counted on, or in the network `2001:db8:net::`.
    fn address(&self, v4: u32, net: u16, number: u32) -> IpAddr {
        match self.family {
            Family::V4 => Ipv4Addr::from(v4 + number).into(),
            Family::V6 => {
                let net = (0x2001_0db8_u128 << 96) | (u128::from(net) << 80);
                Ipv6Addr::from(net | u128::from(number)).into()
            }
        }
    }
}

fn links(lab: &Lab) -> Links {
    let link = |name: &str, ifindex, tx| Link {
        ifindex,
        name: name.to_owned(),
        mac: iface_mac(ifindex),
        mtu_bytes: 1_500,
        up: true,
        driver: "veth".to_owned(),
        tx,
    };
    let both = [
        link(CLIENT_SIDE, lab.client_side, TxWay::Tx),
        link(BACKEND_SIDE, lab.backend_side, TxWay::Redirect),
    ];
    Links {
        by_name: both.into_iter().map(|link| (link.name.clone(), link)).collect(),
        addresses: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const LAB: Lab = Lab {
        client_side: 2,
        backend_side: 3,
        other_side: 4,
        foreign: 5,
    };

    #[test]
    fn the_image_has_every_service_and_backend_and_just_that_room() {
        for family in [Family::V4, Family::V6] {
            let fleet = Fleet {
                family,
                services: 30,
                backends_each: 7,
                connections: 64,
                half_open: 64,
            };
            let image = fleet.image(&LAB).expect("it fits");
            let limits = fleet.limits();
            assert_eq!((image.services.len(), image.backends.len()), (30, 210));
            assert_eq!(image.endpoints.len(), limits.endpoints as usize);
            let slots: usize = image.rings.values().map(|ring| ring.len()).sum();
            assert_eq!(slots, limits.ring_slots as usize);
            let in_rings: BTreeSet<u32> = image.rings.values().flat_map(|ring| ring.iter()).copied().collect();
            assert!(in_rings.iter().eq(image.backends.keys()), "{in_rings:?}");
        }
    }
}
