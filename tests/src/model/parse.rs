//! Sections 1 to 3 of the page: is it for us, what is it, is it sound.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::abi::{ABI_VERSION, IFACE_SLOTS, endpoint_kind, role};
use lb_common::hash::{OursBit, OursSide, ours, ours_address};
use lb_common::net::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP};
use lb_common::reason::{DropReason, PassReason};

use super::{Arrival, Expected, Model, endpoint_key, mapped, word};
use crate::kernel::Key;
use crate::packets::flags;

/// Where the IP header starts.
pub(super) const IP: usize = 14;

/// A packet that goes on.
pub(super) enum Arrived {
    /// A sound TCP segment or UDP datagram that passed the bitmap.
    Segment(View),
    /// An echo request to a VIP.
    Echo(Ip),
}

/// The IP part of a packet, headers walked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ip {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) ttl: u8,
    /// Protocol behind all IP headers.
    pub(super) protocol: u8,
    /// Where layer 4 starts.
    pub(super) l4: usize,
    /// Where the IP packet ends, by its own length; may lie past the frame.
    pub(super) end: usize,
    pub(super) shape: Shape,
    fragment: Fragment,
}

/// Whether the IP header is alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// 20 or 40 bytes.
    Plain,
    /// With options or extension headers.
    Long,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fragment {
    Whole,
    First,
}

/// A TCP segment or UDP datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) ip: Ip,
    pub(super) key: Key,
    /// TCP flags; 0 for UDP.
    pub(super) tcp_flags: u8,
    pub(super) seq: u32,
    pub(super) ack: u32,
    /// TCP payload bytes.
    pub(super) payload_bytes: u32,
    /// UDP checksum as it came.
    pub(super) udp_checksum: u16,
}

impl View {
    pub(super) fn is_tcp(&self) -> bool {
        self.key.protocol == IPPROTO_TCP
    }

    pub(super) fn has(&self, bits: u8) -> bool {
        self.tcp_flags & bits == bits
    }

    /// SYN without ACK.
    pub(super) fn is_plain_syn(&self) -> bool {
        self.is_tcp() && self.has(flags::SYN) && !self.has(flags::ACK)
    }
}

/// Why a walk over the headers stopped.
#[derive(Clone, Copy)]
enum Stop {
    Drop(DropReason),
    Pass(PassReason),
}

impl Model {
    pub(super) fn parse(&self, arrival: Arrival<'_>) -> Result<Arrived, Expected> {
        let frame = arrival.frame;
        let pass = |reason| Err(Expected::pass(reason, frame));
        if self.world.settings.abi_version != ABI_VERSION {
            return pass(PassReason::NotConfigured);
        }
        if frame.len() < IP {
            return pass(PassReason::TruncatedIp);
        }
        let slot = self
            .world
            .ifaces
            .iter()
            .find(|(index, _)| **index % IFACE_SLOTS == arrival.ifindex % IFACE_SLOTS);
        let iface = match slot {
            Some((index, iface)) if *index == arrival.ifindex => iface,
            _ => return pass(PassReason::UnknownInterface),
        };
        if frame[..6] != iface.mac {
            return pass(PassReason::NotOurMac);
        }
        let fixed_header = match be16(frame, 12) {
            Some(0x0800) => 20,
            Some(0x86dd) => 40,
            _ => return pass(PassReason::NotIp),
        };
        if frame.len() < IP + fixed_header {
            return pass(PassReason::TruncatedIp);
        }
        self.ours_or_not(frame).map_err(|stop| match stop {
            Stop::Drop(reason) => Expected::drop(reason),
            Stop::Pass(reason) => Expected::pass(reason, frame),
        })
    }

