//! `cargo xtask test`: sets up, then runs every check and every test, says what was skipped, and
//! ends with the test runner's own closing lines.

use std::env;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::command::{self, Event};
use crate::setup::{self, Root, Scope};

/// How one step ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
}

/// What is shown of a step at the end.
struct Step {
    name: &'static str,
    outcome: Outcome,
    duration: Duration,
    skipped: Vec<String>,
    closing: Vec<String>,
}

/// Runs everything; a failed step does not keep the others from running.
pub(crate) fn run() -> Result<ExitCode> {
    setup::run(Scope::Everything)?;
    let own = env::current_exe()?;
    let mut steps = vec![
        step("format", &mut command::cargo(["fmt", "--all", "--check"]))?,
        step(
            "lints",
            &mut command::cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        )?,
        step("check", Command::new(own).arg("check").current_dir(crate::root()))?,
        step(
            "unit tests",
            &mut command::cargo([
                "test",
                "--workspace",
                "--exclude",
                "xlb-tests",
                "--no-fail-fast",
                "--",
                "--show-output",
            ]),
        )?,
    ];
    steps.push(step("kernel and namespace tests", &mut kernel_tests())?);
    Ok(summary(&steps))
}

/// Tests that load programs and make namespaces need root.
fn kernel_tests() -> Command {
    let mut cargo = command::cargo([
        "test",
        "--package",
        "xlb-tests",
        "--no-fail-fast",
        "--",
        "--show-output",
    ]);
    match setup::root("loading BPF programs in the kernel tests") {
        Ok(Root::Own) => {}
        Ok(Root::Sudo) => {
            println!("not root: the kernel and namespace tests run through sudo");
            let host = env::consts::ARCH.to_uppercase();
            cargo.env(format!("CARGO_TARGET_{host}_UNKNOWN_LINUX_GNU_RUNNER"), "sudo -n -E");
        }
        Err(error) => println!("note: {error:#}; tests that need root skip themselves"),
    }
    cargo
}

fn step(name: &'static str, command: &mut Command) -> Result<Step> {
    println!("\n== {name}: {}", command::shown(command));
    let start = Instant::now();
    let mut skipped = Vec::new();
    let mut closing = Vec::new();
    let status = command::stream(command, Duration::from_secs(60), |event| match event {
        Event::Line(line) => {
            println!("{line}");
            if line.trim_start().starts_with("SKIP") {
                skipped.push(line.trim().to_owned());
            }
            if line.starts_with("test result:") {
                closing.push(line.to_owned());
            }
        }
        Event::Idle => println!("   ... {name}: {} s", start.elapsed().as_secs()),
    })?;
    let outcome = if status.success() {
        Outcome::Passed
    } else {
        Outcome::Failed
    };
    Ok(Step {
        name,
        outcome,
        duration: start.elapsed(),
        skipped,
        closing,
    })
}

fn summary(steps: &[Step]) -> ExitCode {
    let ci = env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    println!("\n== summary");
    let mut good = true;
    for step in steps {
        let verdict = match (step.outcome, step.skipped.is_empty(), ci) {
            (Outcome::Failed, _, _) => "FAIL",
            (Outcome::Passed, true, _) => "ok",
            (Outcome::Passed, false, true) => "FAIL (a skipped test is a failure in CI)",
            (Outcome::Passed, false, false) => "ok, with tests skipped",
        };
        good &= !verdict.starts_with("FAIL");
        println!("{:<28} {:>4} s  {verdict}", step.name, step.duration.as_secs());
        for line in &step.skipped {
            println!("    {line}");
        }
    }
    // Last, so that whatever reads only the end of a log sees the counts.
    for line in steps.iter().flat_map(|step| &step.closing) {
        println!("{line}");
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
