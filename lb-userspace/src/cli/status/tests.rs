use std::collections::HashMap;

use lb_common::abi::BackendStats;

use super::*;
use crate::health::PortVerdict;
use crate::reconcile::fixture::{CONFIG, Fixture, moment};
use crate::reconcile::status_view;
use crate::view::{BackendState, FromNameView, NameView};

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
    assert_eq!(text.lines().count(), 25, "{text}");
    assert!(text.contains("more; all of them: xlb status -o wide"));
    let row = text
        .lines()
        .skip_while(|line| !line.starts_with("SERVICE"))
        .nth(1)
        .unwrap_or_default();
    assert!(row.contains("down"), "{row}");
}

#[test]
fn removed_backends_stand_below_those_in_use() {
    let mut view = troubled();
    let backends = &mut view.services.first_mut().expect("a service").backends;
    let mut removed = backends.last().cloned().expect("a backend");
    removed.state = BackendState::Removed;
    removed.name = "gone".to_owned();
    backends.insert(0, removed);
    let text = status_text(&view, Paint::Plain, Detail::Screen);
    let states: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("SERVICE"))
        .skip(1)
        .filter_map(|line| {
            ["down", "active", "removed"]
                .into_iter()
                .find(|state| line.contains(state))
        })
        .collect();
    assert_eq!(states.first().copied(), Some("down"), "{text}");
    let of = |state| states.iter().position(|found| *found == state);
    assert!(of("removed") > of("active"), "{text}");
}

#[test]
fn wide_shows_what_the_dns_said_of_each_name() {
    let mut view = troubled();
    let answered = NameView {
        name: "app.internal.example".to_owned(),
        family: "IPv4".to_owned(),
        backends: vec!["web/app".to_owned()],
        addresses: ["10.0.0.21", "10.0.0.22"]
            .map(|text| text.parse().expect("an address"))
            .into(),
        answered: Some(moment(40).wall),
        ttl_s: Some(90),
        error: None,
        error_since: None,
        failures: 0,
        next_try: None,
    };
    let failing = NameView {
        error: Some("no answer in time (asked 10.0.0.53)".to_owned()),
        failures: 3,
        ..answered.clone()
    };
    let never = NameView {
        addresses: Vec::new(),
        answered: None,
        ttl_s: None,
        ..answered.clone()
    };
    view.names = vec![answered, failing, never];
    let text = status_text(&view, Paint::Plain, Detail::Wide);
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("name ")).collect();
    insta::assert_snapshot!(lines.join("\n"));
    assert!(!status_text(&view, Paint::Plain, Detail::Screen).contains("app.internal.example"));
    let from = FromNameView {
        entry: "app".to_owned(),
        host: "app.internal.example".to_owned(),
    };
    view.services[0].backends[0].from = Some(from);
    let text = status_text(&view, Paint::Plain, Detail::Wide);
    assert!(text.contains(": of app.internal.example; "), "{text}");
}
