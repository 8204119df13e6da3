//! The configuration of the named program tests: one service for each protocol and mode, each with one backend in each
//! family, so that every packet's fate is known beforehand.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use lb_common::abi::{iface_flag, mode, on_miss};
use lb_common::net::{IPPROTO_TCP, IPPROTO_UDP, Mac};

use super::{BackendSpec, ServiceSpec, World, iface_mac};
use crate::kernel::Lab;
use crate::packets::{Packet, UdpChecksum};

/// MAC of the router that clients' packets come from.
pub const ROUTER: Mac = [2, 0xc1, 0, 0, 0, 1];
/// MAC of the backends' side.
pub const BACKEND_MAC: Mac = [6, 0xbe, 0, 0, 0, 1];

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Both families.
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// One of the four services of [`sample_world`]; service id is the place in [`SERVICES`] plus one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Port clients dial.
    pub service_port: u16,
    /// Port the backend listens on.
    pub internal_port: u16,
    /// 6 or 17.
    pub protocol: u8,
    /// One of [`mode`].
    pub mode: u8,
}

/// TCP, full NAT.
pub const WEB: Sample = Sample {
    service_port: 80,
    internal_port: 8081,
    protocol: IPPROTO_TCP,
    mode: mode::FULL_NAT,
};
/// UDP, full NAT.
pub const DNS: Sample = Sample {
    service_port: 53,
    internal_port: 5353,
    protocol: IPPROTO_UDP,
    mode: mode::FULL_NAT,
};
/// TCP, gateway.
pub const GATE: Sample = Sample {
    service_port: 443,
    internal_port: 8443,
    protocol: IPPROTO_TCP,
    mode: mode::GATEWAY,
};
/// UDP, gateway.
pub const TIME: Sample = Sample {
    service_port: 123,
    internal_port: 1123,
    protocol: IPPROTO_UDP,
    mode: mode::GATEWAY,
};
/// All of them, by service id from 1.
pub const SERVICES: [Sample; 4] = [WEB, DNS, GATE, TIME];

impl Sample {
    /// The service's id.
    #[must_use]
    pub fn service_id(self) -> u32 {
        1 + SERVICES.iter().position(|service| *service == self).unwrap_or_default() as u32
    }

    /// The id of its one backend of a family.
    #[must_use]
    pub fn backend_id(self, family: Family) -> u32 {
        self.service_id() * 2 - u32::from(family == Family::V4)
    }

    /// What clients dial.
    #[must_use]
    pub fn dial(self, family: Family) -> SocketAddr {
        SocketAddr::new(vip(family), self.service_port)
    }

    /// Where its backend of a family listens.
    #[must_use]
    pub fn backend(self, family: Family) -> SocketAddr {
        SocketAddr::new(backend(family), self.internal_port)
    }
}

/// The VIP of all services.
#[must_use]
pub fn vip(family: Family) -> IpAddr {
    literal(family, "203.0.113.10", "2001:db8::10")
}

/// The address of all backends.
#[must_use]
pub fn backend(family: Family) -> IpAddr {
    literal(family, "10.0.0.11", "fd00::11")
}

/// The SNAT address.
#[must_use]
pub fn snat(family: Family) -> IpAddr {
    literal(family, "192.0.2.10", "2001:db8:ffff::10")
}

/// A client: its number is in the address.
#[must_use]
pub fn client(family: Family, number: u8, port: u16) -> SocketAddr {
    let address = match family {
        Family::V4 => IpAddr::from([198, 51, 100, number]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 1, 0, 0, 0, 0, u16::from(number)]),
    };
    SocketAddr::new(address, port)
}

fn literal(family: Family, v4: &str, v6: &str) -> IpAddr {
    let text = if family == Family::V4 { v4 } else { v6 };
    text.parse().expect("a literal address")
}

/// The configuration: SNAT ports 10240 to 10247, `on_miss = reset`, client side by TX, backend side by redirect.
#[must_use]
pub fn sample_world(lab: &Lab) -> World {
    sample_world_with(lab, 10_240..=10_247)
}

/// As [`sample_world`] with other SNAT ports.
#[must_use]
pub fn sample_world_with(lab: &Lab, snat_ports: RangeInclusive<u16>) -> World {
    let mut world = World::new();
    (world.settings.snat_port_min, world.settings.snat_port_max) = snat_ports.into_inner();
    world.add_iface(lab.client_side, iface_flag::TX);
    world.add_iface(lab.backend_side, 0);
    world.add_iface(lab.other_side, 0);
    for family in FAMILIES {
        world.add_snat(snat(family));
    }
    for service in SERVICES {
        let backends = FAMILIES.map(|family| {
            let address = service.backend(family);
            BackendSpec::active(address.ip(), address.port(), lab.backend_side)
        });
        world.add_service(&ServiceSpec {
            vips: FAMILIES.map(vip).to_vec(),
            service_port: service.service_port,
            protocol: service.protocol,
            mode: service.mode,
            on_miss: on_miss::RESET,
            backends: backends.to_vec(),
        });
    }
    world
}

/// A client's packet as it arrives at `lab.client_side`.
#[must_use]
pub fn from_client(lab: &Lab, packet: Packet) -> Packet {
    packet.macs(ROUTER, iface_mac(lab.client_side))
}

/// A backend's packet as it arrives at `lab.backend_side`.
#[must_use]
pub fn from_backend(lab: &Lab, packet: Packet) -> Packet {
    packet.macs(BACKEND_MAC, iface_mac(lab.backend_side))
}

/// A UDP datagram without a checksum.
#[must_use]
pub fn without_checksum(mut packet: Packet) -> Packet {
    packet.transport = crate::packets::Transport::Udp(UdpChecksum::Zero);
    packet
}
