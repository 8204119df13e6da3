//! What an operator should look at, each with the next step. Pure.

use std::time::Duration;

use super::snapshot::Snapshot;
use super::taken_out::taken_out;
use crate::agent::ReloadFailure;
use crate::config::{Config, Panic};
use crate::health::Judgement;
use crate::state::HealthState;
use crate::view::{BackendState, ServiceView, TableView, Timestamp, WarningView};

/// A table this full is worth a word.
const FULL_PERCENT: u64 = 90;

/// A check is undecided after this many of its rounds, and not before [`UNDECIDED_AT_LEAST`].
const UNDECIDED_ROUNDS: u32 = 5;
const UNDECIDED_AT_LEAST: Duration = Duration::from_secs(30);

/// Codes of warnings that only inform.
const NOTICES: &[&str] = &["address_routed", "config_warning", "override_dropped", "dataplane"];

/// Whether a warning makes the whole degraded.
pub(super) fn degrades(warning: &WarningView) -> bool {
    !NOTICES.contains(&warning.code.as_str())
}

/// All warnings, worst first.
pub(super) fn collect(
    snapshot: &Snapshot,
    reload: Option<&ReloadFailure>,
    tables: &[TableView],
    services: &[ServiceView],
    now: Timestamp,
) -> Vec<WarningView> {
    let mut all = snapshot.warnings.clone();
    all.extend(reload.map(|failure| reload_warning(snapshot, failure)));
    all.extend(addresses(snapshot));
    all.extend(snat(snapshot, services));
    all.extend(services.iter().flat_map(all_down));
    all.extend(taken_out(&snapshot.desired));
    all.extend(undecided(snapshot, now));
    all.extend(hops(snapshot, services));
    all.extend(tables.iter().filter_map(table));
    all.extend(restart_only(&snapshot.origin.config, &snapshot.desired.config));
    all.extend(
        snapshot
            .origin
            .warnings
            .iter()
            .map(|text| warning("dataplane", text.clone(), None)),
    );
    all.extend(snapshot.desired.dropped.iter().map(|gone| {
        let view = snapshot.desired.override_view(&gone.change);
        warning(
            "override_dropped",
            format!(
                "the runtime change {} {} by {} at {} is not in force, it no longer fits the config: {}",
                view.what(),
                view.object(),
                view.by,
                view.at,
                gone.why.lines().next().unwrap_or_default()
            ),
            Some(format!(
                "make it again where it is still wanted; 'xlb override drop {}' ends this notice",
                view.object().replacen('/', " ", 1)
            )),
        )
    }));
    all.extend(snapshot.desired.name_findings.iter().map(|found| {
        let message = format!("{}: {}", found.object, found.why);
        warning("name_left_out", message, Some(found.next.clone()))
    }));
    all.extend(snapshot.desired.warnings.iter().map(|found| {
        let place = format!("{}:{}:{}", found.file, found.line, found.column);
        warning(
            "config_warning",
            format!("{place}: {} {}", found.code, found.message),
            found.help.clone(),
        )
    }));
    all.sort_by_key(|warning| !degrades(warning));
    all
}

fn warning(code: &str, message: String, next: Option<String>) -> WarningView {
    WarningView {
        code: code.to_owned(),
        message,
        next,
    }
}

fn reload_warning(snapshot: &Snapshot, failure: &ReloadFailure) -> WarningView {
    let first_line = failure.message.lines().next().unwrap_or_default();
    warning(
        "reload_failed",
        format!(
            "reload at {} failed, the running state is older than the file: {first_line}",
            failure.at
        ),
        Some(format!("xlb check {}", snapshot.desired.path.display())),
    )
}

/// VIPs and SNAT addresses that packets do not reach.
fn addresses(snapshot: &Snapshot) -> impl Iterator<Item = WarningView> + '_ {
    snapshot.presence.iter().filter_map(|address| {
        let code = if address.is_missing() {
            "address_missing"
        } else {
            "address_routed"
        };
        Some(warning(code, address.obstacle()?, address.next.clone()))
    })
}

/// A full-NAT service without a source address of its family drops every new connection.
fn snat<'a>(snapshot: &'a Snapshot, services: &'a [ServiceView]) -> impl Iterator<Item = WarningView> + 'a {
    let settings = snapshot.image.settings;
    services
        .iter()
        .filter(|service| service.mode == "full_nat")
        .flat_map(move |service| {
            let missing = |count: u32, v4: bool| count == 0 && service.vips.iter().any(|vip| vip.is_ipv4() == v4);
            let families = [
                (missing(settings.snat4_count, true), "IPv4"),
                (missing(settings.snat6_count, false), "IPv6"),
            ];
            families.into_iter().filter(|(missing, _)| *missing).map(|(_, family)| {
                warning(
                    "no_snat_address",
                    format!(
                        "service {}: no {family} SNAT address, its {family} connections are dropped (no_snat_address)",
                        service.name
                    ),
                    Some(format!("give the interface an {family} address, or set snat_addresses")),
                )
            })
        })
}