    fn ours_or_not(&self, frame: &[u8]) -> Result<Arrived, Stop> {
        if let Some(ip) = plain(frame).filter(|ip| holds_ports(frame, ip)) {
            if !self.bitmap_has(frame, &ip) {
                return Err(Stop::Pass(PassReason::NotOurs));
            }
            return segment(frame, ip).map(Arrived::Segment);
        }
        let walked = if be16(frame, 12) == Some(0x0800) {
            walk4(frame)
        } else {
            walk6(frame)
        };
        let (_, dst) = addresses(frame);
        if !self.bit(ours_address(word(dst))) && !self.may_be_gateway_backend(frame) {
            return Err(Stop::Pass(PassReason::NotOurs));
        }
        let ip = walked?;
        let carries_ports = ip.protocol == IPPROTO_TCP || ip.protocol == IPPROTO_UDP;
        if ip.fragment == Fragment::First {
            return Err(self.first_fragment(frame, &ip));
        }
        if carries_ports {
            if holds_ports(frame, &ip) && !self.bitmap_has(frame, &ip) {
                return Err(Stop::Pass(PassReason::OtherPort));
            }
            return segment(frame, ip).map(Arrived::Segment);
        }
        if self.is_echo_for_vip(frame, &ip) {
            return Ok(Arrived::Echo(ip));
        }
        Err(Stop::Pass(PassReason::OtherProtocol))
    }

    /// The source may be a gateway-mode backend's internal port, wherever in the frame that port stands: what is wrong
    /// with the lengths is no reason to overlook it.
    fn may_be_gateway_backend(&self, frame: &[u8]) -> bool {
        let ip = if be16(frame, 12) == Some(0x0800) {
            ports_behind4(frame)
        } else {
            chain6(frame).ok()
        };
        ip.filter(|ip| holds_ports(frame, ip))
            .is_some_and(|ip| self.source_bit(frame, &ip))
    }

    fn first_fragment(&self, frame: &[u8], ip: &Ip) -> Stop {
        if ip.protocol != IPPROTO_TCP && ip.protocol != IPPROTO_UDP {
            return Stop::Pass(PassReason::OtherProtocol);
        }
        let (Some(src_port), Some(dst_port)) = (be16(frame, ip.l4), be16(frame, ip.l4 + 2)) else {
            return Stop::Pass(PassReason::OtherProtocol);
        };
        let kind = |address, port| {
            let endpoint = self.world.endpoints.get(&endpoint_key(address, port, ip.protocol));
            endpoint.map(|endpoint| endpoint.kind)
        };
        if kind(ip.dst, dst_port) == Some(endpoint_kind::SERVICE)
            || kind(ip.src, src_port) == Some(endpoint_kind::GATEWAY_BACKEND)
        {
            return Stop::Drop(DropReason::Fragment);
        }
        Stop::Pass(PassReason::OtherPort)
    }

    fn is_echo_for_vip(&self, frame: &[u8], ip: &Ip) -> bool {
        let request = match ip.dst {
            IpAddr::V4(_) => (IPPROTO_ICMP, 8),
            IpAddr::V6(_) => (IPPROTO_ICMPV6, 128),
        };
        let end = ip.end.min(frame.len());
        let is_request = end >= ip.l4 + 8 && (ip.protocol, frame[ip.l4]) == request && frame[ip.l4 + 1] == 0;
        let roles = self.world.addrs.get(&mapped(ip.dst)).copied().unwrap_or_default();
        is_request && roles & role::VIP != 0
    }

    /// The `Destination` or the `Source` bit of section 1.4.
    fn bitmap_has(&self, frame: &[u8], ip: &Ip) -> bool {
        let dst_port = be16(frame, ip.l4 + 2);
        dst_port.is_some_and(|port| self.bit(ours(OursSide::Destination, word(ip.dst), port)))
            || self.source_bit(frame, ip)
    }

    fn source_bit(&self, frame: &[u8], ip: &Ip) -> bool {
        let src_port = be16(frame, ip.l4);
        src_port.is_some_and(|port| self.bit(ours(OursSide::Source, word(ip.src), port)))
    }

    fn bit(&self, bit: OursBit) -> bool {
        self.world
            .ours
            .get(&bit.block)
            .is_some_and(|bits| bits & bit.mask() != 0)
    }
}

