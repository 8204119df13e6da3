//! Config file to checked config. Every error at once, each with file, line, caret and code. Pure: text in, [`Config`] or
//! [`Diagnostic`]s out; it must not read files, clocks or the network.
//!
//! The way: TOML with recovery, every key on its own (`reader`, `agent`, `service`), then checks across keys
//! (`check`), then text (`render`).

mod agent;
mod check;
mod codes;
mod diagnostic;
mod dns;
mod examples;
mod expand;
mod findings;
mod first;
pub mod host;
mod host_name;
mod model;
mod probe;
mod raw;
mod reader;
mod render;
mod schema;
mod sections;
mod service;
mod silence;
mod words;
pub mod write_back;

#[cfg(test)]
mod tests;

use std::path::Path;

use toml::de::DeTable;

use findings::{Finding, Findings};
use raw::RawConfig;
use reader::Section;

pub use agent::{DEFAULT_HTTP, DEFAULT_PIN_DIR, DEFAULT_SOCKET};
pub use codes::{CODES, Code, explain};
pub use diagnostic::{About, Diagnostic, Severity};
pub use examples::{Example, example};
pub use expand::{Answers, FromName, NameFinding, expand};
pub use host::{HostFacts, Listener};
pub use host_name::HostName;
pub use model::{
    AdminState, AgentConfig, BackendConfig, Check, CheckKind, Config, DnsConfig, HttpCheck, Limits, Mode, NamedBackend,
    OnEmpty, OnMiss, Panic, PortRange, Protocol, Roots, ServiceConfig, Timeouts, TlsCheck, TxChoice, Verify, XdpMode,
};
pub use schema::schema;
pub use sections::{Excerpt, Sections};
pub use service::{DEFAULT_WEIGHT, MAX_WEIGHT};
pub use words::{many, names_there, nearest};

/// [`examine`], for those that only want a config without errors.
///
/// # Errors
/// Every error found, in the file's order, warnings and hints among them. Without errors they come with the config.
pub fn parse(path: &Path, text: &str) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    parse_bytes(path, text.as_bytes())
}

/// [`parse`] for a file's bytes.
///
/// # Errors
/// As [`parse`].
pub fn parse_bytes(path: &Path, bytes: &[u8]) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    examine(path, bytes, &|_| Ok(()), &HostFacts::default()).into_result()
}

/// Says what is wrong with a file of roots that the config names.
pub type LookAtRoots<'a> = &'a dyn Fn(&Path) -> Result<(), String>;

/// [`parse`], which has no eyes of its own, with somebody who looks at the files that the config names, and with what is known
/// of the host.
///
/// # Errors
/// As [`parse`].
pub fn parse_looking(
    path: &Path,
    text: &str,
    look: LookAtRoots<'_>,
    host: &HostFacts,
) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    examine(path, text.as_bytes(), look, host).into_result()
}

/// All that can be said about a file.
#[derive(Clone, Debug)]
pub struct Examined {
    /// `None` where there is an error.
    pub config: Option<Config>,
    /// In the file's order.
    pub findings: Vec<Diagnostic>,
    /// Warnings and hints that `silence` covers, with its reason.
    pub silenced: Vec<Diagnostic>,
}

impl Examined {
    fn into_result(self) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
        match self.config {
            Some(config) => Ok((config, self.findings)),
            None => Err(self.findings),
        }
    }
}

/// Parses and checks a file's bytes, which need not be UTF-8. `path` is named in diagnostics only.
pub fn examine(path: &Path, bytes: &[u8], look: LookAtRoots<'_>, host: &HostFacts) -> Examined {
    let file = path.to_string_lossy();
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return not_utf8(&file, bytes, error.valid_up_to()),
    };
    let mut found = Findings::default();
    let raw = read(text, &mut found);
    check::check(&raw, look, host, &mut found);
    if found.has(&codes::SYNTAX) {
        found.forget_missing();
    }
    if found.has(&codes::WRONG_TYPE) {
        found.forget_empty();
    }
    let silenced = silence::apply(&raw, text, &mut found);
    silence::name_objects(&raw, text, &mut found);
    let silenced = silenced.into_iter().flat_map(|(finding, reason)| {
        let shown = render::render(&file, text, &[finding]).into_iter();
        shown.map(move |one| Diagnostic {
            silenced: Some(reason.clone()),
            ..one
        })
    });
    let config = if found.has_errors() { None } else { check::config(raw) };
    Examined {
        silenced: silenced.collect(),
        config,
        findings: render::render(&file, text, &found.into_sorted()),
    }
}

fn not_utf8(file: &str, bytes: &[u8], at: usize) -> Examined {
    let text = String::from_utf8_lossy(bytes);
    let message = format!("byte {at} of the file is not UTF-8");
    // Up to `at` the replaced text has the same bytes; there the replacement character stands.
    let finding = Finding::new(&codes::NOT_UTF8, message, at..at + 1, "not UTF-8");
    let finding = finding.help("save the file as UTF-8");
    Examined {
        config: None,
        findings: render::render(file, &text, &[finding]),
        silenced: Vec::new(),
    }
}

fn read(text: &str, found: &mut Findings) -> RawConfig {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut twice = first::Firsts::of(document.get_ref(), text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        found.add(match twice.first(error.message(), &span) {
            Some(first) => Finding::new(&codes::SYNTAX, error.message(), span, "again").and(first, "first here"),
            None => Finding::new(&codes::SYNTAX, error.message(), span, ""),
        });
    }
    let end = text.trim_end().len();
    let mut root = Section::new(document.get_ref(), end..end, "the file");
    let empty = DeTable::new();
    let agent = match root.require(
        "agent",
        "[agent] with interfaces = [\"eth0\"]",
        found,
        |value, found| reader::table(value, "a table: [agent]", found),
    ) {
        Some((table, span)) => agent::agent(table, span, found),
        // What [agent] lacks was said in one finding.
        None => agent::agent(&empty, end..end, &mut Findings::default()),
    };
    let limits = root.read("limits", found, |value, found| {
        reader::table(value, "a table: [limits]", found)
    });
    let limits = agent::limits(limits, found);
    let timeouts = root.read("timeouts", found, |value, found| {
        reader::table(value, "a table: [timeouts]", found)
    });
    let timeouts = agent::timeouts(timeouts, found);
    let dns = root.read("dns", found, |value, found| {
        reader::table(value, "a table: [dns]", found)
    });
    let dns = dns::dns(dns, found);
    let services = root
        .take("service")
        .map(|value| reader::tables(value, "tables, as in [[service]]", found))
        .unwrap_or_default();
    let services = services
        .into_iter()
        .map(|(table, span)| service::service(table, span, found))
        .collect();
    root.close(found);
    RawConfig {
        agent,
        limits,
        timeouts,
        dns,
        services,
        span: end..end,
    }
}
