//! Random histories: after every single op of every change, what a packet is led to is there.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;

/// One service of a generated config.
#[derive(Clone, Debug)]
struct Plan {
    name: u8,
    port: u16,
    gateway: bool,
    checked: bool,
    vip6: bool,
    backends: Vec<(u8, u16, u32)>,
}

/// One step of a history.
#[derive(Clone, Debug)]
enum Event {
    Load {
        services: Vec<Plan>,
        snat: Vec<u8>,
        range: u16,
        seed: u32,
    },
    Health {
        pick: usize,
        state: HealthState,
    },
    Admin {
        pick: usize,
        state: AdminState,
    },
    Flows {
        pick: usize,
        count: u64,
    },
    Wait {
        ms: u64,
    },
    Restart,
    Links {
        count: usize,
    },
}

fn plan() -> impl Strategy<Value = Plan> {
    let backends = proptest::collection::btree_map(
        1_u8..12,
        (
            8_000_u16..8_003,
            prop_oneof![3 => Just(100_u32), 1 => 20_u32..300, 1 => Just(0)],
        ),
        0..6,
    );
    (0_u8..5, 0_u8..3, any::<bool>(), any::<bool>(), any::<bool>(), backends).prop_map(
        |(name, port, gateway, checked, vip6, backends)| Plan {
            name,
            // A port of its own, so that services never clash.
            port: 100 + u16::from(name) * 10 + u16::from(port),
            gateway,
            checked,
            vip6,
            backends: backends
                .into_iter()
                .map(|(last, (port, weight))| (last, port, weight))
                .collect(),
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let state = prop_oneof![
        Just(HealthState::Up),
        Just(HealthState::Down),
        Just(HealthState::Unknown)
    ];
    let admin = prop_oneof![
        Just(AdminState::Ready),
        Just(AdminState::Drain),
        Just(AdminState::Maint)
    ];
    let services = proptest::collection::vec(plan(), 0..5);
    let snat = proptest::collection::btree_set(1_u8..5, 0..4).prop_map(|set| set.into_iter().collect());
    prop_oneof![
        4 => (services, snat, 0_u16..3, 0_u32..2).prop_map(|(services, snat, range, seed)| Event::Load { services, snat, range, seed }),
        3 => (any::<usize>(), state).prop_map(|(pick, state)| Event::Health { pick, state }),
        1 => (any::<usize>(), admin).prop_map(|(pick, state)| Event::Admin { pick, state }),
        2 => (any::<usize>(), 0_u64..3).prop_map(|(pick, count)| Event::Flows { pick, count }),
        2 => prop_oneof![0_u64..3_000, Just(61_000), Just(4_000_000)].prop_map(|ms| Event::Wait { ms }),
        1 => Just(Event::Restart),
        1 => (0_usize..3).prop_map(|count| Event::Links { count }),
    ]
}

fn text(services: &[Plan], snat: &[u8], range: u16, seed: u32) -> String {
    let mut text = format!(
        "[agent]\ninterfaces = [\"eth0\", \"eth1\"]\nhash_seed = {seed}\nsnat_ports = \"{}-{}\"\n",
        20_000 + range * 700,
        21_000 + range * 700,
    );
    if !snat.is_empty() {
        let list: Vec<String> = snat
            .iter()
            .map(|last| format!("\"192.0.2.{last}\", \"2001:db8:2::{last}\""))
            .collect();
        writeln!(text, "snat_addresses = [{}]", list.join(", ")).expect("to a string");
    }
    text += "[limits]\nring_slots = 8192\n";
    let mut seen = Vec::new();
    for plan in services {
        if seen.contains(&plan.name) {
            continue;
        }
        seen.push(plan.name);
        let vip6 = if plan.vip6 && !plan.backends.is_empty() {
            ", \"2001:db8::10\""
        } else {
            ""
        };
        let mode = if plan.gateway { "gateway" } else { "full_nat" };
        let check = if plan.checked { "check = { tcp = {} }\n" } else { "" };
        write!(
            text,
            "[[service]]\nname = \"s{}\"\nvip = [\"203.0.113.10\"{vip6}]\nport = {}\nmode = \"{mode}\"\n{check}",
            plan.name, plan.port,
        )
        .expect("to a string");
        for (last, port, weight) in &plan.backends {
            // Backends of one service only, so that gateway services never share one.
            let port = port + u16::from(plan.name) * 10;
            write!(text, "[[service.backend]]\nname = \"b{last}\"\naddress = \"10.0.0.{last}\"\nport = {port}\nweight = {weight}\n")
                .expect("to a string");
            if plan.vip6 {
                write!(
                    text,
                    "[[service.backend]]\naddress = \"2001:db8:1::{last}\"\nport = {port}\nweight = {weight}\n"
                )
                .expect("to a string");
            }
        }
    }
    text
}

fn run(events: Vec<Event>) {
    let mut world = World::new(&text(&[], &[], 0, 0));
    world.step();
    for event in events {
        // Whoever had connections keeps its id and stays as long as it has them.
        let held: Vec<(u32, Backend)> = world
            .live
            .iter()
            .filter(|(_, n)| **n > 0)
            .filter_map(|(id, _)| Some((*id, *world.image.backends.get(id)?)))
            .collect();
        apply(&mut world, event);
        world.step();
        for (id, before) in held {
            if world.live.get(&id).copied().unwrap_or(0) > 0 {
                let after = world.image.backends.get(&id).expect("a backend with connections stays");
                assert_eq!(
                    (after.address, after.internal_port),
                    (before.address, before.internal_port)
                );
            }
        }
        for (id, backend) in &world.image.backends {
            assert!(*id > 0 && backend.state != backend_state::EMPTY);
        }
    }
}

fn apply(world: &mut World, event: Event) {
    let configured: Vec<BackendRef> = world
        .config
        .services
        .iter()
        .flat_map(|s| s.backends.iter().map(|b| reference(&s.name, &b.name)))
        .collect();
    let picked = |pick: usize| (!configured.is_empty()).then(|| configured[pick % configured.len()].clone());
    match event {
        Event::Load {
            services,
            snat,
            range,
            seed,
        } => {
            world.config = parsed(&text(&services, &snat, range, seed));
            world.find_hops();
        }
        Event::Health { pick, state } => drop(picked(pick).map(|name| world.health.insert(name, state))),
        Event::Admin { pick, state } => drop(picked(pick).map(|name| world.admin.insert(name, state))),
        Event::Flows { pick, count } => {
            let ids: Vec<u32> = world.image.backends.keys().copied().collect();
            if !ids.is_empty() {
                world.live.insert(ids[pick % ids.len()], count);
            }
        }
        Event::Wait { ms } => world.pass(Duration::from_millis(ms)),
        Event::Restart => world.restart(),
        Event::Links { count } => {
            let all = [("eth0", 2, "192.0.2.10/24"), ("eth1", 3, "10.0.0.1/24")];
            world.links = links(&all[..count]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn after_every_op_of_every_change_what_is_pointed_at_is_there(events in proptest::collection::vec(event(), 1..24)) {
        run(events);
    }
}

#[test]
fn a_drained_backend_leaves_the_ring_before_its_state_changes_and_a_dead_one_after() {
    let mut world = World::new(TWO);
    world.set_health("web", "a", HealthState::Up);
    world.set_health("web", "b", HealthState::Up);
    world.step();
    let order = |ops: &[Op], id: u32| {
        let service = ops
            .iter()
            .position(|op| matches!(op, Op::ServiceSet { .. }))
            .expect("ring swapped");
        let state = ops
            .iter()
            .position(|op| matches!(op, Op::BackendSet { id: set, .. } if *set == id))
            .expect("state set");
        service.cmp(&state)
    };
    let (b, _) = world.backend("web", "b");
    world.admin.insert(reference("web", "b"), AdminState::Drain);
    assert_eq!(order(&world.step(), b), std::cmp::Ordering::Less);
    world.admin.clear();
    world.step();
    world.set_health("web", "b", HealthState::Down);
    assert_eq!(order(&world.step(), b), std::cmp::Ordering::Greater);
}

#[test]
fn an_interfaces_entry_is_written_after_everything_else() {
    let mut world = World::new(TWO);
    world.set_health("web", "a", HealthState::Up);
    let ops = world.step();
    let first = ops
        .iter()
        .position(|op| matches!(op, Op::IfaceSet(_)))
        .expect("an interface");
    assert!(ops.iter().any(|op| matches!(op, Op::EndpointSet(..))), "{ops:?}");
    assert!(
        ops.iter().skip(first).all(|op| matches!(op, Op::IfaceSet(_))),
        "{ops:?}"
    );
}

#[test]
fn a_services_generation_counts_its_changes_only() {
    let mut world = World::new(TWO);
    world.step();
    assert_eq!(
        (world.service("web").1.generation, world.service("dns").1.generation),
        (1, 1)
    );
    world.set_health("web", "a", HealthState::Up);
    world.step();
    world.step();
    assert_eq!(
        (world.service("web").1.generation, world.service("dns").1.generation),
        (2, 1)
    );
}
