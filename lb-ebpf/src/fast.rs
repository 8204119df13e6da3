//! The packets to which nothing happens but that their FIN is remembered: a plain header, an established flow, no SYN or
//! RST, the client where it was. This is what nearly every packet pays; it must stay short. Everything else is
//! [`Fast::slow4`] or [`Fast::slow6`], and `crate::pipeline` decides it by the same rules, from the start or from what is
//! [`Known`].
//!
//! Asks: the interface and the bitmap (inlined array lookups), one flow lookup, one backend.

use lb_common::{
    abi::{ABI_VERSION, Iface, direction, flow_flag, hop_flag, iface_flag},
    hash::{self, OursSide},
    net::{IPPROTO_TCP, IPPROTO_UDP},
    reason::{DropReason, PassReason},
};

use crate::{
    family::{Family, V4, V6},
    flow::{Entry, Hop, is_gone, touch},
    forward::{Ingress, check_parts, may_tx},
    packet::{Eth, EthIpv4, EthIpv4Udp, EthIpv6, EthIpv6Udp, MacWords, Offset, Packet},
    parse::{Facts, Shape, layer4, ports, tcp_flag},
    rewrite::{Rewrite, rewrite_plain},
    tables::{FlowTables, Tables},
    verdict::{Verdict, Way},
};

/// What the slow path need not find out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Known {
    /// Nothing.
    Nothing = 0,
    /// It is for us, plain, and its TCP or UDP header is sound.
    Plain = 1,
    /// That, and no established flow has its key.
    NotEstablished = 2,
}

/// Where packets of established connections leave: counted and sent at once, as taking a [`Verdict`] apart costs what a
/// tenth of such a packet does. The counters' index is read where it stands, in the flow's entry: where that was given to
/// another connection just now, another backend counts the packet.
pub trait Exit<P> {
    /// From a client to this backend; returns the XDP action.
    fn to_backend(packet: &P, backend_id: &u32, way: Way) -> u32;
    /// From this backend to a client; returns the XDP action.
    fn to_client(packet: &P, backend_id: &u32, way: Way) -> u32;
    /// Not forwarded; returns the XDP action.
    fn ends(packet: &P, verdict: Verdict) -> u32;
}

/// How far the fast path came, in one word: as an enum, every packet would carry its variant along beside its XDP action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fast(u32);

impl Fast {
    /// The first word that is no XDP action.
    pub const FIRST_SLOW: u32 = 16;

    /// It has left, with this XDP action.
    #[inline(always)]
    #[must_use]
    pub const fn left(action: u32) -> Self {
        Self(action)
    }

    /// An IPv4 packet that needs the slow path.
    #[inline(always)]
    #[must_use]
    pub const fn slow4(known: Known) -> Self {
        Self(Self::FIRST_SLOW | known as u32)
    }

    /// An IPv6 packet that needs the slow path.
    #[inline(always)]
    #[must_use]
    pub const fn slow6(known: Known) -> Self {
        Self(Self::FIRST_SLOW | 4 | known as u32)
    }

    /// An XDP action, or one of the words of the slow path.
    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> u32 {
        self.0
    }
}

/// As loaded from a frame.
const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
const ETHERTYPE_IPV6: u16 = 0x86dd_u16.to_be();

/// Where the frame came in and its EtherType in wire order, or why it is the kernel's at once.
#[inline(always)]
pub fn ingress<P: Packet, T: Tables>(packet: &P, tables: &T) -> Result<(Ingress, u16), PassReason> {
    let eth = packet.get::<Eth>(Offset::START).ok_or(PassReason::TruncatedIp)?;
    let ifindex = packet.ingress_ifindex();
    let Some(iface) = tables.iface(ifindex).filter(|iface| iface.ifindex == ifindex) else {
        return Err(unattached(tables));
    };
    if iface.abi_version != ABI_VERSION {
        return Err(PassReason::NotConfigured);
    }
    if MacWords::of(&eth.dst) != MacWords::of(&iface.mac) {
        return Err(PassReason::NotOurMac);
    }
    Ok((side_of(ifindex, iface, eth), u16::from_ne_bytes(eth.ether_type)))
}