/// What happens to new connections of a service whose every backend is down.
fn all_down(service: &ServiceView) -> impl Iterator<Item = WarningView> + '_ {
    service.all_down.iter().map(|down| {
        let (name, family, since) = (&service.name, &down.family, down.since);
        let (code, text) = if down.panic == Panic::UseAll.as_str() {
            let text = format!(
                "PANIC: service {name}: every {family} backend is down since {since}; panic = \"use_all\" sends new \
                 connections to all of them"
            );
            ("panic", text)
        } else {
            let text = format!(
                "service {name}: every {family} backend is down since {since}: new connections are dropped (no_backend)"
            );
            ("all_down", text)
        };
        warning(code, text, Some("xlb status -o wide".to_owned()))
    })
}

/// Checks that have said nothing about their backend for so long that something must be wrong with them.
fn undecided(snapshot: &Snapshot, now: Timestamp) -> impl Iterator<Item = WarningView> + '_ {
    let mut silent: Vec<_> = snapshot
        .health
        .iter()
        .filter_map(|(key, record)| {
            let (since, why) = match &record.last {
                None => (record.since, "no check of it has ended".to_owned()),
                Some(last) if last.verdict.judgement() == Judgement::Inconclusive => {
                    (last.since, last.verdict.sentence(record.target))
                }
                Some(_) => return None,
            };
            let check = &record.check;
            let patience = UNDECIDED_AT_LEAST.max((check.interval + check.timeout) * UNDECIDED_ROUNDS);
            (since.age(now) >= patience).then_some((key, record, since, why))
        })
        .collect();
    silent.sort_by_key(|(key, ..)| (&key.service, &key.backend));
    silent.into_iter().map(|(key, record, since, why)| {
        let stays = match record.health.state() {
            HealthState::Up => "it stays up, whatever has become of it",
            HealthState::Down => "it stays down",
            HealthState::Unknown => {
                "its health is unknown: it takes no connections unless it did before the agent's start"
            }
        };
        warning(
            "check_undecided",
            format!(
                "{}/{}: checked without a result since {since}, {stays}: {why}",
                key.service, key.backend
            ),
            Some("journalctl -u xlb".to_owned()),
        )
    })
}

/// Backends that take flows but whose next hop is unknown.
fn hops<'a>(snapshot: &'a Snapshot, services: &'a [ServiceView]) -> impl Iterator<Item = WarningView> + 'a {
    let unreachable =
        |backend: &&crate::view::BackendView| backend.state == BackendState::Active && backend.hop.is_none();
    services.iter().flat_map(move |service| {
        service.backends.iter().filter(unreachable).map(move |backend| {
            let why = snapshot.hop_problems.get(&backend.address);
            let why = why.map_or_else(|| "not resolved yet".to_owned(), ToString::to_string);
            warning(
                "no_next_hop",
                format!(
                    "{}/{}: no next hop towards {}: {why}",
                    service.name, backend.name, backend.address
                ),
                Some(format!("ip route get {}", backend.address)),
            )
        })
    })
}

fn table(table: &TableView) -> Option<WarningView> {
    let full = table.used * 100 >= table.capacity * FULL_PERCENT && table.capacity > 0;
    let key = match table.name.as_str() {
        "connections4" | "connections6" => "connections",
        other => other,
    };
    full.then(|| {
        warning(
            "table_full",
            format!(
                "{} is {}% full ({} of {})",
                table.name,
                table.used * 100 / table.capacity,
                table.used,
                table.capacity
            ),
            Some(format!(
                "raise [limits] {key}; the new size needs 'xlb unload' and a start (drops flows)"
            )),
        )
    })
}

/// Keys that a reload cannot change.
fn restart_only(running: &Config, wanted: &Config) -> Option<WarningView> {
    let (old, new) = (&running.agent, &wanted.agent);
    let keys = [
        ("socket", old.socket == new.socket),
        ("socket_group", old.socket_group == new.socket_group),
        ("sandbox", old.sandbox == new.sandbox),
        ("http", old.http == new.http),
        ("pin_dir", old.pin_dir == new.pin_dir),
        ("state_dir", old.state_dir == new.state_dir),
        ("xdp_mode", old.xdp_mode == new.xdp_mode),
        ("[limits]", running.limits == wanted.limits),
    ];
    let next = if old.pin_dir == new.pin_dir {
        "restart the agent; traffic goes on meanwhile".to_owned()
    } else {
        let old = old.pin_dir.display();
        format!(
            "stop the agent, 'xlb unload --pin-dir {old}' (drops flows), start it: what is pinned there stays attached"
        )
    };
    let changed: Vec<&str> = keys.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect();
    (!changed.is_empty()).then(|| {
        warning(
            "restart_needed",
            format!(
                "the config changed {}, which only a restart of the agent puts in force",
                changed.join(", ")
            ),
            Some(next),
        )
    })
}
