//! `cargo xtask demo`: real traffic through a balancer between network namespaces.

use std::process::ExitCode;

/// Options of the demo.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave everything running and print how to enter it and how to end it
    #[arg(long)]
    keep: bool,
}

/// Not there yet: says so and ends with code 2.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let option = if arguments.keep { " --keep" } else { "" };
    eprintln!("error: 'cargo xtask demo{option}' is not written yet; 'cargo xtask test' shows that traffic flows");
    Ok(ExitCode::from(2))
}
