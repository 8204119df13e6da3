//! Deltas when a flow is made, and their use on every packet of it. No checksum is ever computed over a packet.
//! Sources: RFC 1624 (deltas), RFC 768 (UDP zero), RFC 791 and RFC 8200 (TTL, hop limit).

use lb_common::{
    csum::{Sum, apply, apply_udp},
    net::IPPROTO_TCP,
    reason::DropReason,
};
use network_types::udp::UdpHdr;

use crate::{
    family::{Family, V4, V6},
    flow::{Entry, Flow, Hop},
    packet::{Eth, EthIpv4, EthIpv6, MacWords, Offset, Packet, Tcp},
    parse::{Facts, L4},
};

/// The Ethernet addresses a frame leaves with.
#[derive(Clone, Copy, Debug)]
pub struct Macs {
    /// Next hop.
    pub dst: MacWords,
    /// Our interface.
    pub src: MacWords,
}

/// Addresses and ports of one direction, as they come in or as they go out.
#[derive(Clone, Copy, Debug)]
pub struct Tuple<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port, host order.
    pub src_port: u16,
    /// Destination port, host order.
    pub dst_port: u16,
}

/// The checksum differences of one direction: (IP header with the TTL's decrement, TCP or UDP).
#[inline(always)]
pub fn deltas<F: Rewrite>(from: &Tuple<F::Addr>, to: &Tuple<F::Addr>) -> (u16, u16) {
    let addresses = F::add(F::add(F::sub(F::sub(Sum::new(), from.src), from.dst), to.src), to.dst);
    let ports = addresses
        .sub(from.src_port.to_be())
        .sub(from.dst_port.to_be())
        .add(to.src_port.to_be())
        .add(to.dst_port.to_be());
    (F::l3_delta(addresses), ports.fold())
}

/// The differences of one direction out of the other one's ([`deltas`]), without the tuples.
#[inline(always)]
pub fn reversed<F: Rewrite>(l3_delta: u16, l4_delta: u16) -> (u16, u16) {
    // The TTL's share has one sign in both directions. Adding 0 as 0xffff keeps to the one of the two zeros that a sum of
    // words has which are not all 0.
    let ttl = F::l3_delta(Sum::new());
    (
        F::l3_delta(Sum::new().sub(l3_delta).add(ttl)),
        Sum::new().sub(l4_delta).add(0xffff).fold(),
    )
}

/// What rewriting needs of a family.
pub trait Rewrite: Family {
    /// Difference for the IP header checksum; 0 where there is none.
    fn l3_delta(addresses: Sum) -> u16;

    /// Where TCP or UDP starts behind a plain header.
    const PLAIN_L4: Offset;

    /// TTL and IP header checksum of a plain header.
    fn rewrite_plain_l3<P: Packet>(packet: &mut P, l3_delta: u16) -> Option<()>;

    /// TTL or hop limit.
    fn ttl<P: Packet>(packet: &P) -> Option<u8>;

    /// MACs, addresses, TTL and IP header checksum.
    fn rewrite_l3<P: Packet>(packet: &mut P, flow: &Flow<Self::Addr>, macs: Macs) -> Option<()>;
}

impl Rewrite for V4 {
    const PLAIN_L4: Offset = Offset::IP.plus(20);

    #[inline(always)]
    fn rewrite_plain_l3<P: Packet>(packet: &mut P, l3_delta: u16) -> Option<()> {
        let ip = &mut packet.get_mut::<EthIpv4>(Offset::START)?.ip;
        ip.ttl = ip.ttl.wrapping_sub(1);
        ip.check = apply(u16::from_ne_bytes(ip.check), l3_delta).to_ne_bytes();
        Some(())
    }

    #[inline(always)]
    fn l3_delta(addresses: Sum) -> u16 {
        // The TTL is the first byte of its word on the wire; one less is a difference that does not depend on it.
        addresses.sub(u16::from_ne_bytes([1, 0])).fold()
    }

    #[inline(always)]
    fn ttl<P: Packet>(packet: &P) -> Option<u8> {
        packet.get::<EthIpv4>(Offset::START).map(|head| head.ip.ttl)
    }

    #[inline(always)]
    fn rewrite_l3<P: Packet>(packet: &mut P, flow: &Flow<[u8; 4]>, macs: Macs) -> Option<()> {
        let head = packet.get_mut::<EthIpv4>(Offset::START)?;
        set_macs(&mut head.eth, macs);
        head.ip.ttl = head.ip.ttl.wrapping_sub(1);
        head.ip.check = apply(u16::from_ne_bytes(head.ip.check), flow.l3_delta).to_ne_bytes();
        head.ip.src_addr = flow.new_src;
        head.ip.dst_addr = flow.new_dst;
        Some(())
    }
}

