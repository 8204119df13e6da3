//! IPv6 that is not plain: extension headers, fragments, ICMPv6, broken headers (section 2 of docs/packet-path.md).

use lb_common::{
    hash::{self, OursSide},
    net::{IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP},
    reason::{DropReason, PassReason},
};
use network_types::ip::Ipv6Hdr;

use super::{Facts, Shape, ports, v4::first_fragment};
use crate::{
    answer::{self, Echo},
    family::{Family, V6},
    forward::Ingress,
    packet::{Offset, Packet},
    tables::Tables,
    verdict::Verdict,
};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// Extension headers that are walked.
const MAX_EXTENSIONS: u32 = 6;

/// Where the walk over the extension headers ended.
struct Walk {
    protocol: u8,
    at: Offset,
    more_fragments: bool,
}

/// Parses it; `Err` is the verdict where there is no TCP or UDP to balance.
#[inline(always)]
pub fn parse<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    ip: Ipv6Hdr,
    ingress: &Ingress,
) -> Result<Facts<V6>, Verdict> {
    let [version, ..] = ip.vcf;
    let is_v6 = version >> 4 == 6;
    let (src, dst) = (V6::from_wire(&ip.src_addr), V6::from_wire(&ip.dst_addr));
    let walked = if is_v6 {
        walk(packet, ip.next_hdr)
    } else {
        Err(Verdict::drop(DropReason::BadIpVersion))
    };
    let ports = match &walked {
        Ok(walk) if walk.protocol == IPPROTO_TCP || walk.protocol == IPPROTO_UDP => ports(packet, walk.at),
        _ => None,
    };
    let from_gateway_backend =
        ports.is_some_and(|(src_port, _)| tables.ours(hash::ours(OursSide::Source, V6::word(src), src_port)));
    if !tables.ours(hash::ours_address(V6::word(dst))) && !from_gateway_backend {
        return Err(Verdict::pass(PassReason::NotOurs));
    }
    if !is_v6 {
        return Err(Verdict::drop(DropReason::BadIpVersion));
    }
    let ip_end = (u16::from_be_bytes(ip.payload_len) as u32).wrapping_add(54);
    if ip_end > packet.frame_bytes() {
        return Err(Verdict::drop(DropReason::BadIpLength));
    }
    let walk = walked?;
    if walk.more_fragments {
        return Err(match ports {
            Some((src_port, dst_port)) => {
                first_fragment::<V6, T>(tables, (src, src_port), (dst, dst_port), walk.protocol)
            }
            None => Verdict::pass(PassReason::OtherProtocol),
        });
    }
    if walk.protocol == IPPROTO_ICMPV6 {
        return Err(answer::echo::<V6, P, T>(
            packet,
            tables,
            &Echo {
                vip: dst,
                l4: walk.at,
                ip_end,
                ingress: *ingress,
            },
        ));
    }
    if walk.protocol != IPPROTO_TCP && walk.protocol != IPPROTO_UDP {
        return Err(Verdict::pass(PassReason::OtherProtocol));
    }
    let Some((src_port, dst_port)) = ports else {
        return Err(Verdict::drop(DropReason::TruncatedL4));
    };
    if !from_gateway_backend && !tables.ours(hash::ours(OursSide::Destination, V6::word(dst), dst_port)) {
        return Err(Verdict::pass(PassReason::OtherPort));
    }
    Ok(Facts {
        src,
        dst,
        src_port,
        dst_port,
        protocol: walk.protocol,
        l4: walk.at,
        ip_end,
        shape: Shape::Extended,
    })
}

/// Walks the extension headers (RFC 8200, 4).
#[inline(always)]
fn walk<P: Packet>(packet: &P, first: u8) -> Result<Walk, Verdict> {
    let mut walk = Walk {
        protocol: first,
        at: Offset::IP.plus(40),
        more_fragments: false,
    };
    for _ in 0..MAX_EXTENSIONS {
        let is_extension = matches!(walk.protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS);
        if !is_extension {
            break;
        }
        let Some([next, length, word2, word3, ..]) = packet.get::<[u8; 8]>(walk.at) else {
            return Err(Verdict::drop(DropReason::TruncatedL4));
        };
        let bytes = match walk.protocol {
            ROUTING if *word3 != 0 => return Err(Verdict::drop(DropReason::SourceRoute)),
            FRAGMENT => {
                let offset_and_more = u16::from_be_bytes([*word2, *word3]);
                if offset_and_more & 0xfff8 != 0 {
                    return Err(Verdict::pass(PassReason::LaterFragment));
                }
                walk.more_fragments |= offset_and_more & 1 != 0;
                8
            }
            _ => (*length as u32).wrapping_add(1) << 3,
        };
        walk.protocol = *next;
        walk.at = walk.at.plus(bytes);
    }
    if matches!(walk.protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) {
        return Err(Verdict::pass(PassReason::OtherProtocol));
    }
    Ok(walk)
}
