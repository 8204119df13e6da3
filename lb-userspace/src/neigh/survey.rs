//! What a first config is made from: interfaces and whether xlb can work on them, their addresses, and where packets leave.
//! Needs no privilege and sends no packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use super::client::Client;
use super::error::NeighError;
use super::links::{parse, parse_address};
use super::routes::{Route, lookup};

/// Addresses that a host reaches by its default route, if at all: a.root-servers.net.
const FAR: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 41, 0, 4)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30)),
];

/// Kinds of Ethernet interfaces whose drivers have no XDP of their own, or see only part of the traffic.
const WITHOUT_XDP: &[&str] = &[
    "bridge",
    "dummy",
    "geneve",
    "gretap",
    "hsr",
    "ifb",
    "ip6gretap",
    "ipvlan",
    "macsec",
    "macvlan",
    "macvtap",
    "team",
    "vlan",
    "vxlan",
];

/// The network around us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// In the kernel's order.
    pub interfaces: Vec<Interface>,
    /// The way to each address that was asked about, in that order.
    pub ways: Vec<Way>,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Whether it has carrier and is switched on.
    pub up: bool,
    /// Whether a balancer belongs on it.
    pub fit: Fit,
    /// A default route leads out of it, in either family.
    pub is_default: bool,
    /// Without link-local and loopback ones.
    pub addresses: Vec<IpNet>,
}

/// Whether a balancer belongs on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Yes.
    Good,
    /// Loopback, or a tunnel without Ethernet headers.
    NotEthernet,
    /// Part of a bridge, bond or VRF, whose interface has the addresses.
    Port {
        /// Of this one.
        of: String,
    },
    /// A kind without XDP.
    Kind(String),
}

/// How a destination is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Out of this interface.
    Out(String),
    /// It is an address of this host.
    Here,
    /// Not at all.
    Nowhere,
}

/// Looks around, in the network namespace of the calling thread. Needs a tokio runtime.
pub async fn survey(destinations: &[IpAddr]) -> Result<Survey, NeighError> {
    let client = Client::open()?;
    let links = client.links().await?;
    let addresses: Vec<(u32, IpNet)> = client.addresses().await?.iter().filter_map(parse_address).collect();
    let mut defaults = Vec::new();
    for far in FAR {
        if let Route::Via { ifindex, .. } = lookup(&client, far, None).await? {
            defaults.push(ifindex);
        }
    }
    let mut ways = Vec::with_capacity(destinations.len());
    for destination in destinations {
        ways.push(match lookup(&client, *destination, None).await? {
            Route::Via { ifindex, .. } => name_of(&links, ifindex).map_or(Way::Nowhere, Way::Out),
            Route::Local => Way::Here,
            Route::None(_) => Way::Nowhere,
        });
    }
    let interfaces = links.iter().filter_map(|message| {
        let index = message.header.index;
        let (seen, kind) = parse(message)?;
        let own = addresses
            .iter()
            .filter(|(of, net)| *of == index && is_usable(net.addr()));
        Some(Interface {
            fit: fit(message, &links, seen.ethernet.is_some(), kind),
            name: seen.name,
            up: seen.up,
            is_default: defaults.contains(&index),
            addresses: own.map(|(_, net)| *net).collect(),
        })
    });
    Ok(Survey {
        interfaces: interfaces.collect(),
        ways,
    })
}

fn fit(message: &LinkMessage, all: &[LinkMessage], is_ethernet: bool, kind: Option<String>) -> Fit {
    let controller = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    });
    match (controller, kind) {
        _ if !is_ethernet => Fit::NotEthernet,
        (Some(index), _) => Fit::Port {
            of: name_of(all, index).unwrap_or_else(|| format!("interface {index}")),
        },
        (None, Some(kind)) if WITHOUT_XDP.contains(&kind.as_str()) => Fit::Kind(kind),
        (None, _) => Fit::Good,
    }
}

fn name_of(all: &[LinkMessage], index: u32) -> Option<String> {
    let message = all.iter().find(|message| message.header.index == index)?;
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

/// As `xlb check` sees it (XLB0209).
fn is_usable(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !is_link_local && !address.is_loopback()
}