/// Why a frame came in where the program knows no interface.
#[inline(always)]
fn unattached<T: Tables>(tables: &T) -> PassReason {
    match tables.settings() {
        Some(settings) if settings.abi_version == ABI_VERSION => PassReason::UnknownInterface,
        _ => PassReason::NotConfigured,
    }
}

/// [`ingress`] of a frame that is known to be for us.
#[inline(always)]
pub fn ingress_again<P: Packet, T: Tables>(packet: &P, tables: &T) -> Option<Ingress> {
    let ifindex = packet.ingress_ifindex();
    // The agent may have given the slot to another interface since.
    let iface = tables.iface(ifindex).filter(|iface| iface.ifindex == ifindex)?;
    Some(side_of(ifindex, iface, packet.get::<Eth>(Offset::START)?))
}

#[inline(always)]
fn side_of(ifindex: u32, iface: &Iface, eth: &Eth) -> Ingress {
    Ingress {
        ifindex,
        own_mac: MacWords::of(&iface.mac),
        peer_mac: MacWords::of(&eth.src),
        tx_flag: if iface.flags & iface_flag::TX != 0 {
            flow_flag::TX
        } else {
            0
        },
    }
}

/// Forwards the packet if nothing can happen to it.
#[inline(always)]
pub fn fast<P, T, E>(packet: &mut P, tables: &T) -> Fast
where
    P: Packet,
    E: Exit<P>,
    T: Tables + FlowTables<V4> + FlowTables<V6>,
{
    if packet.get::<EthIpv4Udp>(Offset::START).is_none() {
        return other::<P, T, E>(packet, tables);
    }
    // Why not is found out there: a reason carried along would cost every packet.
    let Ok((ingress, ether_type)) = ingress(packet, tables) else {
        return other::<P, T, E>(packet, tables);
    };
    match ether_type {
        ETHERTYPE_IPV4 => match plain4(packet) {
            Plain::Facts(facts) => if_ours::<V4, P, T, E>(packet, tables, &facts, &ingress, (facts4, Fast::slow4)),
            Plain::Not | Plain::Truncated => Fast::slow4(Known::Nothing),
        },
        ETHERTYPE_IPV6 if packet.get::<EthIpv6Udp>(Offset::START).is_none() => Fast::slow6(Known::Nothing),
        ETHERTYPE_IPV6 => match plain6(packet) {
            Plain::Facts(facts) => if_ours::<V6, P, T, E>(packet, tables, &facts, &ingress, (facts6, Fast::slow6)),
            Plain::Not | Plain::Truncated => Fast::slow6(Known::Nothing),
        },
        _ => other::<P, T, E>(packet, tables),
    }
}

/// What is not IP for us; and frames shorter than any that a NIC hands over, which the slow path checks header by header.
#[inline(always)]
fn other<P: Packet, T: Tables, E: Exit<P>>(packet: &P, tables: &T) -> Fast {
    match ingress(packet, tables) {
        Ok((_, ETHERTYPE_IPV4)) => Fast::slow4(Known::Nothing),
        Ok((_, ETHERTYPE_IPV6)) => Fast::slow6(Known::Nothing),
        Ok(_) => Fast::left(E::ends(packet, Verdict::pass(PassReason::NotIp))),
        Err(reason) => Fast::left(E::ends(packet, Verdict::pass(reason))),
    }
}

/// What the plain parse found.
pub enum Plain<F: Family> {
    /// TCP or UDP right behind a plain IP header.
    Facts(Facts<F>),
    /// Something else.
    Not,
    /// The frame does not hold an IP header.
    Truncated,
}

