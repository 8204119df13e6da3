//! Findings to text: file, line, column, source lines with carets.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::findings::{Finding, Span};
use super::{Diagnostic, Severity};

/// Findings that are shown; a file that is not a config at all can have thousands.
const MAX_SHOWN: usize = 200;

/// Renders findings in their order.
pub(super) fn render(file: &str, text: &str, findings: &[Finding]) -> Vec<Diagnostic> {
    // An error must not be hidden by warnings before it.
    let errors_first = findings.len() > MAX_SHOWN;
    let (errors, others): (Vec<_>, Vec<_>) = findings
        .iter()
        .partition(|finding| !errors_first || finding.code.severity == Severity::Error);
    let lines = LineIndex::new(text);
    let shown = errors.into_iter().chain(others).take(MAX_SHOWN);
    shown.map(|finding| diagnostic(file, text, &lines, finding)).collect()
}

fn diagnostic(file: &str, text: &str, lines: &LineIndex<'_>, finding: &Finding) -> Diagnostic {
    let (line, column) = lines.position(finding.label.0.start);
    Diagnostic {
        code: finding.code.id,
        severity: finding.code.severity,
        message: finding.message.clone(),
        file: file.to_owned(),
        line,
        column,
        help: finding.help.clone(),
        silenced: None,
        rendered: rendered(file, text, lines, finding),
    }
}

fn rendered(file: &str, text: &str, lines: &LineIndex<'_>, finding: &Finding) -> String {
    let level = match finding.code.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Hint => Level::NOTE.with_name(Severity::Hint.as_str()),
    };
    let (span, label) = &finding.label;
    let primary = within(text, span);
    let context: Vec<(Span, &str)> = finding
        .context
        .iter()
        .map(|(span, label)| (within(text, span), label.as_str()))
        .collect();
    // Only the lines between the labels: the renderer reads all of the source it is given, once a finding.
    let ends = context.iter().fold(primary.clone(), |ends, (span, _)| {
        ends.start.min(span.start)..ends.end.max(span.end)
    });
    let window = lines.whole_lines(&ends);
    let inside = |span: &Span| span.start - window.start..span.end - window.start;
    let primary = AnnotationKind::Primary.span(inside(&primary)).label(label.as_str());
    let context = context
        .iter()
        .map(|(span, label)| AnnotationKind::Context.span(inside(span)).label(*label));
    let snippet = Snippet::source(text.get(window.clone()).unwrap_or_default())
        .line_start(lines.position(window.start).0)
        .path(file)
        .annotation(primary)
        .annotations(context);
    let mut group: Group<'_> = level
        .primary_title(finding.message.as_str())
        .id(finding.code.id)
        .element(snippet);
    if let Some(help) = &finding.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    Renderer::plain().render(&[group])
}

/// The span, cut to its first line and to whole characters: an arrow over a whole table hides what it points at.
fn within(text: &str, span: &Span) -> Span {
    let mut start = span.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let mut end = span.end.clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    let line = text.get(start..end).and_then(|part| part.split(['\n', '\r']).next());
    start..start + line.map_or(0, str::len)
}

struct LineIndex<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> LineIndex<'t> {
    fn new(text: &'t str) -> Self {
        let later = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(later.map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// The lines that hold a span, without the last one's end.
    fn whole_lines(&self, span: &Span) -> Span {
        let after = self.starts.partition_point(|start| *start <= span.start);
        let start = after
            .checked_sub(1)
            .and_then(|line| self.starts.get(line))
            .copied()
            .unwrap_or(0);
        let next = self.starts.partition_point(|start| *start <= span.end);
        let end = self.starts.get(next).map_or(self.text.len(), |start| start - 1);
        start..end.max(span.end)
    }

    /// Line and column, both from 1; columns count characters.
    fn position(&self, at: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= at).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let before = self.text.as_bytes().get(start..at.min(self.text.len())).unwrap_or(&[]);
        // Bytes that start a character: at may stand inside one.
        let column = before.iter().filter(|byte| (**byte & 0xc0) != 0x80).count();
        (line, column + 1)
    }
}
