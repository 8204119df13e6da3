//! IPv4 that is not plain: options, fragments, ICMP, broken headers (section 2 of docs/packet-path.md).

use core::ops::ControlFlow;

use lb_common::{
    abi::endpoint_kind,
    hash::{self, OursSide},
    net::{IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP},
    reason::{DropReason, PassReason},
};
use network_types::ip::Ipv4Hdr;

use super::{Facts, Shape, ports};
use crate::{
    answer::{self, Echo},
    family::{Family, V4},
    forward::Ingress,
    packet::{Offset, Packet},
    tables::Tables,
    verdict::Verdict,
};

const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Options that 40 bytes can hold.
const MAX_OPTIONS: u32 = 40;

/// Parses it; `Err` is the verdict where there is no TCP or UDP to balance.
#[inline(always)]
pub fn parse<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    ip: Ipv4Hdr,
    ingress: &Ingress,
) -> Result<Facts<V4>, Verdict> {
    let version = ip.vihl >> 4;
    let header_bytes = ((ip.vihl & 0xf) as u32) << 2;
    let l4 = Offset::IP.plus(header_bytes);
    let fragment = u16::from_be_bytes(ip.frags);
    let is_l4 = ip.proto == IPPROTO_TCP || ip.proto == IPPROTO_UDP;
    let readable = version == 4 && header_bytes >= 20 && is_l4 && fragment & FRAGMENT_OFFSET == 0;
    let ports = if readable { ports(packet, l4) } else { None };

    let from_gateway_backend =
        ports.is_some_and(|(src_port, _)| tables.ours(hash::ours(OursSide::Source, V4::word(ip.src_addr), src_port)));
    if !tables.ours(hash::ours_address(V4::word(ip.dst_addr))) && !from_gateway_backend {
        return Err(Verdict::pass(PassReason::NotOurs));
    }
    if version != 4 {
        return Err(Verdict::drop(DropReason::BadIpVersion));
    }
    if header_bytes < 20 {
        return Err(Verdict::drop(DropReason::BadIhl));
    }
    let total_bytes = u16::from_be_bytes(ip.tot_len) as u32;
    let ip_end = total_bytes.wrapping_add(Offset::IP.bytes());
    if total_bytes < header_bytes || ip_end > packet.frame_bytes() {
        return Err(Verdict::drop(DropReason::BadIpLength));
    }
    if header_bytes > 20 {
        options(packet, tables, header_bytes).map_err(Verdict::drop)?;
    }
    if fragment & FRAGMENT_OFFSET != 0 {
        return Err(Verdict::pass(PassReason::LaterFragment));
    }
    if fragment & MORE_FRAGMENTS != 0 {
        return Err(match ports {
            Some((src_port, dst_port)) => {
                first_fragment::<V4, T>(tables, (ip.src_addr, src_port), (ip.dst_addr, dst_port), ip.proto)
            }
            None => Verdict::pass(PassReason::OtherProtocol),
        });
    }
    if ip.proto == IPPROTO_ICMP {
        return Err(answer::echo::<V4, P, T>(
            packet,
            tables,
            &Echo {
                vip: ip.dst_addr,
                l4,
                ip_end,
                ingress: *ingress,
            },
        ));
    }
    if !is_l4 {
        return Err(Verdict::pass(PassReason::OtherProtocol));
    }
    let Some((src_port, dst_port)) = ports else {
        return Err(Verdict::drop(DropReason::TruncatedL4));
    };
    if !from_gateway_backend && !tables.ours(hash::ours(OursSide::Destination, V4::word(ip.dst_addr), dst_port)) {
        return Err(Verdict::pass(PassReason::OtherPort));
    }
    Ok(Facts {
        src: ip.src_addr,
        dst: ip.dst_addr,
        src_port,
        dst_port,
        protocol: ip.proto,
        l4,
        ip_end,
        shape: Shape::Extended,
    })
}

/// Looks for source routing (RFC 791, 3.1; RFC 7126 asks to drop it).
#[inline(always)]
fn options<P: Packet, T: Tables>(packet: &P, tables: &T, header_bytes: u32) -> Result<(), DropReason> {
    const END: u8 = 0;
    const NOP: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    let end = Offset::IP.plus(header_bytes);
    let mut at = Offset::IP.plus(20);
    let mut result = Ok(());
    // Not a plain loop: the verifier would follow every way through 40 turns of it.
    tables.repeat(MAX_OPTIONS, &mut |_| {
        if at >= end {
            return ControlFlow::Break(());
        }
        // The byte after the last option belongs to layer 4; every protocol has one.
        let Some([kind, bytes]) = packet.get::<[u8; 2]>(at) else {
            result = Err(DropReason::BadIpLength);
            return ControlFlow::Break(());
        };
        match *kind {
            END => return ControlFlow::Break(()),
            NOP => at = at.plus(1),
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => {
                result = Err(DropReason::SourceRoute);
                return ControlFlow::Break(());
            }
            _ if *bytes < 2 => {
                result = Err(DropReason::BadIpLength);
                return ControlFlow::Break(());
            }
            _ => at = at.plus(*bytes as u32),
        }
        ControlFlow::Continue(())
    });
    result
}

/// What becomes of a first fragment, whose ports are known.
#[inline(always)]
pub fn first_fragment<F: Family, T: Tables>(
    tables: &T,
    (src, src_port): (F::Addr, u16),
    (dst, dst_port): (F::Addr, u16),
    protocol: u8,
) -> Verdict {
    let kind = |addr, port| tables.endpoint(&F::endpoint_key(addr, port, protocol)).kind;
    if kind(dst, dst_port) == endpoint_kind::SERVICE || kind(src, src_port) == endpoint_kind::GATEWAY_BACKEND {
        Verdict::drop(DropReason::Fragment)
    } else {
        Verdict::pass(PassReason::OtherPort)
    }
}
