//! Why there is no desired state.

use std::path::PathBuf;

use crate::config::write_back::WriteBackError;
use crate::config::{Diagnostic, Severity, many};
use crate::health::TrustError;

/// Why there is no desired state.
#[derive(Debug, thiserror::Error)]
pub enum DesiredError {
    /// The file cannot be read.
    #[error("config {}: {source}; next: name another file, or 'ls -l {}'", path.display(), path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The check found errors.
    #[error("config {}: {}\n{}", path.display(), many(errors(diagnostics).count(), "error"), rendered(diagnostics.iter()))]
    Check {
        /// The file.
        path: PathBuf,
        /// Everything it found.
        diagnostics: Vec<Diagnostic>,
    },
    /// The config that a change would make has errors.
    #[error("the change would leave {would_be} with {}\n{}", many(errors(diagnostics).count(), "error"), rendered(errors(diagnostics)))]
    WouldBreak {
        /// The file as it would be: what is quoted does not stand in it.
        would_be: String,
        /// What the check found.
        diagnostics: Vec<Diagnostic>,
    },
    /// What an HTTPS check should believe cannot be used.
    #[error("config {}: {source}", path.display())]
    Trust {
        /// The config file.
        path: PathBuf,
        /// What is wrong.
        source: TrustError,
    },
    /// A change does not fit the config.
    #[error("{0}")]
    Change(#[from] WriteBackError),
    /// A change made with `--runtime` would not fit any more.
    #[error("{0}")]
    Misfit(Box<Misfit>),
}

/// A change made with `--runtime` in the way of another one.
#[derive(Debug, thiserror::Error)]
#[error("the runtime change {what} by {by} would not fit any more: {why}")]
pub struct Misfit {
    /// The change and its object.
    pub what: String,
    /// The service it is about.
    pub service: String,
    /// Who asked for it.
    pub by: String,
    /// Why it does not fit.
    pub why: WriteBackError,
}

impl DesiredError {
    /// For the log: the first errors with their places, without pictures.
    pub fn in_one_line(&self) -> String {
        const SHOWN: usize = 3;
        let Self::Check { path, diagnostics } = self else {
            return self.to_string().replace('\n', "; ");
        };
        let all = errors(diagnostics).count();
        let shown: Vec<String> = errors(diagnostics)
            .take(SHOWN)
            .map(|one| format!("{}:{} {} {}", one.line, one.column, one.code, one.message))
            .collect();
        let more = match all.saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!("; {more} more"),
        };
        format!("config {}: {all} error(s): {}{more}", path.display(), shown.join("; "))
    }
}

fn errors(diagnostics: &[Diagnostic]) -> impl Iterator<Item = &Diagnostic> {
    diagnostics.iter().filter(|found| found.severity == Severity::Error)
}

fn rendered<'d>(diagnostics: impl Iterator<Item = &'d Diagnostic>) -> String {
    let each: Vec<&str> = diagnostics.map(|found| found.rendered.trim_end()).collect();
    each.join("\n")
}
