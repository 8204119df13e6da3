//! The product's own maps and program, filled by the product's own writes, under the benchmark's driver.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use aya::programs::Xdp;
use aya_obj::programs::XdpAttachType;
use lb_common::abi::BackendStats;
use lb_common::bench::names::PASS;
use lb_common::names::PROGRAM_XDP;
use lb_userspace::dataplane::{self, Dataplane, FlowTables, LogObject, Options, Place, XdpMode, kernel_hz};
use lb_userspace::state::{Image, diff};

use super::fleet::Fleet;
use crate::bench::case::{self, Stage};
use crate::bench::driver::{self, Driver, Frames, Loop};
use crate::bench::fate::Fate;
use crate::kernel::Lab;
use crate::model::sample::Family;
use crate::netns::Room;

/// Connections opened at a time.
const CHUNK: usize = 1 << 16;

/// One step's loaded program.
pub(super) struct Stand {
    pub(super) lab: Lab,
    pub(super) driver: Driver,
    fleet: Fleet,
    program: Xdp,
    tables: FlowTables,
    dataplane: Dataplane,
    // Dropped last: its file system holds the pins.
    room: Room,
}

/// What a backend sees of a connection: where from, and itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply {
    source: SocketAddr,
    backend: SocketAddr,
}

impl Stand {
    /// Loads the program with this fleet in its maps.
    pub(super) fn build(lab: Lab, fleet: Fleet, walk: u32) -> Result<Self> {
        let image = fleet.image(&lab)?;
        let room = Room::for_test()?;
        let options = Options {
            pin_dir: room.bpffs().join("xlb"),
            limits: fleet.limits(),
            hz: kernel_hz()?,
            log: LogObject::Off,
            xdp_mode: XdpMode::Native,
        };
        let (mut dataplane, _) = Dataplane::open(&options)?;
        for op in diff(&Image::default(), &image) {
            dataplane.apply(&op)?;
        }
        let pin = options.pin_dir.join(format!("prog_{PROGRAM_XDP}"));
        let program = Xdp::from_pin(&pin, XdpAttachType::Interface)
            .with_context(|| format!("open the pinned program {}", pin.display()))?;
        let flows = |family| {
            if fleet.family == family {
                fleet.connections * 2
            } else {
                1
            }
        };
        let mut driver = Driver::load(driver::Room {
            walk,
            flows4: flows(Family::V4),
            flows6: flows(Family::V6),
            half: fleet.half_open * 2,
        })?;
        driver.aim(program.fd()?)?;
        Ok(Self {
            lab,
            driver,
            fleet,
            program,
            tables: dataplane.flow_tables()?,
            dataplane,
            room,
        })
    }

    /// Where the maps are pinned.
    pub(super) fn pin_dir(&self) -> PathBuf {
        self.room.bpffs().join("xlb")
    }

    /// One packet of each of these clients.
    pub(super) fn client_frames(&self, numbers: &[u32], stage: Stage) -> Result<Frames> {
        let frames = numbers.iter().map(|number| {
            let client = case::client(self.fleet.family, *number);
            case::tcp_of_client(&self.lab, client, self.fleet.dial(*number), stage)
        });
        Frames::walk(self.fleet.family, frames)
    }

    /// One packet of the backend in each of these connections.
    pub(super) fn backend_frames(&self, replies: &[Reply], stage: Stage) -> Result<Frames> {
        let frames = replies
            .iter()
            .map(|reply| case::tcp_of_backend(&self.lab, reply.backend, reply.source, stage));
        Frames::walk(self.fleet.family, frames)
    }

