//! `xlb`: the command line and the agent.

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_userspace::cli::main()
}
