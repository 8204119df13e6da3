//! The kernel's neighbour table, as far as we need it. Pure: fed with messages, asked for MACs.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use lb_common::net::Mac;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteProtocol;

use super::OUR_PROTOCOL;
use super::client::family;
use crate::state::Moved;

/// The kernel tells ages in hundredths of a second (USER_HZ), whatever its own tick is.
const MS_PER_TICK: u64 = 10;

/// One neighbour: an address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NeighKey {
    pub(super) ifindex: u32,
    pub(super) address: IpAddr,
}

/// What the kernel knows about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Neigh {
    pub(super) state: NeighbourState,
    mac: Option<Mac>,
    /// The kernel keeps it resolved by itself.
    pub(super) managed: bool,
    /// We made it.
    pub(super) ours: bool,
    /// When it was last known to answer.
    pub(super) confirmed_ago: Option<Duration>,
}

impl fmt::Display for NeighKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "neighbour {} on interface {}", self.address, self.ifindex)
    }
}

impl Neigh {
    /// The MAC, if frames may be sent to it now. A stale entry still is the kernel's best knowledge.
    pub(super) fn usable_mac(&self) -> Option<Mac> {
        match self.state {
            NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Noarp
            | NeighbourState::Permanent => self.mac,
            _ => None,
        }
    }

    /// What a hop, and the care for it, is made of. REACHABLE, STALE, DELAY and PROBE come and go without meaning.
    fn essence(&self) -> (Option<Mac>, bool, bool, bool) {
        let failed = self.state == NeighbourState::Failed;
        (self.usable_mac(), failed, self.managed, self.is_static())
    }

    /// One that failed and is being asked for again has still failed: it has not answered.
    fn after(mut self, old: Option<&Self>) -> Self {
        let unresolved = matches!(self.state, NeighbourState::Incomplete | NeighbourState::None);
        if unresolved && old.is_some_and(|old| old.state == NeighbourState::Failed) {
            self.state = NeighbourState::Failed;
        }
        self
    }

    /// We made it, and nobody has set it by hand since.
    pub(super) fn is_ours_to_change(&self) -> bool {
        self.ours && !self.is_static()
    }

    /// Set by hand (or never needs resolving): not ours to change.
    pub(super) fn is_static(&self) -> bool {
        matches!(self.state, NeighbourState::Permanent | NeighbourState::Noarp)
    }
}

/// Last MACs that are remembered. More neighbours than that are no routers of ours.
const MAX_REMEMBERED: usize = 4_096;

/// All neighbours of both families.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    entries: HashMap<NeighKey, Neigh>,
    /// The MAC each was last seen with, entries that are gone or unresolved included: that is how a router that comes
    /// back after an outage is recognized.
    last_macs: HashMap<NeighKey, Mac>,
    moved: Vec<Moved>,
}

impl Neighbours {
    pub(super) fn from_dump(messages: &[NeighbourMessage]) -> Self {
        let mut table = Self::default();
        table.replace(messages);
        table
    }

    /// Takes a full dump over.
    pub(super) fn replace(&mut self, messages: &[NeighbourMessage]) {
        let old = std::mem::take(&mut self.entries);
        let new = messages.iter().filter_map(parse);
        self.entries = new.map(|(key, neigh)| (key, neigh.after(old.get(&key)))).collect();
        let seen: Vec<(NeighKey, Neigh)> = self.entries.iter().map(|(key, neigh)| (*key, *neigh)).collect();
        for (key, neigh) in seen {
            self.remember(key, &neigh);
        }
    }

    /// Neighbours that have another MAC than when they were last seen; each is told once.
    pub(super) fn take_moved(&mut self) -> Vec<Moved> {
        std::mem::take(&mut self.moved)
    }

    /// Whether [`Self::take_moved`] has something to tell.
    pub(super) fn has_moved(&self) -> bool {
        !self.moved.is_empty()
    }

    fn remember(&mut self, key: NeighKey, neigh: &Neigh) {
        let Some(new) = neigh.usable_mac() else {
            return;
        };
        if self.last_macs.len() >= MAX_REMEMBERED && !self.last_macs.contains_key(&key) {
            return;
        }
        let ifindex = key.ifindex;
        if let Some(old) = self.last_macs.insert(key, new).filter(|old| *old != new) {
            self.moved.push(Moved { ifindex, old, new });
        }
    }

    /// Takes one entry over; the key, if that changed what a hop is made of.
    pub(super) fn set(&mut self, message: &NeighbourMessage) -> Option<NeighKey> {
        let (key, neigh) = parse(message)?;
        let old = self.entries.get(&key).copied();
        let neigh = neigh.after(old.as_ref());
        self.remember(key, &neigh);
        self.entries.insert(key, neigh);
        (old.map(|old| old.essence()) != Some(neigh.essence())).then_some(key)
    }

    /// Forgets one entry; its key, if it was there.
    pub(super) fn remove(&mut self, message: &NeighbourMessage) -> Option<NeighKey> {
        let (key, _) = parse(message)?;
        self.entries.remove(&key).map(|_| key)
    }

    pub(super) fn get(&self, key: NeighKey) -> Option<&Neigh> {
        self.entries.get(&key)
    }

    /// Entries that bear our mark.
    pub(super) fn ours(&self) -> impl Iterator<Item = NeighKey> {
        self.entries.iter().filter(|(_, neigh)| neigh.ours).map(|(key, _)| *key)
    }
}

