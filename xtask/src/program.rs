//! Builds the agent and one of the tests' programs, and becomes that program as root.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Result, anyhow};

use crate::command;
use crate::setup::{self, Root, Scope};

/// A program of crate xlb-tests that works with a real agent.
pub(crate) struct Program {
    /// Its binary.
    pub(crate) name: &'static str,
    /// What people call it.
    pub(crate) title: &'static str,
    /// How it is compiled.
    pub(crate) profile: Profile,
    /// What it needs root for.
    pub(crate) purpose: &'static str,
}

/// How a program is compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quickly, with assertions.
    Dev,
    /// Optimized.
    Release,
}

impl Profile {
    /// Its name and its directory below the target directory.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Dev => ("dev", "debug"),
            Self::Release => ("release", "release"),
        }
    }
}

/// Sets up, builds, and becomes the program; comes back only with an error.
pub(crate) fn become_program(program: &Program, arguments: &[String]) -> Result<ExitCode> {
    setup::run(Scope::Everything)?;
    let target = command::target_directory()?;
    let (profile, directory) = program.profile.names();
    command::run_with_progress(
        &format!("building the agent and the {}", program.title),
        command::cargo([
            "build",
            "--package",
            "lb-userspace",
            "--package",
            "xlb-tests",
            "--bin",
            "xlb",
        ])
        .args(["--bin", program.name, "--profile", profile, "--target-dir"])
        .arg(&target),
    )?;
    let programs = target.join(directory);
    let agent = format!("XLB_BIN={}", programs.join("xlb").display());
    let mut become_it = match setup::root(program.purpose)? {
        Root::Own => Command::new("env"),
        Root::Sudo => {
            println!("not root: the {} runs through sudo", program.title);
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "env"]);
            sudo
        }
    };
    become_it.arg(agent);
    // sudo would drop it.
    if let Ok(commit) = env::var("XLB_BENCH_COMMIT") {
        become_it.arg(format!("XLB_BENCH_COMMIT={commit}"));
    }
    become_it.arg(programs.join(program.name)).args(arguments);
    Err(anyhow!(become_it.exec()).context(format!("start '{}'", command::shown(&become_it))))
}
