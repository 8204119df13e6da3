//! One write-back of the agent's, alone in a process: what `write_back.rs` kills and makes fail at each system call.
//! `xlb-write-back CONFIG NEW` puts the content of the file NEW in the place of CONFIG's.

use std::env;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use lb_userspace::agent::Staged;

fn main() -> ExitCode {
    match write_back() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn write_back() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [config, new] = arguments.as_slice() else {
        bail!("usage: xlb-write-back CONFIG NEW");
    };
    let text = fs::read_to_string(new).with_context(|| format!("read {new}"))?;
    let config = Path::new(config);
    let old = fs::read_to_string(config).with_context(|| format!("read {}", config.display()))?;
    Ok(Staged::write(config, &old, &text)?.commit()?)
}
