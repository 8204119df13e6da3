//! The maps behind the packet logic's second seam.

use core::{
    ffi::c_void,
    ops::ControlFlow,
    ptr::{from_mut, from_ref},
};

use aya_ebpf::{
    Global,
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::{bpf_get_smp_processor_id, bpf_jiffies64, bpf_loop, bpf_map_lookup_elem, bpf_map_pop_elem},
};
use lb_common::{
    abi::{
        AddrKey, Backend, BackendStats, CpuState, Endpoint, EndpointKey, FlowKey4, FlowKey6, FlowValue4, FlowValue6,
        IFACE_SLOTS, Iface, Service, Settings, SnatAddr, SweepItem4, SweepItem6,
    },
    hash::OursBit,
};
use lb_ebpf::{
    family::{Family, V4, V6},
    flow::Entry,
    tables::{FlowTables, InsertError, Tables},
    work::Work,
};

use super::maps::{
    xlb_addrs, xlb_backend_st, xlb_backends, xlb_cpu, xlb_endpoints, xlb_flows4, xlb_flows6, xlb_half4, xlb_half6,
    xlb_ifaces, xlb_ours, xlb_rings, xlb_services, xlb_settings, xlb_snat, xlb_sweep4, xlb_sweep6, xlb_work4,
    xlb_work6,
};

/// Kernel ticks a second; the agent sets it at load.
#[unsafe(no_mangle)]
// SAFETY: the symbol's name is the loader's handle; nothing else in the object defines it.
static XLB_HZ: Global<u32> = Global::new(250);

const EEXIST: i32 = -17;

/// Where the value of an array map at this index stands, or null. Not aya's methods: they copy the index.
///
/// # Safety
/// `map` is the address of a map's definition, whose values are of type `V`.
#[inline(always)]
unsafe fn lookup<V>(map: *const c_void, index: &u32) -> *mut V {
    // SAFETY: the address of a map's definition is what the loader turns into the map; the helper reads one index.
    unsafe { bpf_map_lookup_elem(map.cast_mut(), from_ref(index).cast()).cast() }
}

/// The kernel's maps.
pub(crate) struct Maps;

impl Tables for Maps {
    #[inline(always)]
    fn settings(&self) -> Option<&Settings> {
        xlb_settings.get(0)
    }

    #[inline(always)]
    fn iface(&self, ifindex: u32) -> Option<&Iface> {
        xlb_ifaces.get(ifindex & (IFACE_SLOTS - 1))
    }

    #[inline(always)]
    fn ours(&self, bit: OursBit) -> bool {
        xlb_ours
            .get(bit.block)
            .is_some_and(|block| block.bits & bit.mask() != 0)
    }

    #[inline(always)]
    fn endpoint(&self, key: &EndpointKey) -> Endpoint {
        // SAFETY: copied out at once; the agent replaces values whole.
        unsafe { xlb_endpoints.get(key) }.map_or(Endpoint::default(), |endpoint| *endpoint)
    }

    #[inline(always)]
    fn roles(&self, key: &AddrKey) -> u32 {
        // SAFETY: copied out at once; one word.
        unsafe { xlb_addrs.get(key) }.map_or(0, |role| role.roles)
    }

    #[inline(always)]
    fn service(&self, id: u32) -> Option<&Service> {
        xlb_services.get(id)
    }

    #[inline(always)]
    fn backend(&self, id: &u32) -> Option<&Backend> {
        // SAFETY: the map's value type; it is readable for the program's run.
        unsafe { lookup::<Backend>((&raw const xlb_backends).cast(), id).as_ref() }
    }

    #[inline(always)]
    fn ring_slot(&self, index: u32) -> Option<u32> {
        xlb_rings.get(index).map(|slot| slot.backend_id)
    }

    #[inline(always)]
    fn snat(&self, index: u32) -> Option<&SnatAddr> {
        xlb_snat.get(index)
    }

    #[inline(always)]
    fn count(&self, backend_id: &u32, change: impl FnOnce(&mut BackendStats)) {
        // SAFETY: the map's value type, this CPU's slot; XDP programs do not interrupt each other on a CPU.
        if let Some(stats) = unsafe { lookup::<BackendStats>((&raw const xlb_backend_st).cast(), backend_id).as_mut() }
        {
            change(stats);
        }
    }

    #[inline(always)]
    fn cpu<R>(&self, with: impl FnOnce(&mut CpuState) -> R) -> Option<R> {
        // SAFETY: this CPU's slot; XDP programs do not interrupt each other on a CPU.
        xlb_cpu.get_ptr_mut(0).map(|state| with(unsafe { &mut *state }))
    }

