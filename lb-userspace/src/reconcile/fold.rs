//! What a map write does to an image: keeps the agent's copy true when only some of a difference could be written.

use crate::state::{Image, Op};

/// Notes a write that succeeded.
pub(super) fn fold(image: &mut Image, op: &Op) {
    match op {
        Op::Settings(value) => image.settings = *value,
        Op::IfaceSet(value) => drop(image.ifaces.insert(value.ifindex, *value)),
        Op::IfaceClear(ifindex) => drop(image.ifaces.remove(ifindex)),
        Op::TxPortSet(ifindex) => drop(image.tx_ports.insert(*ifindex)),
        Op::TxPortClear(ifindex) => drop(image.tx_ports.remove(ifindex)),
        Op::OursSet { block, bits: 0 } => drop(image.ours.remove(block)),
        Op::OursSet { block, bits } => drop(image.ours.insert(*block, *bits)),
        Op::EndpointSet(key, value) => drop(image.endpoints.insert(*key, *value)),
        Op::EndpointDelete(key) => drop(image.endpoints.remove(key)),
        Op::AddrSet(key, value) => drop(image.addrs.insert(*key, *value)),
        Op::AddrDelete(key) => drop(image.addrs.remove(key)),
        Op::ServiceSet { id, value } => drop(image.services.insert(*id, *value)),
        Op::ServiceClear(id) => drop(image.services.remove(id)),
        Op::BackendSet { id, value } => drop(image.backends.insert(*id, *value)),
        Op::BackendClear(id) => drop(image.backends.remove(id)),
        Op::RingWrite { offset, slots } => write_ring(image, *offset, slots),
        Op::SnatSet { index, value } => drop(image.snat.insert(*index, *value)),
        Op::SnatClear(index) => drop(image.snat.remove(index)),
        Op::NameSet(key, value) => drop(image.names.insert(*key, *value)),
        Op::NameDelete(key) => drop(image.names.remove(key)),
    }
}

/// A ring takes the place of every ring it overlaps: the arena holds one value a slot.
fn write_ring(image: &mut Image, offset: u32, slots: &[u32]) {
    let end = offset as usize + slots.len();
    image
        .rings
        .retain(|&old, ring| old as usize + ring.len() <= offset as usize || end <= old as usize);
    image.rings.insert(offset, slots.to_vec());
}
