//! A snapshot as people and programs see it: [`crate::view`] types, worst first, with what to do next. Pure.

use std::net::IpAddr;

use lb_common::abi::{ABI_VERSION, Backend, ReasonStats, backend_state, hop_flag};
use lb_common::limits::MAX_SNAT_ADDRESSES;
use lb_common::reason::{AnswerReason, DropReason, PassReason};

use super::book::Record;
use super::outputs::{address, snat_addresses};
use super::ports::{Port, PortState};
use super::snapshot::Snapshot;
use super::{Drops, warnings};
use crate::agent::ReloadFailure;
use crate::config::{BackendConfig, Check, CheckKind, ServiceConfig, TxChoice};
use crate::health::PortVerdict;
use crate::state::{BackendRef, HealthState, TxWay};
use crate::view::{
    AgentView, AnswerRow, BackendState, BackendView, ConfigView, CountersView, CpuCountersView, DropRow, DropsView,
    FailedOpView, HealthView, HopView, InterfaceView, Overall, ProgramView, RatesView, SCHEMA, ServiceState,
    ServiceView, SnatView, StatusView, TableView, Timestamp, TxErrorRow, Verdict,
};

/// Everything on the status screen.
pub fn status_view(snapshot: &Snapshot, reload: Option<&ReloadFailure>, now: Timestamp) -> StatusView {
    let mut services: Vec<ServiceView> = snapshot
        .desired
        .config
        .services
        .iter()
        .map(|service| service_view(snapshot, service, now))
        .collect();
    services.sort_by_key(|service| service.state);
    let interfaces: Vec<InterfaceView> = snapshot
        .ports
        .iter()
        .map(|port| interface_view(snapshot, port))
        .collect();
    let tables = tables(snapshot);
    let warnings = warnings::collect(snapshot, reload, &tables, &services);
    let settings = &snapshot.image.settings;
    let healthy = warnings.iter().all(|warning| !warnings::degrades(warning))
        && snapshot.failed_ops.is_empty()
        && interfaces
            .iter()
            .all(|interface| interface.error.is_none() && interface.up)
        && services.iter().all(|service| service.state == ServiceState::Up);
    let instant = std::time::Instant::now();
    StatusView {
        schema: SCHEMA,
        overall: if healthy { Overall::Ok } else { Overall::Degraded },
        now,
        agent: AgentView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: snapshot.origin.pid,
            started: snapshot.origin.started,
            generation: snapshot.generation,
            applied: snapshot.applied,
            config: ConfigView {
                path: snapshot.desired.path.clone(),
                loaded: snapshot.desired.loaded,
                last_error: reload.map(|failure| failure.message.clone()),
                last_error_at: reload.map(|failure| failure.at),
            },
        },
        program: ProgramView {
            abi_version: ABI_VERSION,
            pin_dir: snapshot.origin.pin_dir.clone(),
            features: snapshot.origin.features.clone(),
            adoption: snapshot.origin.adoption.to_owned(),
        },
        interfaces,
        snat: SnatView {
            addresses: snat_addresses(&snapshot.image),
            port_min: settings.snat_port_min,
            port_max: settings.snat_port_max,
        },
        addresses: snapshot.presence.to_vec(),
        tables,
        warnings,
        failed_ops: snapshot
            .failed_ops
            .iter()
            .map(|failed| FailedOpView {
                op: failed.op.clone(),
                error: failed.error.clone(),
                attempts: failed.backoff.attempts,
                since: failed.since,
                retry_in_ms: failed.retry_in_ms(instant),
            })
            .collect(),
        overrides: snapshot.desired.overrides.iter().map(Into::into).collect(),
        services,
    }
}

