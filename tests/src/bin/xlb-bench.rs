//! The benchmarks as a program; `cargo xtask bench` builds and runs it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xlb_tests::bench::{self, Bench, Effort, Groups};

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
    Program(Selective),
    /// Live frames over veth at full speed on one core, against nftables and the least that forwarding is
    Packets(Options),
    /// Connections, requests, throughput and latency of real peers: direct, a bare redirect, xlb, nftables, HAProxy, nginx
    Traffic(Selective),
    /// The agent: from a change to its packets, many services, checks, adoption of connections
    Control(Selective),
    /// What a packet costs and the maps take as services, backends and connections become many
    Scale(Selective),
    /// Two documents side by side
    Compare {
        /// The earlier document
        before: PathBuf,
        /// The later document
        after: PathBuf,
    },
}

#[derive(clap::Args)]
struct Selective {
    #[command(flatten)]
    options: Options,
    /// Only groups of rows (of traffic: of ways that stand side by side) whose name holds this text
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
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
        Command::Program(Selective { options, only }) => run(Bench::Program, options, groups(only)),
        Command::Packets(options) => run(Bench::Packets, options, Groups::All),
        Command::Traffic(Selective { options, only }) => run(Bench::Traffic, options, groups(only)),
        Command::Control(Selective { options, only }) => run(Bench::Control, options, groups(only)),
        Command::Scale(Selective { options, only }) => run(Bench::Scale, options, groups(only)),
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

fn run(bench: Bench, options: Options, groups: Groups) -> anyhow::Result<()> {
    let effort = if options.quick { Effort::Quick } else { Effort::Full };
    bench::run(bench, effort, groups, options.json)
}

fn groups(only: Option<String>) -> Groups {
    only.map_or(Groups::All, Groups::Holding)
}
