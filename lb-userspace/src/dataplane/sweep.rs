//! Runs the sweep program, which looks at queued connections and reclaims expired ones. It is never attached; the
//! kernel runs it on request (`BPF_PROG_TEST_RUN`).

use std::io;
use std::time::{Duration, Instant};

use aya::programs::{Program, TestRun, TestRunOptions};
use lb_common::names;

use super::{Dataplane, DataplaneError};
use crate::state::Moved;

/// Connections of each family that one run looks at.
const ITEMS_A_RUN: u32 = 256;
/// What the program returns when it could work.
const XDP_PASS: u32 = 2;
/// The shortest frame a test run takes: an Ethernet header.
const FRAME: [u8; 14] = [0; 14];

/// What a sweep did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepResult {
    /// Runs of the program; each looks at up to 256 connections of each family.
    pub runs: u32,
    /// How long it took.
    pub took: Duration,
}

impl Dataplane {
    /// Looks at `items` queued connections of each family, rounded up to whole runs.
    pub fn sweep(&mut self, items: u32) -> Result<SweepResult, DataplaneError> {
        self.run_sweep(items, &FRAME)
    }

    /// Looks at `items` queued connections of each family; those that reply to the neighbour's old MAC reply to its new
    /// one from now on. All are seen when `items` is at least the number of live connections.
    pub fn follow(&mut self, moved: Moved, items: u32) -> Result<SweepResult, DataplaneError> {
        // As `lb_ebpf::sweep::moved_in` reads it: destination, source, no type, interface.
        let frame = [&moved.new[..], &moved.old, &[0, 0], &moved.ifindex.to_ne_bytes()].concat();
        self.run_sweep(items, &frame)
    }

    fn run_sweep(&mut self, items: u32, frame: &[u8]) -> Result<SweepResult, DataplaneError> {
        let name = names::PROGRAM_SWEEP;
        let Some(Program::Xdp(program)) = self.ebpf.program(name) else {
            return Err(DataplaneError::ObjectLacks { what: "program", name });
        };
        let runs = items.div_ceil(ITEMS_A_RUN);
        let start = Instant::now();
        // One call a run: with a repeat count the kernel patches its XDP dispatcher around the runs.
        for _ in 0..runs {
            let options = TestRunOptions {
                data_in: Some(frame),
                ..TestRunOptions::default()
            };
            let fail = DataplaneError::kernel("run the sweep program");
            match program.test_run(options) {
                Ok(run) if run.return_value == XDP_PASS => {}
                Ok(run) => return Err(fail(io::Error::other(format!("it returned {}", run.return_value)))),
                Err(error) => return Err(fail(io::Error::other(error))),
            }
        }
        Ok(SweepResult {
            runs,
            took: start.elapsed(),
        })
    }
}
