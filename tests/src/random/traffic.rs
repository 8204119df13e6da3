//! The next step of a sequence: mostly packets of connections that exist, in every order, and everything else that
//! may arrive: strangers, broken headers, fragments, extension headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use fastrand::Rng;
use lb_common::abi::{Service, hop_flag, mode};
use lb_common::net::{IPPROTO_TCP, Mac};

use super::script::Step;
use super::worlds::random_state;
use crate::kernel::{Key, Lab};
use crate::model::{Conn, HZ, Model, iface_mac};
use crate::packets::breakage::{Breakage, apply};
use crate::packets::{Extension, Fragment, Ipv4Checksum, More, Packet, Transport, UdpChecksum, flags};

/// MAC of the router clients come through.
const ROUTER: Mac = [2, 0xc1, 0, 0, 0, 1];
/// The router that takes over.
const OTHER_ROUTER: Mac = [2, 0xc1, 0, 0, 0, 2];

/// A source of steps.
pub struct Traffic<'a> {
    rng: &'a mut Rng,
    lab: Lab,
}

impl<'a> Traffic<'a> {
    /// Steps drawn from this generator.
    pub fn new(rng: &'a mut Rng, lab: Lab) -> Self {
        Self { rng, lab }
    }

    /// The next step, given what the model knows to exist.
    pub fn next_step(&mut self, model: &Model) -> Step {
        match self.rng.u8(..100) {
            0..4 => Step::Age(HZ * [2, 3, 11, 21, 31, 51, 101][self.rng.usize(..7)]),
            4 => Step::Sweep,
            5..8 if !model.world.backends.is_empty() => self.backend_change(model),
            _ => self.packet(model),
        }
    }

    fn backend_change(&mut self, model: &Model) -> Step {
        let id = self.rng.u32(1..=model.world.backends.len() as u32);
        let mut hop_flags = if self.rng.u8(..8) == 0 { 0 } else { hop_flag::VALID };
        hop_flags |= model.world.backends[&id].hop_flags & hop_flag::TX;
        Step::Backend {
            id,
            state: random_state(self.rng),
            hop_flags,
        }
    }

    fn packet(&mut self, model: &Model) -> Step {
        let (mut packet, mut ifindex) = match self.rng.u8(..100) {
            0..30 => (self.newcomer(model), self.lab.client_side),
            30..80 if !model.conns.is_empty() => self.member(model),
            80..90 => (self.stranger(model), self.lab.client_side),
            _ => (self.newcomer(model), self.lab.client_side),
        };
        match self.rng.u8(..60) {
            0 => ifindex = self.lab.other_side,
            1 => ifindex = self.lab.backend_side,
            2 => ifindex = self.lab.foreign,
            _ => {}
        }
        packet.dst_mac = if self.rng.u8(..80) == 0 {
            [0xff; 6]
        } else {
            iface_mac(ifindex)
        };
        self.decorate(&mut packet);
        let mut frame = packet.build();
        if self.rng.u8(..6) == 0 {
            apply(&mut frame, self.breakage());
        }
        if self.rng.u8(..40) == 0 {
            apply(&mut frame, self.breakage());
        }
        Step::Packet { ifindex, frame }
    }

