//! The demo as a program; `cargo xtask demo` builds and runs it. It uses what the tests use: xlb-tests.

use std::env;
use std::process::ExitCode;

use xlb_tests::demo::{self, Afterwards, Interrupted, SERVE_DATAGRAMS};
use xlb_tests::skip;

/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        [SERVE_DATAGRAMS, name, port] => serve(name, port),
        ["--end"] => end(),
        [] => play(Afterwards::CleanUp),
        ["--keep"] => play(Afterwards::Keep),
        _ => {
            eprintln!("error: usage: cargo xtask demo [--keep | --end]");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Interrupted>() => {
            eprintln!("\ninterrupted; everything is cleaned up");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play(afterwards: Afterwards) -> anyhow::Result<()> {
    if let Some(why) = skip::missing(&["ip", "nginx", "curl", "ethtool", "bpftool", "nsenter"]) {
        anyhow::bail!("the demo cannot run here: {why}");
    }
    demo::run(afterwards)
}

fn end() -> anyhow::Result<()> {
    if demo::end()? {
        println!("the demo's processes, namespaces, programs and files are gone");
    } else {
        println!("there is no demo to end");
    }
    Ok(())
}

fn serve(name: &str, port: &str) -> anyhow::Result<()> {
    demo::serve_datagrams(name, port.parse()?)
}
