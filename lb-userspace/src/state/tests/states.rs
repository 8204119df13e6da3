//! What state a backend gets, and who stands in the ring.

use super::*;
use lb_common::abi::backend_state::{ACTIVE, DOWN, DRAINING};

#[test]
fn a_backend_without_a_check_takes_flows_at_once_and_one_with_a_check_waits() {
    let mut world = World::new(TWO);
    world.step();
    assert_eq!((world.state("dns", "a"), world.state("web", "a")), (ACTIVE, DOWN));
    assert_eq!(
        (world.service("dns").1.ring4_size, world.service("web").1.ring4_size),
        (256, 0)
    );
    world.set_health("web", "a", HealthState::Up);
    world.step();
    assert_eq!(world.state("web", "a"), ACTIVE);
    let ring = &world.image.rings[&world.service("web").1.ring4_offset];
    let a = world.backend("web", "a").0;
    assert!(ring.iter().all(|slot| *slot == a));
}

#[test]
fn a_ring_keeps_its_size_whoever_is_down() {
    let mut world = World::new(TWO);
    for backend in ["a", "b", "c"] {
        world.set_health("web", backend, HealthState::Up);
    }
    world.step();
    let size = world.service("web").1.ring4_size;
    world.set_health("web", "b", HealthState::Down);
    world.step();
    assert_eq!(
        (world.state("web", "b"), world.service("web").1.ring4_size),
        (DOWN, size)
    );
    let b = world.backend("web", "b").0;
    assert!(!world.image.rings[&world.service("web").1.ring4_offset].contains(&b));
}

#[test]
fn weight_0_and_drain_keep_old_flows_and_take_no_new_ones() {
    let mut world = World::new(TWO);
    world.step();
    world.admin.insert(reference("dns", "a"), AdminState::Drain);
    world.step();
    assert_eq!(world.state("dns", "a"), DRAINING);
    world.admin.clear();
    world.load(&TWO.replace(
        "protocol = \"udp\"\nbackend = [{",
        "protocol = \"udp\"\nbackend = [{ weight = 0,",
    ));
    assert_eq!((world.state("dns", "a"), world.state("dns", "b")), (DRAINING, ACTIVE));
    world.admin.insert(reference("dns", "b"), AdminState::Maint);
    world.step();
    assert_eq!(
        (world.state("dns", "b"), world.service("dns").1.ring4_size),
        (DRAINING, 0)
    );
}

#[test]
fn an_adopted_backend_keeps_its_state_until_its_first_result() {
    let mut world = World::new(TWO);
    world.set_health("web", "a", HealthState::Up);
    world.set_health("web", "b", HealthState::Down);
    world.step();
    world.restart();
    assert_eq!(world.step(), [], "adopting an unchanged config writes nothing");
    assert_eq!((world.state("web", "a"), world.state("web", "b")), (ACTIVE, DOWN));
    world.set_health("web", "a", HealthState::Down);
    world.set_health("web", "b", HealthState::Up);
    world.step();
    assert_eq!((world.state("web", "a"), world.state("web", "b")), (DOWN, ACTIVE));
}

#[test]
fn a_hop_that_is_lost_stays_until_its_interface_is_gone() {
    let mut world = World::new(TWO);
    world.step();
    let before = world.backend("dns", "a").1;
    assert_eq!((before.hop_ifindex, before.hop_flags), (3, hop_flag::VALID));
    world.hops.clear();
    assert_eq!(world.step(), []);
    world.links = links(&[("eth0", 2, "192.0.2.10/24")]);
    world.step();
    let after = world.backend("dns", "a").1;
    assert_eq!((after.hop_flags, after.hop_ifindex, after.hop_dst_mac), (0, 0, [0; 6]));
}

#[test]
fn tx_can_be_forced() {
    let mut world = World::new(&TWO.replace("[agent]", "[agent]\ntx = \"tx\""));
    world.step();
    assert_eq!(world.backend("dns", "a").1.hop_flags, hop_flag::VALID | hop_flag::TX);
    assert!(
        world
            .image
            .ifaces
            .values()
            .all(|iface| iface.flags == lb_common::abi::iface_flag::TX)
    );
}
