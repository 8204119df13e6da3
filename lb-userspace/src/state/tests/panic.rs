//! What happens when every backend of a service is down.

use super::*;
use crate::config::Panic;
use crate::state::panic::all_down;
use lb_common::abi::backend_state::{ACTIVE, DOWN, DRAINING};

fn world(policy: &str) -> World {
    let text = TWO.replace("name = \"web\"", &format!("name = \"web\"\npanic = \"{policy}\""));
    assert_ne!(text, TWO);
    World::new(&text)
}

fn all(world: &mut World, health: HealthState) {
    for backend in ["a", "b", "c"] {
        world.set_health("web", backend, health);
    }
    world.step();
}

fn states(world: &World) -> [u8; 3] {
    ["a", "b", "c"].map(|backend| world.state("web", backend))
}

#[test]
fn by_default_a_service_whose_backends_are_all_down_has_no_ring() {
    let mut world = World::new(TWO);
    all(&mut world, HealthState::Up);
    all(&mut world, HealthState::Down);
    assert_eq!(states(&world), [DOWN; 3]);
    assert_eq!(world.service("web").1.ring4_size, 0);
    let down = all_down(&world.inputs());
    assert!(
        down.values().all(|policy| *policy == Panic::Refuse) && !down.is_empty(),
        "{down:?}"
    );
}

#[test]
fn use_all_puts_them_all_back_into_the_ring_until_one_is_up() {
    let mut world = world("use_all");
    all(&mut world, HealthState::Up);
    let (before, size) = (world.image.rings.clone(), world.service("web").1.ring4_size);
    all(&mut world, HealthState::Down);
    assert_eq!(states(&world), [ACTIVE; 3]);
    assert_eq!(world.service("web").1.ring4_size, size);
    assert_eq!(world.image.rings, before, "the same ring as when all are up");
    world.set_health("web", "b", HealthState::Up);
    world.step();
    assert_eq!(states(&world)[..2], [DOWN, ACTIVE]);
    assert!(!all_down(&world.inputs()).contains_key(&("web".to_owned(), Family::V4)));
}

#[test]
fn a_backend_that_is_not_decided_yet_is_not_down() {
    let mut world = world("use_all");
    world.set_health("web", "a", HealthState::Down);
    world.step();
    assert_eq!(states(&world), [DOWN; 3], "b and c may still come up");
    assert!(all_down(&world.inputs()).is_empty());
}

#[test]
fn what_the_operator_took_out_stays_out_and_does_not_prevent_panic() {
    let mut world = world("use_all");
    all(&mut world, HealthState::Up);
    world.admin.insert(reference("web", "a"), AdminState::Maint);
    world.admin.insert(reference("web", "b"), AdminState::Drain);
    world.step();
    assert_eq!(states(&world), [DRAINING, DRAINING, ACTIVE]);
    all(&mut world, HealthState::Down);
    let [a, b, _] = states(&world);
    assert_eq!((a, b), (DRAINING, DOWN), "nobody probes what is in maintenance");
}