    #[inline(always)]
    fn new_conn_id(&self) -> Option<u64> {
        // SAFETY: the helper has no precondition.
        let cpu = unsafe { bpf_get_smp_processor_id() } as u64;
        self.cpu(|state| {
            state.connections = state.connections.wrapping_add(1);
            (cpu.wrapping_add(1) << 40) | (state.connections & ((1 << 40) - 1))
        })
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        // SAFETY: the helper has no precondition.
        unsafe { bpf_jiffies64() as u32 }
    }

    #[inline(always)]
    fn hz(&self) -> u32 {
        XLB_HZ.load()
    }

    #[inline(always)]
    fn repeat<C: FnMut(u32) -> ControlFlow<()>>(&self, times: u32, body: &mut C) {
        // SAFETY: `turn::<C>` matches the helper's callback type and gets back the pointer given here.
        unsafe {
            bpf_loop(times, turn::<C> as *mut c_void, from_mut(body).cast(), 0);
        }
    }
}

/// One turn of [`Maps::repeat`]; 1 ends the loop.
extern "C" fn turn<C: FnMut(u32) -> ControlFlow<()>>(index: u64, body: *mut C) -> i64 {
    // SAFETY: `repeat` lends its closure to the loop, which ends before it returns.
    let body = unsafe { &mut *body };
    match body(index as u32) {
        ControlFlow::Continue(()) => 0,
        ControlFlow::Break(()) => 1,
    }
}

/// This CPU's scratch. Not part of the packet logic's seam: the logic gets it handed in.
pub(crate) trait HasWork<F: Family> {
    /// The scratch; one borrow at a time.
    #[expect(clippy::mut_from_ref, reason = "it stands in a per-CPU map, not in `self`")]
    fn work(&self) -> Option<&mut Work<F>>;
}

macro_rules! flow_tables {
    ($family:ty, $key:ty, $value:ty, $item:ty, $established:ident, $half:ident, $sweep:ident, $work:ident) => {
        impl HasWork<$family> for Maps {
            #[inline(always)]
            fn work(&self) -> Option<&mut Work<$family>> {
                // SAFETY: this CPU's slot, zeroed by the kernel, which is a value of every field; XDP programs do not
                // interrupt each other on a CPU, and a caller keeps to one borrow.
                $work.get_ptr_mut(0).map(|work| unsafe { &mut *work.cast() })
            }
        }

        impl FlowTables<$family> for Maps {
            #[inline(always)]
            fn established(&self, key: &$key) -> Option<Entry<$family>> {
                // SAFETY: a preallocated map: elements stay mapped for the program's run.
                $established
                    .get_ptr_mut(key)
                    .map(|value| unsafe { Entry::new(value) })
            }

            #[inline(always)]
            fn half(&self, key: &$key) -> Option<Entry<$family>> {
                // SAFETY: a preallocated map: elements stay mapped for the program's run.
                $half.get_ptr_mut(key).map(|value| unsafe { Entry::new(value) })
            }

            #[inline(always)]
            fn insert_established(&self, key: &$key, value: &$value) -> Result<(), InsertError> {
                $established
                    .insert(key, value, BPF_NOEXIST as u64)
                    .map_err(insert_error)
            }

            #[inline(always)]
            fn insert_half(&self, key: &$key, value: &$value) -> Result<(), InsertError> {
                $half.insert(key, value, BPF_NOEXIST as u64).map_err(insert_error)
            }

            #[inline(always)]
            fn delete_established(&self, key: &$key) {
                let _ = $established.remove(key);
            }

            #[inline(always)]
            fn delete_half(&self, key: &$key) {
                let _ = $half.remove(key);
            }

            #[inline(always)]
            fn sweep_push(&self, item: &$item) -> Result<(), InsertError> {
                $sweep.push(item, BPF_ANY as u64).map_err(|_| InsertError::Full)
            }

            #[inline(always)]
            fn sweep_pop(&self, item: &mut $item) -> bool {
                let queue = (&raw const $sweep).cast_mut().cast();
                // SAFETY: the address of a map's definition is what the loader turns into the map, whose values are of the
                // item's type. Not aya's method: it takes the item by way of the stack.
                unsafe { bpf_map_pop_elem(queue, from_mut(item).cast()) == 0 }
            }
        }
    };
}

flow_tables!(
    V4, FlowKey4, FlowValue4, SweepItem4, xlb_flows4, xlb_half4, xlb_sweep4, xlb_work4
);
flow_tables!(
    V6, FlowKey6, FlowValue6, SweepItem6, xlb_flows6, xlb_half6, xlb_sweep6, xlb_work6
);

#[inline(always)]
fn insert_error(errno: i32) -> InsertError {
    if errno == EEXIST {
        InsertError::Exists
    } else {
        InsertError::Full
    }
}
