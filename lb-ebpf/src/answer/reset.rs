//! Resets for TCP packets without a flow (RFC 9293, 3.10.7.1), at a limited rate a CPU: the sender learns at once
//! that its connection is gone instead of timing out.

use lb_common::{
    abi::Settings,
    csum::Sum,
    net::IPPROTO_TCP,
    reason::{AnswerReason, DropReason},
};

use super::{OUR_TTL, echo::swap_macs, way_back};
use crate::{
    family::{Family, V4, V6},
    packet::{EthIpv4, EthIpv6, Offset, Packet, Tcp},
    parse::{Facts, Shape, tcp_flag},
    rewrite::Rewrite,
    tables::Tables,
    verdict::Verdict,
    work::Work,
};

/// What a reset needs of a family.
pub trait Resets: Family {
    /// Bytes of Ethernet and IP header.
    const HEAD_BYTES: u32;
    /// Turns the IP header round into one that carries 20 bytes of TCP.
    fn turn_round<P: Packet>(packet: &mut P, facts: &Facts<Self>) -> Option<()>;
}

impl Resets for V4 {
    const HEAD_BYTES: u32 = 34;

    #[inline(always)]
    fn turn_round<P: Packet>(packet: &mut P, facts: &Facts<Self>) -> Option<()> {
        let head = packet.get_mut::<EthIpv4>(Offset::START)?;
        swap_macs(&mut head.eth);
        let ip = &mut head.ip;
        ip.vihl = 0x45;
        ip.tos = 0;
        ip.tot_len = 40_u16.to_be_bytes();
        ip.id = [0, 0];
        ip.frags = 0x4000_u16.to_be_bytes();
        ip.ttl = OUR_TTL;
        ip.proto = IPPROTO_TCP;
        ip.src_addr = facts.dst;
        ip.dst_addr = facts.src;
        let sum = Sum::new()
            .add(u16::from_ne_bytes([0x45, 0]))
            .add(40_u16.to_be())
            .add(0x4000_u16.to_be())
            .add(u16::from_ne_bytes([OUR_TTL, IPPROTO_TCP]));
        ip.check = (!V4::add(V4::add(sum, facts.src), facts.dst).fold()).to_ne_bytes();
        Some(())
    }
}

impl Resets for V6 {
    const HEAD_BYTES: u32 = 54;

    #[inline(always)]
    fn turn_round<P: Packet>(packet: &mut P, facts: &Facts<Self>) -> Option<()> {
        let head = packet.get_mut::<EthIpv6>(Offset::START)?;
        swap_macs(&mut head.eth);
        let ip = &mut head.ip;
        ip.vcf = [0x60, 0, 0, 0];
        ip.payload_len = 20_u16.to_be_bytes();
        ip.next_hdr = IPPROTO_TCP;
        ip.hop_limit = OUR_TTL;
        V6::put(facts.dst, &mut ip.src_addr);
        V6::put(facts.src, &mut ip.dst_addr);
        Some(())
    }
}

/// Turns the packet into a reset, if this CPU still has a token.
#[inline(always)]
pub fn reset<F: Rewrite + Resets, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    settings: &Settings,
    work: &Work<F>,
) -> Verdict {
    let facts = &work.facts;
    if facts.shape != Shape::Plain {
        return Verdict::drop(DropReason::TcpNoFlow);
    }
    if !take_token(tables, settings) {
        return Verdict::drop(DropReason::RstLimited);
    }
    let Some(header) = packet.get::<Tcp>(facts.l4) else {
        return Verdict::drop(DropReason::TruncatedL4);
    };
    let header_bytes = ((header.data_offset >> 4) as u32) << 2;
    if packet.cut(F::HEAD_BYTES.wrapping_add(20)).is_err() {
        return Verdict::drop(DropReason::TcpNoFlow);
    }
    let Some(header) = packet.get_mut::<Tcp>(Offset::START.plus(F::HEAD_BYTES)) else {
        return Verdict::drop(DropReason::TruncatedL4);
    };
    *header = answer_to(work, header_bytes);
    match F::turn_round(packet, facts) {
        Some(()) => Verdict::answer(AnswerReason::TcpReset, way_back(&work.ingress)),
        None => Verdict::drop(DropReason::TruncatedL4),
    }
}

#[inline(always)]
fn take_token<T: Tables>(tables: &T, settings: &Settings) -> bool {
    let (now, hz) = (tables.now(), tables.hz());
    tables
        .cpu(|cpu| {
            // Not `idle_ticks`: no other CPU writes this, so nothing is ahead of `now`, and the tick of a bucket that was never
            // filled, 0, lies half of all ticks away (in the first minutes after a boot, and after 99 days of it).
            if now.wrapping_sub(cpu.rst_filled_at) >= hz {
                cpu.rst_filled_at = now;
                cpu.rst_tokens = settings.rst_per_second;
            }
            let has_token = cpu.rst_tokens > 0;
            cpu.rst_tokens = cpu.rst_tokens.saturating_sub(1);
            has_token
        })
        .unwrap_or(false)
}

/// The TCP header of the reset, checksum included.
#[inline(always)]
fn answer_to<F: Family>(work: &Work<F>, header_bytes: u32) -> Tcp {
    let (facts, l4) = (&work.facts, work.l4);
    let (seq, ack, flags) = if l4.has(tcp_flag::ACK) {
        (l4.ack.to_be_bytes(), [0; 4], tcp_flag::RST)
    } else {
        let payload_bytes = facts.ip_end.wrapping_sub(facts.l4.bytes()).wrapping_sub(header_bytes);
        let occupied = u32::from(l4.has(tcp_flag::SYN)).wrapping_add(u32::from(l4.has(tcp_flag::FIN)));
        let next = l4.seq.wrapping_add(payload_bytes).wrapping_add(occupied);
        ([0; 4], next.to_be_bytes(), tcp_flag::RST | tcp_flag::ACK)
    };
    let sum = F::add(F::add(Sum::new(), facts.src), facts.dst)
        .add(u16::from_ne_bytes([0, IPPROTO_TCP]))
        .add(20_u16.to_be())
        .add(facts.src_port.to_be())
        .add(facts.dst_port.to_be())
        .add32(u32::from_ne_bytes(seq))
        .add32(u32::from_ne_bytes(ack))
        .add(u16::from_ne_bytes([5 << 4, flags]));
    Tcp {
        src: facts.dst_port.to_be_bytes(),
        dst: facts.src_port.to_be_bytes(),
        seq,
        ack,
        data_offset: 5 << 4,
        flags,
        window: [0; 2],
        check: (!sum.fold()).to_ne_bytes(),
        urgent: [0; 2],
    }
}
