//! `cargo xtask bench`: what a packet costs, measured side by side.
//!
//! Sets up, builds the benchmarks optimized (crate xlb-tests) and becomes them; what follows `bench` is theirs.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Result, anyhow};

use crate::command;
use crate::setup::{self, Root, Scope};

/// What the benchmarks are asked.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// `program`, `compare`, ... and their options; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    arguments: Vec<String>,
}

/// Becomes the benchmarks; comes back only with an error.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::run(Scope::Everything)?;
    let target = command::target_directory()?;
    command::run_with_progress(
        "building the benchmarks",
        command::cargo([
            "build",
            "--release",
            "--package",
            "lb-userspace",
            "--package",
            "xlb-tests",
        ])
        .args(["--bin", "xlb", "--bin", "xlb-bench", "--target-dir"])
        .arg(&target),
    )?;
    let programs = target.join("release");
    let agent = format!("XLB_BIN={}", programs.join("xlb").display());
    let mut bench = match setup::root("loading BPF programs and making network namespaces")? {
        Root::Own => Command::new("env"),
        Root::Sudo => {
            println!("not root: the benchmarks run through sudo");
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "env"]);
            sudo
        }
    };
    bench
        .arg(agent)
        .arg(programs.join("xlb-bench"))
        .args(&arguments.arguments);
    Err(anyhow!(bench.exec()).context(format!("start '{}'", command::shown(&bench))))
}
