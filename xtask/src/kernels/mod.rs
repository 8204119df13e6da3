//! `cargo xtask kernels`: boots Debian's older kernels in qemu and runs the program's tests on each.
//!
//! What a verifier accepts differs from kernel to kernel, and the machine that builds has one. No KVM is asked for: emulated,
//! a kernel and its tests take some two minutes.

mod debian;
mod machine;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::command::{self, Event};
use crate::setup::{self, Scope};

/// The tests that load the object and send packets through it, and need neither traffic nor much time.
const TESTS: [&str; 6] = [
    "program_answers",
    "program_log",
    "program_reasons",
    "program_tables",
    "program_tcp",
    "program_udp",
];

/// Which kernels.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only these series, like 6.1; without it, the newest kernel of each series that apt offers
    #[arg(value_name = "SERIES")]
    series: Vec<String>,
}

/// Runs the tests on each kernel; a failure on one does not keep the others from running.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if std::env::consts::ARCH != "x86_64" {
        bail!(
            "kernels for {} are not looked for; this runs on x86_64",
            std::env::consts::ARCH
        );
    }
    setup::run(Scope::Kernels)?;
    let kernels = debian::newest(&arguments.series)?;
    let directory = command::target_directory()?.join("kernels");
    let tests = build()?;
    let mut good = true;
    let mut summary = Vec::new();
    for kernel in &kernels {
        let files = debian::fetch(kernel, &directory)?;
        let image = machine::image(&files, &tests, &directory.join(&kernel.series))?;
        println!("\n== {}", kernel.package);
        let report = machine::boot(&files.kernel, &image)?;
        for test in TESTS {
            let line = match report.of(test) {
                Some(machine::Outcome::Passed(closing)) => format!("ok    {closing}"),
                Some(machine::Outcome::Failed) => "FAIL  its output is above".to_owned(),
                None => "FAIL  the kernel stopped before it ended".to_owned(),
            };
            good &= line.starts_with("ok");
            summary.push(format!("{:<6} {test:<16} {line}", kernel.series));
        }
    }
    println!("\n== summary");
    for line in &summary {
        println!("{line}");
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the tests; the path of each, in the order of [`TESTS`].
fn build() -> Result<Vec<PathBuf>> {
    let mut cargo = command::cargo(["test", "--package", "xlb-tests", "--no-run"]);
    for test in TESTS {
        cargo.args(["--test", test]);
    }
    println!("\n== tests: {}", command::shown(&cargo));
    let mut found = Vec::new();
    let status = command::stream(&mut cargo, Duration::from_secs(60), |event| {
        if let Event::Line(line) = event {
            println!("{line}");
            // "  Executable tests/program_udp.rs (target/debug/deps/program_udp-0123456789abcdef)"
            if let Some((_, path)) = line
                .split_once("Executable ")
                .and_then(|(_, rest)| rest.split_once(" ("))
            {
                found.push(crate::root().join(path.trim_end_matches(')')));
            }
        }
    })?;
    if !status.success() {
        bail!("the tests do not build");
    }
    TESTS
        .into_iter()
        .map(|test| {
            let is_it = |path: &&PathBuf| stem(path).is_some_and(|name| name == test);
            match found.iter().find(is_it) {
                Some(path) => Ok(path.clone()),
                None => bail!("cargo named no executable of the test {test}"),
            }
        })
        .collect()
}

/// A test's name out of its executable's: what stands before the hash.
fn stem(path: &Path) -> Option<&str> {
    Some(path.file_name()?.to_str()?.rsplit_once('-')?.0)
}
