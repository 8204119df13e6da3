//! A packet of a half-open connection (section 5.1 of docs/packet-path.md): forwarded while it is part of the
//! handshake, and promoted by proof that both ends exist.

use lb_common::{
    abi::{Backend, backend_state, direction, flow_flag},
    net::IPPROTO_UDP,
    reason::DropReason,
};

use super::{Entry, Gone, idle_ticks, is_gone, promote, release_half};
use crate::{
    family::Family,
    forward::{self, Stage},
    packet::Packet,
    parse::tcp_flag,
    rewrite::Rewrite,
    tables::{FlowTables, Tables},
    verdict::Verdict,
    work::Work,
};

/// Forwards a packet whose flow, `work.flow`, is half-open, promoting it where that is earned.
#[inline(always)]
pub fn half_hit<F: Rewrite, P: Packet, T: Tables + FlowTables<F>>(
    packet: &mut P,
    tables: &T,
    work: &mut Work<F>,
    entry: Entry<F>,
) -> Result<Verdict, Gone> {
    entry.peer_key(work.facts.protocol, &mut work.peer_key);
    // Asked for by every packet, also by a SYN-ACK that has no use for it: the lookup tells the LRU that this entry is not a
    // flood's (answered_handshakes_outlive_a_flood_that_nobody_answers).
    let peer = tables.half(&work.peer_key).filter(|peer| {
        peer.load_into(F::tag(&work.peer_key), &mut work.peer) && work.peer.conn_id == work.flow.conn_id
    });
    if work.flow.direction == direction::FORWARD {
        from_client::<F, P, T>(packet, tables, work, entry, peer)
    } else {
        Ok(from_backend::<F, P, T>(packet, tables, work, entry, peer))
    }
}

#[inline(always)]
fn from_client<F: Rewrite, P: Packet, T: Tables + FlowTables<F>>(
    packet: &mut P,
    tables: &T,
    work: &mut Work<F>,
    entry: Entry<F>,
    peer: Option<Entry<F>>,
) -> Result<Verdict, Gone> {
    let Some(backend) = tables.backend(&work.flow.backend_id) else {
        return Ok(Verdict::drop(DropReason::MapInconsistent));
    };
    let step = if is_the_one::<F>(backend, work.flow.new_dst, work.flow.new_dst_port) {
        next_step::<F, T>(tables, work, backend, peer.is_some())
    } else {
        Step::StartAnew
    };
    match step {
        Step::Forward | Step::Promote => {}
        Step::StartAnew => {
            release_half::<F, T>(tables, &work.peer_key, work.flow.conn_id);
            release_half::<F, T>(tables, &work.key, work.flow.conn_id);
            return Err(Gone);
        }
        Step::Drop(reason) => return Ok(Verdict::drop(reason)),
    }
    if let Err(reason) = forward::check::<F, P>(packet, work) {
        return Ok(Verdict::drop(reason));
    }
    forward::follow_hop::<F, T>(tables, work, entry, Stage::Half);
    let now = tables.now();
    entry.set_last_seen(now);
    if work.l4.is_opening() {
        entry.set_created(now);
        if let Some(peer) = peer {
            peer.set_created(now);
        }
    }
    if step == Step::Promote {
        // The reply's hop may just have been followed: the copy must carry it.
        work.peer.peer_mac = work.ingress.peer_mac;
        work.peer.own_mac = work.ingress.own_mac;
        work.peer.ifindex = work.ingress.ifindex;
        work.peer.flags = (work.peer.flags & !flow_flag::TX) | work.ingress.tx_flag;
        if let Err(reason) = promote::<F, T>(tables, work) {
            return Ok(Verdict::drop(reason));
        }
    }
    Ok(forward::to_backend::<F, P>(packet, work, backend))
}

/// Whether the entry under a half-open flow's backend id is still that backend: half-open flows do not keep an id from
/// being reused, and on a quiet node the LRU keeps them for long.
#[inline(always)]
fn is_the_one<F: Family>(backend: &Backend, address: F::Addr, port: u16) -> bool {
    F::unmapped(&backend.address) == address && backend.internal_port == port
}

/// What a client's packet does to its half-open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Forward,
    Promote,
    StartAnew,
    Drop(DropReason),
}

#[inline(always)]
fn next_step<F: Rewrite, T: Tables>(tables: &T, work: &Work<F>, backend: &Backend, has_reply: bool) -> Step {
    let l4 = work.l4;
    if work.facts.protocol == IPPROTO_UDP {
        // Without its reply entry (evicted) the backend's answer would find nothing.
        return if is_gone(backend.state) || !has_reply {
            Step::StartAnew
        } else if idle_ticks(tables.now(), work.flow.created) > tables.hz() {
            Step::Promote
        } else {
            Step::Forward
        };
    }
    if l4.is_opening() {
        return if backend.state == backend_state::ACTIVE && has_reply {
            Step::Forward
        } else {
            Step::StartAnew
        };
    }
    if l4.has(tcp_flag::RST) {
        return Step::Forward;
    }
    if work.flow.flags & flow_flag::RECOVERED != 0 {
        return if has_reply { Step::Forward } else { Step::StartAnew };
    }
    let proves = has_reply
        && l4.has(tcp_flag::ACK)
        && work.peer.flags & flow_flag::ISN_KNOWN != 0
        && l4.ack == work.peer.backend_isn.wrapping_add(1);
    if proves {
        Step::Promote
    } else {
        Step::Drop(DropReason::HandshakeUnproven)
    }
}

#[inline(always)]
fn from_backend<F: Rewrite, P: Packet, T: Tables + FlowTables<F>>(
    packet: &mut P,
    tables: &T,
    work: &mut Work<F>,
    entry: Entry<F>,
    peer: Option<Entry<F>>,
) -> Verdict {
    if let Err(reason) = forward::check::<F, P>(packet, work) {
        return Verdict::drop(reason);
    }
    let known = tables.backend(&work.flow.backend_id);
    if !known.is_some_and(|backend| is_the_one::<F>(backend, work.facts.src, work.facts.src_port)) {
        release_half::<F, T>(tables, &work.peer_key, work.flow.conn_id);
        release_half::<F, T>(tables, &work.key, work.flow.conn_id);
        return Verdict::drop(DropReason::ClaimLost);
    }
    entry.set_last_seen(tables.now());
    let l4 = work.l4;
    let mut answers = work.facts.protocol == IPPROTO_UDP;
    if !answers {
        if l4.has(tcp_flag::RST) {
            tables.count(&work.flow.backend_id, |stats| {
                stats.flows_refused = stats.flows_refused.wrapping_add(1);
            });
        } else if l4.has(tcp_flag::SYN) && l4.has(tcp_flag::ACK) {
            entry.set_backend_isn(l4.seq);
            entry.set_flags(work.flow.flags | flow_flag::ISN_KNOWN);
        }
        answers = work.flow.flags & flow_flag::RECOVERED != 0 && !l4.has(tcp_flag::RST);
    }
    if answers && peer.is_some() {
        work.flow.flags |= flow_flag::ANSWERED;
        work.peer.flags |= flow_flag::ANSWERED;
        if let Err(reason) = promote::<F, T>(tables, work) {
            return Verdict::drop(reason);
        }
    }
    forward::to_client::<F, P>(packet, work)
}
