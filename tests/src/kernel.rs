//! The real BPF object in the kernel: loaded with small maps, filled directly, run packet by packet with
//! BPF_PROG_TEST_RUN. Nothing is attached.

mod lab;
mod maps;
mod rig;
mod talk;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::Map;
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use lb_common::abi::{BackendStats, CpuState, ReasonStats};
use lb_common::names;
use lb_common::reason::REASON_SLOTS;
use lb_userspace::dataplane::{kernel_hz, uninterrupted};

pub use lab::{Lab, pin_to_cpu};
pub use maps::{Entry, Key, Maps, Side, Wire};
pub(crate) use maps::{clear, typed, wear};
pub use rig::{Loaded, Mismatch, Rig, Sent};
pub use talk::{BACKEND_ISN, CLIENT_ISN, Talk, ends};

/// Which of the two embedded objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// Without packet logging.
    Production,
    /// With aya-log.
    Log,
}

/// Entries of the maps whose size a test may want small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sizes {
    /// Connections of one family; the flow tables hold two entries for each.
    pub connections: u32,
    /// Half-open connections of one family, likewise.
    pub half_open: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            connections: 2048,
            half_open: 4096,
        }
    }
}

/// What the program did with one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// XDP action number.
    pub action: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// XDP action numbers.
pub mod action {
    /// `XDP_DROP`.
    pub const DROP: u32 = 1;
    /// `XDP_PASS`.
    pub const PASS: u32 = 2;
    /// `XDP_TX`.
    pub const TX: u32 = 3;
    /// `XDP_REDIRECT`.
    pub const REDIRECT: u32 = 4;
}

/// The loaded object.
pub struct Kernel {
    bpf: Ebpf,
    /// Its maps.
    pub maps: Maps,
    /// What the maps of connections take.
    pub flow_bytes: FlowBytes,
    map_fds: BTreeMap<String, OwnedFd>,
}

/// Memory locked by the maps of connections: established, half-open and the sweep's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowBytes {
    /// Of IPv4.
    pub v4: u64,
    /// Of IPv6.
    pub v6: u64,
}

impl Kernel {
    /// Loads and verifies the object, with small tables besides those of connections.
    pub fn load(object: Object, sizes: Sizes) -> Result<Self> {
        let small = [(names::SERVICES, 64), (names::BACKENDS, 256), (names::RINGS, 4096)];
        Self::load_with(object, sizes, &small)
    }

    /// Loads and verifies the object, with these maps of these sizes and the others as the object has them.
    pub fn load_with(object: Object, sizes: Sizes, entries_of: &[(&str, u32)]) -> Result<Self> {
        let bytes = match object {
            Object::Production => lb_userspace::BPF_OBJECT,
            Object::Log => lb_userspace::BPF_OBJECT_LOG,
        };
        let mut loader = EbpfLoader::new();
        loader.override_global(names::RODATA_HZ, &crate::model::HZ, true);
        for (name, entries) in [
            (names::FLOWS4, sizes.connections * 2),
            (names::FLOWS6, sizes.connections * 2),
            (names::HALF4, sizes.half_open * 2),
            (names::HALF6, sizes.half_open * 2),
            // As the agent has it: room for connections that others reclaimed and that still stand in the queue.
            (names::SWEEP4, sizes.connections + sizes.connections / 4),
            (names::SWEEP6, sizes.connections + sizes.connections / 4),
        ]
        .into_iter()
        .chain(entries_of.iter().copied())
        {
            loader.map_max_entries(name, entries);
        }
        let mut bpf = loader
            .load(bytes)
            .with_context(|| format!("load the {object:?} object"))?;
        for name in [names::PROGRAM_XDP, names::PROGRAM_SWEEP] {
            let program: &mut Xdp = bpf
                .program_mut(name)
                .with_context(|| format!("program {name} is not in the object"))?
                .try_into()
                .with_context(|| format!("program {name} is not of type XDP"))?;
            uninterrupted(|| program.load()).with_context(|| format!("the kernel refuses program {name}"))?;
        }
        let flow_bytes = FlowBytes {
            v4: locked(&bpf, &[names::FLOWS4, names::HALF4, names::SWEEP4])?,
            v6: locked(&bpf, &[names::FLOWS6, names::HALF6, names::SWEEP6])?,
        };
        let map_fds = map_fds(&bpf)?;
        let maps = Maps::take(&mut bpf)?;
        Ok(Self {
            bpf,
            maps,
            flow_bytes,
            map_fds,
        })
    }

