//! The table of backends, and a sentence for each that is out.

use super::text::Detail;
use crate::cli::output::{self, Paint};
use crate::cli::table::{Rows, Tone, plain, short};
use crate::view::{BackendState, BackendView, ServiceView, StatusView, Timestamp, Verdict, ago};

const HEADINGS: &[&str] = &[
    "SERVICE", "BACKEND", ">WEIGHT", "STATE", "HEALTH", "SINCE", "CHECK", ">FLOWS", ">NEW/s", ">PPS", ">BPS",
];
/// However little room there is.
const ROWS_AT_LEAST: usize = 3;

/// Table and sentences, in as many lines where there is a limit.
pub(super) fn backends(view: &StatusView, paint: Paint, lines: Option<usize>) -> String {
    let mut all: Vec<(&ServiceView, &BackendView)> = view
        .services
        .iter()
        .flat_map(|service| service.backends.iter().map(move |backend| (service, backend)))
        .collect();
    // Worst first over the whole table; the order inside one state stays that of the services.
    all.sort_by_key(|(_, backend)| backend.state);
    let (shown, detail) = match lines {
        Some(lines) => (rows_that_fit(view, &all, lines), Detail::Screen),
        None => (all.len(), Detail::Wide),
    };
    let mut text = table(all.iter().take(shown).copied(), view.now, paint);
    without_backends(&mut text, &view.services);
    if shown < all.len() {
        output::line(
            &mut text,
            &format!("... {} more; all of them: xlb status -o wide", all.len() - shown),
        );
    }
    sentences(&mut text, all.iter().take(shown).copied(), detail);
    text
}

/// The heading, perhaps a line for those left out, and a row for each; one that is down also has a sentence, and the first of
/// them a blank line above.
fn rows_that_fit(view: &StatusView, all: &[(&ServiceView, &BackendView)], lines: usize) -> usize {
    let bare = view
        .services
        .iter()
        .filter(|service| service.backends.is_empty())
        .count();
    let is_down = |(_, backend): &&(&ServiceView, &BackendView)| backend.health.verdict == Verdict::Down;
    let needed = |rows: usize| {
        let down = all.iter().take(rows).filter(is_down).count();
        let left_out = usize::from(rows < all.len());
        1 + bare + rows + left_out + down + usize::from(down > 0)
    };
    // More rows than lines never fit, however many backends there are.
    let most = (0..=all.len().min(lines)).rev().find(|rows| needed(*rows) <= lines);
    most.unwrap_or(0).max(ROWS_AT_LEAST.min(all.len()))
}

/// What the checks say of each backend that is down; with [`Detail::Wide`] of all of them, with their last changes.
pub(in crate::cli) fn sentences<'v>(
    text: &mut String,
    backends: impl Iterator<Item = (&'v ServiceView, &'v BackendView)>,
    detail: Detail,
) {
    let is_told = |backend: &BackendView| backend.health.verdict == Verdict::Down || detail == Detail::Wide;
    let mut told = backends.filter(|(_, backend)| is_told(backend)).peekable();
    if told.peek().is_some() {
        text.push('\n');
    }
    for (service, backend) in told {
        let next = backend
            .health
            .next
            .as_deref()
            .map(|next| format!("; next: {next}"))
            .unwrap_or_default();
        output::line(
            text,
            &format!(
                "{}/{}: {}{}{next}",
                service.name,
                backend.name,
                of_name(backend, detail),
                backend.health.text
            ),
        );
        if detail == Detail::Wide {
            history(text, backend);
        }
    }
}

/// The host that it is an address of.
fn of_name(backend: &BackendView, detail: Detail) -> String {
    let from = backend.from.as_ref().filter(|_| detail == Detail::Wide);
    from.map_or_else(String::new, |from| format!("of {}; ", from.host))
}

/// One row for each backend.
pub(in crate::cli) fn table<'v>(
    backends: impl Iterator<Item = (&'v ServiceView, &'v BackendView)>,
    now: Timestamp,
    paint: Paint,
) -> String {
    let mut rows = Rows::new(HEADINGS, paint);
    for (service, backend) in backends {
        rows.push(row(now, service, backend));
    }
    rows.text()
}

/// A sentence for each service that has none.
pub(in crate::cli) fn without_backends<'v>(text: &mut String, services: impl IntoIterator<Item = &'v ServiceView>) {
    for service in services.into_iter().filter(|service| service.backends.is_empty()) {
        output::line(
            text,
            &format!(
                "{}  has no backend: new connections are dropped (no_backend); next: xlb backend add {} ADDRESS:PORT",
                service.name, service.name
            ),
        );
    }
}

/// The last changes of the port verdict, where there was one.
fn history(text: &mut String, backend: &BackendView) {
    for change in backend.health.changes.iter().filter(|change| change.old.is_some()) {
        let old = change.old.as_deref().unwrap_or_default();
        output::line(
            text,
            &format!("    {}  {old} -> {}: {}", change.at, change.new, change.cause),
        );
    }
}

fn row(now: Timestamp, service: &ServiceView, backend: &BackendView) -> [(String, Tone); 11] {
    let tone = match backend.state {
        BackendState::Down => Tone::Bad,
        BackendState::Active => Tone::Good,
        BackendState::Pending | BackendState::Maint | BackendState::Removed | BackendState::Draining => Tone::Warn,
    };
    [
        plain(format!("{} {}", service.name, service.protocol)),
        plain(target(backend)),
        plain(backend.weight.to_string()),
        (backend.state.as_str().to_owned(), tone),
        (
            health(backend),
            if backend.health.verdict == Verdict::Down {
                Tone::Bad
            } else {
                Tone::Plain
            },
        ),
        plain(
            backend
                .since
                .map_or_else(|| "-".to_owned(), |since| ago(since.age(now))),
        ),
        plain(backend.check.clone()),
        plain(backend.flows.to_string()),
        plain(short(backend.rates.new_per_s)),
        plain(short(backend.rates.packets_per_s)),
        plain(short(backend.rates.bits_per_s)),
    ]
}

/// Name and `address:internal_port`, once where they are the same.
fn target(backend: &BackendView) -> String {
    let socket = std::net::SocketAddr::new(backend.address, backend.internal_port).to_string();
    if backend.name == socket {
        socket
    } else {
        format!("{} {socket}", backend.name)
    }
}

fn health(backend: &BackendView) -> String {
    let health = &backend.health;
    let word = match health.verdict {
        Verdict::Up => "up",
        Verdict::Down => "down",
        Verdict::Unknown => "unknown",
        Verdict::Unchecked => return "unchecked".to_owned(),
    };
    match health.port_verdict.as_deref() {
        Some(port) if port != "open" => format!("{word}: {port} x{}", health.in_a_row),
        _ => word.to_owned(),
    }
}
