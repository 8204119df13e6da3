//! What a map write does to an image: keeps the agent's copy true when only some of a difference could be written.

use std::sync::Arc;

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
fn write_ring(image: &mut Image, offset: u32, slots: &Arc<Vec<u32>>) {
    let end = offset as usize + slots.len();
    image
        .rings
        .retain(|&old, ring| old as usize + ring.len() <= offset as usize || end <= old as usize);
    image.rings.insert(offset, Arc::clone(slots));
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::health::PortVerdict;
    use crate::reconcile::fixture::{CONFIG, Fixture, moment};
    use crate::state::diff;

    /// An empty image, one from a start, one after checks, one after a config change, and back to empty.
    fn images() -> Vec<Image> {
        let mut fixture = Fixture::new(CONFIG);
        let mut images = vec![Image::default()];
        let mut take = |fixture: &mut Fixture, seconds| {
            images.push(fixture.snapshot(seconds, HashMap::new()).image.as_ref().clone());
        };
        take(&mut fixture, 1);
        fixture.probe("web/a", &PortVerdict::Open, 2, 1);
        fixture.probe("web/10.0.0.12:9000", &PortVerdict::Open, 2, 1);
        take(&mut fixture, 3);
        let text = CONFIG
            .replace("name = \"a\"", "name = \"z\"")
            .replace("port = 53\n", "port = 54\n");
        fixture.desired = crate::agent::Desired::from_text(&fixture.desired.path, text, moment(4).wall)
            .expect("a good config")
            .into();
        fixture.book.follow(&fixture.desired.config, moment(4));
        take(&mut fixture, 5);
        take(&mut fixture, 4_000);
        images.push(Image::default());
        images
    }

    #[test]
    fn every_difference_folded_in_gives_the_new_image() {
        for pair in images().windows(2) {
            let [old, new] = pair else { continue };
            let ops = diff(old, new);
            assert!(!ops.is_empty());
            let mut image = old.clone();
            for op in &ops {
                fold(&mut image, op);
            }
            assert!(diff(&image, new).is_empty(), "left over: {:?}", diff(&image, new));
        }
    }

    #[test]
    fn whatever_write_fails_the_rest_is_found_again_by_the_next_difference() {
        for pair in images().windows(2) {
            let [old, new] = pair else { continue };
            let ops = diff(old, new);
            for failed in 0..ops.len() {
                let mut image = old.clone();
                for op in ops.iter().take(failed) {
                    fold(&mut image, op);
                }
                for op in &diff(&image, new) {
                    fold(&mut image, op);
                }
                assert!(diff(&image, new).is_empty(), "after a failure at {:?}", ops.get(failed));
            }
        }
    }
}
