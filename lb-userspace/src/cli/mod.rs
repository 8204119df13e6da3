//! The command line: parse, call, print. No logic: what a command shows comes from [`crate::view`], what it changes goes
//! through the API (`unload` and `check` work without an agent).

mod args;
mod backend;
mod check;
mod client;
mod completions;
mod drain;
mod drops;
mod exit;
mod explain;
mod flows;
mod init;
mod lines;
mod logs;
mod man;
mod output;
mod overrides;
mod removed;
mod run;
mod schema;
mod service;
mod status;
mod table;
mod target;
mod unload;

use std::process::ExitCode;

use clap::Parser;

pub use args::{Cli, Command};
pub use client::Client;
pub use exit::{CliError, Exit};
pub use output::Paint;
pub use status::status_text;

/// Parses the arguments, runs the command, prints its error and gives the exit code (OPERATORS.md).
pub fn main() -> ExitCode {
    completions::answer();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap's own codes: 2 for a usage error, 0 for --help and --version.
            let code = error.exit_code();
            return match error.print() {
                Err(broken) if broken.kind() != std::io::ErrorKind::BrokenPipe => {
                    output::error(&format!("help or version could not be written: {broken}"));
                    ExitCode::from(1)
                }
                _ => ExitCode::from(code as u8),
            };
        }
    };
    match dispatch(cli.command) {
        Ok(exit) => exit.into(),
        Err(error) => {
            output::error(&error.to_string());
            error.exit().into()
        }
    }
}

fn dispatch(command: Command) -> Result<Exit, CliError> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::check(&args),
        Command::Init(args) => init::init(&args),
        Command::Schema => schema::schema(),
        Command::Status(args) => status::status(&args),
        Command::Service { command } => service::service(&command),
        Command::Backend { command } => backend::backend(&command),
        Command::Override { command } => overrides::overrides(&command),
        Command::Flows(args) => flows::flows(&args),
        Command::Drops(args) => drops::drops(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Reload(args) => backend::reload(&args),
        Command::Unload(args) => unload::unload(&args),
        Command::Completions(args) => completions::completions(&args),
        Command::Man(args) => man::man(&args),
    }
}
