//! `cargo xtask bench`: what a packet costs, measured side by side.
//!
//! Sets up, builds the benchmarks optimized (crate xlb-tests) and becomes them; what follows `bench` is theirs.

use std::process::ExitCode;

use anyhow::Result;

use crate::program::{Profile, Program, become_program};

const BENCH: Program = Program {
    name: "xlb-bench",
    title: "benchmarks",
    profile: Profile::Release,
    purpose: "loading BPF programs and making network namespaces",
};

/// What the benchmarks are asked.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// `program`, `compare`, ... and their options; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    arguments: Vec<String>,
}

/// Becomes the benchmarks; comes back only with an error.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    become_program(&BENCH, &arguments.arguments)
}
