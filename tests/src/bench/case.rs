//! What is driven through the program: a configuration with many backends, clients by number, and their packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_common::abi::{direction, iface_flag, on_miss};
use lb_common::reason::{AnswerReason, DropReason, PassReason};

use crate::kernel::{Entry, Key, Lab};
use crate::model::sample::{FAMILIES, Family, SERVICES, Sample, from_backend, from_client, vip};
use crate::model::{BackendSpec, HZ, Reason, ServiceSpec, World};
use crate::packets::breakage::{Breakage, broken};
use crate::packets::{Packet, flags};

/// Backends of each service in each family.
pub(super) const BACKENDS: u16 = 64;
/// SNAT addresses in each family; with the ports and backends: room for more than four million connections.
const SNAT_ADDRESSES: u16 = 4;
const CLIENT_ISN: u32 = 1_000;
const BACKEND_ISN: u32 = 5_000;

/// One kind of connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// Address family.
    pub(super) family: Family,
    /// Protocol, ports and mode.
    pub(super) service: Sample,
}

/// A packet's place in the life of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// SYN, or the first datagram.
    First,
    /// SYN-ACK, or the first answer.
    Answer,
    /// The ACK that proves the handshake.
    Proof,
    /// A packet of the client's in an established connection.
    Data,
    /// A packet of the backend's in an established connection.
    Reply,
}

impl Case {
    /// As in `tcp4 full_nat`.
    #[must_use]
    pub(super) fn name(self) -> String {
        let protocol = if self.is_tcp() { "tcp" } else { "udp" };
        let family = if self.family == Family::V4 { 4 } else { 6 };
        let mode = if self.service.mode == lb_common::abi::mode::GATEWAY {
            "gateway"
        } else {
            "full_nat"
        };
        format!("{protocol}{family} {mode}")
    }

    /// Whether it is TCP.
    #[must_use]
    pub(super) fn is_tcp(self) -> bool {
        self.service.protocol == 6
    }

    /// A packet of client `number`.
    #[must_use]
    pub(super) fn client_frame(self, lab: &Lab, number: u32, stage: Stage) -> Vec<u8> {
        let (src, dst) = (client(self.family, number), self.service.dial(self.family));
        if self.is_tcp() {
            return tcp_of_client(lab, src, dst, stage);
        }
        from_client(lab, payload(Packet::udp(src, dst), stage)).build()
    }

    /// A packet of a backend's, given the key of its flow entry.
    #[must_use]
    pub(super) fn backend_frame(self, lab: &Lab, key: &Key, stage: Stage) -> Vec<u8> {
        let (src, dst) = (
            SocketAddr::new(key.src, key.src_port),
            SocketAddr::new(key.dst, key.dst_port),
        );
        if self.is_tcp() {
            return tcp_of_backend(lab, src, dst, stage);
        }
        from_backend(lab, payload(Packet::udp(src, dst), stage)).build()
    }

    /// Whether an entry is the one of this case's replies.
    #[must_use]
    pub(super) fn is_reply(self, key: &Key, entry: &Entry) -> bool {
        entry.direction == direction::REPLY
            && key.protocol == self.service.protocol
            && key.src_port == self.service.internal_port
            && key.src.is_ipv4() == (self.family == Family::V4)
    }
}

/// A client's segment as it comes in on the clients' side.
pub(super) fn tcp_of_client(lab: &Lab, src: SocketAddr, dst: SocketAddr, stage: Stage) -> Vec<u8> {
    let (flags, seq, ack) = match stage {
        Stage::First => (flags::SYN, CLIENT_ISN, 0),
        _ => (flags::ACK, CLIENT_ISN + 1, BACKEND_ISN + 1),
    };
    from_client(lab, payload(Packet::tcp(src, dst, flags, seq, ack), stage)).build()
}

/// A backend's segment as it comes in on the backends' side.
pub(super) fn tcp_of_backend(lab: &Lab, src: SocketAddr, dst: SocketAddr, stage: Stage) -> Vec<u8> {
    let (flags, seq) = match stage {
        Stage::Answer => (flags::SYN | flags::ACK, BACKEND_ISN),
        _ => (flags::ACK, BACKEND_ISN + 1),
    };
    from_backend(lab, payload(Packet::tcp(src, dst, flags, seq, CLIENT_ISN + 1), stage)).build()
}

fn payload(packet: Packet, stage: Stage) -> Packet {
    match stage {
        Stage::First | Stage::Answer | Stage::Proof if packet.protocol() == 6 => packet,
        _ => packet.payload(b"0123456789abcdef"),
    }
}

