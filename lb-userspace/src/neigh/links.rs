//! Interfaces and addresses: netlink messages to [`Links`]. Decides whether an interface is one that XDP can work on
//! (Ethernet) and how frames leave by it when nobody says otherwise.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::net::Mac;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};

use super::driver::driver_of;
use crate::state::{Link, Links, TxWay};

/// Interfaces by index.
#[derive(Debug, Default)]
pub(super) struct LinkTable {
    by_index: BTreeMap<u32, Seen>,
    addresses: Vec<(u32, IpNet)>,
    /// Driver by (index, name): asking takes the kernel's rtnl lock.
    drivers: BTreeMap<(u32, String), String>,
}

/// One interface, of whatever kind.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) up: bool,
    /// `None`: not Ethernet.
    pub(super) ethernet: Option<Link>,
}

impl LinkTable {
    pub(super) fn set_links(&mut self, messages: &[LinkMessage]) {
        let mut drivers = std::mem::take(&mut self.drivers);
        let mut kept = BTreeMap::new();
        self.by_index = messages
            .iter()
            .filter_map(|message| {
                let (mut seen, kind) = parse(message)?;
                if let Some(link) = &mut seen.ethernet {
                    let key = (link.ifindex, link.name.clone());
                    let driver = drivers
                        .remove(&key)
                        .or(kind)
                        .or_else(|| driver_of(&link.name))
                        .unwrap_or_default();
                    link.tx = tx_way(&driver);
                    link.driver.clone_from(&driver);
                    kept.insert(key, driver);
                }
                Some((message.header.index, seen))
            })
            .collect();
        self.drivers = kept;
    }

    pub(super) fn set_addresses(&mut self, messages: &[AddressMessage]) {
        self.addresses = messages.iter().filter_map(parse_address).collect();
    }

    pub(super) fn get(&self, ifindex: u32) -> Option<&Seen> {
        self.by_index.get(&ifindex)
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&Seen> {
        self.by_index.values().find(|seen| seen.name == name)
    }

    pub(super) fn index_of(&self, name: &str) -> Option<u32> {
        let found = self.by_index.iter().find(|(_, seen)| seen.name == name)?;
        Some(*found.0)
    }

    /// What the rest of the agent gets to see.
    pub(super) fn to_links(&self) -> Links {
        let ethernet = self.by_index.values().filter_map(|seen| seen.ethernet.as_ref());
        Links {
            by_name: ethernet.map(|link| (link.name.clone(), link.clone())).collect(),
            addresses: self.addresses.clone(),
        }
    }
}

/// veth: a frame sent by `XDP_TX` waits for a NAPI poll that nobody starts; redirecting to the same port works.
fn tx_way(driver: &str) -> TxWay {
    match driver {
        "veth" => TxWay::Redirect,
        _ => TxWay::Tx,
    }
}

/// The interface, and its kind where it is a virtual one.
pub(super) fn parse(message: &LinkMessage) -> Option<(Seen, Option<String>)> {
    let (mut name, mut mac, mut mtu_bytes, mut kind) = (None, None, 0, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Address(bytes) => mac = Mac::try_from(bytes.as_slice()).ok(),
            LinkAttribute::Mtu(bytes) => mtu_bytes = *bytes,
            LinkAttribute::LinkInfo(infos) => kind = kind_of(infos),
            _ => {}
        }
    }
    let name = name?;
    let flags = message.header.flags;
    let up = flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::LowerUp);
    let is_ethernet = message.header.link_layer_type == LinkLayerType::Ether;
    let ethernet = mac.filter(|_| is_ethernet).map(|mac| Link {
        ifindex: message.header.index,
        name: name.clone(),
        mac,
        mtu_bytes,
        up,
        driver: String::new(),
        tx: TxWay::Tx,
    });
    Some((Seen { name, up, ethernet }, kind))
}

fn kind_of(infos: &[LinkInfo]) -> Option<String> {
    infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    })
}

/// The interface's own address with its prefix. On a point-to-point link that is `IFA_LOCAL`, not `IFA_ADDRESS`
/// (the peer's). One that failed duplicate address detection does not work and is left out.
pub(super) fn parse_address(message: &AddressMessage) -> Option<(u32, IpNet)> {
    if message.header.flags.contains(AddressHeaderFlags::Dadfailed) {
        return None;
    }
    let (mut own, mut peer): (Option<IpAddr>, Option<IpAddr>) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => own = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            AddressAttribute::Flags(flags) if flags.contains(AddressFlags::Dadfailed) => return None,
            _ => {}
        }
    }
    let net = IpNet::new(own.or(peer)?, message.header.prefix_len).ok()?;
    Some((message.header.index, net))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(attributes: Vec<AddressAttribute>) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.index = 4;
        message.header.prefix_len = 24;
        message.attributes = attributes;
        message
    }

    #[test]
    fn the_own_address_of_a_point_to_point_link_is_not_the_peers() {
        let own = IpAddr::from([10, 0, 0, 1]);
        let peer = IpAddr::from([10, 9, 9, 9]);
        let message = address(vec![AddressAttribute::Address(peer), AddressAttribute::Local(own)]);
        assert_eq!(parse_address(&message).map(|(_, net)| net.addr()), Some(own));
    }

    #[test]
    fn a_duplicate_address_is_left_out() {
        let mut message = address(vec![AddressAttribute::Address(IpAddr::from([10, 0, 0, 1]))]);
        message.header.flags = AddressHeaderFlags::Dadfailed;
        assert_eq!(parse_address(&message), None);
    }

    #[test]
    fn veth_redirects_and_real_drivers_transmit() {
        assert_eq!(tx_way("veth"), TxWay::Redirect);
        assert_eq!(tx_way("ixgbe"), TxWay::Tx);
        assert_eq!(tx_way(""), TxWay::Tx);
    }
}
