//! One step: everything that is measured with one fleet and one number of connections.

use anyhow::{Result, ensure};

use super::fleet::Fleet;
use super::memory;
use super::stand::Stand;
use crate::bench::Effort;
use crate::bench::case::Stage;
use crate::bench::driver::{Frames, Loop};
use crate::bench::fate::Fate;
use crate::bench::report::Unit;
use crate::bench::samples::{Samples, shuffle, shuffled};
use crate::kernel::Lab;

const LOOKUP: &str = "bare lookup";
const BARE_SYN: &str = "bare operations of a SYN";

/// What is loaded and how many connections it carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) fleet: Fleet,
    pub(super) flows: u32,
}

/// One figure of a step.
pub(super) struct Measured {
    pub(super) name: &'static str,
    pub(super) unit: Unit,
    pub(super) samples: Samples,
    /// The bare operation of the same step that it stands beside.
    pub(super) beside: Option<&'static str>,
}

struct Size {
    rounds: usize,
    /// Turns of one sample of an established packet.
    turns: u32,
    /// New clients of one sample.
    clients: u32,
}

impl Size {
    fn of(effort: Effort, flows: u32) -> Self {
        match effort {
            Effort::Full => Self {
                rounds: 7,
                // A walk through a part of very many is still one through all of memory: it is in random order.
                turns: flows.clamp(200_000, 1 << 20),
                clients: 1 << 14,
            },
            Effort::Quick => Self {
                rounds: 2,
                turns: flows,
                clients: 500,
            },
        }
    }
}

/// Loads, fills and measures.
pub(super) fn measure(lab: Lab, step: &Step, effort: Effort) -> Result<Vec<Measured>> {
    let size = Size::of(effort, step.flows);
    let mut stand = Stand::build(lab, step.fleet, step.flows.max(size.clients))?;
    let mut measured = established(&mut stand, step.flows, &size)?;
    measured.extend(new(&mut stand, step.flows, &size)?);
    let single = |name, unit, value| Measured {
        name,
        unit,
        samples: Samples::single(value),
        beside: None,
    };
    for (name, bytes) in memory::groups(&stand.pin_dir(), step.fleet.family)? {
        measured.push(single(name, Unit::Bytes, bytes));
    }
    let met = u32::try_from(stand.backends_met()?)?;
    measured.push(single("backends that took some", Unit::Count, f64::from(met)));
    Ok(measured)
}

/// Packets of established connections, both ways, in an order that neither the tables nor their memory has.
fn established(stand: &mut Stand, flows: u32, size: &Size) -> Result<Vec<Measured>> {
    let mut numbers = shuffled(flows);
    let mut replies = stand.open(&numbers)?;
    // The tables beside are filled in the order in which the program's were.
    let opened = stand.client_frames(&numbers, Stage::Data)?;
    stand.driver.fill(&opened)?;
    drop(opened);
    let opened = stand.backend_frames(&replies, Stage::Reply)?;
    stand.driver.fill(&opened)?;
    drop(opened);
    shuffle(&mut numbers, 1);
    shuffle(&mut replies, 2);
    let data = stand.client_frames(&numbers, Stage::Data)?;
    let replies = stand.backend_frames(&replies, Stage::Reply)?;
    let [mut lookup, mut to_backend, mut to_client] = [const { Samples::new() }; 3];
    for _ in 0..size.rounds {
        stand.driver.set(&data)?;
        bare(stand, Loop::Lookup, &data, size.turns, &mut lookup)?;
        timed(stand, &data, size.turns, Fate::ToBackend, &mut to_backend)?;
        stand.driver.set(&replies)?;
        timed(stand, &replies, size.turns, Fate::ToClient, &mut to_client)?;
    }
    Ok(vec![
        packet(LOOKUP, lookup, None),
        packet("to backend", to_backend, Some(LOOKUP)),
        packet("to client", to_client, Some(LOOKUP)),
    ])
}

/// SYNs of clients that never were before, while the established connections stand.
fn new(stand: &mut Stand, flows: u32, size: &Size) -> Result<Vec<Measured>> {
    let [mut bare_syn, mut syn] = [const { Samples::new() }; 2];
    let mut next = flows;
    for round in 0..size.rounds {
        let mut numbers: Vec<u32> = (next..next + size.clients).collect();
        next += size.clients;
        shuffle(&mut numbers, round as u64);
        let frames = stand.client_frames(&numbers, Stage::First)?;
        let before = stand.totals()?.flows_new;
        stand.driver.set(&frames)?;
        timed(stand, &frames, size.clients, Fate::ToBackend, &mut syn)?;
        let new = stand.totals()?.flows_new - before;
        ensure!(
            new == u64::from(size.clients),
            "of {} SYNs only {new} began a connection",
            size.clients
        );
        stand.driver.rewind(&frames)?;
        bare(stand, Loop::Syn, &frames, size.clients, &mut bare_syn)?;
    }
    Ok(vec![
        packet(BARE_SYN, bare_syn, None),
        packet("SYN", syn, Some(BARE_SYN)),
    ])
}

fn packet(name: &'static str, samples: Samples, beside: Option<&'static str>) -> Measured {
    Measured {
        name,
        unit: Unit::NsPerPacket,
        samples,
        beside,
    }
}

/// One sample of the program, and of the loop around it.
fn timed(stand: &mut Stand, frames: &Frames, turns: u32, fate: Fate, samples: &mut Samples) -> Result<()> {
    let around = stand.empty(frames, turns)?;
    stand.driver.rewind(frames)?;
    samples.push(stand.drive(frames, turns, fate)?, around);
    Ok(())
}

/// One sample of a bare operation, and of the loop around it.
fn bare(stand: &mut Stand, kind: Loop, frames: &Frames, turns: u32, samples: &mut Samples) -> Result<()> {
    let around = stand.bare(Loop::Empty, frames, turns)?;
    stand.driver.rewind(frames)?;
    samples.push(stand.bare(kind, frames, turns)?, around);
    Ok(())
}
