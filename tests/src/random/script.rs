//! A sequence of steps that can be run again, and cut down to what still fails.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::kernel::{Mismatch, Rig};
use crate::model::World;
use crate::packets::hex;

/// Runs that take longer may see kernel ticks that the model does not know about; lifetimes leave half a second.
pub const REAL_TIME_LIMIT: Duration = Duration::from_millis(350);

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A frame arrives.
    Packet {
        /// Where.
        ifindex: u32,
        /// The frame.
        frame: Vec<u8>,
    },
    /// So many ticks pass.
    Age(u32),
    /// The agent sweeps.
    Sweep,
    /// A backend's state and next hop change.
    Backend {
        /// Its id.
        id: u32,
        /// New state.
        state: u8,
        /// New hop flags.
        hop_flags: u8,
    },
}

/// A configuration and what happens to it.
#[derive(Clone, Debug)]
pub struct Script {
    /// At the start.
    pub world: World,
    /// In order.
    pub steps: Vec<Step>,
}

/// Where program and model parted.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Steps done, the failing one included; one more than there are: the comparison at the end.
    pub at: usize,
    /// How they differ.
    pub mismatch: Mismatch,
}

impl Step {
    /// Does it to both sides.
    pub fn run(&self, rig: &mut Rig) -> Result<Result<(), Mismatch>> {
        match self {
            Self::Packet { ifindex, frame } => return Ok(rig.try_send(*ifindex, frame)?.map(drop)),
            Self::Age(ticks) => rig.age(*ticks)?,
            Self::Sweep => rig.sweep()?,
            Self::Backend { id, state, hop_flags } => rig.configure(|world| {
                if let Some(backend) = world.backends.get_mut(id) {
                    (backend.state, backend.hop_flags) = (*state, *hop_flags);
                }
            })?,
        }
        Ok(Ok(()))
    }
}

impl Script {
    /// Runs it from the start. `None`: program and model agree, or the machine was too slow to say.
    pub fn run(&self, rig: &mut Rig) -> Result<Option<Failure>> {
        rig.reset(self.world.clone())?;
        let started = Instant::now();
        let failure = self.first_failure(rig)?;
        Ok(failure.filter(|_| started.elapsed() < REAL_TIME_LIMIT))
    }

    fn first_failure(&self, rig: &mut Rig) -> Result<Option<Failure>> {
        for (n, step) in self.steps.iter().enumerate() {
            if let Err(mismatch) = step.run(rig)? {
                return Ok(Some(Failure { at: n + 1, mismatch }));
            }
        }
        let at = self.steps.len() + 1;
        Ok(rig.check_state()?.err().map(|mismatch| Failure { at, mismatch }))
    }
}

/// Takes steps out of a failing script as long as what is left still fails.
pub fn shrink(script: &Script, rig: &mut Rig) -> Result<(Script, Option<Failure>)> {
    let mut best = script.clone();
    let mut failure = best.run(rig)?;
    if let Some(found) = &failure {
        best.steps.truncate(found.at);
    }
    let mut chunk = best.steps.len().div_ceil(2);
    while chunk > 0 && failure.is_some() {
        let mut at = 0;
        while at < best.steps.len() {
            let mut shorter = best.clone();
            shorter.steps.drain(at..(at + chunk).min(best.steps.len()));
            match shorter.run(rig)? {
                Some(found) => {
                    shorter.steps.truncate(found.at);
                    (best, failure) = (shorter, Some(found));
                }
                None => at += chunk,
            }
        }
        chunk /= 2;
    }
    Ok((best, failure))
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:#?}", self.world.settings)?;
        writeln!(
            f,
            "interfaces {:?}, tx ports {:?}",
            self.world.ifaces, self.world.tx_ports
        )?;
        for (id, service) in &self.world.services {
            writeln!(f, "service {id}: {service:?}")?;
        }
        for (id, backend) in &self.world.backends {
            writeln!(f, "backend {id}: {backend:?}")?;
        }
        for (n, step) in self.steps.iter().enumerate() {
            match step {
                Step::Packet { ifindex, frame } => writeln!(f, "{:3}: interface {ifindex} {}", n + 1, hex(frame))?,
                other => writeln!(f, "{:3}: {other:?}", n + 1)?,
            }
        }
        Ok(())
    }
}