fn service_view(snapshot: &Snapshot, service: &ServiceConfig, now: Timestamp) -> ServiceView {
    let mut backends: Vec<BackendView> = service
        .backends
        .iter()
        .map(|backend| backend_view(snapshot, service, backend, now))
        .collect();
    let id = snapshot.service_ids.get(&service.name).copied();
    backends.extend(id.into_iter().flat_map(|id| removed_backends(snapshot, service, id)));
    backends.sort_by_key(|backend| backend.state);
    let (mut counters, mut rates) = (CountersView::default(), RatesView::default());
    for backend in &backends {
        counters += backend.counters;
        rates += backend.rates;
    }
    // A weight of 0 and a drain are wishes, not problems.
    let wanted = || {
        backends
            .iter()
            .filter(|backend| backend.weight > 0 && backend.state != BackendState::Removed)
    };
    let takes_flows = |backend: &BackendView| backend.state == BackendState::Active && backend.hop.is_some();
    let state = match (wanted().any(takes_flows), wanted().all(takes_flows)) {
        (false, _) => ServiceState::Down,
        (true, false) => ServiceState::Degraded,
        (true, true) => ServiceState::Up,
    };
    ServiceView {
        name: service.name.clone(),
        id,
        vips: service.vips.clone(),
        port: service.port,
        protocol: service.protocol.as_str().to_owned(),
        mode: service.mode.as_str().to_owned(),
        state,
        counters,
        rates,
        backends,
    }
}

fn backend_view(snapshot: &Snapshot, service: &ServiceConfig, backend: &BackendConfig, now: Timestamp) -> BackendView {
    let key = BackendRef {
        service: service.name.clone(),
        backend: backend.name.clone(),
    };
    let id = snapshot.backend_ids.get(&key).copied();
    let entry = id.and_then(|id| snapshot.image.backends.get(&id));
    let check = service.check_of(backend);
    let health = match (check, snapshot.health.get(&key)) {
        (Some(_), Some(record)) => health_view(record, now),
        (Some(_), None) => no_health(Verdict::Unknown, "no check has ended yet"),
        (None, _) => no_health(
            Verdict::Unchecked,
            "no check is configured: it always takes connections",
        ),
    };
    BackendView {
        name: backend.name.clone(),
        address: backend.address,
        internal_port: backend.port,
        weight: backend.weight,
        health,
        check: check.map_or_else(|| "none".to_owned(), check_text),
        ..counted(snapshot, id, entry)
    }
}

/// Backends that only the maps still know.
fn removed_backends<'a>(
    snapshot: &'a Snapshot,
    service: &'a ServiceConfig,
    service_id: u32,
) -> impl Iterator<Item = BackendView> + 'a {
    let left = move |entry: &Backend| entry.service_id == service_id && entry.state == backend_state::REMOVED;
    snapshot
        .image
        .backends
        .iter()
        .filter(move |(_, entry)| left(entry))
        .map(move |(id, entry)| {
            let name = snapshot.names.get(id).and_then(|name| name.split_once('/'));
            BackendView {
                name: name.map_or_else(|| format!("id {id}"), |(_, backend)| backend.to_owned()),
                health: no_health(Verdict::Unchecked, &format!("removed from service {}", service.name)),
                check: "none".to_owned(),
                ..counted(snapshot, Some(*id), Some(entry))
            }
        })
}

/// What the maps say about a backend.
fn counted(snapshot: &Snapshot, id: Option<u32>, entry: Option<&Backend>) -> BackendView {
    let sample = &snapshot.sample;
    BackendView {
        name: String::new(),
        id,
        address: entry.map_or(IpAddr::from([0, 0, 0, 0]), |entry| address(&entry.address)),
        internal_port: entry.map_or(0, |entry| entry.internal_port),
        weight: entry.map_or(0, |entry| entry.weight),
        state: state_of(entry),
        health: no_health(Verdict::Unknown, ""),
        since: id.and_then(|id| snapshot.since.get(&id).copied()),
        check: String::new(),
        flows: id.map_or(0, |id| sample.live(id)),
        counters: id.map(|id| sample.counters(id)).unwrap_or_default(),
        rates: id.map(|id| sample.rates(id)).unwrap_or_default(),
        hop: entry.and_then(|entry| hop_view(snapshot, entry)),
    }
}

fn state_of(entry: Option<&Backend>) -> BackendState {
    match entry.map_or(backend_state::EMPTY, |entry| entry.state) {
        backend_state::ACTIVE => BackendState::Active,
        backend_state::DRAINING => BackendState::Draining,
        backend_state::DOWN => BackendState::Down,
        backend_state::REMOVED => BackendState::Removed,
        _ => BackendState::Pending,
    }
}

