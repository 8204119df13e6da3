//! Settings compiled alone against the whole compile.

use std::cell::Cell;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::config::BackendConfig;
use crate::state::ids::RingPlaces;

/// Room for each ring once more and little else.
const TEXT: &str = r#"
[agent]
interfaces = ["eth0", "eth1"]
[limits]
ring_slots = 4096
[[service]]
name = "web"
vip = ["203.0.113.10", "2001:db8::10"]
port = 80
check = { tcp = {} }
panic = "use_all"
backend = [
  { name = "a", address = "10.0.0.11" }, { name = "b", address = "10.0.0.12" }, { name = "c", address = "2001:db8::12" },
]
[[service]]
name = "dns"
vip = "203.0.113.10"
port = 53
protocol = "udp"
mode = "gateway"
backend = [{ name = "a", address = "10.0.0.21" }, { name = "b", address = "10.0.0.22" }]
[[service]]
name = "ssh"
vip = "203.0.113.11"
port = 22
internal_port = 2222
backend = [{ name = "a", address = "10.0.0.11" }, { name = "b", address = "10.0.0.12", weight = 20 }]
"#;

#[derive(Clone, Debug)]
enum Step {
    Weight(usize, usize, u32),
    /// The first backend's, of every service.
    Weights(u32),
    Admin(usize, usize, AdminState),
    Health(usize, HealthState),
    Time(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let admin = prop_oneof![
        Just(AdminState::Ready),
        Just(AdminState::Drain),
        Just(AdminState::Maint)
    ];
    let health = prop_oneof![Just(HealthState::Up), Just(HealthState::Down)];
    let step = prop_oneof![
        4 => (0_usize..3, 0_usize..3, prop_oneof![Just(0), 1_u32..400]).prop_map(|(a, b, c)| Step::Weight(a, b, c)),
        2 => (1_u32..400).prop_map(Step::Weights),
        3 => (0_usize..3, 0_usize..3, admin).prop_map(|(a, b, c)| Step::Admin(a, b, c)),
        1 => (0_usize..3, health).prop_map(|(a, b)| Step::Health(a, b)),
        2 => (0_u64..3_000).prop_map(Step::Time),
    ];
    vec(step, 1..30)
}

/// How a step was compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Alone,
    Whole,
}

/// An image with each ring in the place of its offset, which is any free one.
fn without_places(image: &Image) -> (Image, Vec<Vec<u32>>) {
    let mut image = image.clone();
    let spans: Vec<(u32, u32)> = image.ring_spans().collect();
    let rings = spans.iter().map(|(offset, _)| image.rings[offset].to_vec()).collect();
    for service in image.services.values_mut() {
        (service.ring4_offset, service.ring6_offset) = (0, 0);
    }
    image.rings.clear();
    (image, rings)
}

/// Slots of every ring.
fn rings(image: &Image) -> Vec<Vec<u32>> {
    without_places(image).1
}

impl World {
    fn take(&mut self, step: &Step) -> Taken {
        let mut config = self.config.clone();
        let mut backend = |at: usize, nth: usize, change: &mut dyn FnMut(&mut BackendConfig)| {
            let service = Arc::make_mut(&mut config.services[at]);
            let nth = nth % service.backends.len();
            change(&mut service.backends[nth]);
            reference(&service.name, &service.backends[nth].name)
        };
        match *step {
            Step::Weight(at, nth, weight) => drop(backend(at, nth, &mut |backend| backend.weight = weight)),
            Step::Weights(weight) => {
                for at in 0..self.config.services.len() {
                    backend(at, 0, &mut |backend| backend.weight = weight);
                }
            }
            Step::Admin(at, nth, state) => {
                let name = backend(at, nth, &mut |backend| backend.state = state);
                self.admin.insert(name, state);
            }
            Step::Health(nth, state) => {
                let name = backend(0, nth, &mut |_| {});
                self.health.insert(name, state);
                self.step();
                return Taken::Whole;
            }
            Step::Time(ms) => {
                self.pass(Duration::from_millis(ms));
                if ms > 1_500 {
                    self.step();
                }
                return Taken::Whole;
            }
        }
        if self.set(config).is_some() {
            return Taken::Alone;
        }
        self.step();
        Taken::Whole
    }

    /// Lets time pass until nothing is due, as the agent does. Then every ring is the one of a fresh start, unless there
    /// is said to be no room for it; and no other compile would change anything.
    fn settle(&mut self) {
        for _ in 0..40 {
            let Some(due) = self.ids.next_due() else { break };
            self.pass(due.saturating_sub(self.now).max(Duration::from_secs(1)));
            self.step();
        }
        assert_eq!(self.ids.next_due(), None, "something is due again and again");
        let fresh = compile(&self.inputs(), &Image::default(), &mut Ids::default()).expect("the config fits");
        let said = self.ids.rings_without_room().to_vec();
        if said.is_empty() {
            assert_eq!(rings(&self.image), rings(&fresh));
        }
        let before = self.image.clone();
        for _ in 0..4 {
            self.pass(Duration::from_secs(3));
            self.step();
        }
        assert_eq!(self.image, before, "nothing was due");
        assert_eq!(self.ids.rings_without_room(), said);
    }

