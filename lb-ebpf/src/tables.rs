//! The second seam: the maps a stage may ask, and nothing else of the kernel (ticks included).
//!
//! Implemented by the XDP program over BPF maps and by the tests over `std` collections.

use core::ops::ControlFlow;

use lb_common::{
    abi::{AddrKey, Backend, BackendStats, CpuState, Endpoint, EndpointKey, Iface, Service, Settings, SnatAddr},
    hash::OursBit,
};

use crate::{family::Family, flow::Entry};

/// Why an insert did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// The key is there already.
    Exists,
    /// No room.
    Full,
}

/// The maps that do not depend on the family.
pub trait Tables {
    /// `xlb_settings`.
    fn settings(&self) -> Option<&Settings>;
    /// `xlb_ifaces`: the slot of this interface, whatever it holds.
    fn iface(&self, ifindex: u32) -> Option<&Iface>;
    /// `xlb_ours`.
    fn ours(&self, bit: OursBit) -> bool;
    /// `xlb_endpoints`; of kind 0 where there is none. No `Option` of a copy: where paths meet, some compilers let the
    /// program read the copy that was not made, and the verifier refuses that.
    fn endpoint(&self, key: &EndpointKey) -> Endpoint;
    /// `xlb_addrs`: role bits, 0 for an unknown address.
    fn roles(&self, key: &AddrKey) -> u32;
    /// `xlb_services`.
    fn service(&self, id: u32) -> Option<&Service>;
    /// `xlb_backends`. By reference, as [`Self::count`]: the map reads the id where it stands, in a flow's entry for one.
    fn backend(&self, id: &u32) -> Option<&Backend>;
    /// `xlb_rings`: backend id in a slot of the arena.
    fn ring_slot(&self, index: u32) -> Option<u32>;
    /// `xlb_snat`.
    fn snat(&self, index: u32) -> Option<&SnatAddr>;
    /// `xlb_backend_st`: changes this CPU's counters of a backend.
    fn count(&self, backend_id: &u32, change: impl FnOnce(&mut BackendStats));
    /// `xlb_cpu`: this CPU's state.
    fn cpu<R>(&self, with: impl FnOnce(&mut CpuState) -> R) -> Option<R>;
    /// A connection id that was never used.
    fn new_conn_id(&self) -> Option<u64>;
    /// Low 32 bits of the kernel's tick counter.
    fn now(&self) -> u32;
    /// Ticks per second.
    fn hz(&self) -> u32;
    /// Calls `body` with 0, 1, ... `times - 1` until it breaks.
    fn repeat<C: FnMut(u32) -> ControlFlow<()>>(&self, times: u32, body: &mut C);
}

/// The flow tables of one family.
pub trait FlowTables<F: Family> {
    /// Looks in the established table.
    fn established(&self, key: &F::Key) -> Option<Entry<F>>;
    /// Looks in the half-open table.
    fn half(&self, key: &F::Key) -> Option<Entry<F>>;
    /// Inserts into the established table unless the key is there.
    fn insert_established(&self, key: &F::Key, value: &F::Value) -> Result<(), InsertError>;
    /// Inserts into the half-open table unless the key is there.
    fn insert_half(&self, key: &F::Key, value: &F::Value) -> Result<(), InsertError>;
    /// Deletes from the established table. The caller holds the entry's death (see [`Entry::kill`]).
    fn delete_established(&self, key: &F::Key);
    /// Deletes from the half-open table. The caller holds the entry's death (see [`Entry::kill`]).
    fn delete_half(&self, key: &F::Key);
    /// Appends a connection to the sweep queue.
    fn sweep_push(&self, item: &F::SweepItem) -> Result<(), InsertError>;
    /// Takes the next connection from the sweep queue into `item`.
    fn sweep_pop(&self, item: &mut F::SweepItem) -> bool;
}
