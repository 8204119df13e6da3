//! A packet of an established connection, with everything that can happen to one (section 4 of docs/packet-path.md).
//! `crate::fast` is the same for the packets to which nothing happens but a FIN.

use lb_common::{
    abi::{Backend, backend_state, direction, flow_flag, tcp_seen},
    net::IPPROTO_UDP,
    reason::DropReason,
};

use super::{Entry, Life, idle_ticks, reclaim};
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

/// The connection did not survive the packet: it is to be treated as one without a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Forwards a packet whose flow, `work.flow`, is established.
#[inline(always)]
pub fn hit<F: Rewrite, P: Packet, T: Tables + FlowTables<F>>(
    packet: &mut P,
    tables: &T,
    work: &mut Work<F>,
    entry: Entry<F>,
) -> Result<Verdict, Gone> {
    let now = tables.now();
    entry.peer_key(work.facts.protocol, &mut work.peer_key);
    if work.flow.direction == direction::REPLY {
        if let Err(reason) = forward::check::<F, P>(packet, work) {
            return Ok(Verdict::drop(reason));
        }
        watch::<F, T>(tables, work, entry);
        touch(tables, entry, work.flow.last_seen, now);
        return Ok(forward::to_client::<F, P>(packet, work));
    }

    let Some(backend) = tables.backend(&work.flow.backend_id) else {
        return Ok(Verdict::drop(DropReason::MapInconsistent));
    };
    if must_go::<F, T>(tables, work, entry, backend) {
        work.owner_key = work.key;
        let _ = reclaim::<F, T>(tables, work, work.flow.conn_id);
        return Err(Gone);
    }
    if let Err(reason) = forward::check::<F, P>(packet, work) {
        return Ok(Verdict::drop(reason));
    }
    forward::follow_hop::<F, T>(tables, work, entry, Stage::Established);
    watch::<F, T>(tables, work, entry);
    touch(tables, entry, work.flow.last_seen, now);
    Ok(forward::to_backend::<F, P>(packet, work, backend))
}

/// Whether a backend in this state is gone (down, removed, its slot empty) and not just draining. UDP flows to it choose
/// again: they have no end that would drain them.
#[inline(always)]
pub fn is_gone(state: u8) -> bool {
    state != backend_state::ACTIVE && state != backend_state::DRAINING
}

/// Writes `last_seen`, at most once a second: other CPUs read the line.
#[inline(always)]
pub fn touch<F: Family, T: Tables>(tables: &T, entry: Entry<F>, last_seen: u32, now: u32) {
    // As `idle_ticks(now, last_seen) >= tables.hz()`: a moment ahead is a negative age.
    if now.wrapping_sub(last_seen).cast_signed() >= tables.hz().cast_signed() {
        entry.set_last_seen(now);
    }
}

/// Follows FIN and RST, and an answer to UDP.
#[inline(always)]
fn watch<F: Rewrite, T: Tables + FlowTables<F>>(tables: &T, work: &Work<F>, entry: Entry<F>) {
    let flow = &work.flow;
    if work.facts.protocol == IPPROTO_UDP {
        if flow.direction == direction::REPLY && flow.flags & flow_flag::ANSWERED == 0 {
            entry.set_flags(flow.flags | flow_flag::ANSWERED);
            if let Some((peer, found)) = peer::<F, T>(tables, work) {
                peer.set_flags(found.flags | flow_flag::ANSWERED);
            }
        }
        return;
    }
    let mut seen = flow.tcp_seen;
    if work.l4.has(tcp_flag::RST) {
        seen |= tcp_seen::RST;
    } else {
        seen &= !tcp_seen::RST;
        if work.l4.has(tcp_flag::FIN) {
            seen |= tcp_seen::FIN;
        }
    }
    if seen == flow.tcp_seen {
        return;
    }
    entry.set_tcp_seen(seen);
    if (seen ^ flow.tcp_seen) & tcp_seen::RST != 0
        && let Some((peer, found)) = peer::<F, T>(tables, work)
    {
        peer.set_tcp_seen((found.tcp_seen & !tcp_seen::RST) | (seen & tcp_seen::RST));
    }
}

/// The other direction's entry of `work.flow`.
#[inline(always)]
fn peer<F: Family, T: FlowTables<F>>(tables: &T, work: &Work<F>) -> Option<(Entry<F>, Life)> {
    let entry = tables.established(&work.peer_key)?;
    let found = entry.life(F::tag(&work.peer_key))?;
    (found.conn_id == work.flow.conn_id).then_some((entry, found))
}

/// Whether a connection has been closed by both sides, or reset.
#[inline(always)]
pub fn is_closing(forward_seen: u8, reply_seen: u8) -> bool {
    (forward_seen | reply_seen) & tcp_seen::RST != 0 || forward_seen & reply_seen & tcp_seen::FIN != 0
}

/// Half seconds for which a backend that is gone must have been silent before a SYN ends its connection: `last_seen` is
/// written once a second.
const SILENCE_HALF_S: u32 = 5;

/// Whether a client's packet finds its connection over: UDP whose backend is gone, a SYN on a closed connection whose
/// backend takes no new flows, or a SYN on one whose backend is gone and silent (its FIN will never come).
///
/// A SYN on a closed connection to an active backend opens it anew on the same tuple (to the backend it looks as if we
/// were not there: TIME_WAIT accepts it). On a live one it is left to the backend's challenge ACK (RFC 5961): a forged
/// SYN kills nothing.
#[inline(always)]
fn must_go<F: Rewrite, T: Tables + FlowTables<F>>(
    tables: &T,
    work: &mut Work<F>,
    entry: Entry<F>,
    backend: &Backend,
) -> bool {
    if work.facts.protocol == IPPROTO_UDP {
        return is_gone(backend.state);
    }
    if !work.l4.is_opening() {
        return false;
    }
    let Some((peer, found)) = peer::<F, T>(tables, work) else {
        return true;
    };
    let now = tables.now();
    if is_gone(backend.state) && idle_ticks(now, found.last_seen) > tables.hz().wrapping_mul(SILENCE_HALF_S) >> 1 {
        return true;
    }
    if !is_closing(work.flow.tcp_seen, found.tcp_seen) {
        return false;
    }
    if backend.state != backend_state::ACTIVE {
        return true;
    }
    work.flow.tcp_seen = 0;
    for entry in [entry, peer] {
        entry.set_tcp_seen(0);
        entry.set_created(now);
        entry.set_last_seen(now);
    }
    false
}
