//! Looking at established connections in turn and reclaiming the expired ones.
//!
//! Two callers: the program `xlb_sweep`, which the agent runs, and an insert into a full table, which is what keeps
//! the table going when there is no agent. The agent also has the sweep tell connections that the client-side
//! neighbour they reply to has another MAC now: a client that only listens would never show it.

use core::ops::ControlFlow;

use crate::{
    family::Family,
    flow::{Entry, Flow, ReclaimError, reclaim_expired},
    packet::{Eth, MacWords, Offset, Packet},
    tables::{FlowTables, Tables},
    work::Work,
};

/// Connections that an insert into a full table looks at.
pub const MAKE_ROOM_LOOKS: u32 = 64;

/// A neighbour on an interface that has another MAC now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moved {
    /// Interface; 0: nothing moved. An `Option` leaves the other words unwritten where it is `None`, and kernels before 6.3
    /// refuse a program that reads them back all the same.
    pub ifindex: u32,
    /// The MAC it had.
    pub old: MacWords,
    /// The MAC it has.
    pub new: MacWords,
}

/// What the frame of a sweep run says: the new MAC as destination, the old one as source, and behind the Ethernet
/// header the interface in native order. A frame that is no longer than the Ethernet header says nothing.
#[inline(always)]
pub fn moved_in<P: Packet>(packet: &P) -> Moved {
    let (Some(eth), Some(ifindex)) = (packet.get::<Eth>(Offset::START), packet.get::<[u8; 4]>(Offset::IP)) else {
        return Moved::default();
    };
    Moved {
        ifindex: u32::from_ne_bytes(*ifindex),
        old: MacWords::of(&eth.src),
        new: MacWords::of(&eth.dst),
    }
}

/// Looks at up to `times` connections, reclaims those that have expired, and has the others follow what `moved`.
#[inline(always)]
pub fn sweep<F: Family, T: Tables + FlowTables<F>>(tables: &T, work: &mut Work<F>, times: u32, moved: Moved) {
    tables.repeat(times, &mut |_| match next::<F, T>(tables, work) {
        Next::None => ControlFlow::Break(()),
        Next::Reclaimed => ControlFlow::Continue(()),
        Next::Stays(conn_id) => {
            if moved.ifindex != 0 {
                follow::<F, T>(tables, work, conn_id, &moved);
            }
            let _ = tables.sweep_push(&work.item);
            ControlFlow::Continue(())
        }
    });
}

/// What came of the next connection in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// There is none.
    None,
    /// It had expired.
    Reclaimed,
    /// It stays, with this id; `work.item` is to go back into the queue.
    Stays(u64),
}

#[inline(always)]
fn next<F: Family, T: Tables + FlowTables<F>>(tables: &T, work: &mut Work<F>) -> Next {
    if !tables.sweep_pop(&mut work.item) {
        return Next::None;
    }
    let conn_id = F::sweep_parts(&work.item, &mut work.owner_key);
    if reclaim_expired::<F, T>(tables, work, conn_id) == Err(ReclaimError::Alive) {
        Next::Stays(conn_id)
    } else {
        Next::Reclaimed
    }
}

/// Both entries of the connection under `work.owner_key`: replies to the old MAC go to the new one.
#[inline(always)]
fn follow<F: Family, T: Tables + FlowTables<F>>(tables: &T, work: &mut Work<F>, conn_id: u64, moved: &Moved) {
    let Some(forward) = tables.established(&work.owner_key) else {
        return;
    };
    forward.peer_key(F::protocol(&work.owner_key), &mut work.reclaim_key);
    if follow_entry(forward, F::tag(&work.owner_key), &mut work.flow, conn_id, moved)
        && let Some(reply) = tables.established(&work.reclaim_key)
    {
        follow_entry(reply, F::tag(&work.reclaim_key), &mut work.flow, conn_id, moved);
    }
}

/// Whether the entry is one that follows.
#[inline(always)]
fn follow_entry<F: Family>(entry: Entry<F>, tag: u32, flow: &mut Flow<F::Addr>, conn_id: u64, moved: &Moved) -> bool {
    let follows = entry.load_into(tag, flow)
        && flow.conn_id == conn_id
        && flow.ifindex == moved.ifindex
        && flow.peer_mac == moved.old;
    if follows {
        entry.set_hop(moved.new, flow.own_mac, flow.ifindex);
    }
    follows
}

/// Frees what it can before one more try of an insert.
#[inline(never)]
pub fn make_room<F: Family, T: Tables + FlowTables<F>>(tables: &T, work: &mut Work<F>) {
    // Not `sweep`: following a neighbour takes more stack than is left where a packet makes room.
    tables.repeat(MAKE_ROOM_LOOKS, &mut |_| match next::<F, T>(tables, work) {
        Next::None => ControlFlow::Break(()),
        Next::Reclaimed => ControlFlow::Continue(()),
        Next::Stays(_) => {
            let _ = tables.sweep_push(&work.item);
            ControlFlow::Continue(())
        }
    });
}
