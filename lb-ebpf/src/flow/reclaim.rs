//! Taking a connection out of the tables so that its tuple can be used again. See docs/decisions/0003-flow-tables.md
//! for the interleavings.

use lb_common::abi::Settings;

use super::is_expired;
use crate::{
    family::Family,
    tables::{FlowTables, Tables},
    work::Work,
};

/// Why a connection stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ReclaimError {
    /// It has not expired.
    Alive,
    /// Another CPU is deleting it, or has.
    Gone,
}

/// Deletes the established connection whose forward entry stands under `work.owner_key`, with this id. Of all who
/// try, one succeeds and counts it.
#[inline(never)]
pub fn reclaim<F: Family, T: Tables + FlowTables<F>>(
    tables: &T,
    work: &mut Work<F>,
    conn_id: u64,
) -> Result<(), ReclaimError> {
    let entry = tables.established(&work.owner_key).ok_or(ReclaimError::Gone)?;
    entry.kill(conn_id).map_err(|_| ReclaimError::Gone)?;
    // Dead but ours: nobody reuses the element before we delete it.
    entry.peer_key(F::protocol(&work.owner_key), &mut work.reclaim_key);
    let backend_id = entry.tail().backend_id;
    // The reply entry goes first: as long as the forward key is occupied nobody can make this connection anew.
    if let Some(reply) = tables.established(&work.reclaim_key)
        && reply.kill(conn_id).is_ok()
    {
        tables.delete_established(&work.reclaim_key);
    }
    tables.delete_established(&work.owner_key);
    tables.count(&backend_id, |stats| {
        stats.flows_closed = stats.flows_closed.wrapping_add(1);
    });
    Ok(())
}

/// [`reclaim`], if both entries have expired.
#[inline(never)]
pub fn reclaim_expired<F: Family, T: Tables + FlowTables<F>>(
    tables: &T,
    work: &mut Work<F>,
    conn_id: u64,
) -> Result<(), ReclaimError> {
    let settings = tables.settings().ok_or(ReclaimError::Alive)?;
    let now = tables.now();
    let protocol = F::protocol(&work.owner_key);
    let entry = tables.established(&work.owner_key).ok_or(ReclaimError::Gone)?;
    let forward = entry.life(F::tag(&work.owner_key)).ok_or(ReclaimError::Gone)?;
    if forward.conn_id != conn_id {
        return Err(ReclaimError::Gone);
    }
    if !is_expired(&forward, protocol, settings, now) {
        return Err(ReclaimError::Alive);
    }
    entry.peer_key(protocol, &mut work.reclaim_key);
    if !reply_expired::<F, T>(tables, work, settings, conn_id) {
        return Err(ReclaimError::Alive);
    }
    reclaim::<F, T>(tables, work, conn_id)
}

/// Whether the reply entry, under `work.reclaim_key`, has expired or is gone.
#[inline(always)]
fn reply_expired<F: Family, T: Tables + FlowTables<F>>(
    tables: &T,
    work: &Work<F>,
    settings: &Settings,
    conn_id: u64,
) -> bool {
    tables
        .established(&work.reclaim_key)
        .and_then(|entry| entry.life(F::tag(&work.reclaim_key)))
        .filter(|reply| reply.conn_id == conn_id)
        .is_none_or(|reply| is_expired(&reply, F::protocol(&work.reclaim_key), settings, tables.now()))
}

/// Deletes one half-open entry if it still belongs to this connection.
#[inline(always)]
pub fn release_half<F: Family, T: Tables + FlowTables<F>>(tables: &T, key: &F::Key, conn_id: u64) {
    if let Some(entry) = tables.half(key)
        && entry.kill(conn_id).is_ok()
    {
        tables.delete_half(key);
    }
}
