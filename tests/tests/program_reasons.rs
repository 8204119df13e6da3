//! Every reason is reached through the loaded program by a case of its own name, its counters go up by exactly that
//! packet, and a reason without a case fails the test.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use lb_common::abi::{Endpoint, backend_state, endpoint_kind, on_miss};
use lb_common::reason::{AnswerReason as A, DropReason as D, PassReason as P};
use xlb_tests::kernel::{Rig, Sizes, Talk, action};
use xlb_tests::model::sample::{
    DNS, FAMILIES, Family, GATE, SERVICES, Sample, TIME, WEB, backend, client, from_backend, from_client, sample_world,
    snat, vip, without_checksum,
};
use xlb_tests::model::{HZ, Reason, endpoint_key, mapped};
use xlb_tests::packets::breakage::{Breakage, broken};
use xlb_tests::packets::flags::{ACK, FIN, RST, SYN};
use xlb_tests::packets::{Extension, Fragment, More, Packet, Transport, hex};
use xlb_tests::require;

/// Ends with the one packet that the reason is about: interface and frame.
type Case = fn(&mut Rig, Family) -> Result<(u32, Vec<u8>)>;

/// One row for each reason; more rows are welcome. Families in which it can happen stand beside it.
const CASES: &[(Reason, &[Family], Case)] = &[
    (Reason::Drop(D::BadIpVersion), &FAMILIES, |rig, family| {
        client_frame(rig, syn(family), &[Breakage::Version(5)])
    }),
    (Reason::Drop(D::BadIhl), &[Family::V4], |rig, family| {
        client_frame(rig, syn(family), &[Breakage::Ihl(4)])
    }),
    (Reason::Drop(D::BadIpLength), &FAMILIES, |rig, family| {
        client_frame(rig, syn(family), &[Breakage::IpLength(999)])
    }),
    (Reason::Drop(D::BadIpLength), &[Family::V4], |rig, family| {
        client_frame(rig, syn(family), &[Breakage::IpLength(19)])
    }),
    (Reason::Drop(D::BadIpLength), &[Family::V4], |rig, family| {
        client_frame(rig, syn(family).options(&[1, 1, 1, 0]), &[Breakage::IpLength(23)])
    }),
    (Reason::Drop(D::TruncatedL4), &FAMILIES, |rig, family| {
        // The IP length follows the cut, so that only layer 4 is short.
        let (cut, length) = if family == Family::V4 {
            (14 + 20 + 19, 39)
        } else {
            (14 + 40 + 19, 19)
        };
        client_frame(rig, syn(family), &[Breakage::CutTo(cut), Breakage::IpLength(length)])
    }),
    (Reason::Drop(D::TruncatedL4), &FAMILIES, |rig, family| {
        let (cut, length) = if family == Family::V4 {
            (14 + 20 + 7, 27)
        } else {
            (14 + 40 + 7, 7)
        };
        client_frame(rig, query(family), &[Breakage::CutTo(cut), Breakage::IpLength(length)])
    }),
    (Reason::Drop(D::BadTcpOffset), &FAMILIES, |rig, family| {
        client_frame(rig, syn(family), &[Breakage::TcpOffset(4)])
    }),
    (Reason::Drop(D::BadTcpOffset), &FAMILIES, |rig, family| {
        client_frame(rig, syn(family), &[Breakage::TcpOffset(15)])
    }),
    (Reason::Drop(D::BadUdpLength), &FAMILIES, |rig, family| {
        client_frame(rig, query(family), &[Breakage::UdpLength(7)])
    }),
    (Reason::Drop(D::BadUdpLength), &FAMILIES, |rig, family| {
        client_frame(rig, query(family), &[Breakage::UdpLength(99)])
    }),
    (Reason::Drop(D::BadTcpFlags), &FAMILIES, |rig, family| {
        client_frame(rig, tcp(family, SYN | FIN), &[])
    }),
    (Reason::Drop(D::BadTcpFlags), &FAMILIES, |rig, family| {
        client_frame(rig, tcp(family, SYN | RST), &[])
    }),
    (Reason::Drop(D::Fragment), &FAMILIES, |rig, family| {
        client_frame(
            rig,
            query(family).fragment(Fragment {
                offset: 0,
                more: More::Follow,
            }),
            &[],
        )
    }),
    (Reason::Drop(D::SourceRoute), &[Family::V4], |rig, family| {
        client_frame(rig, syn(family).options(&[1, 131, 7, 4, 10, 0, 0, 1]), &[])
    }),
    (Reason::Drop(D::SourceRoute), &[Family::V4], |rig, family| {
        client_frame(rig, syn(family).options(&[137, 7, 4, 10, 0, 0, 1, 0]), &[])
    }),
    (Reason::Drop(D::SourceRoute), &[Family::V6], |rig, family| {
        client_frame(rig, syn(family).extension(Extension::Routing(1)), &[])
    }),
    (Reason::Drop(D::SourceIsOurs), &FAMILIES, |rig, family| {
        client_frame(rig, Packet::tcp(WEB.dial(family), WEB.dial(family), SYN, 1, 0), &[])
    }),
    (Reason::Drop(D::SourceIsOurs), &FAMILIES, |rig, family| {
        let ours = SocketAddr::new(snat(family), 10_244);
        client_frame(rig, Packet::udp(ours, DNS.dial(family)), &[])
    }),
    (Reason::Drop(D::SourceInvalid), &[Family::V4], |rig, family| {
        client_frame(rig, Packet::tcp(at([127, 0, 0, 1]), WEB.dial(family), SYN, 1, 0), &[])
    }),
    (Reason::Drop(D::SourceInvalid), &[Family::V4], |rig, family| {
        client_frame(rig, Packet::udp(at([255, 255, 255, 255]), DNS.dial(family)), &[])
    }),
    (Reason::Drop(D::SourceInvalid), &[Family::V6], |rig, family| {
        let multicast = [0xff02, 0, 0, 0, 0, 0, 0, 1];
        client_frame(rig, Packet::udp(at(multicast), DNS.dial(family)), &[])
    }),
    (Reason::Drop(D::SourceInvalid), &[Family::V6], |rig, family| {
        let mapped = [0, 0, 0, 0, 0, 0xffff, 0x0a00, 1];
        client_frame(rig, Packet::tcp(at(mapped), WEB.dial(family), SYN, 1, 0), &[])
    }),
    (Reason::Drop(D::TtlExpired), &FAMILIES, |rig, family| {
        client_frame(rig, syn(family).ttl(1), &[])
    }),
    (Reason::Drop(D::TtlExpired), &FAMILIES, |rig, family| {
        let talk = Talk::open(rig, WEB, client(family, 1, 40_000))?;
        backend_frame(rig, talk.reply(ACK, 1).ttl(1))
    }),
    (Reason::Drop(D::Udp6ZeroChecksum), &[Family::V6], |rig, family| {
        client_frame(rig, without_checksum(query(family)), &[])
    }),
    (Reason::Drop(D::PortZero), &FAMILIES, |rig, family| {
        client_frame(rig, Packet::tcp(client(family, 1, 0), WEB.dial(family), SYN, 1, 0), &[])
    }),
    (Reason::Drop(D::NoBackend), &FAMILIES, |rig, family| {
        rig.set_state(WEB.backend_id(family), backend_state::DRAINING)?;
        client_frame(rig, syn(family), &[])
    }),
    (Reason::Drop(D::NoBackend), &FAMILIES, |rig, family| {
        rig.configure(|world| {
            if let Some(service) = world.services.get_mut(&DNS.service_id()) {
                (service.ring4_size, service.ring6_size) = (0, 0);
            }
        })?;
        client_frame(rig, query(family), &[])
    }),
    (Reason::Drop(D::NoNeighbour), &FAMILIES, |rig, family| {
        forget_neighbour(rig, WEB.backend_id(family))?;
        client_frame(rig, syn(family), &[])
    }),
    (Reason::Drop(D::NoNeighbour), &FAMILIES, |rig, family| {
        let talk = Talk::open(rig, GATE, client(family, 1, 40_000))?;
        forget_neighbour(rig, GATE.backend_id(family))?;
        client_frame(rig, talk.request(ACK, 1), &[])
    }),
    (Reason::Drop(D::NoSnatAddress), &FAMILIES, |rig, family| {
        rig.configure(|world| {
            world.snat4.clear();
            world.snat6.clear();
            (world.settings.snat4_count, world.settings.snat6_count) = (0, 0);
        })?;
        client_frame(rig, syn(family), &[])
    }),
    (Reason::Drop(D::SnatExhausted), &FAMILIES, |rig, family| {
        for number in 1..=8 {
            Talk::begin(rig, WEB, client(family, number, 40_000))?;
        }
        client_frame(
            rig,
            Packet::tcp(client(family, 9, 40_000), WEB.dial(family), SYN, 1, 0),
            &[],
        )
    }),
    (Reason::Drop(D::SnatNoFlow), &FAMILIES, |rig, family| {
        let tuple = SocketAddr::new(snat(family), 10_240);
        backend_frame(rig, Packet::tcp(WEB.backend(family), tuple, ACK, 1, 1))
    }),
    (Reason::Drop(D::TcpNoFlow), &FAMILIES, |rig, family| {
        client_frame(rig, tcp(family, RST), &[])
    }),
    (Reason::Drop(D::TcpNoFlow), &FAMILIES, |rig, family| {
        rig.configure(|world| {
            if let Some(service) = world.services.get_mut(&WEB.service_id()) {
                service.on_miss = on_miss::DROP;
            }
        })?;
        client_frame(rig, tcp(family, ACK), &[])
    }),
    (Reason::Drop(D::TcpNoFlow), &[Family::V4], |rig, family| {
        client_frame(rig, tcp(family, ACK).options(&[1, 1, 1, 0]), &[])
    }),
    (Reason::Drop(D::TcpNoFlow), &FAMILIES, |rig, family| {
        client_frame(
            rig,
            Packet::tcp(client(family, 1, 40_000), GATE.dial(family), RST, 1, 0),
            &[],
        )
    }),
    (Reason::Drop(D::RstLimited), &FAMILIES, |rig, family| {
        rig.configure(|world| world.settings.rst_per_second = 0)?;
        client_frame(rig, tcp(family, ACK), &[])
    }),
    (Reason::Drop(D::GatewayNoFlow), &FAMILIES, |rig, family| {
        backend_frame(
            rig,
            Packet::tcp(GATE.backend(family), client(family, 1, 40_000), SYN | ACK, 1, 1),
        )
    }),
    (Reason::Drop(D::GatewayNoFlow), &FAMILIES, |rig, family| {
        backend_frame(rig, Packet::udp(TIME.backend(family), client(family, 1, 40_000)))
    }),
    (Reason::Drop(D::GatewayTupleInUse), &FAMILIES, |rig, family| {
        // A second VIP of the same service leads to the same backend port.
        let second = SocketAddr::new(literal(family, "203.0.113.11", "2001:db8::11"), GATE.service_port);
        add_vip(rig, GATE, second.ip())?;
        Talk::open(rig, GATE, client(family, 1, 40_000))?;
        client_frame(rig, Packet::tcp(client(family, 1, 40_000), second, SYN, 1, 0), &[])
    }),
    (Reason::Drop(D::HandshakeUnproven), &FAMILIES, |rig, family| {
        let talk = Talk::begin(rig, WEB, client(family, 1, 40_000))?;
        client_frame(rig, talk.request(ACK, 0), &[])
    }),
    (Reason::Drop(D::FlowTableFull), &FAMILIES, |rig, family| {
        // The rig of this test holds four connections a family.
        for number in 1..=4 {
            Talk::open(rig, GATE, client(family, number, 40_000))?;
        }
        let talk = Talk::begin(rig, GATE, client(family, 5, 40_000))?;
        talk.backend_sends(rig, SYN | ACK)?;
        rig.model.connections = 4;
        client_frame(rig, talk.request(ACK, 0), &[])
    }),
    (Reason::Drop(D::ClaimLost), &FAMILIES, |rig, family| {
        let talk = Talk::begin(rig, DNS, client(family, 1, 40_000))?;
        rig.plant_stranger(talk.client)?;
        rig.age(2 * HZ)?;
        client_frame(rig, talk.datagram(b"promote me"), &[])
    }),
    (Reason::Drop(D::HandshakeUnproven), &FAMILIES, |rig, family| {
        // The LRU forgot what the backend said.
        let talk = Talk::begin(rig, WEB, client(family, 1, 40_000))?;
        talk.backend_sends(rig, SYN | ACK)?;
        rig.forget_half_open_reply(talk.client)?;
        client_frame(rig, talk.request(ACK, 0), &[])
    }),
    (Reason::Drop(D::Fragment), &FAMILIES, |rig, family| {
        let reply = Packet::udp(TIME.backend(family), client(family, 1, 40_000)).payload(b"answer");
        backend_frame(
            rig,
            reply.fragment(Fragment {
                offset: 0,
                more: More::Follow,
            }),
        )
    }),
    (Reason::Drop(D::BadIpLength), &[Family::V4], |rig, family| {
        client_frame(rig, syn(family).options(&[7, 1, 0, 0]), &[])
    }),
    (Reason::Drop(D::NoTxPort), &FAMILIES, |rig, family| {
        let gone = rig.lab.backend_side;
        rig.configure(|world| {
            world.tx_ports.remove(&gone);
        })?;
        client_frame(rig, syn(family), &[])
    }),
    (Reason::Drop(D::MapInconsistent), &FAMILIES, |rig, family| {
        let key = endpoint_key(vip(family), WEB.service_port, WEB.protocol);
        rig.configure(|world| {
            world.endpoints.insert(
                key,
                Endpoint {
                    service_id: 1 << 20,
                    kind: endpoint_kind::SERVICE,
                },
            );
        })?;
        client_frame(rig, syn(family), &[])
    }),
    (Reason::Pass(P::NotConfigured), &FAMILIES, |rig, family| {
        rig.configure(|world| world.settings.abi_version += 1)?;
        client_frame(rig, syn(family), &[])
    }),
    (Reason::Pass(P::UnknownInterface), &FAMILIES, |rig, family| {
        let (_, frame) = client_frame(rig, syn(family), &[])?;
        Ok((rig.lab.foreign, frame))
    }),
    (Reason::Pass(P::NotOurMac), &FAMILIES, |rig, family| {
        client_frame(rig, syn(family), &[Breakage::Byte { at: 5, xor: 1 }])
    }),
    (Reason::Pass(P::NotIp), &FAMILIES, |rig, family| {
        client_frame(rig, syn(family), &[Breakage::EtherType(0x8100)])
    }),
    (Reason::Pass(P::TruncatedIp), &FAMILIES, |rig, family| {
        let cut = if family == Family::V4 { 14 + 19 } else { 14 + 39 };
        client_frame(rig, syn(family), &[Breakage::CutTo(cut)])
    }),
    (Reason::Pass(P::NotOurs), &FAMILIES, |rig, family| {
        let stranger = SocketAddr::new(literal(family, "192.168.7.7", "2001:db8:7::7"), 80);
        client_frame(rig, Packet::tcp(client(family, 1, 40_000), stranger, SYN, 1, 0), &[])
    }),
    (Reason::Pass(P::NotOurs), &FAMILIES, |rig, family| {
        // Other traffic of a gateway-mode backend is routed as it is.
        let other_port = SocketAddr::new(backend(family), 22);
        backend_frame(rig, Packet::tcp(other_port, client(family, 1, 40_000), ACK, 1, 1))
    }),
    (Reason::Pass(P::LaterFragment), &FAMILIES, |rig, family| {
        client_frame(
            rig,
            query(family).fragment(Fragment {
                offset: 8,
                more: More::Last,
            }),
            &[],
        )
    }),
    (Reason::Pass(P::OtherProtocol), &FAMILIES, |rig, family| {
        let packet = Packet::new(
            client(family, 1, 0),
            SocketAddr::new(vip(family), 0),
            Transport::Other(47),
        );
        client_frame(rig, packet.payload(&[0; 8]), &[])
    }),
    (Reason::Pass(P::OtherPort), &FAMILIES, |rig, family| {
        // 144 shares its bitmap bit with 80.
        let near = SocketAddr::new(vip(family), 144);
        client_frame(rig, Packet::tcp(client(family, 1, 40_000), near, SYN, 1, 0), &[])
    }),
    (Reason::Answer(A::Echo), &[Family::V4], |rig, family| {
        client_frame(
            rig,
            Packet::echo(client(family, 1, 0).ip(), vip(family)).payload(b"odd"),
            &[],
        )
    }),
    (Reason::Answer(A::Echo6), &[Family::V6], |rig, family| {
        client_frame(
            rig,
            Packet::echo(client(family, 1, 0).ip(), vip(family)).payload(b"odd"),
            &[],
        )
    }),
    (Reason::Answer(A::TcpReset), &FAMILIES, |rig, family| {
        client_frame(rig, tcp(family, ACK), &[])
    }),
];

