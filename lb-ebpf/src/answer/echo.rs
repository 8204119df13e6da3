//! Echo replies (RFC 792, RFC 4443): the request turned round in place, its checksum adjusted for the type alone
//! (swapped addresses do not change a sum).

use lb_common::{
    abi::role,
    csum::{Sum, apply},
    reason::{AnswerReason, PassReason},
};
use network_types::icmp::Icmpv6Hdr;

use super::{OUR_TTL, way_back};
use crate::{
    family::{Family, V4, V6},
    forward::Ingress,
    packet::{Eth, EthIpv4, EthIpv6, MacWords, Offset, Packet},
    tables::Tables,
    verdict::Verdict,
};

/// An ICMP packet to one of our addresses.
pub struct Echo<F: Family> {
    /// Its destination.
    pub vip: F::Addr,
    /// Where the ICMP header starts.
    pub l4: Offset,
    /// Where the IP datagram ends, in bytes from the start of the frame.
    pub ip_end: u32,
    /// Where it came in.
    pub ingress: Ingress,
}

/// What echo needs of a family.
pub trait Echoes: Family {
    /// Type of a request; its code is 0.
    const REQUEST: u8;
    /// Type of a reply.
    const REPLY: u8;
    /// Reason that is counted.
    const REASON: AnswerReason;
    /// Swaps addresses and MACs and sets the TTL.
    fn turn_round<P: Packet>(packet: &mut P) -> Option<()>;
}

#[inline(always)]
pub(super) fn swap_macs(eth: &mut Eth) {
    let (dst, src) = (MacWords::of(&eth.dst), MacWords::of(&eth.src));
    src.write(&mut eth.dst);
    dst.write(&mut eth.src);
}

impl Echoes for V4 {
    const REQUEST: u8 = 8;
    const REPLY: u8 = 0;
    const REASON: AnswerReason = AnswerReason::Echo;

    #[inline(always)]
    fn turn_round<P: Packet>(packet: &mut P) -> Option<()> {
        let head = packet.get_mut::<EthIpv4>(Offset::START)?;
        swap_macs(&mut head.eth);
        let delta = Sum::new()
            .sub(u16::from_ne_bytes([head.ip.ttl, 0]))
            .add(u16::from_ne_bytes([OUR_TTL, 0]));
        head.ip.ttl = OUR_TTL;
        head.ip.check = apply(u16::from_ne_bytes(head.ip.check), delta.fold()).to_ne_bytes();
        (head.ip.src_addr, head.ip.dst_addr) = (head.ip.dst_addr, head.ip.src_addr);
        Some(())
    }
}

impl Echoes for V6 {
    const REQUEST: u8 = 128;
    const REPLY: u8 = 129;
    const REASON: AnswerReason = AnswerReason::Echo6;

    #[inline(always)]
    fn turn_round<P: Packet>(packet: &mut P) -> Option<()> {
        let head = packet.get_mut::<EthIpv6>(Offset::START)?;
        swap_macs(&mut head.eth);
        head.ip.hop_limit = OUR_TTL;
        let (src, dst) = (V6::from_wire(&head.ip.src_addr), V6::from_wire(&head.ip.dst_addr));
        V6::put(dst, &mut head.ip.src_addr);
        V6::put(src, &mut head.ip.dst_addr);
        Some(())
    }
}

/// Answers an echo request for a VIP; everything else of ICMP is the kernel's.
#[inline(always)]
pub fn echo<F: Echoes, P: Packet, T: Tables>(packet: &mut P, tables: &T, echo: &Echo<F>) -> Verdict {
    const NOT_OURS: Verdict = Verdict::pass(PassReason::OtherProtocol);
    if echo.ip_end < echo.l4.plus(8).bytes() || tables.roles(&F::addr_key(echo.vip)) & role::VIP == 0 {
        return NOT_OURS;
    }
    // ICMP and ICMPv6 share type, code and checksum.
    let Some(header) = packet.get_mut::<Icmpv6Hdr>(echo.l4) else {
        return NOT_OURS;
    };
    if header.type_ != F::REQUEST || header.code != 0 {
        return NOT_OURS;
    }
    let delta = Sum::new()
        .sub(u16::from_ne_bytes([F::REQUEST, 0]))
        .add(u16::from_ne_bytes([F::REPLY, 0]));
    header.type_ = F::REPLY;
    header.check = apply(u16::from_ne_bytes(header.check), delta.fold()).to_ne_bytes();
    match F::turn_round(packet) {
        Some(()) => Verdict::answer(F::REASON, way_back(&echo.ingress)),
        None => NOT_OURS,
    }
}
