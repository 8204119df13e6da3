//! The IP headers of a frame, walked: where layer 4 starts and ends, or why the walk stopped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::net::{IPPROTO_TCP, IPPROTO_UDP};
use lb_common::reason::{DropReason, PassReason};

/// Where the IP header starts.
pub(super) const IP: usize = 14;

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
    pub(super) fragment: Fragment,
}

/// Whether the IP header is alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// 20 or 40 bytes.
    Plain,
    /// With options or extension headers.
    Long,
}

/// Whether it is all of its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fragment {
    Whole,
    First,
}

/// Why a walk over the headers stopped.
#[derive(Clone, Copy)]
pub(super) enum Stop {
    Drop(DropReason),
    Pass(PassReason),
}

/// Source and destination of a frame that holds the fixed IP header.
pub(super) fn addresses(frame: &[u8]) -> (IpAddr, IpAddr) {
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
pub(super) fn plain(frame: &[u8]) -> Option<Ip> {
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

pub(super) fn holds_ports(frame: &[u8], ip: &Ip) -> bool {
    (ip.protocol == IPPROTO_TCP || ip.protocol == IPPROTO_UDP) && frame.len() >= ip.l4 + 4
}

/// The place of the ports behind an IPv4 header that says how long it is, whatever else is wrong with it.
pub(super) fn ports_behind4(frame: &[u8]) -> Option<Ip> {
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

pub(super) fn walk4(frame: &[u8]) -> Result<Ip, Stop> {
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

pub(super) fn walk6(frame: &[u8]) -> Result<Ip, Stop> {
    if frame[IP] >> 4 != 6 {
        return Err(Stop::Drop(DropReason::BadIpVersion));
    }
    if IP + 40 + usize::from(be16(frame, 18).unwrap_or_default()) > frame.len() {
        return Err(Stop::Drop(DropReason::BadIpLength));
    }
    chain6(frame)
}

/// The extension headers, whatever the payload length says.
pub(super) fn chain6(frame: &[u8]) -> Result<Ip, Stop> {
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

pub(super) fn be16(frame: &[u8], at: usize) -> Option<u16> {
    let two = frame.get(at..at + 2)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*two))
}