fn hop_view(snapshot: &Snapshot, entry: &Backend) -> Option<HopView> {
    (entry.hop_flags & hop_flag::VALID != 0).then(|| HopView {
        mac: mac_text(&entry.hop_dst_mac),
        interface: interface_name(snapshot, entry.hop_ifindex),
    })
}

fn mac_text(mac: &[u8; 6]) -> String {
    let bytes: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

fn interface_name(snapshot: &Snapshot, ifindex: u32) -> String {
    let known = snapshot.links.by_name.values().find(|link| link.ifindex == ifindex);
    known.map_or_else(|| format!("#{ifindex}"), |link| link.name.clone())
}

fn health_view(record: &Record, now: Timestamp) -> HealthView {
    let verdict = match record.health.state() {
        HealthState::Up => Verdict::Up,
        HealthState::Down => Verdict::Down,
        HealthState::Unknown => Verdict::Unknown,
    };
    let Some(last) = &record.last else {
        return no_health(Verdict::Unknown, "no check has ended yet");
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
        crate::view::ago(last.since.age(now))
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

fn no_health(verdict: Verdict, text: &str) -> HealthView {
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

fn check_text(check: &Check) -> String {
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

fn interface_view(snapshot: &Snapshot, port: &Port) -> InterfaceView {
    let link = snapshot.links.by_name.get(&port.name);
    let way = link.map(|link| match (snapshot.desired.config.agent.tx, link.tx) {
        (TxChoice::Tx, _) | (TxChoice::Auto, TxWay::Tx) => "tx",
        (TxChoice::Redirect, _) | (TxChoice::Auto, TxWay::Redirect) => "redirect",
    });
    InterfaceView {
        name: port.name.clone(),
        ifindex: link.map(|link| link.ifindex),
        up: link.is_some_and(|link| link.up),
        xdp_mode: match &port.state {
            PortState::Attached { mode, .. } => Some(mode.to_string()),
            PortState::Missing | PortState::Failed { .. } => None,
        },
        tx_way: way.map(str::to_owned),
        driver: link.map(|link| link.driver.clone()).filter(|driver| !driver.is_empty()),
        mtu_bytes: link.map(|link| link.mtu_bytes),
        error: match &port.state {
            PortState::Attached { .. } => None,
            PortState::Missing => Some(format!("there is no interface {}; see 'ip link'", port.name)),
            PortState::Failed { error, .. } => Some(error.clone()),
        },
    }
}

fn tables(snapshot: &Snapshot) -> Vec<TableView> {
    let image = &snapshot.image;
    // Sizes are fixed when the maps are made, so those of the start hold.
    let limits = &snapshot.origin.config.limits;
    let live = |wanted: fn(&IpAddr) -> bool| {
        let of_family = image
            .backends
            .iter()
            .filter(|(_, entry)| wanted(&address(&entry.address)));
        of_family.map(|(id, _)| snapshot.sample.live(*id)).sum()
    };
    let table = |name: &str, used: u64, capacity: u32| TableView {
        name: name.to_owned(),
        used,
        capacity: u64::from(capacity),
    };
    let ring_slots: usize = image.rings.values().map(Vec::len).sum();
    vec![
        table("connections4", live(IpAddr::is_ipv4), limits.connections),
        table("connections6", live(IpAddr::is_ipv6), limits.connections),
        table("services", image.services.len() as u64, limits.services),
        table("backends", image.backends.len() as u64, limits.backends),
        table("ring_slots", ring_slots as u64, limits.ring_slots),
        table("endpoints", image.endpoints.len() as u64, limits.endpoints),
        table("snat_addresses", image.snat.len() as u64, 2 * MAX_SNAT_ADDRESSES),
    ]
}

/// Counters of reasons with names and meanings.
pub fn drops_view(snapshot: &Snapshot, drops: &Drops, now: Timestamp) -> DropsView {
    let row = |index: u32, reason: &str, meaning: &str| {
        let zero = ReasonStats::default();
        let stats = drops.reasons.get(index as usize).unwrap_or(&zero);
        DropRow {
            reason: reason.to_owned(),
            packets: stats.packets,
            bytes: stats.bytes,
            packets_per_s: 0.0,
            // Doc comments keep the blank after `///`.
            meaning: meaning.split_whitespace().collect::<Vec<_>>().join(" "),
        }
    };
    let drop_row = |reason: &DropReason| row(reason.index(), reason.as_str(), reason.meaning());
    let pass_row = |reason: &PassReason| row(reason.index(), reason.as_str(), reason.meaning());
    let answer_row = |reason: &AnswerReason| -> AnswerRow { row(reason.index(), reason.as_str(), reason.meaning()) };
    let errno = |errno: u32| (errno != 0).then(|| std::io::Error::from_raw_os_error(errno as i32).to_string());
    DropsView {
        schema: SCHEMA,
        now,
        interval_s: 0.0,
        drops: DropReason::ALL.iter().map(drop_row).collect(),
        passes: PassReason::ALL.iter().map(pass_row).collect(),
        answers: AnswerReason::ALL.iter().map(answer_row).collect(),
        tx_errors: drops
            .tx_errors
            .iter()
            .map(|(ifindex, errors)| TxErrorRow {
                interface: if *ifindex == 0 {
                    "-".to_owned()
                } else {
                    interface_name(snapshot, *ifindex)
                },
                ifindex: *ifindex,
                redirect_errors: errors.redirect_errors,
                xmit_drops: errors.xmit_drops,
                errors_per_s: 0.0,
                last_redirect_error: errno(errors.last_redirect_errno),
                last_xmit_error: errno(errors.last_xmit_errno),
            })
            .collect(),
        tx_errors_missing: drops.tx_errors_missing.clone(),
        cpu: CpuCountersView {
            connections: drops.cpu.connections,
            hops_moved: drops.cpu.hops_moved,
            tuples_reused_early: drops.cpu.tuples_reused_early,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::fixture::{CONFIG, Fixture, moment};
    use std::collections::HashMap;

    fn view(fixture: &mut Fixture) -> StatusView {
        let snapshot = fixture.snapshot(60, HashMap::new());
        status_view(&snapshot, None, moment(60).wall)
    }

    fn healthy() -> Fixture {
        let mut fixture = Fixture::new(CONFIG);
        fixture.probe("web/a", &PortVerdict::Open, 1, 1);
        fixture.probe("web/10.0.0.12:9000", &PortVerdict::Open, 1, 1);
        fixture
    }

    fn backend<'a>(view: &'a StatusView, service: &str, name: &str) -> &'a BackendView {
        let service = view.services.iter().find(|known| known.name == service);
        let backends = service.map_or(&[][..], |service| &service.backends);
        backends.iter().find(|known| known.name == name).expect("the backend")
    }

    #[test]
    fn all_well_is_ok_and_an_unchecked_backend_is_active() {
        let view = view(&mut healthy());
        assert_eq!((view.overall, &view.warnings[..]), (Overall::Ok, &[][..]));
        let dns = backend(&view, "dns", "d");
        assert_eq!(
            (dns.state, dns.health.verdict),
            (BackendState::Active, Verdict::Unchecked)
        );
        assert_eq!(dns.hop.as_ref().map(|hop| hop.interface.as_str()), Some("eth0"));
    }

    #[test]
    fn a_refusing_backend_comes_first_and_says_why_since_when_and_what_to_do() {
        let mut fixture = healthy();
        fixture.probe("web/10.0.0.12:9000", &PortVerdict::Refused, 40, 12);
        let view = view(&mut fixture);
        assert_eq!(view.overall, Overall::Degraded);
        let first = view
            .services
            .first()
            .and_then(|service| service.backends.first())
            .expect("a row");
        assert_eq!(
            (first.name.as_str(), first.state),
            ("10.0.0.12:9000", BackendState::Down)
        );
        let health = &first.health;
        assert_eq!(
            health.text,
            "10.0.0.12:9000 refused the connection: nothing listens on internal port 9000 (12 in a row, since \
             2001-09-09T01:47:20Z, 20s ago)"
        );
        assert_eq!(health.next.as_deref(), Some("check the server's listen address"));
        assert_eq!((health.port_verdict.as_deref(), health.in_a_row), (Some("refused"), 12));
    }

    #[test]
    fn a_missing_vip_degrades_with_the_command_that_adds_it() {
        let mut fixture = healthy();
        fixture.vip_missing("203.0.113.10");
        let view = view(&mut fixture);
        assert_eq!(view.overall, Overall::Degraded);
        let next = view.warnings.first().and_then(|warning| warning.next.as_deref());
        assert_eq!(next, Some("ip addr add 203.0.113.10/32 dev eth0"));
    }

    #[test]
    fn a_backend_without_a_next_hop_is_no_help_to_its_service() {
        let mut fixture = healthy();
        fixture.hops.clear();
        let view = view(&mut fixture);
        assert_eq!(
            view.services.first().map(|service| service.state),
            Some(ServiceState::Down)
        );
        assert!(
            view.warnings.iter().any(|warning| warning.code == "no_next_hop"),
            "{:?}",
            view.warnings
        );
    }

    #[test]
    fn a_removed_backend_is_shown_until_its_id_is_given_back() {
        let mut fixture = healthy();
        fixture.snapshot(1, HashMap::new());
        let text = CONFIG.replace(
            "name = \"a\"\naddress = \"10.0.0.11\"",
            "name = \"z\"\naddress = \"10.0.0.19\"",
        );
        let desired = crate::agent::Desired::from_text(&fixture.desired.path, text, moment(2).wall).expect("good");
        fixture.desired = desired.into();
        fixture.book.follow(&fixture.desired.config, moment(2));
        let snapshot = fixture.snapshot(3, HashMap::new());
        let removed = status_view(&snapshot, None, moment(3).wall);
        assert_eq!(backend(&removed, "web", "a").state, BackendState::Removed);
        let snapshot = fixture.snapshot(120, HashMap::new());
        let gone = status_view(&snapshot, None, moment(120).wall);
        let web = gone.services.iter().find(|service| service.name == "web").expect("web");
        assert!(web.backends.iter().all(|backend| backend.name != "a"));
    }

    #[test]
    fn a_refused_reload_is_a_warning_that_names_the_check() {
        let snapshot = healthy().snapshot(60, HashMap::new());
        let failure = ReloadFailure {
            message: "config /etc/xlb/xlb.toml: 1 error(s)\nmore".to_owned(),
            at: moment(50).wall,
        };
        let view = status_view(&snapshot, Some(&failure), moment(60).wall);
        assert_eq!(view.overall, Overall::Degraded);
        let warning = view.warnings.first().expect("a warning");
        assert_eq!(warning.next.as_deref(), Some("xlb check /etc/xlb/xlb.toml"));
        assert!(!warning.message.contains("more"), "one line: {}", warning.message);
    }

    #[test]
    fn every_reason_has_a_row() {
        let snapshot = healthy().snapshot(60, HashMap::new());
        let drops = Drops {
            reasons: vec![ReasonStats { packets: 1, bytes: 60 }; 128],
            tx_errors: std::collections::BTreeMap::from([(
                2,
                lb_common::abi::TxErrors {
                    xmit_drops: 3,
                    last_xmit_errno: 28,
                    ..Default::default()
                },
            )]),
            cpu: crate::dataplane::CpuTotals::default(),
            tx_errors_missing: None,
        };
        let view = drops_view(&snapshot, &drops, moment(60).wall);
        assert_eq!(view.drops.len(), DropReason::ALL.len());
        assert!(
            view.drops
                .iter()
                .all(|row| row.packets == 1 && !row.meaning.starts_with(' '))
        );
        let lost = view.tx_errors.first().expect("eth0");
        assert_eq!(lost.interface, "eth0");
        assert!(
            lost.last_xmit_error
                .as_deref()
                .is_some_and(|text| text.contains("No space left"))
        );
    }
}