/// Reasons that one packet on one CPU cannot bring about, and where they are argued.
const UNREACHABLE_ALONE: &[(Reason, &str)] = &[(
    Reason::Drop(D::HalfTableFull),
    "an LRU evicts instead of refusing; see program_tables.rs",
)];

#[test]
fn every_reason_is_reached_by_a_packet_and_counted_once() -> Result<()> {
    require!("ip");
    let mut rig = Rig::new(Sizes {
        connections: 4,
        half_open: 1024,
    })?;
    for (n, (reason, families, case)) in CASES.iter().enumerate() {
        for family in *families {
            run(&mut rig, *reason, *family, *case)
                .with_context(|| format!("case {n}: {} over {family:?}", reason.as_str()))?;
        }
    }
    let reached: BTreeSet<Reason> = CASES.iter().map(|(reason, ..)| *reason).collect();
    let excused: BTreeSet<Reason> = UNREACHABLE_ALONE.iter().map(|(reason, _)| *reason).collect();
    let missing: Vec<&str> = Reason::all()
        .filter(|r| !reached.contains(r) && !excused.contains(r))
        .map(Reason::as_str)
        .collect();
    ensure!(missing.is_empty(), "no case reaches {missing:?}");
    Ok(())
}

fn run(rig: &mut Rig, reason: Reason, family: Family, case: Case) -> Result<()> {
    let world = sample_world(&rig.lab);
    rig.reset(world)?;
    rig.model.connections = 4;
    let (ifindex, frame) = case(rig, family)?;
    let before = rig.kernel.reasons()?;
    let sent = rig.send(ifindex, &frame)?;
    let after = rig.kernel.reasons()?;
    for each in Reason::all() {
        let index = each.index() as usize;
        let packets = after[index].packets - before[index].packets;
        let bytes = after[index].bytes - before[index].bytes;
        let len = if let Reason::Answer(_) = reason {
            sent.output.frame.len()
        } else {
            frame.len()
        };
        let wanted = if each == reason { (1, len as u64) } else { (0, 0) };
        ensure!(
            (packets, bytes) == wanted,
            "{}: {packets} packets, {bytes} bytes; {}",
            each.as_str(),
            hex(&frame)
        );
    }
    let wanted = match reason {
        Reason::Drop(_) => action::DROP,
        Reason::Pass(_) => action::PASS,
        Reason::Answer(_) => action::TX,
    };
    ensure!(sent.output.action == wanted, "action {}", sent.output.action);
    if let Reason::Pass(_) = reason {
        ensure!(sent.output.frame == frame, "a passed frame must be untouched");
    }
    rig.check_state()??;
    Ok(())
}

