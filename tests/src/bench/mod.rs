//! `cargo xtask bench`: what the program, its peers and the agent cost, as ratios within one run.
//!
//! A benchmark fails when what it measured did not do what it was to do (wrong verdict, wrong count, bad checksum),
//! never because something was slow: bars are printed and judged by `compare` and by people.

mod case;
mod driver;
mod machine;
mod packets;
mod program;
mod report;

use std::path::PathBuf;

use anyhow::{Result, bail};

pub use report::{Bar, Limit, Report, Row, Unit};

/// Which benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bench {
    /// Nanoseconds a packet through the loaded program.
    Program,
    /// Live frames over veth at full speed.
    Packets,
}

/// How long a benchmark may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Figures to be quoted.
    Full,
    /// Minutes, not a quarter of an hour: shows that everything runs.
    Quick,
}

/// Runs a benchmark, prints its table and writes its JSON document.
pub fn run(bench: Bench, effort: Effort, json: Option<PathBuf>) -> Result<()> {
    let report = match bench {
        Bench::Program => program::run(effort)?,
        Bench::Packets => packets::run(effort)?,
    };
    print!("{report}");
    if let Some(path) = json {
        report.write(&path)?;
        println!("\nwritten to {}", path.display());
    }
    Ok(())
}

/// Prints the rows of two documents side by side.
pub fn compare(before: &std::path::Path, after: &std::path::Path) -> Result<()> {
    let (before, after) = (Report::read(before)?, Report::read(after)?);
    if before.bench != after.bench {
        bail!(
            "one document is of 'bench {}', the other of 'bench {}': compare two runs of one benchmark",
            before.bench,
            after.bench
        );
    }
    print!("{}", report::comparison(&before, &after));
    Ok(())
}
