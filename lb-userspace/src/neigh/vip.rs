//! VIPs as addresses of this host: adding, removing (`manage_vip = true`), and whether packets for one come to us.
//! Marks what it adds, so that an operator's own address is never taken away.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, CacheInfo};

use super::OUR_PROTOCOL;
use super::client::{Client, family};
use super::error::NeighError;
use super::links::{LinkTable, parse_address};
use super::routes::{Route, lookup, whole};

/// How packets for a VIP come to this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VipStatus {
    /// It is an address of this host (or a local route covers it): the kernel answers ARP for it.
    Local {
        /// The interface that has it; `None`: a local route covers it.
        iface: Option<String>,
    },
    /// It lies outside every network of our interfaces: a router must send it to one of our addresses. Whether one
    /// does cannot be seen from here.
    Routed,
    /// It lies in the network of one of our interfaces and this host does not have it: nobody answers ARP for it.
    Missing {
        /// The interface whose network it lies in.
        iface: String,
    },
}

impl VipStatus {
    /// One word for JSON and tables.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Local { .. } => "local",
            Self::Routed => "routed",
            Self::Missing { .. } => "missing",
        }
    }

    /// A sentence about `vip`, with the next step where there is one.
    pub fn sentence(&self, vip: IpAddr) -> impl fmt::Display {
        match self {
            Self::Local { iface: Some(iface) } => format!("{vip} is an address of {iface}"),
            Self::Local { iface: None } => format!("{vip} is covered by a local route"),
            Self::Routed => format!(
                "{vip} is outside our interfaces' networks: a router must have a route for it to one of our addresses"
            ),
            Self::Missing { iface } => format!(
                "{vip} is in the network of {iface}, but not an address of this host, so nobody answers {} for it; \
                 set manage_vip = true, or run 'ip addr add {vip}/{} dev {iface}'",
                if vip.is_ipv4() {
                    "ARP"
                } else {
                    "neighbour solicitations"
                },
                whole(vip)
            ),
        }
    }
}

/// What [`vip_add`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VipAdded {
    /// It is there now.
    Added,
    /// It was there before.
    AlreadyThere,
}

/// What [`vip_remove`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VipRemoved {
    /// It is gone.
    Removed,
    /// It was not there.
    NotThere,
    /// It is there, but we did not add it (or the kernel, before 5.18, keeps no mark): left alone.
    NotOurs,
}

/// Adds `vip` to an interface as a /32 or /128. An IPv6 one works at once (no duplicate address detection) and is never
/// chosen by the kernel as a source for other traffic.
pub async fn vip_add(ifname: &str, vip: IpAddr) -> Result<VipAdded, NeighError> {
    let client = Client::open()?;
    let ifindex = index_of(&client, ifname).await?;
    let mut message = message(ifindex, vip);
    message.attributes.push(AddressAttribute::Protocol(OUR_PROTOCOL.into()));
    if vip.is_ipv6() {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_valid = u32::MAX;
        message.attributes.push(AddressAttribute::CacheInfo(lifetime));
    }
    match client.address_add(&format!("address {vip} on {ifname}"), message).await {
        Ok(()) => Ok(VipAdded::Added),
        Err(error) if error.errno() == Some(libc::EEXIST) => Ok(VipAdded::AlreadyThere),
        Err(error) => Err(error),
    }
}

/// Removes `vip` from an interface if [`vip_add`] put it there.
pub async fn vip_remove(ifname: &str, vip: IpAddr) -> Result<VipRemoved, NeighError> {
    let client = Client::open()?;
    let ifindex = index_of(&client, ifname).await?;
    let addresses = client.addresses().await?;
    let there = addresses
        .iter()
        .find(|message| parse_address(message) == Some((ifindex, IpNet::from(vip))));
    match there {
        None => return Ok(VipRemoved::NotThere),
        Some(message) if !is_ours(message) => return Ok(VipRemoved::NotOurs),
        Some(_) => {}
    }
    let what = format!("address {vip} on {ifname}");
    match client.address_delete(&what, message(ifindex, vip)).await {
        Ok(()) => Ok(VipRemoved::Removed),
        Err(error) if error.errno() == Some(libc::EADDRNOTAVAIL) => Ok(VipRemoved::NotThere),
        Err(error) => Err(error),
    }
}

/// The VIPs that an agent added and that are still there, with their interfaces.
pub async fn vips_ours() -> Result<Vec<(String, IpAddr)>, NeighError> {
    let client = Client::open()?;
    let links = link_table(&client).await?;
    let addresses = client.addresses().await?;
    let ours = addresses
        .iter()
        .filter(|message| is_ours(message))
        .filter_map(parse_address);
    Ok(ours
        .filter_map(|(ifindex, net)| Some((links.get(ifindex)?.name.clone(), net.addr())))
        .collect())
}

/// Every address of this network namespace with the name of its interface.
pub async fn local_addresses() -> Result<Vec<(String, IpNet)>, NeighError> {
    let client = Client::open()?;
    let links = link_table(&client).await?;
    let addresses = client.addresses().await?;
    let all = addresses.iter().filter_map(parse_address);
    Ok(all
        .filter_map(|(ifindex, net)| Some((links.get(ifindex)?.name.clone(), net)))
        .collect())
}

/// How packets for `vip` come to this host. Needs no privilege.
pub async fn vip_status(vip: IpAddr) -> Result<VipStatus, NeighError> {
    let addresses = local_addresses().await?;
    if let Some((iface, _)) = addresses.iter().find(|(_, net)| net.addr() == vip) {
        return Ok(VipStatus::Local {
            iface: Some(iface.clone()),
        });
    }
    if lookup(&Client::open()?, vip, None).await? == Route::Local {
        return Ok(VipStatus::Local { iface: None });
    }
    let on_link = addresses.into_iter().find(|(_, net)| net.contains(&vip));
    Ok(on_link.map_or(VipStatus::Routed, |(iface, _)| VipStatus::Missing { iface }))
}

async fn link_table(client: &Client) -> Result<LinkTable, NeighError> {
    let mut table = LinkTable::default();
    table.set_links(&client.links().await?);
    Ok(table)
}

async fn index_of(client: &Client, ifname: &str) -> Result<u32, NeighError> {
    let table = link_table(client).await?;
    table.index_of(ifname).ok_or_else(|| NeighError::NoInterface {
        name: ifname.to_owned(),
    })
}

fn message(ifindex: u32, vip: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(vip);
    message.header.prefix_len = whole(vip);
    message.header.index = ifindex;
    message.attributes = vec![AddressAttribute::Local(vip), AddressAttribute::Address(vip)];
    message
}

fn is_ours(message: &AddressMessage) -> bool {
    let mark = AddressProtocol::from(OUR_PROTOCOL);
    message
        .attributes
        .iter()
        .any(|attribute| matches!(attribute, AddressAttribute::Protocol(protocol) if *protocol == mark))
}
