//! One finding about a config file: its code, place and rendered text.

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The config is refused.
    Error,
    /// The config is accepted; something in it is probably not what was meant.
    Warning,
    /// The config is good; it could be better.
    Hint,
}

impl Severity {
    /// `error`, `warning` or `hint`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Hint => "hint",
        }
    }
}

/// A service of the file, or a backend of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The service's name.
    pub service: String,
    /// The backend's name, as it runs; `None`: the service itself.
    pub backend: Option<String>,
}

/// One finding about a config file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// `XLB0xxx`.
    pub code: &'static str,
    /// Error, warning or hint.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// The file's path as it was given.
    pub file: String,
    /// Line of the first label, from 1.
    pub line: usize,
    /// Column of the first label in characters, from 1.
    pub column: usize,
    /// What to do, in one line.
    pub help: Option<String>,
    /// Why it is meant to be so, where `silence` says that.
    pub silenced: Option<String>,
    /// The services and backends that its labels stand in.
    pub about: Vec<About>,
    /// The whole finding with source lines and carets, without colour.
    pub rendered: String,
}
