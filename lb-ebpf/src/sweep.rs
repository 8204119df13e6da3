//! Looking at established connections in turn and reclaiming the expired ones.
//!
//! Two callers: the program `xlb_sweep`, which the agent runs, and an insert into a full table, which is what keeps
//! the table going when there is no agent.

use core::ops::ControlFlow;

use crate::{
    family::Family,
    flow::{ReclaimError, reclaim_expired},
    tables::{FlowTables, Tables},
    work::Work,
};

/// Connections that an insert into a full table looks at.
pub const MAKE_ROOM_LOOKS: u32 = 64;

/// Looks at up to `times` connections and reclaims those that have expired.
#[inline(always)]
pub fn sweep<F: Family, T: Tables + FlowTables<F>>(tables: &T, work: &mut Work<F>, times: u32) {
    tables.repeat(times, &mut |_| {
        if !tables.sweep_pop(&mut work.item) {
            return ControlFlow::Break(());
        }
        let (key, conn_id) = F::sweep_parts(&work.item);
        work.owner_key = key;
        if reclaim_expired::<F, T>(tables, work, conn_id) == Err(ReclaimError::Alive) {
            let _ = tables.sweep_push(&work.item);
        }
        ControlFlow::Continue(())
    });
}

/// Frees what it can before one more try of an insert.
#[inline(never)]
pub fn make_room<F: Family, T: Tables + FlowTables<F>>(tables: &T, work: &mut Work<F>) {
    sweep::<F, T>(tables, work, MAKE_ROOM_LOOKS);
}
