//! Claiming the tuple that a new connection's replies will come to: (backend, SNAT address, internal port, SNAT port),
//! or in gateway mode (backend, client, internal port, client port).
//!
//! A claim is the insert of the half-open reply entry with NOEXIST, followed by a look into the established table: two
//! claimants of one tuple cannot both insert, and one who inserted sees an established owner. No lock.
//!
//! While a claim is made, `work.peer` is the reply flow of the new connection and `work.peer_key` its key.

use core::ops::ControlFlow;

use lb_common::{
    abi::mode,
    limits::{MAX_SNAT_ADDRESSES, SNAT_CROWDED_PROBES, SNAT_LARGE_RANGE, SNAT_PROBES},
    net::IPPROTO_TCP,
    reason::DropReason,
};

use crate::{
    family::Family,
    flow::{
        Life, ReclaimError, half_open_expired, half_open_idle, idle_ticks, is_closing, is_expired, reclaim,
        reclaim_expired, release_half,
    },
    rewrite::{Rewrite, Tuple, deltas},
    tables::{FlowTables, InsertError, Tables},
    work::Work,
};

/// Seconds within which a tuple's second use is counted as early: how long a Linux backend keeps TIME_WAIT.
const TIME_WAIT_S: u32 = 60;

/// How a range of more than [`SNAT_LARGE_RANGE`] ports is walked: a prime, so that it meets every port.
const STRIDE: u32 = 509;

/// What a new connection wants at the backend.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<A> {
    /// Backend address.
    pub backend: A,
    /// Internal port, host order.
    pub internal_port: u16,
}

/// Our side of a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OurSide<A> {
    /// Address.
    pub addr: A,
    /// Port, host order.
    pub port: u16,
}

/// What came of one candidate: `BUSY`, `CLAIMED`, `FULL`, or `HALF` or `CLOSING` plus the ticks since its connection was
/// opened and not answered, or was closed. A number, because a subprogram returns one register; the greater, the better
/// a candidate to be taken over.
type Outcome = u64;
const BUSY: Outcome = 0;
const CLAIMED: Outcome = 1;
const FULL: Outcome = 2;
const HALF: Outcome = 1 << 33;
const CLOSING: Outcome = 1 << 34;
/// In place of the oldest candidate so far: there is none before this one.
const FIRST: Outcome = CLAIMED;

/// Claims a tuple for the connection in `work.peer` and leaves its key in `work.peer_key` and our side in `work.ours`.
#[inline(always)]
pub fn claim<F: Rewrite, T: Tables + FlowTables<F>>(tables: &T, work: &mut Work<F>) -> Result<(), DropReason> {
    if work.peer.mode == mode::GATEWAY {
        work.ours = OurSide {
            addr: work.facts.src,
            port: work.facts.src_port,
        };
        fit::<F>(work);
        let claimed = match try_claim::<F, T>(tables, work, FIRST) {
            CLAIMED => true,
            FULL => return Err(DropReason::HalfTableFull),
            outcome => outcome >= HALF && take_over::<F, T>(tables, work),
        };
        return if claimed {
            Ok(())
        } else {
            Err(DropReason::GatewayTupleInUse)
        };
    }
    claim_snat::<F, T>(tables, work)
}

/// Makes the reply flow fit `work.ours`.
#[inline(never)]
fn fit<F: Rewrite>(work: &mut Work<F>) {
    let Work {
        wanted,
        ours,
        peer: reply,
        peer_key,
        facts,
        ..
    } = work;
    let from = Tuple {
        src: wanted.backend,
        dst: ours.addr,
        src_port: wanted.internal_port,
        dst_port: ours.port,
    };
    let to = Tuple {
        src: reply.new_src,
        dst: reply.new_dst,
        src_port: reply.new_src_port,
        dst_port: reply.new_dst_port,
    };
    (reply.l3_delta, reply.l4_delta) = deltas::<F>(&from, &to);
    *peer_key = F::key(from.src, from.dst, from.src_port, from.dst_port, facts.protocol);
    reply.key_tag = F::tag(peer_key);
}

