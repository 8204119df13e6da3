//! SNAT addresses, VIPs, settings.

use super::*;
use lb_common::abi::{AddrKey, role};
use lb_common::net::map_v4;

fn snat(world: &World) -> Vec<String> {
    let show = |snat: &lb_common::abi::SnatAddr| match lb_common::net::unmap_v4(&snat.address) {
        Some(v4) => IpAddr::from(v4).to_string(),
        None => IpAddr::from(snat.address).to_string(),
    };
    world.image.snat.values().map(show).collect()
}

#[test]
fn by_default_the_source_is_the_address_in_the_backends_subnet() {
    let mut world = World::new(TWO);
    world.step();
    assert_eq!(snat(&world), ["10.0.0.1"]);
    assert_eq!(
        (world.image.settings.snat4_count, world.image.settings.snat6_count),
        (1, 0)
    );
}

#[test]
fn without_a_backend_nearby_every_address_with_a_subnet_is_a_source() {
    let mut world = World::new(&TWO.replace("\"10.0.0.", "\"10.9.0."));
    world.links = links(&[
        ("eth0", 2, "192.0.2.10/24"),
        ("eth0", 2, "203.0.113.10/24"),
        ("eth0", 2, "203.0.113.99/32"),
        ("eth0", 2, "fe80::1/64"),
        ("eth0", 2, "2001:db8::7/64"),
        ("lo0", 9, "198.51.100.1/24"),
    ]);
    world.step();
    assert_eq!(snat(&world), ["192.0.2.10", "2001:db8::7"]);
    assert_eq!(
        world.image.snat.keys().copied().collect::<Vec<_>>(),
        [0, MAX_SNAT_ADDRESSES]
    );
}

#[test]
fn host_addresses_are_sources_where_there_is_nothing_else() {
    let mut world = World::new(TWO);
    world.links = links(&[("eth0", 2, "192.0.2.10/32")]);
    world.step();
    assert_eq!(snat(&world), ["192.0.2.10"]);
}

#[test]
fn a_nodes_only_address_may_be_vip_and_source_unless_the_service_port_is_in_the_way() {
    let mut world = World::new(TWO);
    world.links = links(&[("eth0", 2, "203.0.113.10/24")]);
    world.step();
    assert_eq!(snat(&world), ["203.0.113.10"]);
    let key = AddrKey {
        address: map_v4([203, 0, 113, 10]),
    };
    assert_eq!(world.image.addrs[&key].roles, role::VIP | role::SNAT);
    world.load(&TWO.replace("port = 53", "port = 12000"));
    assert_eq!(snat(&world), Vec::<String>::new());
    // An announced VIP is never one.
    world.links = links(&[("eth0", 2, "203.0.113.10/32")]);
    world.load(TWO);
    assert_eq!(snat(&world), Vec::<String>::new());
}

#[test]
fn before_netlink_has_answered_everything_stays_as_it_is() {
    let mut world = World::new(TWO);
    world.step();
    world.restart();
    assert_eq!(world.step(), []);
    assert_eq!(snat(&world), ["10.0.0.1"]);
}

#[test]
fn lifetimes_are_ticks_rounded_up() {
    let text = TWO.to_owned() + "[timeouts]\nhalf_open = \"1s\"\nestablished = \"2d\"\nclosing = \"1001ms\"\n";
    let mut world = World::new(&text);
    world.step();
    let settings = world.image.settings;
    assert_eq!(
        (
            settings.half_open_ticks,
            settings.established_ticks,
            settings.closing_ticks
        ),
        (250, 43_200_000, 251)
    );
    assert_eq!((settings.udp_ticks, settings.udp_answered_ticks), (15_000, 45_000));
    assert_eq!(
        (settings.snat_port_min, settings.snat_port_max, settings.rst_per_second),
        (10_240, 32_767, 1_000)
    );
}

#[test]
fn two_interfaces_in_one_slot_are_refused_by_name() {
    let mut world = World::new(TWO);
    world.links = links(&[("eth0", 2, "192.0.2.10/24"), ("eth1", 4_098, "10.0.0.1/24")]);
    let error = world.compiled().expect_err("same slot");
    assert!(error.to_string().contains("eth0 and eth1"), "{error}");
}

#[test]
fn gateway_backends_are_endpoints_and_source_bits() {
    let text = TWO.replace(
        "protocol = \"udp\"",
        "protocol = \"udp\"\nmode = \"gateway\"\ninternal_port = 5353",
    );
    let mut world = World::new(&text);
    world.step();
    let (id, _) = world.service("dns");
    let of_gateway: Vec<_> = world
        .image
        .endpoints
        .iter()
        .filter(|(_, e)| e.kind == endpoint_kind::GATEWAY_BACKEND)
        .collect();
    assert_eq!(of_gateway.len(), 2);
    assert!(
        of_gateway
            .iter()
            .all(|(key, e)| key.port == 5353 && key.protocol == 17 && e.service_id == id)
    );
    let word = lb_common::hash::word4([10, 0, 0, 11]);
    let bit = lb_common::hash::ours(lb_common::hash::OursSide::Source, word, 5353);
    assert_ne!(world.image.ours[&bit.block] & bit.mask(), 0);
}

#[test]
fn with_a_gateway_service_the_interfaces_own_addresses_are_known() {
    let own = AddrKey {
        address: map_v4([10, 0, 1, 1]),
    };
    let text = TWO.replace("[agent]\n", "[agent]\nsnat_addresses = [\"10.0.0.1\"]\n");
    let mut world = World::new(&text);
    world.links = links(&[("eth0", 2, "10.0.0.1/24"), ("eth1", 3, "10.0.1.1/24")]);
    world.step();
    assert!(!world.image.addrs.contains_key(&own));
    // A health check from there is answered by the backend's internal port, and its answer must pass.
    world.load(&text.replacen("port = 80\n", "port = 80\nmode = \"gateway\"\n", 1));
    assert_eq!(world.image.addrs[&own].roles, role::LOCAL);
}
