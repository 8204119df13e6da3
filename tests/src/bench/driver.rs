//! The benchmark's own programs in the kernel: they restore a packet and call the program under test, many times in one
//! system call. Nothing is attached.

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::xdp::DevMapHash;
use aya::maps::{Array, HashMap, Map, MapData, ProgramArray};
use aya::programs::{ProgramFd, TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use lb_common::abi::{Endpoint, EndpointKey, FlowValue4, FlowValue6};
use lb_common::bench::{FRAME_BYTES, FRAME_WORDS, Frame, VARY4_AT, VARY6_AT, Vary4, Vary6, Walk, names};
use lb_common::limits::DEFAULT_ENDPOINTS;
use lb_userspace::dataplane::uninterrupted;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::kernel::{Wire, clear, typed, wear, xdp_md};
use crate::model::sample::Family;

/// How many connections and table entries a benchmark has room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Connections that one walk goes through.
    pub(super) walk: u32,
    /// Entries of the table that stands beside `xlb_flows4`.
    pub(super) flows4: u32,
    /// Entries of the table that stands beside `xlb_flows6`.
    pub(super) flows6: u32,
    /// Entries of the tables that stand beside `xlb_half4` and `xlb_half6`.
    pub(super) half: u32,
}

/// Packets to be driven, all of one length.
#[derive(Clone, Debug)]
pub(super) struct Frames {
    template: Frame,
    walk: Steps,
}

#[derive(Clone, Debug)]
enum Steps {
    /// The template again and again.
    Same,
    V4(Vec<Vary4>),
    V6(Vec<Vary6>),
}

/// Which of the loops around a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loop {
    /// Restore it and call the program in the target slot.
    Drive,
    /// Restore it: the empty loop around the bare operations.
    Empty,
    /// One lookup of its key in a table like the established ones.
    Lookup,
    /// What every redirected packet of a connection asks: maps and the time.
    Packet,
    /// The lookups and inserts that a SYN cannot do without.
    Syn,
}

/// One timed run.
#[derive(Clone, Debug)]
pub(super) struct Timed {
    /// Mean nanoseconds of a turn, as the kernel measured it (in whole ones).
    pub(super) turn_ns: f64,
    /// The action of the last turn.
    pub(super) action: u32,
    /// The frame it left.
    pub(super) frame: Vec<u8>,
}

/// The loaded programs.
pub(super) struct Driver {
    bpf: Ebpf,
    frame: Array<MapData, Wire<Frame>>,
    walk: Array<MapData, Wire<Walk>>,
    vary4: Shared<Vary4>,
    vary6: Shared<Vary6>,
    target: ProgramArray<MapData>,
    flows4: HashMap<MapData, [u64; 2], Wire<FlowValue4>>,
    flows6: HashMap<MapData, [u64; 5], Wire<FlowValue6>>,
    half4: HashMap<MapData, [u64; 2], Wire<FlowValue4>>,
    half6: HashMap<MapData, [u64; 5], Wire<FlowValue6>>,
}

impl Frames {
    /// One frame for every turn.
    pub(super) fn same(frame: &[u8]) -> Result<Self> {
        Ok(Self {
            template: Frame { words: words(frame)? },
            walk: Steps::Same,
        })
    }

    /// The frames of many connections, walked in this order; outside of what [`Vary4`] or [`Vary6`] holds they must be
    /// alike.
    pub(super) fn walk(family: Family, frames: impl IntoIterator<Item = Vec<u8>>) -> Result<Self> {
        let mut template = None;
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for frame in frames {
            let words = words(&frame)?;
            let first = *template.get_or_insert(words);
            let (at, count) = match family {
                Family::V4 => (VARY4_AT, 4),
                Family::V6 => (VARY6_AT, 7),
            };
            let alike = (0..FRAME_WORDS).all(|word| (at..at + count).contains(&word) || words[word] == first[word]);
            ensure!(
                alike,
                "frames of one walk differ outside of words {at} to {}",
                at + count
            );
            match family {
                Family::V4 => v4.push(Vary4 {
                    words: std::array::from_fn(|word| words[at + word]),
                }),
                Family::V6 => v6.push(Vary6 {
                    words: std::array::from_fn(|word| words[at + word]),
                }),
            }
        }
        Ok(Self {
            template: Frame {
                words: template.context("a walk without frames")?,
            },
            walk: match family {
                Family::V4 => Steps::V4(v4),
                Family::V6 => Steps::V6(v6),
            },
        })
    }

    /// How many connections the walk has.
    pub(super) fn len(&self) -> usize {
        match &self.walk {
            Steps::Same => 1,
            Steps::V4(walk) => walk.len(),
            Steps::V6(walk) => walk.len(),
        }
    }
}

fn words(frame: &[u8]) -> Result<[u64; FRAME_WORDS]> {
    ensure!(
        frame.len() <= FRAME_BYTES,
        "a frame of {} bytes; the driver holds {FRAME_BYTES}",
        frame.len()
    );
    let mut bytes = [0_u8; FRAME_BYTES];
    bytes[..frame.len()].copy_from_slice(frame);
    Ok(bytemuck::cast(bytes))
}

