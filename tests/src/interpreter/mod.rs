//! Runs the object's own instructions in this process, over the maps of the loaded program, and counts: instructions,
//! helper calls, lookups of each map. Counts do not depend on the machine's mood, so they can be tested.
//!
//! What it does not know is an error, never a guess; and its verdict and frame are to be compared with the kernel's.

mod machine;
mod memory;
mod packets;
mod tables;

use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsRawFd as _, RawFd};

use anyhow::{Context as _, Result};
use aya_obj::Object;
use aya_obj::generated::bpf_insn;
use lb_common::names;

use crate::kernel::Kernel;
use machine::Machine;
pub use packets::packets;
use tables::{Table, Tables};

/// A program ready to be run here.
pub struct Interpreter {
    instructions: Vec<bpf_insn>,
    tables: BTreeMap<RawFd, Table>,
}

/// What one run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// XDP action.
    pub action: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// Instructions executed.
    pub instructions: u64,
    /// Lookups by map, those of arrays among them.
    pub lookups: BTreeMap<String, u32>,
    /// Inserts and deletes by map.
    pub writes: BTreeMap<String, u32>,
    /// Calls of other helpers, by name.
    pub helpers: BTreeMap<&'static str, u32>,
}

impl Interpreter {
    /// Takes the program that `kernel` has loaded, and its maps.
    pub fn of(kernel: &Kernel) -> Result<Self> {
        let mut object = Object::parse(lb_userspace::BPF_OBJECT).context("parse the object")?;
        let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let maps = object.maps.clone();
        let mut tables = BTreeMap::new();
        let mut with_fds = Vec::new();
        for (name, map) in &maps {
            let fd = kernel.map_fd(name)?;
            tables.insert(fd.as_raw_fd(), Table::new(name, map, fd)?);
            with_fds.push((name.as_str(), fd.as_raw_fd(), map));
        }
        object
            .relocate_maps(with_fds.into_iter(), &text)
            .context("fill the maps in")?;
        object.relocate_calls(&text).context("link the subprograms")?;
        let program = object
            .programs
            .get(names::PROGRAM_XDP)
            .with_context(|| format!("no program {} in the object", names::PROGRAM_XDP))?;
        let function = object
            .functions
            .get(&program.function_key())
            .context("the program has no instructions")?;
        Ok(Self {
            instructions: function.instructions.clone(),
            tables,
        })
    }

    /// Runs it on a frame that came in on an interface; `now` is what it takes for the kernel's ticks.
    pub fn run(&self, ifindex: u32, frame: &[u8], now: u64) -> Result<Trace> {
        Machine::new(&self.instructions, Tables::new(&self.tables), ifindex, frame, now).run()
    }
}
