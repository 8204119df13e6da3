//! The only place that names aya: loads the BPF object or adopts what is pinned, attaches it to interfaces, reads and
//! writes the maps. It decides nothing about services: it applies [`Op`]s and tells the truth about the kernel.

mod abi;
mod adopt;
mod attach;
mod batch;
mod bpffs;
mod error;
mod flows;
mod image_io;
mod load;
mod lock;
mod maps;
mod packet_log;
mod pins;
mod refusal;
mod runs;
mod stats;
mod sweep;
mod sys;
mod tick;
mod tracepoints;
mod unload;
mod vmlinux;
mod window;
mod xdp_query;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use abi::{EntriesDiffer, ShapeDiffers};
pub use attach::{Attached, AttachedLink, Detached};
pub use error::DataplaneError;
pub use flows::{Connection, Family, FlowTables, Place};
pub use load::uninterrupted;
pub use lock::{PinLock, lock};
pub use maps::RingWrites;
pub use packet_log::PacketLog;
pub use refusal::note_loaded;
pub use runs::Run;
pub use stats::CpuTotals;
pub use sweep::SweepResult;
pub use tick::TickClock;
pub use unload::Unloaded;

pub use crate::config::{Limits, XdpMode};

use crate::object::{BPF_OBJECT, BPF_OBJECT_LOG};
use crate::state::Op;

/// Which of the two embedded objects to load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogObject {
    /// Without packet logging: it then costs nothing.
    #[default]
    Off,
    /// With aya-log.
    On,
}

/// What to load, and where its pins stand.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory on a BPF file system.
    pub pin_dir: PathBuf,
    /// Sizes of the maps.
    pub limits: Limits,
    /// Kernel ticks a second: [`kernel_hz`].
    pub hz: u32,
    /// With or without packet logging.
    pub log: LogObject,
    /// How XDP programs may be attached.
    pub xdp_mode: XdpMode,
}

/// How a program is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// In the kernel's generic hook, after the packet buffer is made.
    Generic,
    /// On the NIC.
    Offloaded,
    /// Several of these at once.
    Several,
}

impl AttachMode {
    /// For status and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Offloaded => "offloaded",
            Self::Several => "several",
        }
    }
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What [`Dataplane::open`] found under the pin directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// Nothing in use: all maps are new and empty.
    Fresh {
        /// Pins of a first load that was interrupted before anything was attached; they were removed.
        leftovers: Vec<PathBuf>,
    },
    /// Maps of an earlier agent, with their flows.
    Adopted {
        /// Interfaces with a pinned XDP link, by the name they had when it was pinned.
        interfaces: Vec<String>,
    },
}

/// Something works less well than it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The BPF file system was mounted inside a private mount namespace.
    PinsEndWithMountNamespace,
    /// A tracepoint could not be attached: failures after a redirect are not counted.
    NotCounting {
        /// The tracepoint.
        tracepoint: &'static str,
        /// Why.
        reason: String,
    },
    /// A tracepoint is attached but its link could not be pinned.
    CountingEndsWithAgent {
        /// The tracepoint.
        tracepoint: &'static str,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PinsEndWithMountNamespace => f.write_str(
                "the BPF file system was mounted in a private mount namespace: pins, and with them forwarding, end with \
                 its last process; mount it at /sys/fs/bpf outside first, or enter the network namespace with 'nsenter \
                 --net' instead of 'ip netns exec'",
            ),
            Self::NotCounting { tracepoint, reason } => {
                write!(f, "tracepoint {tracepoint}: {reason}; 'xlb drops' misses what the kernel fails to transmit")
            }
            Self::CountingEndsWithAgent { tracepoint, reason } => {
                write!(f, "tracepoint {tracepoint}: its link cannot be pinned ({reason}); counting ends with the agent")
            }
        }
    }
}

/// The loaded object, its maps and its pins. One task owns it.
pub struct Dataplane {
    options: Options,
    ebpf: aya::Ebpf,
    maps: maps::Maps,
    warnings: Vec<Warning>,
    /// Tracepoint links that could not be pinned and live as long as this.
    _unpinned: Vec<std::os::fd::OwnedFd>,
}

impl Dataplane {
    /// Loads the object with fresh maps, or with those that are pinned if they fit. Attaches nothing but the
    /// tracepoints, which count the network namespace of the calling thread. The caller holds the [`lock`].
    pub fn open(options: &Options) -> Result<(Self, Adoption), DataplaneError> {
        let object = match options.log {
            LogObject::Off => BPF_OBJECT,
            LogObject::On => BPF_OBJECT_LOG,
        };
        Self::open_object(options, object)
    }

    /// [`Self::open`] with another object than the embedded ones, for tests and benches. `object` is 8-byte aligned.
    pub fn open_object(options: &Options, object: &[u8]) -> Result<(Self, Adoption), DataplaneError> {
        load::open(options, object)
    }

    /// Detaches everything that is pinned under `pin_dir` and removes our pins, and only those.
    pub fn unload(pin_dir: &Path) -> Result<Unloaded, DataplaneError> {
        unload::unload(pin_dir)
    }

    /// What works less well than it should.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Where the pins stand.
    pub fn pin_dir(&self) -> &Path {
        &self.options.pin_dir
    }

    /// How the newest ring was written; [`RingWrites::Mapped`] before the first.
    pub fn ring_writes(&self) -> RingWrites {
        self.maps.rings.writes()
    }

    /// Writes the first ops of a list, where they go into one map.
    pub fn apply_run(&mut self, ops: &[Op]) -> Run {
        runs::apply_run(self, ops)
    }

    /// Writes one op to its map.
    pub fn apply(&mut self, op: &Op) -> Result<(), DataplaneError> {
        image_io::apply(self, op)
    }
}

impl fmt::Debug for Dataplane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataplane")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Kernel ticks a second (`CONFIG_HZ`), from the resolution of the coarse clock, which moves once a tick.
pub fn kernel_hz() -> Result<u32, DataplaneError> {
    let resolution = nix::time::clock_getres(nix::time::ClockId::CLOCK_MONOTONIC_COARSE)
        .map_err(|error| DataplaneError::kernel("resolution of the coarse clock")(error.into()))?;
    Ok(hz_of(Duration::from(resolution)))
}

fn hz_of(tick: Duration) -> u32 {
    let tick_ns = tick.as_nanos().max(1);
    // Rounded: 300 Hz has ticks of 3,333,333 ns.
    ((1_000_000_000 + tick_ns / 2) / tick_ns) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_tick_rates_are_found() {
        for (tick_ns, hz) in [
            (10_000_000, 100),
            (4_000_000, 250),
            (3_333_333, 300),
            (1_000_000, 1_000),
        ] {
            assert_eq!(hz_of(Duration::from_nanos(tick_ns)), hz);
        }
    }

    #[test]
    fn one_task_of_a_threaded_runtime_can_own_it() {
        fn needs_send<T: Send>() {}
        needs_send::<Dataplane>();
    }
}
