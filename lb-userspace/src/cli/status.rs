//! `xlb status`: one screen, worst first; the exit code is the health.

use super::args::{StatusArgs, WideFormat};
use super::client::Client;
use super::exit::{CliError, Exit};
use super::output::{self, Paint};
use super::table::{Rows, Tone, plain, short};
use crate::view::{BackendState, BackendView, Overall, ServiceView, StatusView, TableView, Verdict, ago};

/// Backends that the one-screen table shows before it says how many are left out.
const SCREEN_ROWS: usize = 15;
/// Warnings that the one-screen table shows.
const SCREEN_WARNINGS: usize = 5;

/// Asks, prints, and judges.
pub(super) fn status(args: &StatusArgs) -> Result<Exit, CliError> {
    let view: StatusView = Client::from(&args.socket).get("/v1/status")?;
    match args.output {
        WideFormat::Json => output::json(&view)?,
        WideFormat::Table => output::text(&status_text(&view, Paint::for_stdout(), Detail::Screen))?,
        WideFormat::Wide => output::text(&status_text(&view, Paint::for_stdout(), Detail::Wide))?,
    }
    Ok(match view.overall {
        Overall::Ok => Exit::Ok,
        Overall::Degraded => Exit::Problem,
    })
}

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
    text.push_str(&backends(view, paint, detail));
    text
}

fn header(view: &StatusView, detail: Detail) -> String {
    let mut text = String::new();
    let agent = &view.agent;
    let overall = match view.overall {
        Overall::Ok => "ok",
        Overall::Degraded => "DEGRADED",
    };
    line(
        &mut text,
        "xlb",
        &format!(
            "{overall}  version {}  pid {}  up {}  generation {} ({} ago)",
            agent.version,
            agent.pid,
            ago(agent.started.age(view.now)),
            agent.generation,
            ago(agent.applied.age(view.now)),
        ),
    );
    line(
        &mut text,
        "config",
        &format!(
            "{}, read {} ago",
            agent.config.path.display(),
            ago(agent.config.loaded.age(view.now)),
        ),
    );
    for interface in &view.interfaces {
        let shown = match &interface.error {
            Some(error) => format!("{}  NOT ATTACHED: {error}", interface.name),
            None => format!(
                "{}  xdp {}  {}  {}  mtu {}  {}",
                interface.name,
                interface.xdp_mode.as_deref().unwrap_or("not attached"),
                interface.tx_way.as_deref().unwrap_or("-"),
                interface.driver.as_deref().unwrap_or("-"),
                interface
                    .mtu_bytes
                    .map_or_else(|| "-".to_owned(), |mtu| mtu.to_string()),
                if interface.up { "up" } else { "DOWN" },
            ),
        };
        line(&mut text, "interface", &shown);
    }
    let snat: Vec<String> = view.snat.addresses.iter().map(ToString::to_string).collect();
    line(
        &mut text,
        "snat",
        &format!(
            "{}  ports {}-{}",
            if snat.is_empty() {
                "no address".to_owned()
            } else {
                snat.join(" ")
            },
            view.snat.port_min,
            view.snat.port_max,
        ),
    );
    let tables: Vec<String> = view
        .tables
        .iter()
        .filter(|table| detail == Detail::Wide || is_shown(table))
        .map(|table| format!("{} {}/{}", table.name, table.used, table.capacity))
        .collect();
    line(&mut text, "tables", &tables.join("  "));
    if detail == Detail::Wide {
        line(
            &mut text,
            "program",
            &format!(
                "abi {}  {}  {}  pins {}",
                view.program.abi_version,
                view.program.adoption,
                view.program.features.join(" "),
                view.program.pin_dir.display(),
            ),
        );
        for address in &view.addresses {
            let at = address
                .interface
                .as_deref()
                .map(|name| format!(" on {name}"))
                .unwrap_or_default();
            line(
                &mut text,
                "address",
                &format!("{}  {}{at}", address.address, address.presence),
            );
        }
    }
    for change in &view.overrides {
        line(
            &mut text,
            "runtime",
            &format!(
                "{} {}/{} by {}, {} ago; not in the config file",
                change.action,
                change.service,
                change.backend,
                change.by,
                ago(change.at.age(view.now)),
            ),
        );
    }
    text
}

