//! The status as text: what is wrong first, then the backends, worst first.

use super::header::header;
use super::rows::backends;
use crate::cli::output::{self, Paint};
use crate::view::StatusView;

/// Lines of one screen.
const SCREEN_LINES: usize = 25;
/// Warnings, and failed writes, that one screen shows.
const SCREEN_WARNINGS: usize = 4;

/// How much of the status is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// One screen.
    Screen,
    /// Everything.
    Wide,
}

/// The status as text.
pub fn status_text(view: &StatusView, paint: Paint, detail: Detail) -> String {
    let mut text = header(view, detail);
    let problems = problems(view, detail);
    if !problems.is_empty() {
        text.push('\n');
        text.push_str(&problems);
    }
    text.push('\n');
    let left = match detail {
        Detail::Screen => Some(SCREEN_LINES.saturating_sub(text.lines().count())),
        Detail::Wide => None,
    };
    text.push_str(&backends(view, paint, left));
    text
}

fn problems(view: &StatusView, detail: Detail) -> String {
    let mut text = String::new();
    let limit = match detail {
        Detail::Screen => SCREEN_WARNINGS,
        Detail::Wide => usize::MAX,
    };
    for warning in view.warnings.iter().take(limit) {
        let next = warning
            .next
            .as_deref()
            .map(|next| format!("; next: {next}"))
            .unwrap_or_default();
        output::line(&mut text, &format!("! {}{next}", warning.message));
    }
    let left = view.warnings.len().saturating_sub(limit);
    if left > 0 {
        output::line(&mut text, &format!("! {left} more warnings; next: xlb status -o wide"));
    }
    for op in view.failed_ops.iter().take(limit) {
        output::line(
            &mut text,
            &format!(
                "! map write {} failed {} times: {}; tried again in {} ms",
                op.op, op.attempts, op.error, op.retry_in_ms
            ),
        );
    }
    text
}