/// What [`plain4`] asks about in four bytes of the header: "don't fragment" and the reserved bit do not matter.
const FRAGMENT_AND_PROTOCOL: u32 = u32::from_ne_bytes([0x3f, 0xff, 0, 0xff]);
const PLAIN_TCP: u32 = u32::from_ne_bytes([0, 0, 0, IPPROTO_TCP]);
const PLAIN_UDP: u32 = u32::from_ne_bytes([0, 0, 0, IPPROTO_UDP]);

/// The plain parse of IPv4.
#[inline(always)]
pub fn plain4<P: Packet>(packet: &P) -> Plain<V4> {
    let Some(head) = packet.get::<EthIpv4>(Offset::START) else {
        return Plain::Truncated;
    };
    if head.ip.vihl != 0x45 {
        return Plain::Not;
    }
    // Fragment fields, TTL and protocol: no fragment, any TTL, TCP or UDP.
    let Some(word) = packet.get::<[u8; 4]>(Offset::IP.plus(6)) else {
        return Plain::Truncated;
    };
    match u32::from_ne_bytes(*word) & FRAGMENT_AND_PROTOCOL {
        PLAIN_TCP | PLAIN_UDP => {}
        _ => return Plain::Not,
    }
    facts4(packet).map_or(Plain::Not, Plain::Facts)
}

/// What a plain IPv4 packet says, read from the packet.
#[inline(always)]
fn facts4<P: Packet>(packet: &P) -> Option<Facts<V4>> {
    const L4_AT: Offset = Offset::IP.plus(20);
    let ip = &packet.get::<EthIpv4>(Offset::START)?.ip;
    let pair = u64::from_le_bytes(*packet.get::<[u8; 8]>(Offset::IP.plus(12))?);
    let (src_port, dst_port) = ports(packet, L4_AT)?;
    Some(Facts {
        src: (pair as u32).to_le_bytes(),
        dst: ((pair >> 32) as u32).to_le_bytes(),
        src_port,
        dst_port,
        protocol: ip.proto,
        l4: L4_AT,
        ip_end: (u16::from_be_bytes(ip.tot_len) as u32).wrapping_add(14),
        shape: Shape::Plain,
    })
}

/// The plain parse of IPv6.
#[inline(always)]
pub fn plain6<P: Packet>(packet: &P) -> Plain<V6> {
    let Some(head) = packet.get::<EthIpv6>(Offset::START) else {
        return Plain::Truncated;
    };
    let ip = &head.ip;
    let [version, ..] = ip.vcf;
    if version >> 4 != 6 || (ip.next_hdr != IPPROTO_TCP && ip.next_hdr != IPPROTO_UDP) {
        return Plain::Not;
    }
    facts6(packet).map_or(Plain::Not, Plain::Facts)
}

/// What a plain IPv6 packet says, read from the packet.
#[inline(always)]
fn facts6<P: Packet>(packet: &P) -> Option<Facts<V6>> {
    const L4_AT: Offset = Offset::IP.plus(40);
    let ip = &packet.get::<EthIpv6>(Offset::START)?.ip;
    let (src_port, dst_port) = ports(packet, L4_AT)?;
    Some(Facts {
        src: V6::from_wire(&ip.src_addr),
        dst: V6::from_wire(&ip.dst_addr),
        src_port,
        dst_port,
        protocol: ip.next_hdr,
        l4: L4_AT,
        ip_end: (u16::from_be_bytes(ip.payload_len) as u32).wrapping_add(54),
        shape: Shape::Plain,
    })
}

/// Whether the bitmap lets the packet through: a service port or SNAT tuple as destination, or a gateway-mode
/// backend's internal port as source.
#[inline(always)]
pub fn is_ours<F: Family, T: Tables>(tables: &T, facts: &Facts<F>) -> bool {
    is_to_us(tables, facts) || is_of_us(tables, facts)
}

#[inline(always)]
fn is_to_us<F: Family, T: Tables>(tables: &T, facts: &Facts<F>) -> bool {
    tables.ours(hash::ours(OursSide::Destination, F::word(facts.dst), facts.dst_port))
}