    /// Opens a connection of each of these clients by its three packets.
    pub(super) fn open(&mut self, numbers: &[u32]) -> Result<Vec<Reply>> {
        let mut replies = Vec::with_capacity(numbers.len());
        for chunk in numbers.chunks(CHUNK) {
            let (before, count) = (self.totals()?, chunk.len() as u32);
            self.send(&self.client_frames(chunk, Stage::First)?, Fate::ToBackend)?;
            let begun = self.half_open()?;
            ensure!(
                begun.len() == chunk.len(),
                "{} half-open connections after {count} SYNs into an empty table",
                begun.len()
            );
            self.send(&self.backend_frames(&begun, Stage::Answer)?, Fate::ToClient)?;
            self.send(&self.client_frames(chunk, Stage::Proof)?, Fate::ToBackend)?;
            let now = self.totals()?;
            let new = (now.flows_new - before.flows_new, now.flows_opened - before.flows_opened);
            ensure!(
                new == (count.into(), count.into()),
                "of {count} connections {} were begun and {} promoted",
                new.0,
                new.1
            );
            replies.extend(begun);
        }
        Ok(replies)
    }

    fn send(&mut self, frames: &Frames, fate: Fate) -> Result<()> {
        self.driver.set(frames)?;
        self.drive(frames, frames.len() as u32, fate).map(drop)
    }

    fn half_open(&self) -> Result<Vec<Reply>> {
        let family = match self.fleet.family {
            Family::V4 => dataplane::Family::Ipv4,
            Family::V6 => dataplane::Family::Ipv6,
        };
        let mut found = Vec::new();
        let _ = self.tables.walk(Place::HalfOpen, family, &mut |connection| {
            found.push(Reply {
                source: connection.source,
                backend: connection.backend,
            });
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Nanoseconds of one turn; all of them met this fate.
    pub(super) fn drive(&mut self, frames: &Frames, turns: u32, fate: Fate) -> Result<f64> {
        let ingress = match fate {
            Fate::ToClient => self.lab.backend_side,
            Fate::ToBackend | Fate::Counted(_) => self.lab.client_side,
        };
        let before = self.met(fate)?;
        let timed = self.driver.run(Loop::Drive, frames, ingress, turns)?;
        let met = self.met(fate)? - before;
        fate.verify(&timed, turns, met)
            .with_context(|| format!("the reasons are {:?}", self.reasons()))?;
        Ok(timed.turn_ns)
    }

    /// What the loop and the call of an empty program cost with these packets.
    pub(super) fn empty(&mut self, frames: &Frames, turns: u32) -> Result<f64> {
        self.driver.aim_at_own(PASS)?;
        let timed = self.driver.run(Loop::Drive, frames, self.lab.client_side, turns);
        self.driver.aim(self.program.fd()?)?;
        Ok(timed?.turn_ns)
    }

    /// Nanoseconds of a loop around a bare operation, or of the operation in it.
    pub(super) fn bare(&mut self, kind: Loop, frames: &Frames, turns: u32) -> Result<f64> {
        Ok(self.driver.run(kind, frames, self.lab.client_side, turns)?.turn_ns)
    }

    fn met(&self, fate: Fate) -> Result<u64> {
        Ok(match fate {
            Fate::ToBackend => self.totals()?.packets_in,
            Fate::ToClient => self.totals()?.packets_out,
            Fate::Counted(reason) => {
                let reasons = self.dataplane.reason_stats()?;
                reasons.get(reason.index() as usize).map_or(0, |reason| reason.packets)
            }
        })
    }

    fn reasons(&self) -> Result<Vec<(usize, u64)>> {
        let all = self.dataplane.reason_stats()?.into_iter().enumerate();
        Ok(all
            .filter(|(_, reason)| reason.packets != 0)
            .map(|(index, reason)| (index, reason.packets))
            .collect())
    }

    /// Sums over all backends.
    pub(super) fn totals(&self) -> Result<BackendStats> {
        let each = self.dataplane.backend_stats(1..=self.fleet.backends())?;
        Ok(each.values().fold(BackendStats::default(), |sum, one| BackendStats {
            packets_in: sum.packets_in + one.packets_in,
            packets_out: sum.packets_out + one.packets_out,
            flows_new: sum.flows_new + one.flows_new,
            flows_opened: sum.flows_opened + one.flows_opened,
            ..sum
        }))
    }

    /// Backends that have taken a connection.
    pub(super) fn backends_met(&self) -> Result<usize> {
        let each = self.dataplane.backend_stats(1..=self.fleet.backends())?;
        Ok(each.values().filter(|one| one.flows_new > 0).count())
    }
}
