//! The way from one image to another: which writes, and in which order. After each of them a packet finds what it is
//! led to:
//!
//! 1. a ring slot of a service names a backend that is there;
//! 2. an endpoint names a service that is there;
//! 3. as many SNAT addresses are there as the settings say, known as ours with all their ports;
//! 4. the bitmap has the bits of every endpoint;
//! 5. a backend's way out is in the device map;
//! 6. where an interface has its entry, everything that a packet on it can be led to has been written: the entry tells the
//!    program that it is configured.
//!
//! So what is pointed at comes before what points at it, and goes after it. A backend that drains leaves the ring before
//! its state says so; one that is down says so first. `xlb_ours` and `xlb_addrs` are first widened, at the end narrowed.

use std::collections::BTreeMap;

use lb_common::abi::{AddrRole, Backend, backend_state};

use super::image::{Image, Op};

/// The writes that turn `old` into `new`, in an order that is safe after each of them.
pub fn diff(old: &Image, new: &Image) -> Vec<Op> {
    let mut ops = Vec::new();
    // An interface that goes stops first: its slot may be the one of an interface that comes.
    ops.extend(gone(&old.ifaces, &new.ifaces).map(|(ifindex, _)| Op::IfaceClear(*ifindex)));
    additions(old, new, &mut ops);
    removals(old, new, &mut ops);
    ops
}

fn additions(old: &Image, new: &Image, ops: &mut Vec<Op>) {
    ops.extend(changed(&old.names, &new.names).map(|(key, name)| Op::NameSet(*key, *name)));
    ops.extend(new.tx_ports.difference(&old.tx_ports).copied().map(Op::TxPortSet));
    let backends = changed(&old.backends, &new.backends).filter(|(id, value)| !leaves_ring_first(old, **id, value));
    ops.extend(backends.map(|(id, value)| Op::BackendSet { id: *id, value: *value }));
    ops.extend(changed(&old.rings, &new.rings).map(|(offset, slots)| Op::RingWrite {
        offset: *offset,
        slots: slots.clone(),
    }));
    for (block, bits) in &new.ours {
        let before = old.ours.get(block).copied().unwrap_or(0);
        if bits & !before != 0 {
            let (block, bits) = (*block, bits | before);
            ops.push(Op::OursSet { block, bits });
        }
    }
    for (key, value) in &new.addrs {
        let before = old.addrs.get(key).map_or(0, |before| before.roles);
        if value.roles & !before != 0 {
            let roles = value.roles | before;
            ops.push(Op::AddrSet(*key, AddrRole { roles }));
        }
    }
    ops.extend(changed(&old.snat, &new.snat).map(|(index, value)| Op::SnatSet {
        index: *index,
        value: *value,
    }));
    ops.extend(changed(&old.services, &new.services).map(|(id, value)| Op::ServiceSet { id: *id, value: *value }));
    if old.settings != new.settings {
        ops.push(Op::Settings(new.settings));
    }
    ops.extend(changed(&old.endpoints, &new.endpoints).map(|(key, value)| Op::EndpointSet(*key, *value)));
    ops.extend(changed(&old.ifaces, &new.ifaces).map(|(_, iface)| Op::IfaceSet(*iface)));
}

fn removals(old: &Image, new: &Image, ops: &mut Vec<Op>) {
    ops.extend(gone(&old.endpoints, &new.endpoints).map(|(key, _)| Op::EndpointDelete(*key)));
    ops.extend(gone(&old.services, &new.services).map(|(id, _)| Op::ServiceClear(*id)));
    let backends = changed(&old.backends, &new.backends).filter(|(id, value)| leaves_ring_first(old, **id, value));
    ops.extend(backends.map(|(id, value)| Op::BackendSet { id: *id, value: *value }));
    ops.extend(gone(&old.snat, &new.snat).map(|(index, _)| Op::SnatClear(*index)));
    for (key, before) in &old.addrs {
        match new.addrs.get(key) {
            None => ops.push(Op::AddrDelete(*key)),
            Some(value) if before.roles & !value.roles != 0 => ops.push(Op::AddrSet(*key, *value)),
            Some(_) => {}
        }
    }
    for (block, before) in &old.ours {
        let bits = new.ours.get(block).copied().unwrap_or(0);
        if before & !bits != 0 {
            ops.push(Op::OursSet { block: *block, bits });
        }
    }
    ops.extend(gone(&old.backends, &new.backends).map(|(id, _)| Op::BackendClear(*id)));
    ops.extend(old.tx_ports.difference(&new.tx_ports).copied().map(Op::TxPortClear));
    ops.extend(gone(&old.names, &new.names).map(|(key, _)| Op::NameDelete(*key)));
}

/// A backend that takes flows and is asked to stop in an orderly way: the ring changes first, or new flows would meet
/// slots that lead nowhere.
fn leaves_ring_first(old: &Image, id: u32, value: &Backend) -> bool {
    let active = old
        .backends
        .get(&id)
        .is_some_and(|before| before.state == backend_state::ACTIVE);
    active && matches!(value.state, backend_state::DRAINING | backend_state::REMOVED)
}

/// New or changed entries.
fn changed<'a, K: Ord, V: PartialEq>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    new.iter().filter(|(key, value)| old.get(key) != Some(value))
}

/// Entries that are no longer there.
fn gone<'a, K: Ord, V>(old: &'a BTreeMap<K, V>, new: &'a BTreeMap<K, V>) -> impl Iterator<Item = (&'a K, &'a V)> {
    old.iter().filter(|(key, _)| !new.contains_key(key))
}
