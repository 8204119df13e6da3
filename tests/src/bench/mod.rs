//! `cargo xtask bench`: what the program, its peers and the agent cost, as ratios within one run.
//!
//! A benchmark fails when what it measured did not do what it was to do (wrong verdict, wrong count, bad checksum),
//! never because something was slow: bars are printed and judged by `compare` and by people.

mod case;
mod compare;
mod control;
mod driver;
mod fate;
mod forwarded;
mod machine;
mod packets;
mod program;
mod report;
mod samples;
mod scale;
mod traffic;

use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use machine::{Machine, Run};

pub use report::{Bar, Limit, Report, Row, Unit};

/// Which benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bench {
    /// Nanoseconds a packet through the loaded program.
    Program,
    /// Live frames over veth at full speed.
    Packets,
    /// Real connections, one row per way to balance.
    Traffic,
    /// Changes, checks and starts of the agent.
    Control,
    /// Costs as services, backends and connections become many.
    Scale,
}

/// How long a benchmark may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// Figures to be quoted.
    Full,
    /// Minutes, not a quarter of an hour: shows that everything runs.
    Quick,
}

impl fmt::Display for Effort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Quick => "quick",
        })
    }
}

/// Which of a benchmark's groups; of `traffic`'s, which ways stand side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Groups {
    /// All.
    #[default]
    All,
    /// Those whose name holds this text: for work on one of them.
    Holding(String),
}

impl Groups {
    /// Says which group begins; false where it was not asked for.
    fn begin(&self, group: &str) -> bool {
        let is_asked = self.include(group);
        if is_asked {
            eprintln!("{group}");
        }
        is_asked
    }

    fn include(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Holding(text) => name.contains(text),
        }
    }
}

impl fmt::Display for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("everything"),
            Self::Holding(text) => write!(f, "'{text}'"),
        }
    }
}

/// Runs a benchmark, prints its table and writes its JSON document.
pub fn run(bench: Bench, effort: Effort, groups: Groups, json: Option<PathBuf>) -> Result<()> {
    // Before the benchmark: it loads the machine, and the sources may change meanwhile.
    let (machine, now) = (Machine::here(), Run::now(effort, &groups));
    let mut report = match bench {
        Bench::Program => program::run(effort, groups)?,
        Bench::Packets => packets::run(effort)?,
        Bench::Traffic => traffic::run(effort, &groups)?,
        Bench::Control => control::run(effort, &groups)?,
        Bench::Scale => scale::run(effort, &groups)?,
    };
    (report.machine, report.run) = (machine, Some(now));
    print!("{report}");
    if let Some(path) = json {
        report.write(&path)?;
        println!("\nwritten to {}", path.display());
    }
    Ok(())
}

/// Prints the rows and bars of two documents side by side.
pub fn compare(before: &std::path::Path, after: &std::path::Path) -> Result<()> {
    let (before, after) = (Report::read(before)?, Report::read(after)?);
    if before.bench != after.bench {
        bail!(
            "one document is of 'bench {}', the other of 'bench {}': compare two runs of one benchmark",
            before.bench,
            after.bench
        );
    }
    print!("{}", compare::comparison(&before, &after));
    Ok(())
}
