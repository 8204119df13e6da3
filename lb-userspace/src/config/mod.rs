//! Config file to checked config. Every error at once, each with file, line, caret and code. Pure: text in, [`Config`] or
//! [`Diagnostic`]s out; it must not read files, clocks or the network.
//!
//! The way: TOML with recovery, every key on its own (`reader`, `agent`, `service`), then checks across keys
//! (`check`), then text (`render`).

mod agent;
mod check;
mod codes;
mod diagnostic;
mod examples;
mod findings;
mod model;
mod probe;
mod raw;
mod reader;
mod render;
mod service;
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
pub use diagnostic::{Diagnostic, Severity};
pub use examples::{Example, example};
pub use model::{
    AgentConfig, BackendConfig, Check, CheckKind, Config, HttpCheck, Limits, Mode, OnMiss, Panic, PortRange, Protocol,
    Roots, ServiceConfig, Timeouts, TlsCheck, TxChoice, Verify, XdpMode,
};
pub use service::{DEFAULT_WEIGHT, MAX_WEIGHT};
pub use words::nearest;

/// Parses and checks a config. `path` is named in diagnostics only.
///
/// # Errors
/// Every error found, in the file's order, warnings among them. Without errors the warnings come with the config.
pub fn parse(path: &Path, text: &str) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    parse_looking(path, text, &|_| Ok(()))
}

/// Says what is wrong with a file of roots that the config names.
pub type LookAtRoots<'a> = &'a dyn Fn(&Path) -> Result<(), String>;

/// [`parse`], which has no eyes of its own, with somebody who looks at the files that the config names.
///
/// # Errors
/// As [`parse`].
pub fn parse_looking(
    path: &Path,
    text: &str,
    look: LookAtRoots<'_>,
) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut found = Findings::default();
    let raw = read(text, &mut found);
    check::check(&raw, look, &mut found);
    if found.has(&codes::SYNTAX) {
        found.forget_missing();
    }
    let failed = found.has_errors();
    let diagnostics = render::render(&path.to_string_lossy(), text, &found.into_sorted());
    match check::config(raw) {
        Some(config) if !failed => Ok((config, diagnostics)),
        _ => Err(diagnostics),
    }
}

/// [`parse`] for a file's bytes, which need not be UTF-8.
///
/// # Errors
/// As [`parse`].
pub fn parse_bytes(path: &Path, bytes: &[u8]) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return parse(path, text),
        Err(error) => error,
    };
    let text = String::from_utf8_lossy(bytes);
    let at = error.valid_up_to();
    let message = format!("byte {at} of the file is not UTF-8");
    // Up to `at` the replaced text has the same bytes; there the replacement character stands.
    let finding = Finding::new(&codes::NOT_UTF8, message, at..at + 1, "not UTF-8");
    let finding = finding.help("save the file as UTF-8");
    Err(render::render(&path.to_string_lossy(), &text, &[finding]))
}

fn read(text: &str, found: &mut Findings) -> RawConfig {
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        found.add(Finding::new(&codes::SYNTAX, error.message(), span, ""));
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
        services,
        span: end..end,
    }
}
