//! Findings to text: file, line, column, source lines with carets.

use annotate_snippets::{AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};

use super::findings::{Finding, Span};
use super::{Diagnostic, Severity};

/// Findings that are shown; a file that is not a config at all can have thousands.
const MAX_SHOWN: usize = 200;
/// What one finding quotes of the file at most in one piece.
const MAX_QUOTED_BYTES: usize = 16 << 10;

/// Renders findings in their order.
pub(super) fn render(file: &str, text: &str, findings: &[Finding]) -> Vec<Diagnostic> {
    let mut all: Vec<&Finding> = findings.iter().collect();
    if all.len() > MAX_SHOWN {
        // An error must not be hidden by warnings before it, nor a warning by hints.
        all.sort_by_key(|finding| finding.code.severity);
        all.truncate(MAX_SHOWN);
    }
    let lines = LineIndex::new(text);
    let each = all.into_iter();
    each.map(|finding| diagnostic(file, text, &lines, finding)).collect()
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
        about: finding.about.clone(),
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
    let mark = |kind: AnnotationKind, (span, label): &(Span, String)| Mark {
        kind,
        span: within(text, span),
        label: label.clone(),
    };
    let mut marks = vec![mark(AnnotationKind::Primary, &(span.clone(), label.clone()))];
    marks.extend(finding.context.iter().map(|place| mark(AnnotationKind::Context, place)));
    let title = level.primary_title(finding.message.as_str()).id(finding.code.id);
    let mut group = Group::with_title(title).elements(quoted(file, text, lines, marks));
    if let Some(help) = &finding.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    Renderer::plain().render(&[group])
}

/// A place that a finding points at.
struct Mark {
    kind: AnnotationKind,
    span: Span,
    label: String,
}

/// The places with the lines between them, or each on its own where they are far apart: the renderer reads all of the
/// source that it is given, once for each finding. Of a line that nobody can read, only its number.
fn quoted<'a>(file: &'a str, text: &'a str, lines: &LineIndex<'_>, marks: Vec<Mark>) -> Vec<Element<'a>> {
    let ends = marks.iter().map(|mark| mark.span.clone());
    let ends = ends.reduce(|all, span| all.start.min(span.start)..all.end.max(span.end));
    let window = lines.whole_lines(&ends.unwrap_or_default());
    if window.len() > MAX_QUOTED_BYTES && marks.len() > 1 {
        return marks
            .into_iter()
            .flat_map(|mark| quoted(file, text, lines, vec![mark]))
            .collect();
    }
    let (line, _) = lines.position(window.start);
    if window.len() > MAX_QUOTED_BYTES {
        let (_, column) = lines.position(marks.first().map_or(0, |mark| mark.span.start));
        return vec![Origin::path(file).line(line).char_column(column).into()];
    }
    let annotations = marks.into_iter().map(|mark| {
        let inside = mark.span.start - window.start..mark.span.end - window.start;
        mark.kind.span(inside).label(mark.label)
    });
    let source = text.get(window.clone()).unwrap_or_default();
    let snippet = Snippet::source(source).line_start(line).path(file);
    vec![snippet.annotations(annotations).into()]
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
