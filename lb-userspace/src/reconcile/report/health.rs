//! What the checks say, in words.

use crate::config::{Check, CheckKind};
use crate::health::PortVerdict;
use crate::reconcile::book::Record;
use crate::reconcile::history::Change;
use crate::state::HealthState;
use crate::view::{HealthView, Timestamp, Verdict, VerdictChangeView, ago};

/// Health after at least one probe; says why, since when, how often in a row, and what to do.
pub(super) fn health_view(record: &Record, internal_port: u16, now: Timestamp) -> HealthView {
    let verdict = match record.health.state() {
        HealthState::Up => Verdict::Up,
        HealthState::Down => Verdict::Down,
        HealthState::Unknown => Verdict::Unknown,
    };
    let Some(last) = &record.last else {
        return HealthView {
            changes: changes(record),
            ..without_result(Verdict::Unknown, "no check has ended yet")
        };
    };
    let sentence = last.verdict.sentence(record.target);
    // The next step is the last part; what the other side said stands before it and may be anything.
    let (what, next) = match sentence.rsplit_once("; ") {
        Some((what, next)) => (what.to_owned(), Some(next.to_owned())),
        None => (sentence, None),
    };
    let probed_port = Some(record.target.port()).filter(|port| *port != internal_port);
    let other = probed_port.map_or_else(String::new, |port| {
        format!("port {port} is probed, the traffic goes to {internal_port}; ")
    });
    let text = format!(
        "{what} ({other}{} in a row, since {}, {} ago)",
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
        port_verdict_cause: last.verdict.cause().map(str::to_owned),
        probed_port,
        port_verdict_since: Some(last.since),
        changes: changes(record),
    }
}

fn changes(record: &Record) -> Vec<VerdictChangeView> {
    let view = |change: Change<'_>| VerdictChangeView {
        at: change.at,
        old: change.old.map(|old| old.as_str().to_owned()),
        new: change.new.as_str().to_owned(),
        cause: change.new.sentence(record.target),
    };
    record.history.changes().map(view).collect()
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
        port_verdict_cause: None,
        probed_port: None,
        port_verdict_since: None,
        changes: Vec::new(),
    }
}

/// What is checked and how often, for a table.
pub(super) fn check_text(check: &Check) -> String {
    let every = match (check.interval.as_secs(), check.interval.subsec_millis()) {
        (s, 0) => format!("{s}s"),
        (0, ms) => format!("{ms}ms"),
        _ => format!("{:.1}s", check.interval.as_secs_f64()),
    };
    let text = match &check.kind {
        CheckKind::Tcp => format!("tcp {every}"),
        CheckKind::Http(http) => format!("http {} {every}", http.path),
        CheckKind::Https(https, _) => format!("https {} {every}", https.path),
    };
    match check.port {
        Some(port) => format!("{text} port {port}"),
        None => text,
    }
}
