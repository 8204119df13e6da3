//! `/metrics`: the same views as status and drops, as Prometheus text (exposition format 0.0.4, which promtool lints).
//!
//! Names are `xlb_<object>_<what>[_<unit>]`, counters end in `_total`, labels are bounded by the config.

mod agent;
mod backends;
mod encode;
mod names;
mod reasons;
mod text;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::view::{DropsView, StatusView};

/// Type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics as text.
pub fn render(status: &StatusView, drops: &DropsView) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Views {
        status: status.clone(),
        drops: drops.clone(),
    }));
    let mut open_metrics = String::new();
    encode(&mut open_metrics, &registry)?;
    Ok(text::prometheus(&open_metrics))
}

/// What one scrape shows.
#[derive(Debug)]
struct Views {
    status: StatusView,
    drops: DropsView,
}

impl Collector for Views {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        agent::agent(&mut encoder, &self.status)?;
        backends::backends(&mut encoder, &self.status)?;
        backends::services(&mut encoder, &self.status)?;
        names::names(&mut encoder, &self.status)?;
        reasons::reasons(&mut encoder, &self.drops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::fixture::{CONFIG, Fixture, moment};
    use crate::reconcile::{Drops, drops_view, status_view};
    use crate::view::NameView;
    use std::collections::{BTreeMap, HashMap};

    fn text() -> String {
        let mut fixture = Fixture::new(CONFIG);
        fixture.probe("web/a", &crate::health::PortVerdict::Open, 1, 1);
        text_of(&mut fixture)
    }

    fn text_of(fixture: &mut Fixture) -> String {
        let snapshot = fixture.snapshot(5, HashMap::new());
        let mut status = status_view(&snapshot, None, moment(60).wall);
        status.names = vec![
            failing(),
            NameView {
                name: "new.example".to_owned(),
                answered: None,
                ..failing()
            },
        ];
        let drops = Drops {
            reasons: vec![lb_common::abi::ReasonStats::default(); 128],
            tx_errors: BTreeMap::new(),
            cpu: crate::dataplane::CpuTotals::default(),
            tx_errors_missing: None,
        };
        render(&status, &drops_view(&snapshot, &drops, moment(60).wall)).expect("text")
    }

    fn failing() -> NameView {
        NameView {
            name: "app.example".to_owned(),
            family: "IPv4".to_owned(),
            backends: vec!["web/app".to_owned()],
            addresses: vec![std::net::IpAddr::from([10, 0, 0, 21])],
            answered: Some(moment(20).wall),
            ttl_s: Some(5),
            error: Some("no answer in time".to_owned()),
            error_since: Some(moment(30).wall),
            failures: 3,
            next_try: None,
        }
    }

    /// What `promtool check metrics` asks: every sample's family has HELP and TYPE, counters and only they end in
    /// `_total`.
    #[test]
    fn every_family_has_help_and_type_and_counters_end_in_total() {
        let text = text();
        let mut kinds = HashMap::new();
        let mut helped = Vec::new();
        for line in text.lines() {
            if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                kinds.insert(name, kind);
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            } else if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
                assert!(!help.is_empty());
                helped.push(name);
            } else {
                let name = line.split(['{', ' ']).next().unwrap_or_default();
                assert!(kinds.contains_key(name), "no TYPE before: {line}");
                assert!(helped.contains(&name), "no HELP before: {line}");
            }
        }
        assert!(kinds.len() > 25, "{} families", kinds.len());
    }

    #[test]
    fn samples_carry_names_not_ids() {
        let text = text();
        let wanted = [
            r#"xlb_backend_packets_total{service="web",backend="a",direction="in"} 0"#,
            r#"xlb_backend_state{service="web",backend="a",state="active"} 1.0"#,
            r#"xlb_backend_port_verdict{service="web",backend="a",verdict="open"} 1.0"#,
            r#"xlb_dropped_packets_total{reason="no_backend"} 0"#,
            r#"xlb_service_panic{service="web",family="IPv4"} 0.0"#,
            r#"xlb_name_answer_age_seconds{name="app.example",family="IPv4"} 40.0"#,
            r#"xlb_name_failures{name="app.example",family="IPv4"} 3.0"#,
            r#"xlb_name_addresses{name="new.example",family="IPv4"} 1.0"#,
        ];
        for line in wanted {
            assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
        }
        assert!(
            !text.contains("xlb_name_answer_age_seconds{name=\"new.example\""),
            "{text}"
        );
    }

    #[test]
    fn a_backend_that_moved_has_one_sample_of_each_metric() {
        let mut fixture = Fixture::new(CONFIG);
        fixture.snapshot(1, HashMap::new());
        let moved = CONFIG.replace("port = 8081", "port = 8082");
        let desired = crate::agent::Desired::from_text(&fixture.desired.path, moved, moment(2).wall);
        fixture.desired = desired.expect("a good config").into();
        fixture.book.follow(&fixture.desired.config, moment(2));
        let text = text_of(&mut fixture);
        let mut seen = std::collections::HashSet::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let series = line.rsplit_once(' ').map_or(line, |(series, _)| series);
            assert!(seen.insert(series), "twice: {series}");
        }
    }
}