impl Rewrite for V6 {
    const PLAIN_L4: Offset = Offset::IP.plus(40);

    #[inline(always)]
    fn rewrite_plain_l3<P: Packet>(packet: &mut P, _l3_delta: u16) -> Option<()> {
        let ip = &mut packet.get_mut::<EthIpv6>(Offset::START)?.ip;
        ip.hop_limit = ip.hop_limit.wrapping_sub(1);
        Some(())
    }

    #[inline(always)]
    fn l3_delta(_addresses: Sum) -> u16 {
        0
    }

    #[inline(always)]
    fn ttl<P: Packet>(packet: &P) -> Option<u8> {
        packet.get::<EthIpv6>(Offset::START).map(|head| head.ip.hop_limit)
    }

    #[inline(always)]
    fn rewrite_l3<P: Packet>(packet: &mut P, flow: &Flow<[u64; 2]>, macs: Macs) -> Option<()> {
        let head = packet.get_mut::<EthIpv6>(Offset::START)?;
        set_macs(&mut head.eth, macs);
        head.ip.hop_limit = head.ip.hop_limit.wrapping_sub(1);
        V6::put(flow.new_src, &mut head.ip.src_addr);
        V6::put(flow.new_dst, &mut head.ip.dst_addr);
        Some(())
    }
}

#[inline(always)]
fn set_macs(eth: &mut Eth, macs: Macs) {
    macs.dst.write(&mut eth.dst);
    macs.src.write(&mut eth.src);
}

/// [`rewrite`] of the fast path: a plain header, words straight out of the entry, which had this id just before. Where id or
/// tag are others afterwards it was deleted or reused meanwhile, on another CPU: the packet may be half one connection's and half
/// another one's, and ends. Returns the TCP flags; of UDP 0.
#[inline(always)]
pub fn rewrite_plain<F: Rewrite, P: Packet>(
    packet: &mut P,
    is_tcp: bool,
    (entry, conn_id, key): (Entry<F>, u64, &F::Key),
    hop: Hop,
) -> Result<u8, DropReason> {
    let tcp_flags = put_plain(packet, is_tcp, entry, hop).ok_or(DropReason::TruncatedL4)?;
    // The tag stands last in the value, so that of one that is just being filled it is the last to change.
    if entry.is_still(conn_id, entry.tail().key_tag, F::tag(key)) {
        Ok(tcp_flags)
    } else {
        Err(DropReason::ClaimLost)
    }
}

#[inline(always)]
fn put_plain<F: Rewrite, P: Packet>(packet: &mut P, is_tcp: bool, entry: Entry<F>, hop: Hop) -> Option<u8> {
    hop.put(packet)?;
    let edit = entry.tail().edit;
    F::rewrite_plain_l3(packet, edit.l3_delta())?;
    F::put_pair(packet, entry.pair())?;
    *packet.get_mut::<[u8; 4]>(F::PLAIN_L4)? = edit.ports();
    // Read here, not kept since the header was looked at.
    if is_tcp {
        let header = packet.get_mut::<Tcp>(F::PLAIN_L4)?;
        header.check = apply(u16::from_ne_bytes(header.check), edit.l4_delta()).to_ne_bytes();
        Some(header.flags)
    } else {
        let check = &mut packet.get_mut::<UdpHdr>(F::PLAIN_L4)?.check;
        let before = u16::from_ne_bytes(*check);
        if before != 0 {
            *check = apply_udp(before, edit.l4_delta()).to_ne_bytes();
        }
        Some(0)
    }
}

/// Rewrites a packet of a flow. Whoever calls has checked its TTL.
#[inline(always)]
pub fn rewrite<F: Rewrite, P: Packet>(
    packet: &mut P,
    facts: &Facts<F>,
    l4: L4,
    flow: &Flow<F::Addr>,
    macs: Macs,
) -> Result<(), DropReason> {
    let (src, dst) = (flow.new_src_port.to_be_bytes(), flow.new_dst_port.to_be_bytes());
    if facts.protocol == IPPROTO_TCP {
        let header = packet.get_mut::<Tcp>(facts.l4).ok_or(DropReason::TruncatedL4)?;
        header.src = src;
        header.dst = dst;
        header.check = apply(l4.check, flow.l4_delta).to_ne_bytes();
    } else {
        let header = packet.get_mut::<UdpHdr>(facts.l4).ok_or(DropReason::TruncatedL4)?;
        header.src = src;
        header.dst = dst;
        if l4.check != 0 {
            header.check = apply_udp(l4.check, flow.l4_delta).to_ne_bytes();
        }
    }
    F::rewrite_l3(packet, flow, macs).ok_or(DropReason::TruncatedL4)
}