    /// A change of settings, alone where that can be.
    fn set(&mut self, new: Config) -> Option<()> {
        let old = std::mem::replace(&mut self.config, new);
        let new = self.config.clone();
        let changed = changed_settings(&old, &new, 16)?;
        let mut whole_ids = self.ids.clone();
        let whole = compile(&self.inputs(), &self.image, &mut whole_ids);
        let mut ids = std::mem::take(&mut self.ids);
        let part = compile_settings(&self.inputs(), &self.image, &mut ids, &changed);
        self.ids = ids;
        let Ok(whole) = whole else {
            // More slots than there are: nobody takes it, and all stays as it was.
            assert!(part.is_none());
            self.config = old;
            return None;
        };
        let part = part?;
        let mut expected = self.image.clone();
        part.apply(&mut expected);
        assert_eq!(without_places(&expected), without_places(&whole));
        let old = self.image.clone();
        for op in &diff(&part.old, &part.new) {
            self.check_ring_write(op);
            self.image.apply(op);
            check(&old, &self.image, &expected, op);
            let now = self.now;
            self.last_named.extend(self.image.ring_spans().map(|span| (span, now)));
        }
        assert_eq!(self.image, expected);
        Some(())
    }
}

#[test]
fn settings_compiled_alone_give_the_image_that_the_whole_config_gives() {
    let (tried, taken) = (Cell::new(0_u32), Cell::new(0_u32));
    let result = TestRunner::default().run(&steps(), |steps| {
        let mut world = World::new(TEXT);
        world.step();
        for step in &steps {
            let is_setting = matches!(step, Step::Weight(..) | Step::Admin(..));
            tried.set(tried.get() + u32::from(is_setting));
            taken.set(taken.get() + u32::from(world.take(step) == Taken::Alone && is_setting));
        }
        world.settle();
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    assert!(
        taken.get() * 3 > tried.get(),
        "{} of {} were alone",
        taken.get(),
        tried.get()
    );
}

/// The config with other weights of a service's first two backends.
fn weights(world: &World, at: usize, pair: [u32; 2]) -> Config {
    let mut config = world.config.clone();
    for (backend, weight) in Arc::make_mut(&mut config.services[at]).backends.iter_mut().zip(pair) {
        backend.weight = weight;
    }
    config
}

/// A world whose ring of half the arena waits, as proptest found it.
fn straddled() -> World {
    let mut world = World::new(TEXT);
    world.step();
    for step in [
        Step::Admin(1, 0, AdminState::Drain),
        Step::Weight(2, 0, 0),
        Step::Weights(1),
        Step::Weight(0, 0, 0),
        Step::Weight(0, 0, 0),
        Step::Weights(1),
        Step::Weights(256),
        Step::Weight(1, 1, 1),
    ] {
        world.take(&step);
    }
    world
}

/// Small rings that straddle the middle of the arena kept one half of it from a ring that needs a whole half, for ever.
#[test]
fn rings_move_where_they_stand_in_the_way_of_another_one() {
    let mut world = straddled();
    world.settle();
    assert_eq!(world.ids.rings_without_room(), []);
}

#[test]
fn a_ring_that_never_gets_room_is_said_and_the_old_one_serves() {
    let mut world = World::new(TEXT);
    world.step();
    // Half of the arena for one ring: beside the others there is no second half.
    world.config = weights(&world, 2, [1, 300]);
    world.step();
    world.settle();
    let (_, ssh) = world.service("ssh");
    assert_eq!((ssh.ring4_size, world.ids.rings_without_room()), (2_048, &[][..]));
    world.config = weights(&world, 2, [1, 310]);
    world.step();
    let waiting = WaitingRing {
        service: "ssh".to_owned(),
        family: Family::V4,
        slots: 2_048,
        serves: true,
    };
    assert_eq!(world.ids.rings_without_room(), [waiting]);
    world.settle();
    assert_eq!(world.ids.rings_without_room().len(), 1);
    assert_eq!(world.service("ssh").1.ring4_offset, ssh.ring4_offset);
    // A smaller one has room, and nothing is said any more.
    world.config = weights(&world, 2, [1, 1]);
    world.step();
    world.settle();
    assert_eq!(world.ids.rings_without_room(), []);
}

#[test]
fn a_ring_that_goes_makes_room_for_the_one_that_waits() {
    let mut world = World::new(TEXT);
    for backend in ["a", "b", "c"] {
        world.set_health("web", backend, HealthState::Up);
    }
    world.step();
    for (at, pair) in [(2, [1, 300]), (1, [1, 150])] {
        world.config = weights(&world, at, pair);
        world.step();
        world.settle();
    }
    // 2,048 and 1,024 and what web has: there is no room for one of 1,024 more.
    world.config = weights(&world, 1, [1, 160]);
    world.step();
    assert_eq!(world.ids.rings_without_room().len(), 1);
    for backend in ["a", "b"] {
        world.admin.insert(reference("ssh", backend), AdminState::Maint);
    }
    world.step();
    world.settle();
    assert_eq!(world.ids.rings_without_room(), []);
}

#[test]
fn a_ring_that_waits_is_helped_while_others_change_all_the_time() {
    let mut world = straddled();
    assert_eq!(world.ids.ring_places, RingPlaces::Waiting);
    for second in 0..20 {
        let state = [AdminState::Ready, AdminState::Drain][second % 2];
        world.take(&Step::Admin(2, 1, state));
        world.pass(Duration::from_secs(1));
        world.step();
    }
    let fresh = compile(&world.inputs(), &Image::default(), &mut Ids::default()).expect("the config fits");
    let web = |image: &Image| image.services.values().map(|service| service.ring4_size).max();
    assert_eq!(web(&world.image), web(&fresh));
}

#[test]
fn a_ring_without_members_keeps_its_part_of_the_slots() {
    let mut world = World::new(TEXT);
    world.step();
    for backend in ["a", "b"] {
        world.admin.insert(reference("dns", backend), AdminState::Maint);
    }
    for (at, pair) in [(2, [1, 300]), (1, [1, 150])] {
        world.config = weights(&world, at, pair);
        world.step();
    }
    assert_eq!(world.service("dns").1.ring4_size, 0);
    world.config = weights(&world, 0, [1, 150]);
    let error = world
        .compiled()
        .expect_err("dns had no room once its backends are back");
    assert!(
        matches!(error, CompileError::Limit { key: "ring_slots", .. }),
        "{error}"
    );
}

#[test]
fn a_ring_that_was_compiled_and_never_written_is_written_by_the_next_compile() {
    let mut world = World::new(TEXT);
    world.step();
    let before = rings(&world.image);
    world.config = parsed(&TEXT.replace("weight = 20", "weight = 200"));
    let wanted = world.compiled().expect("the config fits");
    world.step();
    assert_ne!(rings(&world.image), before);
    assert_eq!(rings(&world.image), rings(&wanted));
}

#[test]
fn more_services_than_a_few_are_no_settings() {
    let (old, new) = (parsed(TEXT), parsed(TEXT));
    assert_eq!(changed_settings(&old, &new, 3).map(|changed| changed.len()), Some(3));
    assert!(changed_settings(&old, &new, 2).is_none());
}

#[test]
fn a_backend_whose_way_out_is_new_takes_the_whole_way() {
    let mut world = World::new(TEXT);
    world.step();
    // The interface was made again: the news is here, the device map's entry not yet.
    world.links = links(&[("eth0", 2, "192.0.2.10/24"), ("eth1", 4, "10.0.0.1/24")]);
    for hop in world.hops.values_mut() {
        hop.ifindex = 4;
    }
    let mut config = world.config.clone();
    Arc::make_mut(&mut config.services[2]).backends[0].weight = 7;
    assert!(world.set(config).is_none());
    world.step();
    assert!(world.image.tx_ports.contains(&4));
}

#[test]
fn what_else_a_config_changes_is_not_a_setting() {
    let old = parsed(TEXT);
    let same = parsed(TEXT);
    assert_eq!(changed_settings(&old, &old, 16).expect("settings").len(), 0);
    assert_eq!(
        changed_settings(&old, &same, 16).expect("settings").len(),
        3,
        "read again"
    );
    for (from, to) in [
        ("10.0.0.21", "10.0.0.23"),
        ("port = 53", "port = 54"),
        ("{ name = \"a\", address = \"10.0.0.21\" }, ", ""),
        ("ring_slots = 4096", "ring_slots = 8192"),
        ("\"10.0.0.22\" }", "\"10.0.0.22\", state = \"maint\" }"),
        ("panic = \"use_all\"", "panic = \"refuse\""),
    ] {
        assert!(
            changed_settings(&old, &parsed(&TEXT.replace(from, to)), 16).is_none(),
            "{to}"
        );
    }
    let set = TEXT
        .replace("weight = 20", "weight = 30")
        .replace("\"10.0.0.22\" }", "\"10.0.0.22\", state = \"drain\" }");
    assert_eq!(changed_settings(&old, &parsed(&set), 16).expect("settings").len(), 3);
}

#[test]
fn a_setting_lets_go_of_what_was_kept_for_connections_once_it_may_go() {
    let mut world = World::new(TEXT);
    world.step();
    let ssh = TEXT.find("[[service]]\nname = \"ssh\"").expect("ssh is the last");
    world.load(&TEXT[..ssh]);
    let weight = |world: &World, weight| {
        let mut config = world.config.clone();
        Arc::make_mut(&mut config.services[0]).backends[0].weight = weight;
        config
    };
    let set = weight(&world, 50);
    assert!(world.set(set).is_some(), "half-open connections may still need it");
    world.pass(world.config.timeouts.half_open.max(world.config.timeouts.udp));
    let kept = world.image.clone();
    let set = weight(&world, 60);
    assert!(world.set(set).is_none());
    world.step();
    assert!(world.image.backends.len() < kept.backends.len() && world.image.ours != kept.ours);
    let set = weight(&world, 70);
    assert!(world.set(set).is_some());
}