/// Client `number`: its address is unique up to 65,536, then ports differ.
pub(super) fn client(family: Family, number: u32) -> SocketAddr {
    let address = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(0x6440_0000 + (number & 0xffff))),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(
            (0x2001_0db8_0001_u128 << 80) + u128::from(number & 0xffff),
        )),
    };
    SocketAddr::new(address, 40_000 + (number >> 16) as u16)
}

fn numbered(family: Family, v4: u32, v6: u128, number: u16) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(v4 + u32::from(number))),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(v6 + u128::from(number))),
    }
}

/// The four services of the named program tests, with [`BACKENDS`] backends in each family.
#[must_use]
pub(super) fn world(lab: &Lab) -> World {
    let mut world = World::new();
    // Filling a table of a million connections takes longer than a client would wait.
    world.settings.half_open_ticks = 600 * HZ;
    world.settings.udp_ticks = 600 * HZ;
    world.settings.rst_per_second = u32::MAX;
    world.add_iface(lab.client_side, iface_flag::TX);
    world.add_iface(lab.backend_side, 0);
    for family in FAMILIES {
        for number in 1..=SNAT_ADDRESSES {
            world.add_snat(numbered(family, 0xc000_0200, 0x2001_0db8_ffff << 80, number));
        }
    }
    for service in SERVICES {
        let backends = FAMILIES.iter().flat_map(|family| {
            (1..=BACKENDS).map(|number| {
                let address = numbered(*family, 0x0a00_0100, 0xfd00 << 112, number);
                BackendSpec::active(address, service.internal_port, lab.backend_side)
            })
        });
        world.add_service(&ServiceSpec {
            vips: FAMILIES.map(vip).to_vec(),
            service_port: service.service_port,
            protocol: service.protocol,
            mode: service.mode,
            on_miss: on_miss::RESET,
            backends: backends.collect(),
        });
    }
    world
}

/// A packet that needs no connection.
pub(super) struct Single {
    /// Name of its row.
    pub(super) name: &'static str,
    /// The frame, as it comes in on the clients' side.
    pub(super) frame: Vec<u8>,
    /// What becomes of it.
    pub(super) fate: Reason,
}

/// Row of an IPv4 packet for a neighbour.
pub(super) const NOT_OURS_4: &str = "not ours, IPv4";
/// Row of an IPv6 packet for a neighbour.
pub(super) const NOT_OURS_6: &str = "not ours, IPv6";

/// Each kind of packet that needs no connection.
#[must_use]
pub(super) fn singles(lab: &Lab) -> Vec<Single> {
    let [v4, v6] = FAMILIES.map(|family| client(family, 7));
    let stranger = |family| SocketAddr::new(numbered(family, 0x0a09_0000, 0xfd09 << 112, 9), 80);
    let segment = |src, dst| from_client(lab, Packet::tcp(src, dst, flags::ACK, 1, 1)).build();
    let echo = |client: SocketAddr, family| from_client(lab, Packet::echo(client.ip(), vip(family))).build();
    let web = |family| SERVICES[0].dial(family);
    let mut other_mac = segment(v4, web(Family::V4));
    other_mac[0] ^= 0x20;
    vec![
        Single {
            name: NOT_OURS_4,
            frame: segment(v4, stranger(Family::V4)),
            fate: Reason::Pass(PassReason::NotOurs),
        },
        Single {
            name: NOT_OURS_6,
            frame: segment(v6, stranger(Family::V6)),
            fate: Reason::Pass(PassReason::NotOurs),
        },
        Single {
            name: "another MAC address",
            frame: other_mac,
            fate: Reason::Pass(PassReason::NotOurMac),
        },
        Single {
            name: "echo, IPv4",
            frame: echo(v4, Family::V4),
            fate: Reason::Answer(AnswerReason::Echo),
        },
        Single {
            name: "echo, IPv6",
            frame: echo(v6, Family::V6),
            fate: Reason::Answer(AnswerReason::Echo6),
        },
        Single {
            name: "malformed: TCP offset",
            frame: broken(segment(v4, web(Family::V4)), Breakage::TcpOffset(1)),
            fate: Reason::Drop(DropReason::BadTcpOffset),
        },
        Single {
            name: "no connection, answered by a reset, IPv4",
            frame: segment(v4, web(Family::V4)),
            fate: Reason::Answer(AnswerReason::TcpReset),
        },
        Single {
            name: "no connection, answered by a reset, IPv6",
            frame: segment(v6, web(Family::V6)),
            fate: Reason::Answer(AnswerReason::TcpReset),
        },
    ]
}
