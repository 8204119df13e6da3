//! The benchmarks as a program; `cargo xtask bench` builds and runs it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xlb_tests::bench::{self, Bench, Effort};

#[derive(Parser)]
#[command(
    name = "cargo xtask bench",
    bin_name = "cargo xtask bench",
    about = "What a packet costs, measured side by side"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Nanoseconds a packet through the loaded program, beside bare map operations of the same run
    Program(Options),
    /// Live frames over veth at full speed on one core, against nftables and the least that forwarding is
    Packets(Options),
    /// Two documents side by side
    Compare {
        /// The earlier document
        before: PathBuf,
        /// The later document
        after: PathBuf,
    },
}

#[derive(clap::Args)]
struct Options {
    /// Few rounds and connections: shows that everything runs
    #[arg(long)]
    quick: bool,
    /// Write the document to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Program(options) => run(Bench::Program, options),
        Command::Packets(options) => run(Bench::Packets, options),
        Command::Compare { before, after } => bench::compare(&before, &after),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(bench: Bench, options: Options) -> anyhow::Result<()> {
    let effort = if options.quick { Effort::Quick } else { Effort::Full };
    bench::run(bench, effort, options.json)
}
