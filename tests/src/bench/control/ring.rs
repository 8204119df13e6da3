//! The largest ring, in this process: the agent's own code, without the agent.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};
use lb_common::limits::MAX_RING_SIZE;
use lb_common::net::map_v4;
use lb_userspace::state::rings::{RingMember, build};

use super::super::Effort;
use super::super::report::{Bar, Limit, Report, Unit};
use super::{milliseconds, row};

const GROUP: &str = "a ring of 65,536 slots";
const BACKENDS: u32 = 1_000;

pub(super) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    let rounds = match effort {
        Effort::Full => 30,
        Effort::Quick => 1,
    };
    let members: Vec<RingMember> = (1..=BACKENDS)
        .map(|id| RingMember {
            address: map_v4((0x0a00_0000 + id).to_be_bytes()),
            port: 8080,
            weight: 100,
            id,
        })
        .collect();
    let mut samples = Vec::new();
    for round in 0..rounds {
        let start = Instant::now();
        let slots = black_box(build(round, MAX_RING_SIZE, &members));
        samples.push(milliseconds(start.elapsed()));
        let mut seen = slots;
        seen.sort_unstable();
        seen.dedup();
        ensure!(
            seen.len() == BACKENDS as usize,
            "{} of {BACKENDS} backends are in the ring",
            seen.len()
        );
    }
    let row = row(GROUP, "built for 1,000 backends", Unit::Milliseconds, samples);
    report.bars.push(Bar::new(
        "a ring of 65,536 slots for 1,000 backends, ms",
        row.minimum(),
        Limit::AtMost(10.0),
    ));
    report.rows.push(row);
    Ok(())
}
