//! Random configurations, small enough that packets meet each other: few clients, few ports, tiny SNAT ranges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastrand::Rng;
use lb_common::abi::{backend_state, hop_flag, iface_flag, mode, on_miss};

use crate::kernel::Lab;
use crate::model::{BackendSpec, HZ, ServiceSpec, World};

/// Half a second on top of every lifetime: tests age flows by whole seconds, so no decision falls on a border.
const HALF: u32 = HZ / 2;

/// A configuration. One in a hundred is not usable at all (another ABI).
#[must_use]
pub fn random_world(rng: &mut Rng, lab: &Lab) -> World {
    let mut world = World::new();
    let settings = &mut world.settings;
    settings.hash_seed = rng.u32(..);
    settings.half_open_ticks = 10 * HZ + HALF;
    settings.established_ticks = 100 * HZ + HALF;
    settings.closing_ticks = 20 * HZ + HALF;
    settings.udp_ticks = 30 * HZ + HALF;
    settings.udp_answered_ticks = 50 * HZ + HALF;
    settings.rst_per_second = [0, 2, 1_000_000][rng.usize(..3)];
    let ports = [1, 4, 8, 16, 7, 100, 22_528][rng.usize(..7)];
    settings.snat_port_min = 10_240;
    settings.snat_port_max = 10_240 + ports - 1;
    if rng.u8(..100) == 0 {
        settings.abi_version += 1;
    }
    for ifindex in [lab.client_side, lab.backend_side, lab.other_side] {
        world.add_iface(ifindex, if rng.bool() { iface_flag::TX } else { 0 });
    }
    if rng.u8(..10) == 0 {
        let missing = [lab.client_side, lab.backend_side, lab.other_side][rng.usize(..3)];
        world.tx_ports.remove(&missing);
    }
    for n in 0..few(rng) {
        world.add_snat(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10 + n)));
        world.add_snat(IpAddr::V6(Ipv6Addr::new(
            0x2001,
            0xdb8,
            0xffff,
            0,
            0,
            0,
            0,
            10 + u16::from(n),
        )));
    }
    for n in 0..rng.u16(1..5) {
        let spec = random_service(rng, lab, n);
        world.add_service(&spec);
    }
    world
}

fn random_service(rng: &mut Rng, lab: &Lab, n: u16) -> ServiceSpec {
    let vip4 = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10 + rng.u8(..2)));
    let vip6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10 + rng.u16(..2)));
    let backends = (0..few(rng))
        .flat_map(|_| {
            [
                random_backend(rng, lab, Family::V4),
                random_backend(rng, lab, Family::V6),
            ]
        })
        .collect();
    ServiceSpec {
        vips: vec![vip4, vip6],
        service_port: [80, 443, 53, 8081][usize::from(n) % 4],
        protocol: [6, 17][rng.usize(..2)],
        mode: if rng.u8(..3) == 0 {
            mode::GATEWAY
        } else {
            mode::FULL_NAT
        },
        on_miss: if rng.u8(..4) == 0 {
            on_miss::DROP
        } else {
            on_miss::RESET
        },
        backends,
    }
}

/// 1 to 3, rarely none.
fn few(rng: &mut Rng) -> u8 {
    if rng.u8(..8) == 0 { 0 } else { rng.u8(1..4) }
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// Backends share few addresses and ports between services: SNAT tuples are per (backend, port), not per service.
fn random_backend(rng: &mut Rng, lab: &Lab, family: Family) -> BackendSpec {
    let host = 11 + rng.u8(..4);
    let address = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 0, 0, host)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host.into())),
    };
    let hop_ifindex = if rng.u8(..6) == 0 {
        lab.client_side
    } else {
        lab.backend_side
    };
    let mut spec = BackendSpec::active(address, [8081, 9000, 30_080][rng.usize(..3)], hop_ifindex);
    spec.state = random_state(rng);
    spec.hop_flags = if rng.u8(..12) == 0 { 0 } else { hop_flag::VALID };
    spec.hop_flags |= if rng.bool() { hop_flag::TX } else { 0 };
    spec
}

/// Mostly active.
#[must_use]
pub(super) fn random_state(rng: &mut Rng) -> u8 {
    if rng.u8(..4) != 0 {
        return backend_state::ACTIVE;
    }
    [backend_state::DRAINING, backend_state::DOWN, backend_state::REMOVED][rng.usize(..3)]
}
