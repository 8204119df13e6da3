//! The last steps of a packet that has a flow: TTL, next hop, rewrite, way out.

use lb_common::{
    abi::{Backend, flow_flag, hop_flag},
    net::IPPROTO_UDP,
    reason::DropReason,
};

use crate::{
    family::V6,
    flow::Entry,
    packet::{MacWords, Packet},
    parse::{Facts, L4},
    rewrite::{Macs, Rewrite, rewrite},
    tables::{FlowTables, Tables},
    verdict::{Verdict, WayWord},
    work::Work,
};

/// The wire a frame came in on.
#[derive(Clone, Copy, Debug)]
pub struct Ingress {
    /// Interface.
    pub ifindex: u32,
    /// Its MAC.
    pub own_mac: MacWords,
    /// Source MAC of the frame.
    pub peer_mac: MacWords,
    /// [`flow_flag::TX`] if what came in here may leave here by `XDP_TX`, else 0.
    pub tx_flag: u8,
}

/// Which table an entry stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Half-open.
    Half,
    /// Established.
    Established,
}

/// What no flow may be forwarded with: IPv6 UDP without checksum, a TTL that would reach 0.
#[inline(always)]
pub fn check<F: Rewrite, P: Packet>(packet: &P, work: &Work<F>) -> Result<(), DropReason> {
    check_parts::<F, P>(packet, &work.facts, work.l4)
}

/// [`check`] of the fast path.
#[inline(always)]
pub fn check_parts<F: Rewrite, P: Packet>(packet: &P, facts: &Facts<F>, l4: L4) -> Result<(), DropReason> {
    if is_v6::<F>() && facts.protocol == IPPROTO_UDP && l4.check == 0 {
        return Err(DropReason::Udp6ZeroChecksum);
    }
    match F::ttl(packet) {
        Some(0 | 1) => Err(DropReason::TtlExpired),
        Some(_) => Ok(()),
        None => Err(DropReason::TruncatedL4),
    }
}

#[inline(always)]
const fn is_v6<F: Rewrite>() -> bool {
    size_of::<F::Addr>() == size_of::<<V6 as crate::family::Family>::Addr>()
}

/// Towards the backend.
#[inline(always)]
pub fn to_backend<F: Rewrite, P: Packet>(packet: &mut P, work: &Work<F>, backend: &Backend) -> Verdict {
    if backend.hop_flags & hop_flag::VALID == 0 {
        return Verdict::drop(DropReason::NoNeighbour);
    }
    let macs = Macs {
        dst: MacWords::of(&backend.hop_dst_mac),
        src: MacWords::of(&backend.hop_src_mac),
    };
    let way = way(
        backend.hop_ifindex,
        backend.hop_flags & hop_flag::TX,
        work.ingress.ifindex,
    );
    match rewrite::<F, P>(packet, &work.facts, work.l4, &work.flow, macs) {
        Ok(()) => Verdict::to_backend(work.flow.backend_id, way),
        Err(reason) => Verdict::drop(reason),
    }
}

/// Towards the client.
#[inline(always)]
pub fn to_client<F: Rewrite, P: Packet>(packet: &mut P, work: &Work<F>) -> Verdict {
    let flow = &work.flow;
    let macs = Macs {
        dst: flow.peer_mac,
        src: flow.own_mac,
    };
    let way = way(flow.ifindex, flow.flags & flow_flag::TX, work.ingress.ifindex);
    match rewrite::<F, P>(packet, &work.facts, work.l4, flow, macs) {
        Ok(()) => Verdict::to_client(flow.backend_id, way),
        Err(reason) => Verdict::drop(reason),
    }
}

const _: () = assert!(flow_flag::TX == hop_flag::TX, "`may_tx` takes either");

/// Whether a frame goes back out of the interface it came in on without the device map.
#[inline(always)]
pub fn may_tx(ifindex: u32, tx_flag: u8, ingress_ifindex: u32) -> bool {
    ifindex == ingress_ifindex && tx_flag != 0
}

/// How to leave by an interface: back out of the one the frame came in on where its driver can.
#[inline(always)]
pub fn way(ifindex: u32, tx_flag: u8, ingress_ifindex: u32) -> WayWord {
    if may_tx(ifindex, tx_flag, ingress_ifindex) {
        WayWord::TX
    } else {
        WayWord::redirect(ifindex)
    }
}

/// A client's packet came from another MAC or interface than the last one (a router failed over): replies go there
/// from now on. `entry` is the forward entry of `work.flow`, `work.peer_key` the reply's key.
#[inline(always)]
pub fn follow_hop<F: Rewrite, T: Tables + FlowTables<F>>(
    tables: &T,
    work: &mut Work<F>,
    entry: Entry<F>,
    stage: Stage,
) {
    let ingress = work.ingress;
    if work.flow.peer_mac == ingress.peer_mac && work.flow.ifindex == ingress.ifindex {
        return;
    }
    let reply = match stage {
        Stage::Established => tables.established(&work.peer_key),
        Stage::Half => tables.half(&work.peer_key),
    };
    if let Some(reply) = reply
        && let Some(found) = reply.life(F::tag(&work.peer_key))
        && found.conn_id == work.flow.conn_id
    {
        reply.set_hop(ingress.peer_mac, ingress.own_mac, ingress.ifindex);
        reply.set_flags((found.flags & !flow_flag::TX) | ingress.tx_flag);
    }
    entry.set_hop(ingress.peer_mac, ingress.own_mac, ingress.ifindex);
    work.flow.peer_mac = ingress.peer_mac;
    work.flow.own_mac = ingress.own_mac;
    work.flow.ifindex = ingress.ifindex;
    tables.cpu(|cpu| cpu.hops_moved = cpu.hops_moved.wrapping_add(1));
}
