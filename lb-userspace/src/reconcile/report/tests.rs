use std::collections::HashMap;
use std::time::Duration;

use lb_common::abi::ReasonStats;
use lb_common::reason::DropReason;

use super::*;
use crate::health::{PortVerdict, ProbeFault};
use crate::reconcile::Drops;
use crate::reconcile::fixture::{CONFIG, Fixture, moment};
use crate::view::{BackendState, BackendView, Verdict};

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
fn a_check_that_says_nothing_for_long_degrades_and_says_so() {
    let mut fixture = healthy();
    let fault = PortVerdict::Error(ProbeFault::Late(Duration::from_secs(1)));
    fixture.probe("web/a", &fault, 20, 3);
    let snapshot = fixture.snapshot(60, HashMap::new());
    let undecided = |at: u64| {
        let view = status_view(&snapshot, None, moment(at).wall);
        let found = view
            .warnings
            .into_iter()
            .find(|warning| warning.code == "check_undecided");
        (view.overall, found.map(|warning| warning.message))
    };
    assert_eq!(undecided(49), (Overall::Ok, None));
    let (overall, message) = undecided(50);
    assert_eq!(overall, Overall::Degraded);
    let message = message.expect("a sentence");
    assert!(
        message.starts_with("web/a: checked without a result since 2001-09-09T01:47:00Z, it stays up"),
        "{message}"
    );
    // And one that never ended.
    let snapshot = Fixture::new(CONFIG).snapshot(1, HashMap::new());
    let view = status_view(&snapshot, None, moment(30).wall);
    let silent = view.warnings.iter().filter(|warning| warning.code == "check_undecided");
    assert_eq!(silent.count(), 2, "{:?}", view.warnings);
}

#[test]
fn a_service_without_a_backend_in_use_degrades_and_says_so() {
    let mut fixture = Fixture::new(&CONFIG.replace("port = 5353", "port = 5353\nstate = \"drain\""));
    let view = view(&mut fixture);
    let found = view
        .warnings
        .iter()
        .find(|warning| warning.code == "taken_out")
        .expect("a sentence");
    assert_eq!(view.overall, Overall::Degraded);
    assert_eq!(found.next.as_deref(), Some("xlb backend ready dns d"));
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

#[test]
fn a_removed_service_is_shown_while_its_connections_go_on_and_degrades_nothing() {
    let mut fixture = healthy();
    fixture.snapshot(1, HashMap::new());
    let (text, _) = CONFIG
        .split_once("[[service]]\nname = \"dns\"")
        .expect("dns is the last service");
    let desired = crate::agent::Desired::from_text(&fixture.desired.path, text.to_owned(), moment(2).wall);
    fixture.desired = desired.expect("a good config").into();
    fixture.book.follow(&fixture.desired.config, moment(2));
    let snapshot = fixture.snapshot(3, HashMap::new());
    let view = status_view(&snapshot, None, moment(3).wall);
    let last = view.services.last().expect("services");
    assert_eq!((last.name.as_str(), last.state), ("dns", ServiceState::Removed));
    assert_eq!(backend(&view, "dns", "d").state, BackendState::Removed);
    assert_eq!(view.overall, Overall::Ok);
}

#[test]
fn a_check_of_another_port_names_both_and_its_history_says_what_changed() {
    let text = CONFIG.replace(
        "check = { tcp = {},",
        "check = { tcp = {}, port = 9900, other_port = true,",
    );
    let mut fixture = Fixture::new(&text);
    fixture.probe("web/a", &PortVerdict::Open, 1, 1);
    fixture.probe("web/a", &PortVerdict::Refused, 10, 3);
    let view = view(&mut fixture);
    let a = backend(&view, "web", "a");
    assert_eq!(
        (a.health.probed_port, a.check.as_str()),
        (Some(9900), "tcp 2s port 9900")
    );
    assert!(
        a.health.text.starts_with("10.0.0.11:9900 refused")
            && a.health
                .text
                .contains("(port 9900 is probed, the traffic goes to 8081; 3 in a row"),
        "{}",
        a.health.text
    );
    let changes: Vec<_> = a
        .health
        .changes
        .iter()
        .map(|one| (one.old.as_deref(), one.new.as_str()))
        .collect();
    assert_eq!(changes, [(Some("open"), "refused"), (None, "open")]);
}

#[test]
fn a_service_in_panic_is_degraded_and_says_so() {
    let text = CONFIG.replace("name = \"web\"", "name = \"web\"\npanic = \"use_all\"");
    let mut fixture = Fixture::new(&text);
    for name in ["web/a", "web/10.0.0.12:9000"] {
        fixture.probe(name, &PortVerdict::Refused, 1, 5);
    }
    let view = view(&mut fixture);
    let web = view.services.iter().find(|service| service.name == "web").expect("web");
    assert_eq!((view.overall, web.state), (Overall::Degraded, ServiceState::Degraded));
    let states: Vec<_> = web.backends.iter().map(|one| (one.state, one.health.verdict)).collect();
    assert_eq!(states, [(BackendState::Active, Verdict::Down); 2]);
    let warning = view.warnings.first().expect("a warning");
    assert!(
        warning
            .message
            .starts_with("PANIC: service web: every IPv4 backend is down since")
    );
}

#[test]
fn a_vip_of_a_family_without_backends_degrades_its_service_and_the_warning_names_it() {
    let text = CONFIG.replacen("[\"203.0.113.10\"]", "[\"203.0.113.10\", \"2001:db8::10\"]", 1);
    let mut fixture = Fixture::new(&text);
    fixture.probe("web/a", &PortVerdict::Open, 1, 1);
    fixture.probe("web/10.0.0.12:9000", &PortVerdict::Open, 1, 1);
    let view = view(&mut fixture);
    let web = view.services.iter().find(|service| service.name == "web").expect("web");
    assert_eq!(web.state, ServiceState::Degraded);
    let warning = view.warnings.iter().find(|warning| warning.code == "config_warning");
    let message = warning.map(|warning| warning.message.as_str()).expect("a warning");
    assert!(
        message.contains("XLB0313 service web: VIP 2001:db8::10 has no IPv6 backend"),
        "{message}"
    );
}
