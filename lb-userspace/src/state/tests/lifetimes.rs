//! What stays for the sake of live connections, and when it goes; ids.

use super::*;
use lb_common::abi::NameKey;
use lb_common::abi::backend_state::{ACTIVE, REMOVED};
use lb_common::hash::{self, OursSide};

const HOLD: Duration = Duration::from_secs(60);

fn without_b() -> String {
    TWO.replace(", { name = \"b\", address = \"10.0.0.12\" }]\n", "]\n")
}

#[test]
fn a_removed_backend_stays_while_a_flow_names_it_and_then_goes() {
    let mut world = World::new(TWO);
    world.step();
    let (id, _) = world.backend("dns", "b");
    world.live.insert(id, 3);
    world.load(&without_b());
    assert_eq!(world.image.backends[&id].state, REMOVED);
    world.pass(HOLD * 10);
    world.step();
    assert_eq!(world.image.backends[&id].state, REMOVED);
    world.live.insert(id, 0);
    let ops = world.step();
    assert!(ops.contains(&Op::BackendClear(id)) && ops.contains(&Op::NameDelete(NameKey { kind: 2, id })));
}

#[test]
fn a_removed_backend_without_counted_flows_stays_for_half_open_ones() {
    let mut world = World::new(TWO);
    world.step();
    let (id, _) = world.backend("dns", "b");
    world.load(&without_b());
    assert_eq!(world.ids.next_due(), Some(world.now + GRACE));
    world.pass(Duration::from_secs(59));
    world.step();
    assert_eq!(world.image.backends[&id].state, REMOVED);
    assert_eq!(world.ids.next_due(), Some(world.now + Duration::from_secs(1)));
    world.pass(Duration::from_secs(1));
    world.step();
    assert!(!world.image.backends.contains_key(&id));
}

#[test]
fn a_backend_that_comes_back_gets_its_id_back() {
    let mut world = World::new(TWO);
    world.step();
    let (id, _) = world.backend("dns", "b");
    world.load(&without_b());
    world.restart();
    world.load(TWO);
    let (again, backend) = world.backend("dns", "b");
    assert_eq!((again, backend.state), (id, ACTIVE));
}

#[test]
fn another_address_under_the_same_name_is_another_backend() {
    let mut world = World::new(TWO);
    world.step();
    let (id, _) = world.backend("dns", "b");
    world.load(&without_b().replace(
        "protocol = \"udp\"\nbackend = [",
        "protocol = \"udp\"\nbackend = [{ name = \"b\", address = \"10.0.0.14\" }, ",
    ));
    let (new_id, _) = world.backend("dns", "b");
    assert_ne!(new_id, id);
    assert_eq!(world.image.backends[&id].state, REMOVED);
    // Both are told apart after a restart, too.
    world.restart();
    world.find_hops();
    world.step();
    assert_eq!(world.backend("dns", "b").0, new_id);
}

#[test]
fn ids_survive_a_restart_and_a_new_order_in_the_file() {
    let mut world = World::new(TWO);
    world.step();
    let before = [
        world.backend("web", "a").0,
        world.backend("web", "b").0,
        world.service("dns").0,
    ];
    world.restart();
    world.load(&TWO.replace(
        "{ name = \"a\", address = \"10.0.0.11\" }, { name = \"b\", address = \"10.0.0.12\" }",
        "{ name = \"b\", address = \"10.0.0.12\" }, { name = \"a\", address = \"10.0.0.11\" }",
    ));
    assert_eq!(
        [
            world.backend("web", "a").0,
            world.backend("web", "b").0,
            world.service("dns").0
        ],
        before
    );
}

#[test]
fn a_removed_services_packets_stay_ours_while_connections_live() {
    let mut world = World::new(TWO);
    world.step();
    let (service_id, _) = world.service("dns");
    let (id, _) = world.backend("dns", "a");
    let bit = hash::ours(OursSide::Destination, hash::word4([203, 0, 113, 10]), 53);
    let is_set = |world: &World| {
        world
            .image
            .ours
            .get(&bit.block)
            .is_some_and(|bits| bits & bit.mask() != 0)
    };
    world.live.insert(id, 1);
    world.load(TWO.split("[[service]]\nname = \"dns\"").next().expect("first part"));
    assert!(!world.image.services.contains_key(&service_id) && is_set(&world));
    // The next agent does not know why the bit is set, and keeps it all the same.
    world.restart();
    world.step();
    assert!(is_set(&world));
    world.pass(HOLD);
    world.step();
    assert!(is_set(&world));
    world.live.clear();
    world.step();
    assert!(!is_set(&world));
}

#[test]
fn a_service_id_rests_while_one_of_its_backends_does() {
    let mut world = World::new(TWO);
    world.step();
    let (service_id, _) = world.service("dns");
    world.live.insert(world.backend("dns", "a").0, 1);
    let web_only = TWO
        .split("[[service]]\nname = \"dns\"")
        .next()
        .expect("first part")
        .to_owned();
    world.load(&web_only);
    world.restart();
    let other =
        "[[service]]\nname = \"other\"\nvip = \"203.0.113.11\"\nport = 1\nbackend = [{ address = \"10.0.0.11\" }]\n";
    world.load(&(web_only.clone() + other));
    assert_ne!(world.service("other").0, service_id);
    world.load(TWO);
    assert_eq!(world.service("dns").0, service_id);
}

