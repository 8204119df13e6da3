//! Collects what is wrong with a file as data; [`super::render`] makes text of it.

use std::ops::Range;

use super::codes::{self, Code};
use super::{About, Severity};

/// Bytes of the file.
pub(super) type Span = Range<usize>;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

impl<T> Located<T> {
    pub(super) fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// One finding: a first label and perhaps others ("first used here").
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) code: &'static Code,
    pub(super) message: String,
    pub(super) label: (Span, String),
    pub(super) context: Vec<(Span, String)>,
    pub(super) help: Option<String>,
    /// Known once all is found.
    pub(super) about: Vec<About>,
}

impl Finding {
    pub(super) fn new(code: &'static Code, message: impl Into<String>, span: Span, label: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            label: (span, label.into()),
            context: Vec::new(),
            help: None,
            about: Vec::new(),
        }
    }

    /// Adds a second place.
    pub(super) fn and(mut self, span: Span, label: impl Into<String>) -> Self {
        self.context.push((span, label.into()));
        self
    }

    /// Where its labels stand.
    pub(super) fn spans(&self) -> impl Iterator<Item = &Span> {
        std::iter::once(&self.label.0).chain(self.context.iter().map(|(span, _)| span))
    }

    /// Adds what to do.
    pub(super) fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }
}

/// Everything found so far.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn add(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Finding> {
        self.0.iter_mut()
    }

    /// Keeps those that `keep` wants.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Finding) -> bool) {
        self.0.retain(keep);
    }

    pub(super) fn has_errors(&self) -> bool {
        self.0.iter().any(|finding| finding.code.severity == Severity::Error)
    }

    pub(super) fn has(&self, code: &'static Code) -> bool {
        self.0.iter().any(|finding| finding.code == code)
    }

    /// Forgets what is said to be missing: where the syntax is broken, it may well be there.
    pub(super) fn forget_missing(&mut self) {
        const MISSING: [&Code; 4] = [
            &codes::MISSING_KEY,
            &codes::NO_SERVICES,
            &codes::NO_BACKENDS,
            &codes::FAMILY_WITHOUT_BACKEND,
        ];
        self.0.retain(|finding| !MISSING.contains(&finding.code));
    }

    /// Forgets what is said to be empty: where something has a wrong type, it may be what was meant.
    pub(super) fn forget_empty(&mut self) {
        const EMPTY: [&Code; 3] = [&codes::NO_SERVICES, &codes::NO_BACKENDS, &codes::FAMILY_WITHOUT_BACKEND];
        self.0.retain(|finding| !EMPTY.contains(&finding.code));
    }

    /// In the file's order; the order of discovery where two start at the same byte.
    pub(super) fn into_sorted(mut self) -> Vec<Finding> {
        self.0.sort_by_key(|finding| finding.label.0.start);
        self.0
    }
}