#[cfg(test)]
mod tests {
    use std::cell::UnsafeCell;

    use lb_common::abi::{Backend, FlowValue4};
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{BACKEND, CLIENT, Meanwhile, SNAT, VIP, tcp};

    #[test]
    fn a_packet_whose_entry_is_reused_meanwhile_ends() {
        let value = UnsafeCell::new(FlowValue4 {
            conn_id: 7,
            new_src: SNAT,
            new_dst: BACKEND,
            new_src_port: 20_000,
            new_dst_port: 8_081,
            ..FlowValue4::default()
        });
        // SAFETY: the value outlives the entry.
        let entry = unsafe { Entry::<V4>::new(value.get()) };
        let key = V4::key(CLIENT, VIP, 40_000, 80, 6);
        // SAFETY: one thread, and nobody holds a reference to the value now.
        unsafe { (*value.get()).key_tag = V4::tag(&key) };
        let hop = || Hop::of(&Backend::default());
        let mut frame = tcp((CLIENT, 40_000), (VIP, 80), 0x10, 1_000, 1);
        assert_eq!(
            rewrite_plain::<V4, _>(&mut frame, true, (entry, 7, &key), hop()),
            Ok(0x10)
        );
        assert_eq!(&frame.bytes[26..34], &[SNAT, BACKEND].concat());
        let other = V4::key(CLIENT, VIP, 40_001, 80, 6);
        let found = rewrite_plain::<V4, _>(&mut frame, true, (entry, 7, &other), hop());
        assert_eq!(found, Err(DropReason::ClaimLost), "another key's");
        let mut overtaken = Meanwhile {
            frame,
            // SAFETY: one thread, and nobody holds a reference to the value now.
            act: || unsafe { (*value.get()).conn_id = 8 },
        };
        assert_eq!(
            rewrite_plain::<V4, _>(&mut overtaken, true, (entry, 7, &key), hop()),
            Err(DropReason::ClaimLost)
        );
    }

    fn is_the_others<F: Rewrite>(
        client: F::Addr,
        vip: F::Addr,
        ours: F::Addr,
        backend: F::Addr,
        ports: [u16; 4],
    ) -> bool {
        let [client_port, vip_port, our_port, internal_port] = ports;
        let tuple = |src, src_port, dst, dst_port| Tuple {
            src,
            dst,
            src_port,
            dst_port,
        };
        let forward = deltas::<F>(
            &tuple(client, client_port, vip, vip_port),
            &tuple(ours, our_port, backend, internal_port),
        );
        let reply = deltas::<F>(
            &tuple(backend, internal_port, ours, our_port),
            &tuple(vip, vip_port, client, client_port),
        );
        reversed::<F>(reply.0, reply.1) == forward
    }

    /// Words at the ends, where the two zeros of one's complement are, and any others.
    fn word() -> impl Strategy<Value = u16> {
        prop_oneof![Just(0_u16), Just(1), Just(0xfffe), Just(0xffff), any::<u16>()]
    }

    /// As [`word`]; the program takes no port 0.
    fn port() -> impl Strategy<Value = u16> {
        word().prop_map(|port| port.max(1))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]
        #[test]
        fn one_directions_differences_are_the_others_reversed(
            words in prop::array::uniform32(word()),
            ports in prop::array::uniform4(port()),
        ) {
            let v4 = |at: usize| {
                let ([a, b], [c, d]) = (words[at].to_be_bytes(), words[at + 1].to_be_bytes());
                [a, b, c, d]
            };
            prop_assert!(is_the_others::<V4>(v4(0), v4(2), v4(4), v4(6), ports));
            let half = |at: usize| (0..4).fold(0, |all, n| (all << 16) | u64::from(words[at + n]));
            let v6 = |at: usize| [half(at), half(at + 4)];
            prop_assert!(is_the_others::<V6>(v6(0), v6(8), v6(16), v6(24), ports));
        }
    }
}
