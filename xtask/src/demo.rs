//! `cargo xtask demo`: real traffic through a balancer between network namespaces.
//!
//! Sets up, builds the agent and the demo's own program (crate xlb-tests, which shares the tests' namespaces and peers),
//! and becomes that program.

use std::process::ExitCode;

use anyhow::Result;

use crate::program::{Profile, Program, become_program};

const DEMO: Program = Program {
    name: "xlb-demo",
    title: "demo",
    profile: Profile::Dev,
    purpose: "making network namespaces and loading BPF programs",
};

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
    let options = [(arguments.keep, "--keep"), (arguments.end, "--end")];
    let given: Vec<String> = options
        .into_iter()
        .filter(|(is_given, _)| *is_given)
        .map(|(_, option)| option.to_owned())
        .collect();
    become_program(&DEMO, &given)
}
