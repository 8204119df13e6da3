//! What the checks say, in words.

use crate::config::{Check, CheckKind};
use crate::health::PortVerdict;
use crate::reconcile::book::Record;
use crate::state::HealthState;
use crate::view::{HealthView, Timestamp, Verdict, ago};

/// Health after at least one probe; says why, since when, how often in a row, and what to do.
pub(super) fn health_view(record: &Record, now: Timestamp) -> HealthView {
    let verdict = match record.health.state() {
        HealthState::Up => Verdict::Up,
        HealthState::Down => Verdict::Down,
        HealthState::Unknown => Verdict::Unknown,
    };
    let Some(last) = &record.last else {
        return without_result(Verdict::Unknown, "no check has ended yet");
    };
    let sentence = last.verdict.sentence(record.target);
    let (what, next) = match sentence.split_once("; ") {
        Some((what, next)) => (what.to_owned(), Some(next.to_owned())),
        None => (sentence, None),
    };
    let text = format!(
        "{what} ({} in a row, since {}, {} ago)",
        last.in_a_row,
        last.since,
        ago(last.since.age(now))
    );
    HealthView {
        verdict,
        port_verdict: Some(last.verdict.as_str().to_owned()),
        text,
        next: next.filter(|_| last.verdict != PortVerdict::Open),
        in_a_row: last.in_a_row,
        took_us: Some(last.took.as_micros() as u64),
        since: Some(record.since),
    }
}

/// Health where no probe has spoken.
pub(super) fn without_result(verdict: Verdict, text: &str) -> HealthView {
    HealthView {
        verdict,
        port_verdict: None,
        text: text.to_owned(),
        next: None,
        in_a_row: 0,
        took_us: None,
        since: None,
    }
}

/// What is checked and how often, for a table.
pub(super) fn check_text(check: &Check) -> String {
    let every = match (check.interval.as_secs(), check.interval.subsec_millis()) {
        (s, 0) => format!("{s}s"),
        (0, ms) => format!("{ms}ms"),
        _ => format!("{:.1}s", check.interval.as_secs_f64()),
    };
    match &check.kind {
        CheckKind::Tcp => format!("tcp {every}"),
        CheckKind::Http { path, .. } => format!("http {path} {every}"),
    }
}
