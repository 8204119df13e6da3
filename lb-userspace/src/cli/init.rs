//! `xlb init`: a first config from the interfaces, addresses and routes of this host. Needs no privilege and no agent; never
//! writes what `xlb check` would refuse, and never over a file unless told to.

mod file;

use std::path::{Path, PathBuf};

use file::Overwrite;

use super::args::InitArgs;
use super::exit::{CliError, Exit};
use super::output;
use crate::config::{self, Severity};
use crate::health::look_at_roots;
use crate::host;
use crate::init::{Wishes, propose};
use crate::neigh::{Survey, survey};

/// Looks, proposes, checks, writes.
pub(super) fn init(args: &InitArgs) -> Result<Exit, CliError> {
    let wishes = wishes(args);
    let proposal = propose(&look(&wishes)?, &wishes).map_err(|error| CliError::Problem(error.to_string()))?;
    let text = proposal.text();
    let shown = args.file.clone().unwrap_or_else(|| PathBuf::from("xlb.toml"));
    refuse_errors(&shown, &text)?;
    for note in proposal.notes() {
        output::note(note);
    }
    match &args.file {
        None => output::text(&text)?,
        Some(path) => {
            let overwrite = if args.force { Overwrite::Force } else { Overwrite::Never };
            file::write(path, &text, overwrite)?;
            let path = path.display();
            output::text(&format!(
                "wrote {path}\n  next: look at it, then 'xlb check {path}' and 'xlb run --config {path}'\n"
            ))?;
        }
    }
    Ok(Exit::Ok)
}

fn wishes(args: &InitArgs) -> Wishes {
    Wishes {
        interfaces: args.interfaces.clone(),
        vip: args.vip.map(|vip| vip.address),
        port: args.vip.and_then(|vip| vip.port),
        backends: args.backends.iter().map(|one| (one.address, one.port)).collect(),
    }
}

fn look(wishes: &Wishes) -> Result<Survey, CliError> {
    let failed =
        |what: String| CliError::Problem(format!("the network was not looked at: {what}\n  next: 'ip address'"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(error.to_string()))?;
    let destinations: Vec<_> = wishes.backends.iter().map(|(address, _)| *address).collect();
    let found = runtime.block_on(survey(&destinations));
    found.map_err(|error| failed(error.to_string()))
}

/// Such as a VIP that is a backend.
fn refuse_errors(path: &Path, text: &str) -> Result<(), CliError> {
    let examined = config::examine(path, text.as_bytes(), &look_at_roots, &host::facts());
    if examined.config.is_some() {
        return Ok(());
    }
    let errors = examined.findings.iter().filter(|one| one.severity == Severity::Error);
    let each: Vec<&str> = errors.map(|one| one.rendered.trim_end()).collect();
    Err(CliError::Problem(format!(
        "these arguments make no config that 'xlb check' accepts; nothing was written\n{}",
        each.join("\n")
    )))
}
