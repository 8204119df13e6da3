//! From half-open to established. The half-open entries stay until both established ones stand, and the promotion
//! counts only if the half-open reply entry is still in its table *after* the established one went in: who claims the
//! tuple after an eviction then sees the established entry, who claimed it before makes the promotion fail.
//! docs/decisions/0003-flow-tables.md argues the interleavings.

use lb_common::{abi::direction, reason::DropReason};

use super::release_half;
use crate::{
    family::Family,
    sweep,
    tables::{FlowTables, InsertError, Tables},
    work::Work,
};

/// Which of the two keys and flows of `work` an insert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// `work.key`, `work.flow`.
    Own,
    /// `work.peer_key`, `work.peer`.
    Peer,
}

impl Side {
    #[inline(always)]
    fn key<F: Family>(self, work: &Work<F>) -> &F::Key {
        match self {
            Self::Own => &work.key,
            Self::Peer => &work.peer_key,
        }
    }
}

/// Inserts both established entries, from `work.flow` and `work.peer` under `work.key` and `work.peer_key`, and
/// deletes the half-open ones. Another CPU doing the same at the same time is success.
#[inline(never)]
pub fn promote<F: Family, T: Tables + FlowTables<F>>(tables: &T, work: &mut Work<F>) -> Result<(), DropReason> {
    let (forward, reply) = if work.flow.direction == direction::FORWARD {
        (Side::Own, Side::Peer)
    } else {
        (Side::Peer, Side::Own)
    };
    let conn_id = work.flow.conn_id;
    let now = tables.now();
    work.flow.last_seen = now;
    work.peer.last_seen = now;
    match insert::<F, T>(tables, work, reply) {
        Err(DropReason::ClaimLost) if is_there::<F, T>(tables, reply.key(work), conn_id) => return Ok(()),
        other => other?,
    }
    let still_ours = tables
        .half(reply.key(work))
        .is_some_and(|entry| entry.conn_id() == conn_id);
    let established = if still_ours {
        insert::<F, T>(tables, work, forward)
    } else {
        Err(DropReason::ClaimLost)
    };
    if let Err(reason) = established {
        undo::<F, T>(tables, reply.key(work), conn_id);
        return Err(reason);
    }
    tables.count(&work.flow.backend_id, |stats| {
        stats.flows_opened = stats.flows_opened.wrapping_add(1);
    });
    work.item = F::sweep_item(*forward.key(work), conn_id);
    if tables.sweep_push(&work.item).is_err() {
        // Only items of connections that a claim has reclaimed can have filled the queue: they go when looked at.
        sweep::make_room::<F, T>(tables, work);
        work.item = F::sweep_item(*forward.key(work), conn_id);
        let _ = tables.sweep_push(&work.item);
    }
    release_half::<F, T>(tables, reply.key(work), conn_id);
    release_half::<F, T>(tables, forward.key(work), conn_id);
    Ok(())
}

/// Whether another CPU has established the same connection.
#[inline(always)]
fn is_there<F: Family, T: FlowTables<F>>(tables: &T, reply_key: &F::Key, conn_id: u64) -> bool {
    tables
        .established(reply_key)
        .is_some_and(|entry| entry.conn_id() == conn_id)
}

/// Takes a reply entry back.
#[inline(always)]
fn undo<F: Family, T: FlowTables<F>>(tables: &T, reply_key: &F::Key, conn_id: u64) {
    if let Some(entry) = tables.established(reply_key)
        && entry.kill(conn_id).is_ok()
    {
        tables.delete_established(reply_key);
    }
}

#[inline(always)]
fn insert<F: Family, T: Tables + FlowTables<F>>(tables: &T, work: &mut Work<F>, side: Side) -> Result<(), DropReason> {
    match side {
        Side::Own => F::pack_into(&work.flow, &mut work.value),
        Side::Peer => F::pack_into(&work.peer, &mut work.value),
    }
    let inserted = match tables.insert_established(side.key(work), &work.value) {
        Err(InsertError::Full) => {
            sweep::make_room::<F, T>(tables, work);
            tables.insert_established(side.key(work), &work.value)
        }
        other => other,
    };
    inserted.map_err(|error| match error {
        InsertError::Exists => DropReason::ClaimLost,
        InsertError::Full => DropReason::FlowTableFull,
    })
}