/// Source and destination of a frame that holds the fixed IP header.
fn addresses(frame: &[u8]) -> (IpAddr, IpAddr) {
    let v4 = |at: usize| IpAddr::V4(Ipv4Addr::new(frame[at], frame[at + 1], frame[at + 2], frame[at + 3]));
    let v6 = |at: usize| {
        let bytes: [u8; 16] = frame[at..at + 16].try_into().expect("sixteen bytes");
        IpAddr::V6(Ipv6Addr::from(bytes))
    };
    if be16(frame, 12) == Some(0x0800) {
        (v4(26), v4(30))
    } else {
        (v6(22), v6(38))
    }
}

/// The IP part of section 1.4's plain packet: TCP or UDP directly behind a header without extras.
fn plain(frame: &[u8]) -> Option<Ip> {
    let (src, dst) = addresses(frame);
    let is_v4 = src.is_ipv4();
    let (shape_ok, protocol, ttl, l4) = if is_v4 {
        (
            frame[IP] == 0x45 && be16(frame, IP + 6)? << 2 == 0,
            frame[23],
            frame[22],
            IP + 20,
        )
    } else {
        (frame[IP] >> 4 == 6, frame[20], frame[21], IP + 40)
    };
    let end = if is_v4 {
        IP + usize::from(be16(frame, 16)?)
    } else {
        IP + 40 + usize::from(be16(frame, 18)?)
    };
    let ip = Ip {
        src,
        dst,
        ttl,
        protocol,
        l4,
        end,
        shape: Shape::Plain,
        fragment: Fragment::Whole,
    };
    (shape_ok && (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP)).then_some(ip)
}

fn holds_ports(frame: &[u8], ip: &Ip) -> bool {
    (ip.protocol == IPPROTO_TCP || ip.protocol == IPPROTO_UDP) && frame.len() >= ip.l4 + 4
}

/// The place of the ports behind an IPv4 header that says how long it is, whatever else is wrong with it.
fn ports_behind4(frame: &[u8]) -> Option<Ip> {
    let (src, dst) = addresses(frame);
    let header = usize::from(frame[IP] & 0x0f) * 4;
    let is_later_fragment = be16(frame, IP + 6)? & 0x1fff != 0;
    let (protocol, ttl, shape, fragment) = (frame[23], frame[22], Shape::Long, Fragment::Whole);
    let ip = Ip {
        src,
        dst,
        ttl,
        protocol,
        l4: IP + header,
        end: frame.len(),
        shape,
        fragment,
    };
    (src.is_ipv4() && frame[IP] >> 4 == 4 && header >= 20 && !is_later_fragment).then_some(ip)
}

fn walk4(frame: &[u8]) -> Result<Ip, Stop> {
    let (src, dst) = addresses(frame);
    if frame[IP] >> 4 != 4 {
        return Err(Stop::Drop(DropReason::BadIpVersion));
    }
    let header = usize::from(frame[IP] & 0x0f) * 4;
    if header < 20 {
        return Err(Stop::Drop(DropReason::BadIhl));
    }
    let total = usize::from(be16(frame, 16).unwrap_or_default());
    if header > frame.len() - IP || header > total || total > frame.len() - IP {
        return Err(Stop::Drop(DropReason::BadIpLength));
    }
    walk_options(&frame[IP + 20..], header - 20).map_err(Stop::Drop)?;
    let place = be16(frame, IP + 6).unwrap_or_default();
    if place & 0x1fff != 0 {
        return Err(Stop::Pass(PassReason::LaterFragment));
    }
    let fragment = if place & 0x2000 == 0 {
        Fragment::Whole
    } else {
        Fragment::First
    };
    let shape = if header == 20 { Shape::Plain } else { Shape::Long };
    let (protocol, ttl) = (frame[23], frame[22]);
    Ok(Ip {
        src,
        dst,
        ttl,
        protocol,
        l4: IP + header,
        end: IP + total,
        shape,
        fragment,
    })
}

/// Refuses loose (131) and strict (137) source route and options without a length (RFC 791, 3.1). `rest` is the frame
/// from the first option on: where a kind is the header's last byte, what follows it counts as its length.
fn walk_options(rest: &[u8], options_bytes: usize) -> Result<(), DropReason> {
    let mut at = 0;
    while at < options_bytes {
        match (rest[at], rest.get(at + 1)) {
            (_, None) => return Err(DropReason::BadIpLength),
            (0, _) => return Ok(()),
            (1, _) => at += 1,
            (131 | 137, _) => return Err(DropReason::SourceRoute),
            (_, Some(0 | 1)) => return Err(DropReason::BadIpLength),
            (_, Some(length)) => at += usize::from(*length),
        }
    }
    Ok(())
}

