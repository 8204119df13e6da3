//! What the network around us looks like: interfaces, addresses, next hops. Filled by `neigh`, read by `compile`.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;
use lb_common::net::Mac;

/// How a packet leaves by the interface it came in on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxWay {
    /// `XDP_TX`.
    Tx,
    /// Through the device map.
    Redirect,
}

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its MAC.
    pub mac: Mac,
    /// Its MTU.
    pub mtu_bytes: u32,
    /// Whether it is administratively and operationally up.
    pub up: bool,
    /// Its driver (`veth`, `ixgbe`, ...); empty when unknown.
    pub driver: String,
    /// How packets leave by it when the config says `auto`.
    pub tx: TxWay,
}

/// Every interface and address of this network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// Interfaces by name.
    pub by_name: BTreeMap<String, Link>,
    /// Addresses with the index of their interface, in the kernel's order.
    pub addresses: Vec<(u32, IpNet)>,
}

/// The next hop towards an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// MAC of the next hop.
    pub dst_mac: Mac,
    /// MAC of our interface towards it.
    pub src_mac: Mac,
    /// Index of our interface towards it.
    pub ifindex: u32,
}

/// One membership of a backend in a service, by names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendRef {
    /// Service name.
    pub service: String,
    /// Backend name.
    pub backend: String,
}

impl fmt::Display for BackendRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.backend)
    }
}

/// A neighbour on an interface with another MAC than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Index of the interface.
    pub ifindex: u32,
    /// The MAC it had.
    pub old: Mac,
    /// The MAC it has.
    pub new: Mac,
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |mac: &Mac| mac.map(|byte| format!("{byte:02x}")).join(":");
        write!(
            f,
            "interface {}: {} is now {}",
            self.ifindex,
            text(&self.old),
            text(&self.new)
        )
    }
}
