//! `cargo xtask demo`: real traffic through a balancer between network namespaces.
//!
//! Sets up, builds the agent and the demo's own program (crate xlb-tests, which shares the tests' namespaces and peers),
//! and becomes that program.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Result, anyhow};

use crate::command;
use crate::setup::{self, Root, Scope};

/// Options of the demo.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave everything running and print how to enter it and how to end it
    #[arg(long, conflicts_with = "end")]
    keep: bool,
    /// End a demo that was kept
    #[arg(long)]
    end: bool,
}

/// Becomes the demo; comes back only with an error.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::run(Scope::Everything)?;
    let target = command::target_directory()?;
    command::run_with_progress(
        "building the agent and the demo",
        command::cargo(["build", "--package", "lb-userspace", "--package", "xlb-tests"])
            .args(["--bin", "xlb", "--bin", "xlb-demo", "--profile", "dev", "--target-dir"])
            .arg(&target),
    )?;
    let programs = target.join("debug");
    let agent = format!("XLB_BIN={}", programs.join("xlb").display());
    let mut demo = match setup::root("making network namespaces and loading BPF programs")? {
        Root::Own => Command::new("env"),
        Root::Sudo => {
            println!("not root: the demo runs through sudo");
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "env"]);
            sudo
        }
    };
    demo.arg(agent).arg(programs.join("xlb-demo"));
    if arguments.keep {
        demo.arg("--keep");
    }
    if arguments.end {
        demo.arg("--end");
    }
    Err(anyhow!(demo.exec()).context(format!("start '{}'", command::shown(&demo))))
}
