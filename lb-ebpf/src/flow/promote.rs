//! From half-open to established. The half-open reply entry is the token: whoever exchanges its id for 0 promotes, and
//! until the established reply entry stands, the dead half-open entry keeps the tuple occupied.
//! docs/decisions/0003-flow-tables.md argues the interleavings.

use lb_common::{abi::direction, reason::DropReason};

use super::release_half;
use crate::{
    family::Family,
    sweep,
    tables::{FlowTables, InsertError, Tables},
    work::Work,
};

/// Inserts both established entries, from `work.flow` and `work.peer` under `work.key` and `work.peer_key`, and
/// deletes the half-open ones. Another CPU doing the same at the same time is success.
#[inline(never)]
pub fn promote<F: Family, T: Tables + FlowTables<F>>(tables: &T, work: &mut Work<F>) -> Result<(), DropReason> {
    let conn_id = work.flow.conn_id;
    let is_forward = work.flow.direction == direction::FORWARD;
    let token_key = if is_forward { &work.peer_key } else { &work.key };
    let Some(token) = tables.half(token_key) else {
        return Ok(());
    };
    if token.kill(conn_id).is_err() {
        return Ok(());
    }
    let now = tables.now();
    work.flow.last_seen = now;
    work.peer.last_seen = now;
    let established = if is_forward {
        insert_peer::<F, T>(tables, work).and_then(|()| insert_own::<F, T>(tables, work))
    } else {
        insert_own::<F, T>(tables, work).and_then(|()| insert_peer::<F, T>(tables, work))
    };
    if let Err(reason) = established {
        undo::<F, T>(tables, if is_forward { &work.peer_key } else { &work.key }, conn_id);
        // The client's retransmission tries again, when there may be room.
        token.revive(conn_id);
        return Err(reason);
    }
    tables.count(work.flow.backend_id, |stats| {
        stats.flows_opened = stats.flows_opened.wrapping_add(1);
    });
    work.item = F::sweep_item(if is_forward { work.key } else { work.peer_key }, conn_id);
    // The queue holds more than the table; if it is full all the same, a claim or an insert will meet the entry.
    let _ = tables.sweep_push(&work.item);
    if is_forward {
        tables.delete_half(&work.peer_key);
        release_half::<F, T>(tables, &work.key, conn_id);
    } else {
        tables.delete_half(&work.key);
        release_half::<F, T>(tables, &work.peer_key, conn_id);
    }
    Ok(())
}

/// Takes a reply entry back whose forward entry found no room.
#[inline(always)]
fn undo<F: Family, T: FlowTables<F>>(tables: &T, reply_key: &F::Key, conn_id: u64) {
    if let Some(entry) = tables.established(reply_key)
        && entry.kill(conn_id).is_ok()
    {
        tables.delete_established(reply_key);
    }
}

#[inline(always)]
fn insert_own<F: Family, T: Tables + FlowTables<F>>(tables: &T, work: &mut Work<F>) -> Result<(), DropReason> {
    F::pack_into(&work.flow, &mut work.value);
    match tables.insert_established(&work.key, &work.value) {
        Err(InsertError::Full) => {
            sweep::make_room::<F, T>(tables, work);
            result(tables.insert_established(&work.key, &work.value))
        }
        other => result(other),
    }
}

#[inline(always)]
fn insert_peer<F: Family, T: Tables + FlowTables<F>>(tables: &T, work: &mut Work<F>) -> Result<(), DropReason> {
    F::pack_into(&work.peer, &mut work.value);
    match tables.insert_established(&work.peer_key, &work.value) {
        Err(InsertError::Full) => {
            sweep::make_room::<F, T>(tables, work);
            result(tables.insert_established(&work.peer_key, &work.value))
        }
        other => result(other),
    }
}

#[inline(always)]
fn result(inserted: Result<(), InsertError>) -> Result<(), DropReason> {
    inserted.map_err(|error| match error {
        InsertError::Exists => DropReason::ClaimLost,
        InsertError::Full => DropReason::FlowTableFull,
    })
}
