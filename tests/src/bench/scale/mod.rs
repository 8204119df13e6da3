//! `bench scale`: what a packet costs, and what the maps take, as services, backends and connections become many.
//!
//! A step is the product's own way from a config's text to packets: checked, compiled, loaded, written, then connections
//! opened by their own packets. Only the next hops and the packets are the benchmark's. Each step stands beside the first of
//! its axis and beside bare operations on tables of its own size.

mod fleet;
mod memory;
mod stand;
mod step;

use anyhow::Result;
use lb_userspace::config::many;

use super::report::{Report, Row, Unit};
use super::{Effort, Groups};
use crate::kernel::{Lab, pin_to_cpu};
use crate::model::sample::{FAMILIES, Family};
use fleet::Fleet;
use step::{Measured, Step};

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axis {
    /// Services of ten backends.
    Services,
    /// Backends of a hundred services.
    Backends,
    /// Established connections, to a hundred services of ten backends.
    Flows,
}

const AXES: [Axis; 3] = [Axis::Services, Axis::Backends, Axis::Flows];

impl Axis {
    const fn noun(self) -> &'static str {
        match self {
            Self::Services => "service",
            Self::Backends => "backend",
            Self::Flows => "flow",
        }
    }

    /// Services, backends of each and connections of each step. Each loads the program, which costs the verifier seconds: the
    /// quick form has four.
    fn steps(self, effort: Effort, family: Family) -> Vec<[u32; 3]> {
        let flows = 64_000;
        match (effort, self, family) {
            (Effort::Full, Self::Services, _) => {
                let services = [1, 10, 100, 1_000, 10_000];
                services.map(|services| [services, 10, flows]).to_vec()
            }
            (Effort::Full, Self::Backends, _) => [1, 10, 100, 1_000].map(|each| [100, each, flows]).to_vec(),
            (Effort::Full, Self::Flows, _) => [1_000, flows, 1_000_000, 4_000_000]
                .map(|flows| [100, 10, flows])
                .to_vec(),
            (Effort::Quick, Self::Services, Family::V4) => vec![[1, 10, 1_000], [50, 10, 1_000]],
            (Effort::Quick, Self::Flows, Family::V6) => vec![[10, 10, 500], [10, 10, 2_000]],
            (Effort::Quick, ..) => Vec::new(),
        }
    }

    /// As in `10000 services`.
    fn label(self, [services, backends_each, flows]: [u32; 3]) -> String {
        let count = match self {
            Self::Services => services,
            Self::Backends => services * backends_each,
            Self::Flows => flows,
        };
        many(count as usize, self.noun())
    }
}

/// Runs it.
pub(super) fn run(effort: Effort, groups: &Groups) -> Result<Report> {
    let mut report = Report::new("scale");
    pin_to_cpu(0)?;
    let lab = Lab::enter()?;
    for family in FAMILIES {
        for axis in AXES {
            let steps = axis.steps(effort, family);
            let version = if family == Family::V4 { 4 } else { 6 };
            let group = format!("{}s, tcp{version}", axis.noun());
            if steps.is_empty() || !groups.begin(&group) {
                continue;
            }
            let mut all = Vec::new();
            for counts in steps {
                let label = axis.label(counts);
                eprintln!("  {label}");
                all.push((label, step::measure(lab, &step(family, counts, effort), effort)?));
            }
            push(&mut report, &group, &all);
        }
    }
    Ok(report)
}

fn step(family: Family, [services, backends_each, flows]: [u32; 3], effort: Effort) -> Step {
    let half_open = match effort {
        Effort::Full => 1 << 17,
        Effort::Quick => 1 << 13,
    };
    Step {
        fleet: Fleet {
            family,
            services,
            backends_each,
            // As full as a table of a power of two can be.
            connections: flows.next_power_of_two(),
            half_open,
        },
        flows,
    }
}

/// First every figure beside that of the first step, then each step's packets beside its bare operations.
fn push(report: &mut Report, group: &str, steps: &[(String, Vec<Measured>)]) {
    let Some((first, names)) = steps.first() else { return };
    for (at, Measured { name, .. }) in names.iter().enumerate() {
        for (label, measured) in steps {
            let baseline = (label != first).then(|| format!("{name}, {first}"));
            let rows = measured
                .get(at)
                .map(|one| row(group, &format!("{name}, {label}"), one, baseline));
            report.rows.extend(rows);
        }
    }
    for (label, measured) in steps {
        let group = format!("{group}: {label}");
        for one in measured.iter().filter(|one| one.unit == Unit::NsPerPacket) {
            let baseline = one.beside.map(str::to_owned);
            report.rows.push(row(&group, one.name, one, baseline));
        }
    }
}

fn row(group: &str, name: &str, measured: &Measured, baseline: Option<String>) -> Row {
    Row {
        group: group.to_owned(),
        name: name.to_owned(),
        unit: measured.unit,
        samples: measured.samples.gross.clone(),
        around: measured.samples.around.clone(),
        baseline,
    }
}