fn walk6(frame: &[u8]) -> Result<Ip, Stop> {
    if frame[IP] >> 4 != 6 {
        return Err(Stop::Drop(DropReason::BadIpVersion));
    }
    if IP + 40 + usize::from(be16(frame, 18).unwrap_or_default()) > frame.len() {
        return Err(Stop::Drop(DropReason::BadIpLength));
    }
    chain6(frame)
}

/// The extension headers, whatever the payload length says.
fn chain6(frame: &[u8]) -> Result<Ip, Stop> {
    let (src, dst) = addresses(frame);
    if frame[IP] >> 4 != 6 {
        return Err(Stop::Drop(DropReason::BadIpVersion));
    }
    let end = IP + 40 + usize::from(be16(frame, 18).unwrap_or_default());
    let (mut next, mut at, mut fragment, mut walked) = (frame[20], IP + 40, Fragment::Whole, 0);
    while matches!(next, 0 | 43 | 44 | 60) {
        if walked == 6 {
            return Err(Stop::Pass(PassReason::OtherProtocol));
        }
        walked += 1;
        let Some(header) = frame.get(at..at + 8) else {
            return Err(Stop::Drop(DropReason::TruncatedL4));
        };
        let place = u16::from_be_bytes([header[2], header[3]]);
        match next {
            43 if header[3] > 0 => return Err(Stop::Drop(DropReason::SourceRoute)),
            44 if place & 0xfff8 != 0 => return Err(Stop::Pass(PassReason::LaterFragment)),
            44 if place & 1 != 0 => fragment = Fragment::First,
            _ => {}
        }
        at += if next == 44 {
            8
        } else {
            (usize::from(header[1]) + 1) * 8
        };
        next = header[0];
    }
    if matches!(next, 50 | 51 | 59) {
        return Err(Stop::Pass(PassReason::OtherProtocol));
    }
    let shape = if walked == 0 { Shape::Plain } else { Shape::Long };
    Ok(Ip {
        src,
        dst,
        ttl: frame[21],
        protocol: next,
        l4: at,
        end,
        shape,
        fragment,
    })
}

/// Section 3.
fn segment(frame: &[u8], ip: Ip) -> Result<View, Stop> {
    if ip.end > frame.len() || ip.end < ip.l4 {
        return Err(Stop::Drop(DropReason::BadIpLength));
    }
    let bytes = &frame[ip.l4..ip.end];
    let is_tcp = ip.protocol == IPPROTO_TCP;
    if bytes.len() < if is_tcp { 20 } else { 8 } {
        return Err(Stop::Drop(DropReason::TruncatedL4));
    }
    let word16 = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let word32 = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let key = Key {
        src: ip.src,
        dst: ip.dst,
        src_port: word16(0),
        dst_port: word16(2),
        protocol: ip.protocol,
    };
    let mut view = View {
        ip,
        key,
        tcp_flags: 0,
        seq: 0,
        ack: 0,
        payload_bytes: 0,
        udp_checksum: 0,
    };
    if is_tcp {
        let header = usize::from(bytes[12] >> 4) * 4;
        if header < 20 || header > bytes.len() {
            return Err(Stop::Drop(DropReason::BadTcpOffset));
        }
        view.tcp_flags = bytes[13];
        (view.seq, view.ack) = (word32(4), word32(8));
        view.payload_bytes = (bytes.len() - header) as u32;
    } else {
        let length = usize::from(word16(4));
        if length < 8 || length > bytes.len() {
            return Err(Stop::Drop(DropReason::BadUdpLength));
        }
        view.udp_checksum = word16(6);
    }
    Ok(view)
}

pub(super) fn be16(frame: &[u8], at: usize) -> Option<u16> {
    let two = frame.get(at..at + 2)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*two))
}
