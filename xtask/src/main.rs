//! `cargo xtask`: set-up, build, test, check, demo and bench. Parses the command and calls; no logic.

mod bench;
mod check;
mod command;
mod demo;
mod kernels;
mod program;
mod setup;
mod test;
#[expect(dead_code, reason = "the build script of lb-userspace uses the rest of this file")]
mod toolchain;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use setup::Scope;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Everything one does with a checkout of xlb"
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building, testing and the demo need; only what is missing
    Setup {
        /// Say what would be installed and stop
        #[arg(long)]
        dry_run: bool,
    },
    /// Set up the compiler and build the workspace, the BPF objects included
    Build {
        /// Optimized, as it is shipped
        #[arg(long)]
        release: bool,
    },
    /// Set up, then run every check and every test
    Test,
    /// Layer rules, the BPF objects' symbols, the ABI golden file and the generated docs
    Check {
        /// Rewrite the golden file and the generated docs instead of comparing
        #[arg(long)]
        bless: bool,
    },
    /// Set up, then run the program's tests on Debian's older kernels, in qemu: minutes, and 70 MB a kernel
    Kernels(kernels::Arguments),
    /// Set up, then show real traffic through a balancer between network namespaces
    Demo(demo::Arguments),
    /// Set up, then measure: nanoseconds a packet beside bare map operations of the same run, and more
    #[command(disable_help_flag = true)]
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Setup { dry_run: true } => setup::describe(Scope::Everything),
        Task::Setup { dry_run: false } => setup::run(Scope::Everything),
        Task::Build { release } => build(release),
        Task::Test => test::run(),
        Task::Check { bless } => check::run(if bless {
            check::Golden::Bless
        } else {
            check::Golden::Compare
        }),
        Task::Kernels(arguments) => kernels::run(&arguments),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn build(release: bool) -> anyhow::Result<ExitCode> {
    setup::run(Scope::Build)?;
    let mut cargo = command::cargo(["build", "--workspace"]);
    if release {
        cargo.arg("--release");
    }
    command::run_inherited(&mut cargo)?;
    Ok(ExitCode::SUCCESS)
}

/// The root of the checkout that this xtask was built from.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}
