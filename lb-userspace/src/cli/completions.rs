//! `xlb completions SHELL`: a script that asks this binary for completions, so that they know the names of the running
//! agent's services and backends. An agent that does not answer at once gives no names and no error.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Arg, Command, CommandFactory as _};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};

use super::args::{Cli, CompletionsArgs, DEFAULT_SOCKET};
use super::client::Client;
use super::exit::{CliError, Exit};
use super::explain;
use super::output;
use crate::view::{BackendView, ServiceView};

/// The scripts set it when they ask.
const VARIABLE: &str = "XLB_COMPLETE";
/// How long the agent may take; somebody holds the TAB key.
const AGENT_WITHIN: Duration = Duration::from_millis(400);

/// Answers a shell that asks for completions, and ends the process; returns when nobody does.
pub(super) fn answer() {
    let here = std::env::current_dir().ok();
    let asked = CompleteEnv::with_factory(tree).var(VARIABLE);
    match asked.try_complete(std::env::args_os(), here.as_deref()) {
        Ok(false) => {}
        Ok(true) => std::process::exit(0),
        // The answer could not be written, mostly because the shell has stopped listening: nobody to say it to. Clap keeps the
        // system's error as text only.
        Err(error) if error.kind() == ErrorKind::Io => std::process::exit(0),
        Err(error) => error.exit(),
    }
}

/// Prints the script.
pub(super) fn completions(args: &CompletionsArgs) -> Result<Exit, CliError> {
    let shell = args.shell.as_str();
    let shells = Shells::builtins();
    let completer = shells
        .completer(shell)
        .ok_or_else(|| CliError::Problem(format!("no completion script for {shell}")))?;
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, "xlb", "xlb", "xlb", &mut script)
        .map_err(|error| CliError::Problem(format!("completion script: {error}")))?;
    output::text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}

/// The commands, with names where an argument is one: every argument called `service` or `backend`, wherever it stands.
fn tree() -> Command {
    with_names(Cli::command())
}

fn with_names(command: Command) -> Command {
    command.mut_args(named).mut_subcommands(with_names)
}

fn named(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "service" => arg.add(ArgValueCompleter::new(services)),
        "code" => arg.add(ArgValueCompleter::new(codes)),
        "backend" => arg.add(ArgValueCompleter::new(backends)),
        _ => arg,
    }
}

/// What `xlb explain` knows, each with its title.
fn codes(begun: &OsStr) -> Vec<CompletionCandidate> {
    let begun = begun.to_string_lossy().to_ascii_lowercase();
    let known = explain::topics().into_iter();
    let begun = known.filter(|topic| topic.name.to_ascii_lowercase().starts_with(&begun));
    begun
        .map(|topic| CompletionCandidate::new(topic.name).help(Some(topic.title.into())))
        .collect()
}

fn services(begun: &OsStr) -> Vec<CompletionCandidate> {
    candidates(begun, ask().into_keys().collect())
}

/// Backends of the service that was typed before, or of all.
fn backends(begun: &OsStr) -> Vec<CompletionCandidate> {
    let typed: Vec<String> = std::env::args().collect();
    let all = ask();
    let named: Vec<&String> = all.keys().filter(|service| typed.contains(service)).collect();
    let wanted = all
        .iter()
        .filter(|(service, _)| named.is_empty() || named.contains(service));
    candidates(begun, wanted.flat_map(|(_, backends)| backends.clone()).collect())
}

fn candidates(begun: &OsStr, names: Vec<String>) -> Vec<CompletionCandidate> {
    let begun = begun.to_string_lossy();
    let mut names: Vec<String> = names.into_iter().filter(|name| name.starts_with(&*begun)).collect();
    names.sort();
    names.dedup();
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// The agent's services with their backends; nothing when it does not answer in time.
fn ask() -> BTreeMap<String, Vec<String>> {
    let client = Client::new(&socket());
    let (sender, receiver) = mpsc::channel();
    // Left behind when it takes too long: the process ends right after.
    let asked = std::thread::Builder::new().spawn(move || sender.send(client.get::<Vec<ServiceView>>("/v1/services")));
    let services = match (asked, receiver.recv_timeout(AGENT_WITHIN)) {
        (Ok(_), Ok(Ok(services))) => services,
        _ => Vec::new(),
    };
    let names = |service: ServiceView| {
        // Commands take the entry of a name, not its addresses.
        let name = |backend: BackendView| backend.from.map_or(backend.name, |from| from.entry);
        let backends = service.backends.into_iter().map(name).collect();
        (service.name, backends)
    };
    services.into_iter().map(names).collect()
}

/// The socket as the line names it so far.
fn socket() -> PathBuf {
    let typed: Vec<String> = std::env::args().collect();
    let given = typed
        .iter()
        .enumerate()
        .find_map(|(index, word)| match word.strip_prefix("--socket") {
            Some("") => typed.get(index + 1).cloned(),
            Some(rest) => rest.strip_prefix('=').map(str::to_owned),
            None => None,
        });
    let given = given.or_else(|| std::env::var("XLB_SOCKET").ok());
    given.unwrap_or_else(|| DEFAULT_SOCKET.to_owned()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_with_names_is_consistent() {
        tree().debug_assert();
    }

    #[test]
    fn names_are_sorted_and_cut_to_what_was_begun() {
        let names = ["web", "dns", "webmail", "web"].map(str::to_owned).to_vec();
        let found = candidates(OsStr::new("we"), names);
        let values: Vec<_> = found.iter().map(|candidate| candidate.get_value().to_owned()).collect();
        assert_eq!(values, ["web", "webmail"]);
    }

    #[test]
    fn codes_are_completed_in_any_case() {
        let values = |begun: &str| -> Vec<_> {
            let found = codes(OsStr::new(begun));
            found.iter().map(|candidate| candidate.get_value().to_owned()).collect()
        };
        assert_eq!(values("xlb0203"), ["XLB0203"]);
        assert_eq!(values("no_b"), ["no_backend"]);
    }
}