#[inline(always)]
fn is_of_us<F: Family, T: Tables>(tables: &T, facts: &Facts<F>) -> bool {
    tables.ours(hash::ours(OursSide::Source, F::word(facts.src), facts.src_port))
}

/// Goes on with a packet that may be ours, whose flow's key is made first: where it is needed, before anything has to be kept over
/// a call. The packet is read anew after each question to a map: what is kept costs a store and a load, what stands in the packet
/// only a load.
#[inline(always)]
fn if_ours<F, P, T, E>(
    packet: &mut P,
    tables: &T,
    facts: &Facts<F>,
    ingress: &Ingress,
    (again, slow): (impl Fn(&P) -> Option<Facts<F>>, impl Fn(Known) -> Fast),
) -> Fast
where
    F: Rewrite,
    P: Packet,
    E: Exit<P>,
    T: Tables + FlowTables<F>,
{
    let key = facts.key();
    if !is_to_us(tables, facts) && !again(packet).is_some_and(|facts| is_of_us(tables, &facts)) {
        return Fast::left(E::ends(packet, Verdict::pass(PassReason::NotOurs)));
    }
    match again(packet) {
        Some(facts) => by_protocol::<F, P, T, E>(packet, tables, (&facts, &key), ingress, slow),
        None => slow(Known::Nothing),
    }
}

/// Twice the code, of which each packet takes the half that asks nothing about the protocol.
#[inline(always)]
fn by_protocol<F, P, T, E>(
    packet: &mut P,
    tables: &T,
    (facts, key): (&Facts<F>, &F::Key),
    ingress: &Ingress,
    slow: impl Fn(Known) -> Fast,
) -> Fast
where
    F: Rewrite,
    P: Packet,
    E: Exit<P>,
    T: Tables + FlowTables<F>,
{
    if facts.is_tcp() {
        let protocol = IPPROTO_TCP;
        established::<F, P, T, E>(packet, tables, (&Facts { protocol, ..*facts }, key), ingress, slow)
    } else {
        let protocol = IPPROTO_UDP;
        established::<F, P, T, E>(packet, tables, (&Facts { protocol, ..*facts }, key), ingress, slow)
    }
}

#[inline(always)]
fn established<F, P, T, E>(
    packet: &mut P,
    tables: &T,
    (facts, key): (&Facts<F>, &F::Key),
    ingress: &Ingress,
    slow: impl Fn(Known) -> Fast,
) -> Fast
where
    F: Rewrite,
    P: Packet,
    E: Exit<P>,
    T: Tables + FlowTables<F>,
{
    let Ok(l4) = layer4::<F, P>(packet, facts) else {
        // One place for all: which reason it is would cost every packet.
        return slow(Known::Nothing);
    };
    if l4.has(tcp_flag::SYN | tcp_flag::RST) || check_parts::<F, P>(packet, facts, l4).is_err() {
        return slow(Known::Plain);
    }
    let Some(entry) = tables.established(key) else {
        return slow(Known::NotEstablished);
    };
    // What is read of the entry from here on counts only if its id is the same afterwards: [`rewrite_plain`] looks.
    let conn_id = entry.conn_id();
    let tail = entry.tail();
    if conn_id == 0 {
        return slow(Known::NotEstablished);
    }
    // The slow path does this, too, with all that goes there and is forwarded.
    let now = tables.now();
    touch(tables, entry, tail.last_seen, now);
    let state = tail.state;
    let is_tcp = facts.is_tcp();
    if state.is_open(direction::REPLY) {
        if !is_tcp && state.flags() & flow_flag::ANSWERED == 0 {
            return slow(Known::Plain);
        }
        let hop = tail.hop;
        if let Err(reason) = carry::<F, P>(packet, is_tcp, (entry, conn_id, key), hop) {
            return Fast::left(E::ends(packet, Verdict::drop(reason)));
        }
        if may_tx(hop.ifindex(), state.flags() & flow_flag::TX, ingress.ifindex) {
            return Fast::left(E::to_client(packet, &tail.backend_id, Way::Tx));
        }
        return Fast::left(E::to_client(packet, &tail.backend_id, Way::Redirect(hop.ifindex())));
    }
    if !state.is_open(direction::FORWARD) {
        return slow(Known::Plain);
    }
    let Some(backend) = tables.backend(&tail.backend_id) else {
        return slow(Known::Plain);
    };
    let moved = tail.hop.ifindex() != ingress.ifindex || !tail.hop.is_sender_of(packet);
    let reachable = backend.hop_flags & hop_flag::VALID != 0;
    if moved || !reachable || (!is_tcp && is_gone(backend.state)) {
        return slow(Known::Plain);
    }
    let hop = Hop::of(backend);
    let tx_flag = backend.hop_flags & hop_flag::TX;
    if let Err(reason) = carry::<F, P>(packet, is_tcp, (entry, conn_id, key), hop) {
        return Fast::left(E::ends(packet, Verdict::drop(reason)));
    }
    if may_tx(hop.ifindex(), tx_flag, ingress.ifindex) {
        return Fast::left(E::to_backend(packet, &tail.backend_id, Way::Tx));
    }
    Fast::left(E::to_backend(packet, &tail.backend_id, Way::Redirect(hop.ifindex())))
}