/// A message that names `key` and says nothing else.
pub(super) fn entry(key: NeighKey) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(key.address);
    message.header.ifindex = key.ifindex;
    message
        .attributes
        .push(NeighbourAttribute::Destination(key.address.into()));
    message
}

/// `None`: not a neighbour of ours to use (a proxy entry, a bridge's forwarding entry, no address).
pub(super) fn parse(message: &NeighbourMessage) -> Option<(NeighKey, Neigh)> {
    if message.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let mut address = None;
    let mut neigh = Neigh {
        state: message.header.state,
        mac: None,
        managed: false,
        ours: false,
        confirmed_ago: None,
    };
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => neigh.mac = Mac::try_from(bytes.as_slice()).ok(),
            NeighbourAttribute::ExtFlags(flags) => neigh.managed = flags.contains(NeighbourExtFlags::Managed),
            NeighbourAttribute::Protocol(RouteProtocol::Other(OUR_PROTOCOL)) => neigh.ours = true,
            NeighbourAttribute::CacheInfo(info) => {
                neigh.confirmed_ago = Some(Duration::from_millis(u64::from(info.confirmed) * MS_PER_TICK));
            }
            _ => {}
        }
    }
    let ifindex = message.header.ifindex;
    Some((
        NeighKey {
            ifindex,
            address: address?,
        },
        neigh,
    ))
}

#[cfg(test)]
pub(super) mod fixture {
    use super::*;
    use crate::neigh::client::family;

    /// A message as the kernel sends it.
    pub(crate) fn message(ifindex: u32, address: IpAddr, state: NeighbourState, mac: Option<Mac>) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = ifindex;
        message.header.state = state;
        message.attributes.push(NeighbourAttribute::Destination(address.into()));
        message
            .attributes
            .extend(mac.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.to_vec())));
        message
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::message;
    use super::*;

    #[test]
    fn a_neighbour_that_comes_back_with_another_mac_has_moved() {
        let address = IpAddr::from([192, 0, 2, 1]);
        let (old, new) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let mut table = Neighbours::default();
        table.set(&message(3, address, NeighbourState::Reachable, Some(old)));
        table.set(&message(3, address, NeighbourState::Stale, Some(old)));
        assert!(!table.has_moved());
        // An outage: unresolved, then gone.
        table.set(&message(3, address, NeighbourState::Failed, None));
        table.remove(&message(3, address, NeighbourState::Failed, None));
        assert!(!table.has_moved());
        table.set(&message(3, address, NeighbourState::Stale, Some(new)));
        assert_eq!(table.take_moved(), [Moved { ifindex: 3, old, new }]);
        assert!(!table.has_moved());
        // A dump tells the same as events do.
        table.replace(&[message(3, address, NeighbourState::Reachable, Some(old))]);
        assert_eq!(
            table.take_moved(),
            [Moved {
                ifindex: 3,
                old: new,
                new: old
            }]
        );
    }

    const MAC: Mac = [2, 0, 0, 0, 0, 7];

    #[test]
    fn a_stale_entry_still_has_a_usable_mac_and_a_failed_one_has_none() {
        let address = IpAddr::from([10, 0, 0, 1]);
        let key = NeighKey { ifindex: 3, address };
        let mut table = Neighbours::default();
        table.set(&message(3, address, NeighbourState::Stale, Some(MAC)));
        assert_eq!(table.get(key).and_then(Neigh::usable_mac), Some(MAC));
        table.set(&message(3, address, NeighbourState::Failed, None));
        assert_eq!(table.get(key).and_then(Neigh::usable_mac), None);
        table.remove(&message(3, address, NeighbourState::Failed, None));
        assert!(table.get(key).is_none());
    }

    #[test]
    fn only_what_a_hop_is_made_of_is_a_change() {
        let address = IpAddr::from([10, 0, 0, 1]);
        let mut table = Neighbours::default();
        let mut changed = |state, mac| table.set(&message(3, address, state, mac)).is_some();
        assert!(changed(NeighbourState::Reachable, Some(MAC)));
        for state in [NeighbourState::Stale, NeighbourState::Delay, NeighbourState::Probe] {
            assert!(!changed(state, Some(MAC)));
        }
        assert!(changed(NeighbourState::Reachable, Some([2, 0, 0, 0, 0, 8])));
        assert!(changed(NeighbourState::Failed, None));
        // Asked for again: no news until it answers.
        assert!(!changed(NeighbourState::Incomplete, None));
        assert!(changed(NeighbourState::Reachable, Some(MAC)));
    }

    #[test]
    fn a_proxy_entry_is_no_neighbour() {
        let mut proxy = message(3, IpAddr::from([10, 0, 0, 1]), NeighbourState::None, None);
        proxy.header.flags = NeighbourFlags::Proxy;
        assert!(parse(&proxy).is_none());
    }

    #[test]
    fn only_entries_with_our_mark_are_ours() {
        let mut own = message(3, IpAddr::from([10, 0, 0, 1]), NeighbourState::Reachable, Some(MAC));
        own.attributes
            .push(NeighbourAttribute::Protocol(RouteProtocol::Other(OUR_PROTOCOL)));
        let foreign = message(3, IpAddr::from([10, 0, 0, 2]), NeighbourState::Reachable, Some(MAC));
        let table = Neighbours::from_dump(&[own, foreign]);
        let ours: Vec<IpAddr> = table.ours().map(|key| key.address).collect();
        assert_eq!(ours, [IpAddr::from([10, 0, 0, 1])]);
    }
}