    /// A map by its name in the object.
    pub fn map_fd(&self, name: &str) -> Result<BorrowedFd<'_>> {
        let fd = self.map_fds.get(name);
        fd.map(AsFd::as_fd)
            .with_context(|| format!("map {name} was not loaded"))
    }

    /// The loaded program, to be called by another one.
    pub fn program(&self) -> Result<&Xdp> {
        let program = self
            .bpf
            .program(names::PROGRAM_XDP)
            .context("the program was loaded before")?;
        Ok(program.try_into()?)
    }

    /// The loaded program, to be attached.
    pub fn program_mut(&mut self) -> Result<&mut Xdp> {
        let program = self
            .bpf
            .program_mut(names::PROGRAM_XDP)
            .context("the program was loaded before")?;
        Ok(program.try_into()?)
    }

    /// Runs the program on a frame as if it had come in on this interface (of the calling thread's namespace; its
    /// first receive queue).
    pub fn run(&self, ingress_ifindex: u32, frame: &[u8]) -> Result<Output> {
        self.run_program(names::PROGRAM_XDP, ingress_ifindex, frame)
    }

    /// Runs the sweep once.
    pub fn sweep(&self) -> Result<()> {
        self.run_program(names::PROGRAM_SWEEP, 0, &[0; 64]).map(drop)
    }

    fn run_program(&self, name: &str, ingress_ifindex: u32, frame: &[u8]) -> Result<Output> {
        let program: &Xdp = self
            .bpf
            .program(name)
            .context("the program was loaded before")?
            .try_into()?;
        let mut out = vec![0_u8; frame.len() + 256];
        let context = xdp_md(frame.len() as u32, ingress_ifindex);
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut out);
        options.ctx_in = Some(&context);
        let result = program
            .test_run(options)
            .with_context(|| format!("run {name} on {} bytes from interface {ingress_ifindex}", frame.len()))?;
        out.truncate(result.data_size_out as usize);
        Ok(Output {
            action: result.return_value,
            frame: out,
        })
    }

    /// A reason's counters, summed over the CPUs.
    pub fn reason(&self, index: u32) -> Result<ReasonStats> {
        let values = self.maps.reasons.get(&index, 0)?;
        Ok(values.iter().fold(ReasonStats::default(), |sum, cpu| ReasonStats {
            packets: sum.packets + cpu.0.packets,
            bytes: sum.bytes + cpu.0.bytes,
        }))
    }

    /// Every reason's counters.
    pub fn reasons(&self) -> Result<Vec<ReasonStats>> {
        (0..REASON_SLOTS).map(|index| self.reason(index)).collect()
    }

    /// A backend's counters, summed over the CPUs.
    pub fn backend(&self, id: u32) -> Result<BackendStats> {
        let values = self.maps.backend_stats.get(&id, 0)?;
        Ok(values
            .iter()
            .fold(BackendStats::default(), |sum, cpu| add_backend(sum, cpu.0)))
    }

    /// The per-CPU state, summed over the CPUs (sensible for its counters only).
    pub fn cpu_totals(&self) -> Result<CpuState> {
        let values = self.maps.cpu.get(&0, 0)?;
        Ok(values.iter().fold(CpuState::default(), |sum, cpu| CpuState {
            connections: sum.connections + cpu.0.connections,
            hops_moved: sum.hops_moved + cpu.0.hops_moved,
            tuples_reused_early: sum.tuples_reused_early + cpu.0.tuples_reused_early,
            ..CpuState::default()
        }))
    }
}

fn map_fds(bpf: &Ebpf) -> Result<BTreeMap<String, OwnedFd>> {
    let mut fds = BTreeMap::new();
    for (name, map) in bpf.maps() {
        let (Map::Array(data)
        | Map::PerCpuArray(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::Queue(data)
        | Map::DevMapHash(data)) = map
        else {
            continue;
        };
        fds.insert(name.to_owned(), data.fd().as_fd().try_clone_to_owned()?);
    }
    Ok(fds)
}

/// Bytes that the kernel accounts these maps with.
fn locked(bpf: &Ebpf, names: &[&str]) -> Result<u64> {
    let mut sum = 0;
    for name in names {
        let Some(Map::HashMap(map) | Map::LruHashMap(map) | Map::Queue(map)) = bpf.map(name) else {
            bail!("the object has no table {name}");
        };
        sum += memlock_bytes(map.fd().as_fd())?;
    }
    Ok(sum)
}

/// Bytes that the kernel accounts a map with.
pub(crate) fn memlock_bytes(map: BorrowedFd<'_>) -> Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", map.as_raw_fd());
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let bytes = text
        .lines()
        .find_map(|line| line.strip_prefix("memlock:")?.trim().parse::<u64>().ok());
    bytes.with_context(|| format!("{path} has no memlock"))
}

/// The kernel's `struct xdp_md` as test run takes it: `data_end` must be the frame's length and the interface must
/// exist in the caller's namespace (net/bpf/test_run.c, `xdp_convert_md_to_buff`).
pub(crate) fn xdp_md(frame_bytes: u32, ingress_ifindex: u32) -> [u8; 24] {
    let mut context = [0_u8; 24];
    for (slot, value) in context
        .chunks_exact_mut(4)
        .zip([0, frame_bytes, 0, ingress_ifindex, 0, 0])
    {
        slot.copy_from_slice(&value.to_ne_bytes());
    }
    context
}

fn add_backend(a: BackendStats, b: BackendStats) -> BackendStats {
    BackendStats {
        packets_in: a.packets_in + b.packets_in,
        bytes_in: a.bytes_in + b.bytes_in,
        packets_out: a.packets_out + b.packets_out,
        bytes_out: a.bytes_out + b.bytes_out,
        flows_new: a.flows_new + b.flows_new,
        flows_opened: a.flows_opened + b.flows_opened,
        flows_closed: a.flows_closed + b.flows_closed,
        flows_refused: a.flows_refused + b.flows_refused,
    }
}

/// That this kernel's ticks are as long as the lifetimes in the tests take them to be.
pub fn check_hz() -> Result<()> {
    let hz = kernel_hz()?;
    ensure!(
        hz == crate::model::HZ,
        "this kernel ticks at {hz} Hz, the tests are written for {}",
        crate::model::HZ
    );
    Ok(())
}
