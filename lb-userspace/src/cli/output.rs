//! Standard output and error of the commands: a closed pipe (`xlb status | head`) is not an error, and colour is for
//! terminals without `NO_COLOR` (<https://no-color.org>).

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};

use serde::Serialize;

use super::exit::CliError;
use crate::view::SCHEMA;

/// Whether text may carry colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Escape sequences allowed.
    Color,
    /// Plain text.
    Plain,
}

impl Paint {
    /// What standard output takes.
    pub(crate) fn for_stdout() -> Self {
        Self::given(io::stdout().is_terminal())
    }

    /// What standard error takes.
    pub(crate) fn for_stderr() -> Self {
        Self::given(io::stderr().is_terminal())
    }

    fn given(is_terminal: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        if wanted && is_terminal {
            Self::Color
        } else {
            Self::Plain
        }
    }
}

/// Writes text to standard output.
pub(super) fn text(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(CliError::Problem(format!(
            "standard output: {error}; nothing else failed"
        ))),
        _ => Ok(()),
    }
}

/// Writes one JSON document to standard output.
pub(super) fn json<T: Serialize>(value: &T) -> Result<(), CliError> {
    let mut body =
        serde_json::to_string_pretty(value).map_err(|error| CliError::Problem(format!("JSON output: {error}")))?;
    body.push('\n');
    text(&body)
}

/// [`json`] for an answer of the API that carries no `schema` of its own.
pub(super) fn versioned_json<T: Serialize>(view: &T) -> Result<(), CliError> {
    json(&Versioned { schema: SCHEMA, view })
}

#[derive(Serialize)]
struct Versioned<'v, T> {
    schema: u32,
    #[serde(flatten)]
    view: &'v T,
}

/// Writes an error to standard error; nothing can be done when that fails too.
pub(super) fn error(message: &str) {
    drop(writeln!(io::stderr().lock(), "error: {message}"));
}

/// Writes a note to standard error.
pub(super) fn note(message: &str) {
    drop(writeln!(io::stderr().lock(), "{message}"));
}

/// Adds a line to a text.
pub(super) fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_versioned_document_starts_with_its_schema_and_keeps_its_keys() {
        #[derive(Serialize)]
        struct Answer {
            generation: u64,
        }
        let view = &Answer { generation: 7 };
        let document = serde_json::to_string(&Versioned { schema: SCHEMA, view }).expect("JSON");
        assert_eq!(document, format!("{{\"schema\":{SCHEMA},\"generation\":7}}"));
    }
}
