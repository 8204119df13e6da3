//! Sections 1 to 3 of the page: is it for us, what is it, is it sound.

use std::net::IpAddr;

use lb_common::abi::{ABI_VERSION, IFACE_SLOTS, endpoint_kind, role};
use lb_common::hash::{OursBit, OursSide, ours, ours_address};
use lb_common::net::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP};
use lb_common::reason::{DropReason, PassReason};

use super::headers::{
    Fragment, IP, Ip, Stop, addresses, be16, chain6, holds_ports, plain, ports_behind4, walk4, walk6,
};
use super::{Arrival, Expected, Model, endpoint_key, mapped, word};
use crate::kernel::Key;
use crate::packets::flags;

/// A packet that goes on.
pub(super) enum Arrived {
    /// A sound TCP segment or UDP datagram that passed the bitmap.
    Segment(View),
    /// An echo request to a VIP.
    Echo(Ip),
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
            if !holds_ports(frame, &ip) {
                return Err(Stop::Drop(DropReason::TruncatedL4));
            }
            if !self.bitmap_has(frame, &ip) {
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