    fn address(&mut self, v4: [u8; 3], v6: u16) -> (IpAddr, IpAddr) {
        let host = 1 + self.rng.u8(..4);
        let four = IpAddr::V4(Ipv4Addr::new(v4[0], v4[1], v4[2], host));
        let six = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, v6, 0, 0, 0, 0, host.into()));
        (four, six)
    }

    fn client(&mut self, is_v4: bool) -> SocketAddr {
        let (four, six) = self.address([198, 51, 100], 1);
        // Few ports, some inside the SNAT range, so that tuples are claimed twice.
        let port = [40_000, 40_001, 10_240, 10_241, 10_243, 10_250, 443, 53][self.rng.usize(..8)];
        SocketAddr::new(if is_v4 { four } else { six }, port)
    }

    /// A packet to a service, mostly one that may open a connection.
    fn newcomer(&mut self, model: &Model) -> Packet {
        let services: Vec<(&lb_common::abi::EndpointKey, &lb_common::abi::Endpoint)> = model
            .world
            .endpoints
            .iter()
            .filter(|(_, endpoint)| endpoint.kind == 1)
            .collect();
        let (key, endpoint) = services[self.rng.usize(..services.len())];
        let address = match lb_common::net::unmap_v4(&key.address) {
            Some(v4) => IpAddr::from(v4),
            None => IpAddr::from(key.address),
        };
        let dst = SocketAddr::new(address, key.port);
        let mut src = self.client(address.is_ipv4());
        if self.rng.u8(..40) == 0 {
            src.set_ip(self.odd_source(model, address.is_ipv4()));
        }
        if self.rng.u8(..60) == 0 {
            src.set_port(0);
        }
        let service: Service = model.world.services[&endpoint.service_id];
        let usual = if service.mode == mode::GATEWAY && self.rng.u8(..3) == 0 {
            flags::ACK
        } else {
            flags::SYN
        };
        let tcp_flags = if self.rng.u8(..6) == 0 {
            self.rng.u8(..64)
        } else {
            usual
        };
        self.segment(src, dst, key.protocol, tcp_flags)
    }

    fn odd_source(&mut self, model: &Model, is_v4: bool) -> IpAddr {
        let odd4 = [
            [127, 0, 0, 1],
            [224, 0, 0, 5],
            [0, 0, 0, 0],
            [255, 255, 255, 255],
            [203, 0, 113, 10],
            [10, 0, 0, 11],
        ];
        let odd6 = ["::1", "::", "ff02::5", "::ffff:10.0.0.1", "2001:db8::10", "fd00::b"];
        let n = self.rng.usize(..7);
        match (is_v4, n) {
            (true, 6) => model.world.snat4.first().copied().unwrap_or(IpAddr::from(odd4[0])),
            (false, 6) => model.world.snat6.first().copied().unwrap_or(IpAddr::from([0; 16])),
            (true, _) => IpAddr::from(odd4[n]),
            (false, _) => odd6[n].parse().expect("a literal address"),
        }
    }

    /// A packet of a connection that exists, in either direction.
    fn member(&mut self, model: &Model) -> (Packet, u32) {
        // In a fixed order: a hash map's own would make a seed worthless.
        let mut ids: Vec<&u64> = model.conns.keys().collect();
        ids.sort_unstable();
        let conn = &model.conns[ids[self.rng.usize(..ids.len())]];
        let is_forward = self.rng.bool();
        let key = if is_forward { conn.forward } else { conn.reply };
        let (tcp_flags, ack) = if is_forward {
            self.forward_move(conn)
        } else {
            self.reply_move(conn)
        };
        let mut packet = self.segment(ends(&key).0, ends(&key).1, key.protocol, tcp_flags);
        if let Transport::Tcp { ack: field, .. } = &mut packet.transport {
            *field = ack;
        }
        if is_forward {
            packet.src_mac = if self.rng.u8(..20) == 0 { OTHER_ROUTER } else { ROUTER };
            (packet, self.lab.client_side)
        } else {
            packet.src_mac = [6, 0xbe, 0, 0, 0, 1];
            (packet, self.lab.backend_side)
        }
    }

    fn forward_move(&mut self, conn: &Conn) -> (u8, u32) {
        let proof = conn.isn.unwrap_or_default().wrapping_add(1);
        match self.rng.u8(..20) {
            0 => (flags::SYN, 0),
            1 => (flags::RST, proof),
            2..5 => (flags::FIN | flags::ACK, proof),
            5 => (flags::ACK, self.rng.u32(..)),
            6 => (self.rng.u8(..64), proof),
            _ => (flags::ACK, proof),
        }
    }

    fn reply_move(&mut self, conn: &Conn) -> (u8, u32) {
        match self.rng.u8(..20) {
            0 => (flags::RST, 1),
            1..4 => (flags::FIN | flags::ACK, 1),
            4 => (self.rng.u8(..64), 1),
            _ if !conn.established => (flags::SYN | flags::ACK, 1),
            _ => (flags::ACK, 1),
        }
    }

    /// To one of our addresses or past us, but to no service.
    fn stranger(&mut self, model: &Model) -> Packet {
        let is_v4 = self.rng.bool();
        let client = self.client(is_v4);
        let snat = model.world.snat(client.ip()).first().copied().unwrap_or(client.ip());
        let vip: IpAddr = if is_v4 { "203.0.113.10" } else { "2001:db8::10" }
            .parse()
            .expect("a literal address");
        let backend: IpAddr = if is_v4 { "10.0.0.11" } else { "fd00::b" }
            .parse()
            .expect("a literal address");
        let protocol = [6, 17][self.rng.usize(..2)];
        let tcp_flags = [flags::SYN, flags::ACK, flags::RST][self.rng.usize(..3)];
        let range = model.world.settings.snat_port_min..=model.world.settings.snat_port_max;
        let backend_port = [8081, 9000, 30_080, 22][self.rng.usize(..4)];
        match self.rng.u8(..7) {
            0 => {
                let dst = SocketAddr::new(snat, self.rng.u16(range));
                self.segment(SocketAddr::new(backend, backend_port), dst, protocol, tcp_flags)
            }
            1 => self.segment(SocketAddr::new(backend, backend_port), client, protocol, tcp_flags),
            2 => {
                // Ports that share a bitmap bit with a service port.
                let port = [80 + 64, 443 + 64, 53 + 128, 22, 0][self.rng.usize(..5)];
                self.segment(client, SocketAddr::new(vip, port), protocol, tcp_flags)
            }
            3 => Packet::echo(client.ip(), if self.rng.u8(..3) == 0 { snat } else { vip }),
            4 => Packet::new(client, SocketAddr::new(vip, 0), Transport::Other(self.rng.u8(..)))
                .payload(&[3, 3, 0, 0, 0, 0, 0, 0, 1]),
            5 => Packet::echo(client.ip(), if is_v4 { [192, 0, 2, 99].into() } else { backend }),
            _ => {
                let (four, six) = self.address([192, 168, 7], 7);
                let dst = SocketAddr::new(if is_v4 { four } else { six }, 80);
                self.segment(client, dst, protocol, tcp_flags)
            }
        }
    }

    fn segment(&mut self, src: SocketAddr, dst: SocketAddr, protocol: u8, tcp_flags: u8) -> Packet {
        let len = [0, 0, 1, 2, 5, 33, 200, 1400][self.rng.usize(..8)];
        let payload: Vec<u8> = std::iter::repeat_with(|| self.rng.u8(..)).take(len).collect();
        let mut packet = if protocol == IPPROTO_TCP {
            let seq = if self.rng.u8(..10) == 0 {
                u32::MAX
            } else {
                self.rng.u32(..)
            };
            let mut packet = Packet::tcp(src, dst, tcp_flags, seq, self.rng.u32(..));
            if let Transport::Tcp { options, .. } = &mut packet.transport
                && self.rng.bool()
            {
                options.extend_from_slice(&[2, 4, 5, 0xb4, 1, 1, 1, 0]);
            }
            packet
        } else {
            Packet::udp(src, dst)
        };
        packet.payload = payload;
        packet.src_mac = ROUTER;
        packet
    }

    /// Rare shapes of a sound packet.
    fn decorate(&mut self, packet: &mut Packet) {
        packet.tos = if self.rng.u8(..4) == 0 { self.rng.u8(..) } else { 0 };
        match self.rng.u8(..50) {
            0 => packet.ttl = 0,
            1 => packet.ttl = 1,
            2 => packet.ttl = 2,
            3 => packet.ttl = 255,
            _ => {}
        }
        if self.rng.u8(..10) == 0 {
            packet.padding_bytes = self.rng.usize(1..20);
        }
        if self.rng.u8(..12) == 0 && matches!(packet.transport, Transport::Udp(_)) {
            packet.transport = Transport::Udp(UdpChecksum::Zero);
        }
        if self.rng.u8(..20) == 0 {
            packet.ipv4_checksum = Ipv4Checksum::OffBy(self.rng.u16(1..));
        }
        if self.rng.u8(..12) == 0 {
            self.lengthen(packet);
        }
    }

    /// IPv4 options, IPv6 extension headers, fragments.
    fn lengthen(&mut self, packet: &mut Packet) {
        let offset = if self.rng.u8(..3) == 0 {
            self.rng.u16(1..1000)
        } else {
            0
        };
        let more = if self.rng.bool() { More::Follow } else { More::Last };
        let fragment = Fragment { offset, more };
        if packet.src.is_ipv4() {
            let all: [&[u8]; 7] = [
                &[148, 4, 0, 0],
                &[1, 1, 1, 0],
                &[131, 7, 4, 1, 2, 3, 4, 0],
                &[1, 137, 7, 4, 1, 2, 3, 4],
                &[7, 0, 0, 0],
                &[68, 40, 5, 0],
                &[0, 131, 3, 4],
            ];
            if self.rng.bool() {
                packet.options = all[self.rng.usize(..all.len())].to_vec();
            } else {
                packet.fragment = Some(fragment);
            }
            return;
        }
        for _ in 0..self.rng.u8(1..9) {
            let extension = match self.rng.u8(..12) {
                0..4 => Extension::HopByHop(self.rng.u8(..3)),
                4..8 => Extension::Destination(self.rng.u8(..3)),
                8 => Extension::Routing(self.rng.u8(..2)),
                9 => Extension::Fragment(fragment),
                10 => Extension::Fragment(Fragment {
                    offset: 0,
                    more: More::Last,
                }),
                _ => Extension::Other([50, 51, 59, 135][self.rng.usize(..4)]),
            };
            packet.extensions.push(extension);
        }
    }

    fn breakage(&mut self) -> Breakage {
        match self.rng.u8(..12) {
            0 => Breakage::CutTo(self.rng.usize(14..90)),
            1 => Breakage::Version(self.rng.u8(..16)),
            2 => Breakage::Ihl(self.rng.u8(..16)),
            3 => Breakage::IpLength(self.rng.u16(..100)),
            4 => Breakage::IpLength(self.rng.u16(..)),
            5 => Breakage::TcpOffset(self.rng.u8(..16)),
            6 => Breakage::UdpLength(self.rng.u16(..60)),
            7 => Breakage::TcpFlags(self.rng.u8(..)),
            8 => Breakage::L4Checksum(self.rng.u16(1..)),
            9 => Breakage::EtherType([0x0806, 0x8100, 0x0800, 0x86dd][self.rng.usize(..4)]),
            10 => Breakage::ReservedFlag,
            _ => Breakage::Byte {
                at: self.rng.usize(..100),
                xor: self.rng.u8(1..),
            },
        }
    }
}

fn ends(key: &Key) -> (SocketAddr, SocketAddr) {
    (
        SocketAddr::new(key.src, key.src_port),
        SocketAddr::new(key.dst, key.dst_port),
    )
}