/// Rewrites the packet and remembers its FIN.
#[inline(always)]
fn carry<F: Rewrite, P: Packet>(
    packet: &mut P,
    is_tcp: bool,
    flow: (Entry<F>, u64, &F::Key),
    hop: Hop,
) -> Result<(), DropReason> {
    let tcp_flags = rewrite_plain::<F, P>(packet, is_tcp, flow, hop)?;
    if tcp_flags & tcp_flag::FIN != 0 {
        flow.0.saw_fin();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::UnsafeCell;

    use lb_common::abi::{Backend, FlowValue4, tcp_seen};

    use super::*;
    use crate::testing::{CLIENT, Meanwhile, VIP, tcp};

    /// What an entry has seen after a packet with these TCP flags, during whose rewriting another CPU changed the entry.
    fn seen_after(flags: u8, change: impl Fn(&mut FlowValue4)) -> (Result<(), DropReason>, u8) {
        let key = V4::key(CLIENT, VIP, 40_000, 80, IPPROTO_TCP);
        let value = UnsafeCell::new(FlowValue4 {
            conn_id: 7,
            key_tag: V4::tag(&key),
            ..FlowValue4::default()
        });
        // SAFETY: the value outlives the entry.
        let entry = unsafe { Entry::<V4>::new(value.get()) };
        let mut packet = Meanwhile {
            frame: tcp((CLIENT, 40_000), (VIP, 80), flags, 1_000, 1),
            // SAFETY: one thread, and nobody holds a reference to the value now.
            act: || change(unsafe { &mut *value.get() }),
        };
        let carried = carry(&mut packet, true, (entry, 7, &key), Hop::of(&Backend::default()));
        (carried, value.into_inner().tcp_seen)
    }

    #[test]
    fn a_fin_is_remembered_by_its_own_connection_and_beside_a_reset() {
        const ACK: u8 = tcp_flag::ACK;
        const FIN: u8 = tcp_flag::FIN | ACK;
        assert_eq!(seen_after(ACK, |_| ()), (Ok(()), 0));
        assert_eq!(seen_after(FIN, |_| ()), (Ok(()), tcp_seen::FIN));
        let reset = |value: &mut FlowValue4| value.tcp_seen = tcp_seen::FIN | tcp_seen::RST;
        assert_eq!(seen_after(FIN, reset), (Ok(()), tcp_seen::FIN | tcp_seen::RST));
        let reused = |value: &mut FlowValue4| value.conn_id = 8;
        assert_eq!(seen_after(FIN, reused), (Err(DropReason::ClaimLost), 0));
    }
}
