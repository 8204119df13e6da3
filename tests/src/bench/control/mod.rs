//! `bench control`: how fast a change reaches the packets, and what the agent costs while it works: rings, one change among
//! many services, many services from nothing, checks, adoption of flows.
//!
//! Everything but the ring is measured from outside on the real agent in a namespace: from a request's first byte to its
//! answer, or to the first packet. That is more than the agent's own share, never less.

mod adopt;
mod checks;
mod first;
mod fleet;
mod process;
mod ring;

use std::time::Duration;

use anyhow::Result;

use super::report::{Report, Row, Unit};
use super::{Effort, Groups};

/// A part: adds its rows and bars.
type Measure = fn(Effort, &mut Report) -> Result<()>;

/// Runs it.
pub(super) fn run(effort: Effort, groups: &Groups) -> Result<Report> {
    let mut report = Report::new("control");
    let parts: [(&str, Measure); 5] = [
        ("rings", ring::measure),
        ("the first packet", first::measure),
        ("many services", fleet::measure),
        ("checks", checks::measure),
        ("adoption", adopt::measure),
    ];
    for (name, measure) in parts {
        if groups.begin(name) {
            measure(effort, &mut report)?;
        }
    }
    Ok(report)
}

fn row(group: &str, name: &str, unit: Unit, samples: Vec<f64>) -> Row {
    Row {
        group: group.to_owned(),
        name: name.to_owned(),
        unit,
        samples,
        around: Vec::new(),
        baseline: None,
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