/// Connections, and what is filling up.
fn is_shown(table: &TableView) -> bool {
    table.name.starts_with("connections") || table.used * 2 >= table.capacity
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

fn backends(view: &StatusView, paint: Paint, detail: Detail) -> String {
    let headings: &[&str] = &[
        "SERVICE", "BACKEND", ">WEIGHT", "STATE", "HEALTH", "SINCE", "CHECK", ">FLOWS", ">NEW/s", ">PPS", ">BPS",
    ];
    let mut all: Vec<(&ServiceView, &BackendView)> = view
        .services
        .iter()
        .flat_map(|service| service.backends.iter().map(move |backend| (service, backend)))
        .collect();
    // Worst first over the whole table; the order inside one state stays that of the services.
    all.sort_by_key(|(_, backend)| backend.state);
    let shown = match detail {
        Detail::Screen => SCREEN_ROWS.min(all.len()),
        Detail::Wide => all.len(),
    };
    let mut rows = Rows::new(headings, paint);
    for (service, backend) in all.iter().take(shown) {
        rows.push(row(view, service, backend));
    }
    let mut text = rows.text();
    for service in view.services.iter().filter(|service| service.backends.is_empty()) {
        output::line(
            &mut text,
            &format!(
                "{}  has no backend: new connections are dropped (no_backend); next: xlb backend add {} ADDRESS:PORT",
                service.name, service.name
            ),
        );
    }
    if shown < all.len() {
        output::line(
            &mut text,
            &format!("... {} more; all of them: xlb status -o wide", all.len() - shown),
        );
    }
    let out: Vec<_> = all
        .iter()
        .take(shown)
        .filter(|(_, backend)| backend.health.verdict == Verdict::Down || detail == Detail::Wide)
        .collect();
    if !out.is_empty() {
        text.push('\n');
    }
    for (service, backend) in out {
        let next = backend
            .health
            .next
            .as_deref()
            .map(|next| format!("; next: {next}"))
            .unwrap_or_default();
        output::line(
            &mut text,
            &format!("{}/{}: {}{next}", service.name, backend.name, backend.health.text),
        );
    }
    text
}

fn row(view: &StatusView, service: &ServiceView, backend: &BackendView) -> [(String, Tone); 11] {
    let tone = match backend.state {
        BackendState::Down => Tone::Bad,
        BackendState::Active => Tone::Good,
        BackendState::Pending | BackendState::Removed | BackendState::Draining => Tone::Warn,
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
                .map_or_else(|| "-".to_owned(), |since| ago(since.age(view.now))),
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

fn line(text: &mut String, label: &str, value: &str) {
    output::line(text, &format!("{label:<10} {value}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::PortVerdict;
    use crate::reconcile::fixture::{CONFIG, Fixture, moment};
    use crate::reconcile::status_view;
    use lb_common::abi::BackendStats;
    use std::collections::HashMap;

    fn counters(step: u64) -> HashMap<u32, BackendStats> {
        let stats = BackendStats {
            packets_in: 1_000 * step,
            packets_out: 800 * step,
            bytes_in: 100_000 * step,
            bytes_out: 1_400_000 * step,
            flows_new: 12 * step,
            flows_opened: 12 * step,
            flows_closed: 2 * step,
            flows_refused: 0,
        };
        HashMap::from([(1, stats)])
    }

    fn troubled() -> StatusView {
        let mut fixture = Fixture::new(CONFIG);
        fixture.probe("web/a", &PortVerdict::Open, 1, 30);
        fixture.probe("web/10.0.0.12:9000", &PortVerdict::Open, 1, 1);
        fixture.probe("web/10.0.0.12:9000", &PortVerdict::Refused, 40, 12);
        fixture.vip_missing("203.0.113.10");
        fixture.snapshot(59, counters(1));
        let snapshot = fixture.snapshot(60, counters(2));
        let mut view = status_view(&snapshot, None, moment(60).wall);
        // The snapshot must not change with every release.
        view.agent.version = "1.2.3".to_owned();
        view
    }

    #[test]
    fn one_screen_says_what_is_wrong_first() {
        insta::assert_snapshot!(status_text(&troubled(), Paint::Plain, Detail::Screen));
    }

    #[test]
    fn wide_shows_addresses_and_every_health_text() {
        insta::assert_snapshot!(status_text(&troubled(), Paint::Plain, Detail::Wide));
    }

    #[test]
    fn the_json_document_is_stable() {
        let json = serde_json::to_string_pretty(&troubled()).expect("JSON");
        insta::assert_snapshot!(json);
        let back: StatusView = serde_json::from_str(&json).expect("reads its own output");
        assert_eq!(back, troubled());
    }

    #[test]
    fn colour_is_only_where_it_is_asked_for() {
        let view = troubled();
        assert!(!status_text(&view, Paint::Plain, Detail::Wide).contains('\u{1b}'));
        assert!(status_text(&view, Paint::Color, Detail::Wide).contains('\u{1b}'));
    }

    #[test]
    fn many_backends_stay_on_one_screen_with_the_worst_first() {
        let mut view = troubled();
        let service = view.services.first_mut().expect("a service");
        let active = service.backends.last().cloned().expect("a backend");
        service.backends.extend(std::iter::repeat_n(active, 200));
        let text = status_text(&view, Paint::Plain, Detail::Screen);
        assert!(text.lines().count() <= 30, "{} lines", text.lines().count());
        assert!(text.contains("more; all of them: xlb status -o wide"));
        let row = text
            .lines()
            .skip_while(|line| !line.starts_with("SERVICE"))
            .nth(1)
            .unwrap_or_default();
        assert!(row.contains("down"), "{row}");
    }
}