#[test]
fn limits_of_a_running_agent_do_not_change() {
    let mut world = World::new(TWO);
    world.step();
    world.config = parsed(&(TWO.to_owned() + "[limits]\nservices = 2000\n"));
    let error = world.compiled().expect_err("limits changed");
    assert_eq!(
        error.to_string(),
        "[limits] services is 1024 in the running maps and 2000 in the config: 'xlb unload' (drops flows) and start"
    );
}

#[test]
fn more_backends_than_ids_is_an_error_that_names_the_limit() {
    let limits = "[limits]\nbackends = 5\nring_slots = 1536\n";
    let mut world = World::new(&(TWO.to_owned() + limits));
    world.step();
    let other = parsed(&(TWO.replace("10.0.0.1", "10.0.1.1") + limits));
    world.config = other.clone();
    assert!(matches!(
        world.compiled(),
        Err(CompileError::Limit {
            key: "backends",
            limit: 5,
            ..
        })
    ));
    // The old ones go first, and rest for a while.
    let empty = TWO.split("[[service]]").next().expect("first part").to_owned() + limits;
    world.load(&empty);
    world.config = other.clone();
    assert!(matches!(
        world.compiled(),
        Err(CompileError::Limit {
            key: "backends",
            limit: 5,
            ..
        })
    ));
    world.load(&empty);
    world.pass(HOLD);
    world.step();
    world.config = other;
    world.step();
    assert_eq!(world.image.backends.len(), 5);
}

#[test]
fn rings_that_do_not_fit_at_once_are_swapped_one_after_the_other() {
    // Room for two rings of 256 slots and one more.
    let text = TWO
        .replace("check = { tcp = {} }\n", "")
        .replace(", { name = \"c\", address = \"10.0.0.13\", weight = 50 }", "");
    let limits = "[limits]\nring_slots = 768\n";
    let mut world = World::new(&(text.clone() + limits));
    world.step();
    let seeded = text.replace("[agent]", "[agent]\nhash_seed = 7") + limits;
    let writes = |ops: &[Op]| ops.iter().filter(|op| matches!(op, Op::RingWrite { .. })).count();
    assert_eq!(writes(&world.load(&seeded)), 1);
    assert_eq!(writes(&world.step()), 0);
    world.pass(Duration::from_millis(1_999));
    assert_eq!(writes(&world.step()), 0);
    world.pass(Duration::from_millis(1));
    assert_eq!(writes(&world.step()), 1);
    world.pass(GRACE);
    assert_eq!(writes(&world.step()), 0);
}

#[test]
fn more_ring_slots_than_the_arena_has_is_an_error() {
    let mut world = World::new(&(TWO.replace("check = { tcp = {} }\n", "") + "[limits]\nring_slots = 512\n"));
    let error = world.compiled().expect_err("768 slots");
    assert!(
        matches!(
            error,
            CompileError::Limit {
                key: "ring_slots",
                wanted: 768,
                limit: 512,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_removed_gateway_backend_is_known_as_one_while_it_stays() {
    let mut world = World::new(&gateway(TWO));
    world.step();
    let (id, b) = world.backend("dns", "b");
    let is_known = |world: &World| world.image.endpoints.keys().any(|key| key.address == b.address);
    world.live.insert(id, 1);
    world.load(&gateway(&without_b()));
    assert!(is_known(&world));
    world.live.clear();
    world.pass(HOLD);
    world.step();
    assert!(!is_known(&world));
}

#[test]
fn backends_of_a_removed_gateway_service_are_known_while_they_stay() {
    let mut world = World::new(&gateway(TWO));
    world.step();
    let (id, b) = world.backend("dns", "b");
    let is_known = |world: &World| world.image.endpoints.keys().any(|key| key.address == b.address);
    world.live.insert(id, 1);
    world.load(TWO.split("[[service]]\nname = \"dns\"").next().expect("first part"));
    assert!(is_known(&world));
    // The next agent knows the service only by the names in the maps.
    world.restart();
    world.step();
    assert!(is_known(&world));
    world.live.clear();
    world.pass(HOLD);
    world.step();
    assert!(!is_known(&world));
}

#[test]
fn endpoints_of_removed_gateway_backends_take_no_configured_ones_room() {
    let of = |port: u16| gateway(TWO).replace("port = 53", &format!("port = {port}"));
    let mut world = World::new(&of(53));
    world.step();
    let wanted = world.image.endpoints.len();
    let limited = |port: u16| format!("{}[limits]\nendpoints = {wanted}\n", of(port));
    let mut world = World::new(&limited(53));
    world.step();
    let (id, _) = world.backend("dns", "b");
    world.live.insert(id, 1);
    world.load(
        &limited(54)
            .replace("\"dns\"", "\"dns2\"")
            .replace("10.0.0.12", "10.0.0.14"),
    );
    assert_eq!(world.image.endpoints.len(), wanted);
    assert!(world.image.backends.contains_key(&id));
}

fn gateway(text: &str) -> String {
    text.replace("protocol = \"udp\"", "protocol = \"udp\"\nmode = \"gateway\"")
}