impl Driver {
    /// Loads the programs.
    pub(super) fn load(room: Room) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        for (name, entries) in [
            (names::VARY4, room.walk),
            (names::VARY6, room.walk),
            (names::FLOWS4, room.flows4),
            (names::FLOWS6, room.flows6),
            (names::HALF4, room.half),
            (names::HALF6, room.half),
            (names::ENDPOINTS, DEFAULT_ENDPOINTS),
        ] {
            loader.map_max_entries(name, entries);
        }
        let mut bpf = loader
            .load(lb_userspace::BPF_OBJECT_BENCH)
            .context("load the benchmark's object")?;
        for name in [
            names::PASS,
            names::SWAP,
            names::DRIVE,
            names::DRIVE4,
            names::DRIVE6,
            names::LOOP4,
            names::LOOP6,
            names::LOOKUP4,
            names::LOOKUP6,
            names::PACKET4,
            names::PACKET6,
            names::SYN4,
            names::SYN6,
            names::SEND4,
            names::SINK,
            names::REDIRECT,
        ] {
            let program: &mut Xdp = bpf
                .program_mut(name)
                .with_context(|| format!("program {name} is not in the object"))?
                .try_into()?;
            uninterrupted(|| program.load()).with_context(|| format!("the kernel refuses program {name}"))?;
        }
        let mut endpoints: HashMap<MapData, Wire<EndpointKey>, Wire<Endpoint>> = typed(&mut bpf, names::ENDPOINTS)?;
        endpoints.insert(Wire(EndpointKey::default()), Wire(Endpoint::default()), 0)?;
        Ok(Self {
            frame: typed(&mut bpf, names::FRAME)?,
            walk: typed(&mut bpf, names::WALK)?,
            vary4: Shared::of(&bpf, names::VARY4, room.walk)?,
            vary6: Shared::of(&bpf, names::VARY6, room.walk)?,
            target: typed(&mut bpf, names::TARGET)?,
            flows4: typed(&mut bpf, names::FLOWS4)?,
            flows6: typed(&mut bpf, names::FLOWS6)?,
            half4: typed(&mut bpf, names::HALF4)?,
            half6: typed(&mut bpf, names::HALF6)?,
            bpf,
        })
    }

    /// Puts the program under test into the target slot.
    pub(super) fn aim(&mut self, program: &ProgramFd) -> Result<()> {
        self.target
            .set(0, program, 0)
            .context("put the program into the driver's slot")
    }

    /// Aims at one of the benchmark's own programs: [`names::PASS`] or [`names::SWAP`].
    pub(super) fn aim_at_own(&mut self, name: &str) -> Result<()> {
        let program: &Xdp = self.bpf.program(name).context("one of our programs")?.try_into()?;
        let program = program.fd()?.try_clone()?;
        self.aim(&program)
    }

    /// One of the benchmark's own programs, to be attached.
    pub(super) fn program(&mut self, name: &str) -> Result<&mut Xdp> {
        let program = self.bpf.program_mut(name);
        Ok(program.with_context(|| format!("no program {name}"))?.try_into()?)
    }

    /// Where [`names::REDIRECT`] sends to, and the bare operations of a packet would.
    pub(super) fn redirect_to(&mut self, ifindex: u32) -> Result<()> {
        let mut ports: DevMapHash<MapData> = typed(&mut self.bpf, names::TX_PORTS)?;
        Ok(ports.insert(0, ifindex, None, 0)?)
    }

    /// Sends the packets of the last [`Driver::set`] out of an interface of the calling thread's namespace, as frames
    /// that a driver would send; IPv4 only.
    pub(super) fn send(&self, ifindex: u32, packets: u32) -> Result<()> {
        let program: &Xdp = self.bpf.program(names::SEND4).context("loaded before")?.try_into()?;
        let data = [0_u8; FRAME_BYTES];
        let context = xdp_md(FRAME_BYTES as u32, ifindex);
        let mut options = TestRunOptions::new();
        options.data_in = Some(&data);
        options.ctx_in = Some(&context);
        options.repeat = packets;
        options.attrs = TestRunAttrs::new().xdp_live_frames(64);
        program
            .test_run(options)
            .with_context(|| format!("send {packets} live frames"))?;
        Ok(())
    }

    /// Frames that [`names::SINK`] has counted.
    pub(super) fn sunk(&self) -> Result<u64> {
        self.good()
    }

    /// Makes these the packets to be driven, from the first on.
    pub(super) fn set(&mut self, frames: &Frames) -> Result<()> {
        self.frame.set(0, Wire(frames.template), 0)?;
        match &frames.walk {
            Steps::Same => {}
            Steps::V4(walk) => self.vary4.write(walk)?,
            Steps::V6(walk) => self.vary6.write(walk)?,
        }
        self.rewind(frames)
    }

    /// Begins at the first connection again.
    pub(super) fn rewind(&mut self, frames: &Frames) -> Result<()> {
        let walk = Walk {
            next: 0,
            count: frames.len() as u32,
            good: 0,
        };
        Ok(self.walk.set(0, Wire(walk), 0)?)
    }

    /// Runs a loop over the packets of the last [`Driver::set`].
    pub(super) fn run(&mut self, kind: Loop, frames: &Frames, ifindex: u32, turns: u32) -> Result<Timed> {
        let name = match (kind, &frames.walk) {
            (Loop::Drive, Steps::Same) => names::DRIVE,
            (Loop::Drive, Steps::V4(_)) => names::DRIVE4,
            (Loop::Drive, Steps::V6(_)) => names::DRIVE6,
            (Loop::Empty, Steps::V4(_)) => names::LOOP4,
            (Loop::Empty, Steps::V6(_)) => names::LOOP6,
            (Loop::Lookup, Steps::V4(_)) => names::LOOKUP4,
            (Loop::Lookup, Steps::V6(_)) => names::LOOKUP6,
            (Loop::Packet, Steps::V4(_)) => names::PACKET4,
            (Loop::Packet, Steps::V6(_)) => names::PACKET6,
            (Loop::Syn, Steps::V4(_)) => names::SYN4,
            (Loop::Syn, Steps::V6(_)) => names::SYN6,
            (Loop::Empty | Loop::Lookup | Loop::Packet | Loop::Syn, Steps::Same) => {
                bail!("a bare operation needs connections to walk through")
            }
        };
        let program: &Xdp = self.bpf.program(name).context("loaded before")?.try_into()?;
        let data = [0_u8; FRAME_BYTES];
        let context = xdp_md(FRAME_BYTES as u32, ifindex);
        let mut options = TestRunOptions::new();
        let mut out = [0_u8; FRAME_BYTES];
        options.data_in = Some(&data);
        options.data_out = Some(&mut out);
        options.ctx_in = Some(&context);
        options.repeat = turns;
        let good_before = self.good()?;
        let result = program
            .test_run(options)
            .with_context(|| format!("run {name} {turns} times"))?;
        if kind != Loop::Drive {
            let good = self.good()? - good_before;
            ensure!(
                good == u64::from(turns),
                "{name}: only {good} of {turns} operations found what they looked for"
            );
        }
        Ok(Timed {
            turn_ns: f64::from(result.duration.subsec_nanos()),
            action: result.return_value,
            frame: out.into_iter().take(result.data_size_out as usize).collect(),
        })
    }

    fn good(&self) -> Result<u64> {
        Ok(self.walk.get(&0, 0)?.0.good)
    }

    /// Puts the keys of these packets into the table that [`Loop::Lookup`] asks.
    pub(super) fn fill(&mut self, frames: &Frames) -> Result<()> {
        const PROTOCOL: u8 = 6;
        match &frames.walk {
            Steps::Same => {}
            Steps::V4(walk) => {
                for vary in walk {
                    self.flows4.insert(vary.key(PROTOCOL), Wire(FlowValue4::default()), 0)?;
                }
            }
            Steps::V6(walk) => {
                for vary in walk {
                    self.flows6.insert(vary.key(PROTOCOL), Wire(FlowValue6::default()), 0)?;
                }
            }
        }
        Ok(())
    }

    /// [`wear`]s the tables beside those of connections.
    pub(super) fn wear(&mut self, room: Room) -> Result<()> {
        for (map, entries) in [(&mut self.flows4, room.flows4), (&mut self.half4, room.half)] {
            wear(map, entries, |words| words, Wire(FlowValue4::default()))?;
        }
        for (map, entries) in [(&mut self.flows6, room.flows6), (&mut self.half6, room.half)] {
            wear(map, entries, |words| words, Wire(FlowValue6::default()))?;
        }
        Ok(())
    }

    /// Empties the tables beside the flow tables.
    pub(super) fn clear(&mut self) -> Result<()> {
        clear(&mut self.flows4)?;
        clear(&mut self.flows6)?;
        clear(&mut self.half4)?;
        clear(&mut self.half6)
    }
}

/// An array map's values, mapped into this process.
struct Shared<T> {
    base: NonNull<T>,
    entries: usize,
}

impl<T: bytemuck::Pod> Shared<T> {
    fn of(bpf: &Ebpf, name: &str, entries: u32) -> Result<Self> {
        let Some(Map::Array(map)) = bpf.map(name) else {
            bail!("the benchmark's object has no array {name}");
        };
        let entries = entries as usize;
        let bytes = NonZeroUsize::new(entries * size_of::<T>()).context("room for no connection")?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, map.fd().as_fd(), 0) };
        Ok(Self {
            base: base.context("map the connections' array")?.cast(),
            entries,
        })
    }

    fn write(&mut self, values: &[T]) -> Result<()> {
        ensure!(
            values.len() <= self.entries,
            "{} connections, room for {}",
            values.len(),
            self.entries
        );
        // SAFETY: the mapping holds `entries` values, and nothing else in this process refers to it.
        let to = unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), values.len()) };
        to.copy_from_slice(values);
        Ok(())
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: our own mapping of this size; failing to unmap only keeps it.
        let _ = unsafe { munmap(self.base.cast(), self.entries * size_of::<T>()) };
    }
}