/// The client's port on one of our addresses, then others, then the tuple that closed longest ago.
///
/// Where connections come faster than their tuples expire, every candidate closed lately, and the search for a free one
/// would end with one of these after all [`SNAT_PROBES`]: it ends after [`SNAT_CROWDED_PROBES`]. At an even rate that lets
/// tuples expire, half of the closing ones closed longer ago than half of `closing`, so that this happens to one claim in
/// 64 at most; in a burst more take a tuple early, which `tuples_reused_early` counts.
#[inline(always)]
fn claim_snat<F: Rewrite, T: Tables + FlowTables<F>>(tables: &T, work: &mut Work<F>) -> Result<(), DropReason> {
    let settings = tables.settings().ok_or(DropReason::MapInconsistent)?;
    let (_, count) = F::snat_span(settings);
    if count == 0 || count > MAX_SNAT_ADDRESSES || settings.snat_port_min > settings.snat_port_max {
        return Err(DropReason::NoSnatAddress);
    }
    let ports = (settings.snat_port_max.wrapping_sub(settings.snat_port_min) as u32).wrapping_add(1);
    // What the turns share stands in the scratch: on the stack it would lie under everything that a claim calls.
    work.crowded_probes = if ports > SNAT_LARGE_RANGE {
        SNAT_CROWDED_PROBES
    } else {
        SNAT_PROBES
    };
    work.outcome = BUSY;
    work.winner = 0;
    work.winners = BUSY;
    work.closed_lately = 0;
    tables.repeat(SNAT_PROBES, &mut |k| {
        if !candidate::<F, T>(tables, work, k) {
            return ControlFlow::Break(());
        }
        let oldest = if k == 0 { FIRST } else { work.winners };
        let outcome = try_claim::<F, T>(tables, work, oldest);
        if outcome == CLAIMED || outcome == FULL {
            return ControlFlow::Break(());
        }
        if outcome > work.winners {
            (work.winners, work.winner) = (outcome, k);
        }
        let tried = k.wrapping_add(1);
        if tried == work.crowded_probes && work.closed_lately >= tried && work.winners >= CLOSING {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    match work.outcome {
        CLAIMED => return Ok(()),
        FULL => return Err(DropReason::HalfTableFull),
        _ => {}
    }
    let oldest = work.winners;
    if oldest < HALF || !candidate::<F, T>(tables, work, work.winner) || !take_over::<F, T>(tables, work) {
        return Err(DropReason::SnatExhausted);
    }
    if oldest >= CLOSING && oldest.wrapping_sub(CLOSING) < tables.hz().wrapping_mul(TIME_WAIT_S) as u64 {
        tables.cpu(|cpu| cpu.tuples_reused_early = cpu.tuples_reused_early.wrapping_add(1));
    }
    Ok(())
}

/// Makes the reply flow fit candidate `k`: the address goes round with every try; the first port is the client's own if
/// it lies in the range. `false`: there is no such address.
#[inline(never)]
fn candidate<F: Rewrite, T: Tables>(tables: &T, work: &mut Work<F>, k: u32) -> bool {
    let Some(ours) = our_side::<F, T>(tables, work, k) else {
        return false;
    };
    work.ours = ours;
    fit::<F>(work);
    true
}

#[inline(always)]
fn our_side<F: Family, T: Tables>(tables: &T, work: &Work<F>, k: u32) -> Option<OurSide<F::Addr>> {
    let settings = tables.settings()?;
    let (hash, client_port) = (work.hash, work.facts.src_port);
    let (first, count) = F::snat_span(settings);
    let index = hash.wrapping_add(k).checked_rem(count)?;
    let addr = F::unmapped(&tables.snat(first.wrapping_add(index))?.address);
    let (min, max) = (settings.snat_port_min, settings.snat_port_max);
    if k == 0 && client_port >= min && client_port <= max {
        return Some(OurSide {
            addr,
            port: client_port,
        });
    }
    let range = (max.wrapping_sub(min) as u32).wrapping_add(1);
    // A small range is covered completely; in a large one a stride keeps clear of runs of busy neighbours.
    let stride = if range > SNAT_LARGE_RANGE { STRIDE } else { 1 };
    let step = k.checked_div(count)?.wrapping_mul(stride);
    let offset = (hash >> 8).wrapping_add(step).checked_rem(range)?;
    Some(OurSide {
        addr,
        port: min.wrapping_add(offset as u16),
    })
}

/// Tries the tuple `work.peer_key`, which is of use if it is free or if its owner closed longer ago than `oldest` says.
/// On `CLAIMED` the half-open reply entry stands.
///
/// Most first candidates are free. After a busy one the next are likely to be busy, too, and an established owner is
/// found by a look, without an insert and its undoing; the look after the insert decides.
#[inline(always)]
fn try_claim<F: Rewrite, T: Tables + FlowTables<F>>(tables: &T, work: &mut Work<F>, oldest: Outcome) -> Outcome {
    work.oldest = oldest;
    judge_tuple::<F, T>(tables, work);
    work.outcome
}

/// Leaves what [`try_claim`] returns in `work.outcome`: what the verifier reads from a map has no value it knows, so that
/// it does not follow each outcome of each try on its own.
#[inline(never)]
fn judge_tuple<F: Rewrite, T: Tables + FlowTables<F>>(tables: &T, work: &mut Work<F>) {
    work.outcome = insert_claim::<F, T>(tables, work);
}

#[inline(always)]
fn insert_claim<F: Rewrite, T: Tables + FlowTables<F>>(tables: &T, work: &mut Work<F>) -> Outcome {
    if work.oldest != FIRST {
        let outcome = established_owner::<F, T>(tables, work);
        if outcome != CLAIMED {
            return outcome;
        }
    }
    F::pack_into(&work.peer, &mut work.value);
    match tables.insert_half(&work.peer_key, &work.value) {
        Ok(()) => {}
        Err(InsertError::Full) => return FULL,
        Err(InsertError::Exists) => {
            let outcome = take_stale_half::<F, T>(tables, work);
            if outcome != CLAIMED {
                return outcome;
            }
            if tables.insert_half(&work.peer_key, &work.value).is_err() {
                return BUSY;
            }
        }
    }
    // Whatever stands there now is in the way.
    work.oldest = BUSY;
    let outcome = established_owner::<F, T>(tables, work);
    if outcome != CLAIMED {
        release_half::<F, T>(tables, &work.peer_key, work.peer.conn_id);
    }
    outcome
}

/// `CLAIMED` if no established connection has the tuple `work.peer_key` (any more: an expired one is reclaimed), else
/// how long ago its owner closed, if that is longer than `work.oldest`. Counts owners whose backend closed lately.
#[inline(always)]
fn established_owner<F: Rewrite, T: Tables + FlowTables<F>>(tables: &T, work: &mut Work<F>) -> Outcome {
    judge_owner::<F, T>(tables, work);
    work.outcome
}

/// As [`judge_tuple`], for [`established_owner`].
#[inline(never)]
fn judge_owner<F: Rewrite, T: Tables + FlowTables<F>>(tables: &T, work: &mut Work<F>) {
    work.outcome = owner_of_tuple::<F, T>(tables, work);
}

#[inline(always)]
fn owner_of_tuple<F: Rewrite, T: Tables + FlowTables<F>>(tables: &T, work: &mut Work<F>) -> Outcome {
    let Some(owner) = tables.established(&work.peer_key) else {
        return CLAIMED;
    };
    let Some(life) = owner.life(F::tag(&work.peer_key)) else {
        // It is being deleted on another CPU.
        return BUSY;
    };
    let Some(settings) = tables.settings() else {
        return BUSY;
    };
    let protocol = F::protocol(&work.peer_key);
    let now = tables.now();
    let idle = idle_ticks(now, life.last_seen);
    // The reply entry alone says that the connection has not expired and cannot be the oldest: its other entry, in
    // another place of memory, is not asked.
    let is_alive = !is_expired(&life, protocol, settings, now);
    if protocol == IPPROTO_TCP && life.tcp_seen != 0 && idle < settings.closing_ticks >> 1 {
        work.closed_lately = work.closed_lately.wrapping_add(1);
    }
    if is_alive && (protocol != IPPROTO_TCP || CLOSING.wrapping_add(idle as u64) <= work.oldest) {
        return BUSY;
    }
    owner.peer_key(protocol, &mut work.owner_key);
    take_expired::<F, T>(tables, work, life)
}

/// Frees a tuple whose half-open owner has expired, or says how long that has waited.
#[inline(always)]
fn take_stale_half<F: Rewrite, T: Tables + FlowTables<F>>(tables: &T, work: &mut Work<F>) -> Outcome {
    let (Some(settings), Some(entry)) = (tables.settings(), tables.half(&work.peer_key)) else {
        return BUSY;
    };
    let protocol = F::protocol(&work.peer_key);
    let Some(owner) = entry.life(F::tag(&work.peer_key)) else {
        return BUSY;
    };
    let now = tables.now();
    if !half_open_expired(&owner, protocol, settings, now) {
        return HALF.wrapping_add(half_open_idle(&owner, protocol, now) as u64);
    }
    entry.peer_key(protocol, &mut work.owner_key);
    release_half::<F, T>(tables, &work.owner_key, owner.conn_id);
    release_half::<F, T>(tables, &work.peer_key, owner.conn_id);
    CLAIMED
}

/// Frees a tuple whose established owner, forward entry under `work.owner_key`, has expired, or says how long ago it
/// closed.
#[inline(always)]
fn take_expired<F: Rewrite, T: Tables + FlowTables<F>>(tables: &T, work: &mut Work<F>, owner: Life) -> Outcome {
    match reclaim_expired::<F, T>(tables, work, owner.conn_id) {
        Ok(()) => CLAIMED,
        // Between the two inserts of a promotion there is no forward entry yet; or another CPU is deleting it.
        Err(ReclaimError::Gone) => BUSY,
        Err(ReclaimError::Alive) if F::protocol(&work.peer_key) == IPPROTO_TCP => {
            closed_for::<F, T>(tables, work, owner)
        }
        Err(ReclaimError::Alive) => BUSY,
    }
}

#[inline(always)]
fn closed_for<F: Rewrite, T: Tables + FlowTables<F>>(tables: &T, work: &Work<F>, owner: Life) -> Outcome {
    let forward = tables
        .established(&work.owner_key)
        .and_then(|entry| entry.life(F::tag(&work.owner_key)));
    match forward {
        Some(forward) if forward.conn_id == owner.conn_id && is_closing(forward.tcp_seen, owner.tcp_seen) => {
            let now = tables.now();
            let idle = idle_ticks(now, owner.last_seen).min(idle_ticks(now, forward.last_seen));
            CLOSING.wrapping_add(idle as u64)
        }
        _ => BUSY,
    }
}

/// Takes the tuple `work.peer_key` from a closing connection, or from a half-open one that has waited for a second: a
/// flood of connections that are never completed must not keep the tuples from those that would be.
#[inline(never)]
fn take_over<F: Rewrite, T: Tables + FlowTables<F>>(tables: &T, work: &mut Work<F>) -> bool {
    let protocol = F::protocol(&work.peer_key);
    if let Some(entry) = tables.half(&work.peer_key)
        && let Some(owner) = entry.life(F::tag(&work.peer_key))
    {
        if half_open_idle(&owner, protocol, tables.now()) < tables.hz() {
            return false;
        }
        entry.peer_key(protocol, &mut work.owner_key);
        release_half::<F, T>(tables, &work.owner_key, owner.conn_id);
        release_half::<F, T>(tables, &work.peer_key, owner.conn_id);
    } else if let Some(entry) = tables.established(&work.peer_key)
        && let Some(owner) = entry.life(F::tag(&work.peer_key))
    {
        entry.peer_key(protocol, &mut work.owner_key);
        if closed_for::<F, T>(tables, work, owner) < CLOSING || reclaim::<F, T>(tables, work, owner.conn_id).is_err() {
            return false;
        }
    }
    try_claim::<F, T>(tables, work, FIRST) == CLAIMED
}
