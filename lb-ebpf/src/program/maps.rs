//! The maps, BTF-typed with named fields. Names and layouts are lb-common's; sizes here are the smallest legal ones
//! where the agent sets them at load from `[limits]`.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, DevMapHash, HashMap, LruHashMap, PerCpuArray, Queue},
    macros::btf_map,
};
use lb_common::{
    abi::{
        AddrKey, AddrRole, Backend, BackendStats, CpuState, Endpoint, EndpointKey, FlowKey4, FlowKey6, FlowValue4,
        FlowValue6, IFACE_SLOTS, Iface, Name, NameKey, OURS_BLOCKS, OursBlock, ReasonStats, RingSlot, Service,
        Settings, SnatAddr, SweepItem4, SweepItem6, TxErrors,
    },
    limits::{
        DEFAULT_BACKENDS, DEFAULT_CONNECTIONS, DEFAULT_ENDPOINTS, DEFAULT_HALF_OPEN, DEFAULT_RING_SLOTS,
        DEFAULT_SERVICES, MAX_ADDRESSES, MAX_SNAT_ADDRESSES, MAX_TX_PORTS,
    },
    reason::REASON_SLOTS,
};
use lb_ebpf::{
    family::{V4, V6},
    work::Work,
};

/// Bytes behind `lb_ebpf::work::Work`, which is the program's own and no part of the ABI.
#[repr(C, align(8))]
pub(crate) struct Scratch {
    bytes: [u64; SCRATCH_WORDS],
}

const SCRATCH_WORDS: usize = 96;
const _: () = assert!(size_of::<Work<V6>>() <= SCRATCH_WORDS * 8 && size_of::<Work<V4>>() <= SCRATCH_WORDS * 8);

const FLOWS: usize = DEFAULT_CONNECTIONS as usize * 2;
const HALVES: usize = DEFAULT_HALF_OPEN as usize * 2;
const SWEEP: usize = DEFAULT_CONNECTIONS as usize + DEFAULT_CONNECTIONS as usize / 4;

/// The agent writes rings by stores into the map's memory: by system calls, ten million slots take seconds.
const MAPPABLE: usize = BPF_F_MMAPABLE as usize;

macro_rules! maps {
    ($($(#[$doc:meta])* $name:ident: $ty:ty;)*) => {$(
        $(#[$doc])*
        #[btf_map]
        #[expect(non_upper_case_globals, reason = "the static's name is the map's name in bpftool")]
        pub(crate) static $name: $ty = <$ty>::new();
    )*};
}

maps! {
    xlb_settings: Array<Settings, 1>;
    xlb_ours: Array<OursBlock, { OURS_BLOCKS as usize }>;
    xlb_ifaces: Array<Iface, { IFACE_SLOTS as usize }>;
    xlb_endpoints: HashMap<EndpointKey, Endpoint, { DEFAULT_ENDPOINTS as usize }>;
    xlb_addrs: HashMap<AddrKey, AddrRole, { MAX_ADDRESSES as usize }>;
    xlb_services: Array<Service, { DEFAULT_SERVICES as usize }>;
    xlb_backends: Array<Backend, { DEFAULT_BACKENDS as usize }>;
    xlb_rings: Array<RingSlot, { DEFAULT_RING_SLOTS as usize }, MAPPABLE>;
    xlb_snat: Array<SnatAddr, { MAX_SNAT_ADDRESSES as usize * 2 }>;
    xlb_flows4: HashMap<FlowKey4, FlowValue4, FLOWS>;
    xlb_flows6: HashMap<FlowKey6, FlowValue6, FLOWS>;
    xlb_half4: LruHashMap<FlowKey4, FlowValue4, HALVES>;
    xlb_half6: LruHashMap<FlowKey6, FlowValue6, HALVES>;
    xlb_sweep4: Queue<SweepItem4, SWEEP>;
    xlb_sweep6: Queue<SweepItem6, SWEEP>;
    xlb_backend_st: PerCpuArray<BackendStats, { DEFAULT_BACKENDS as usize }>;
    xlb_reason_st: PerCpuArray<ReasonStats, { REASON_SLOTS as usize }>;
    xlb_cpu: PerCpuArray<CpuState, 1>;
    xlb_tx_ports: DevMapHash<{ MAX_TX_PORTS as usize }>;
    xlb_tx_errors: LruHashMap<u32, TxErrors, { MAX_TX_PORTS as usize }>;
    xlb_work4: PerCpuArray<Scratch, 1>;
    xlb_work6: PerCpuArray<Scratch, 1>;
    xlb_names: HashMap<NameKey, Name, { (DEFAULT_SERVICES + DEFAULT_BACKENDS) as usize }>;
}