#[test]
fn the_samples_cover_both_modes_and_protocols() {
    let seen: BTreeSet<(u8, u8)> = SERVICES
        .iter()
        .map(|service| (service.mode, service.protocol))
        .collect();
    assert_eq!(seen.len(), 4);
}

fn tcp(family: Family, tcp_flags: u8) -> Packet {
    Packet::tcp(client(family, 1, 40_000), WEB.dial(family), tcp_flags, 1_000, 7_777)
}

fn syn(family: Family) -> Packet {
    tcp(family, SYN)
}

fn query(family: Family) -> Packet {
    Packet::udp(client(family, 1, 40_000), DNS.dial(family)).payload(b"question")
}

fn client_frame(rig: &Rig, packet: Packet, breakages: &[Breakage]) -> Result<(u32, Vec<u8>)> {
    let sound = from_client(&rig.lab, packet).build();
    let frame = breakages.iter().fold(sound, |frame, breakage| broken(frame, *breakage));
    Ok((rig.lab.client_side, frame))
}

fn backend_frame(rig: &Rig, packet: Packet) -> Result<(u32, Vec<u8>)> {
    Ok((rig.lab.backend_side, from_backend(&rig.lab, packet).build()))
}

fn forget_neighbour(rig: &mut Rig, backend_id: u32) -> Result<()> {
    rig.configure(|world| {
        if let Some(backend) = world.backends.get_mut(&backend_id) {
            backend.hop_flags = 0;
        }
    })
}

fn add_vip(rig: &mut Rig, service: Sample, address: IpAddr) -> Result<()> {
    use lb_common::hash::{OursSide, ours};
    let bit = ours(
        OursSide::Destination,
        xlb_tests::model::word(address),
        service.service_port,
    );
    rig.configure(|world| {
        let key = endpoint_key(address, service.service_port, service.protocol);
        let kind = endpoint_kind::SERVICE;
        world.endpoints.insert(
            key,
            Endpoint {
                service_id: service.service_id(),
                kind,
            },
        );
        world.addrs.insert(mapped(address), lb_common::abi::role::VIP);
        *world.ours.entry(bit.block).or_default() |= bit.mask();
    })
}

fn at(address: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(address.into(), 40_000)
}

fn literal(family: Family, v4: &str, v6: &str) -> IpAddr {
    let text = if family == Family::V4 { v4 } else { v6 };
    match text.parse() {
        Ok(address) => address,
        Err(error) => unreachable!("{text}: {error}"),
    }
}
