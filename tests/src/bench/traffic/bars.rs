//! What xlb promises of real traffic, and how far the kernel lets an XDP program come. Pure.

use super::ways::Way;
use super::{Offloads, P99, connections_and_requests};
use crate::bench::report::{Bar, Limit, Report, paired};

/// Every bar whose rows were measured.
pub(super) fn bars(report: &Report) -> Vec<Bar> {
    let full_nat = Way::FullNat.name();
    let mut bars = Vec::new();
    let mut push = |name: String, value: Option<f64>, limit: Limit| {
        bars.extend(value.map(|value| Bar { name, value, limit }));
    };
    for offloads in Offloads::ALL {
        for group in connections_and_requests(offloads) {
            let to = |other: Way| paired(report, group, full_nat, other.name());
            let better_proxy = match (to(Way::Haproxy), to(Way::NginxStream)) {
                (Some(haproxy), Some(nginx)) => Some(haproxy.min(nginx)),
                _ => None,
            };
            for (other, value, limit) in [
                ("direct", to(Way::Direct), Limit::AtLeast(0.97)),
                ("nftables", to(Way::Nftables), Limit::AtLeast(1.10)),
                ("the better proxy", better_proxy, Limit::AtLeast(1.5)),
                (Way::BareRedirect.name(), to(Way::BareRedirect), Limit::Unjudged),
            ] {
                let limit = match offloads {
                    Offloads::AtPeers => limit,
                    Offloads::Everywhere => Limit::Unjudged,
                };
                push(format!("full_nat's {group}, in those of {other}"), value, limit);
            }
        }
    }
    push(
        "full_nat's p99 at 60 % of direct's requests, in direct's".to_owned(),
        paired(report, P99, full_nat, Way::Direct.name()),
        Limit::AtMost(1.1),
    );
    bars
}

#[cfg(test)]
mod tests {
    use super::super::{CONNECTIONS, CONNECTIONS_EVERYWHERE};
    use super::*;
    use crate::bench::report::{Row, Unit};

    fn report(rows: &[(&str, Way, f64)]) -> Report {
        let mut report = Report::new("traffic");
        report.rows = rows
            .iter()
            .map(|(group, way, sample)| Row {
                group: (*group).to_owned(),
                name: way.name().to_owned(),
                unit: Unit::PerSecond,
                samples: vec![*sample],
                around: Vec::new(),
                baseline: None,
            })
            .collect();
        report
    }

    #[test]
    fn a_bar_whose_rows_were_not_measured_is_left_out() {
        assert_eq!(bars(&report(&[(CONNECTIONS, Way::FullNat, 90.0)])), []);
        let one_proxy = [(CONNECTIONS, Way::FullNat, 90.0), (CONNECTIONS, Way::Haproxy, 50.0)];
        assert_eq!(bars(&report(&one_proxy)), []);
    }

    #[test]
    fn the_settings_of_offloads_have_bars_of_their_own() {
        let bars = bars(&report(&[
            (CONNECTIONS, Way::FullNat, 80.0),
            (CONNECTIONS, Way::Direct, 100.0),
            (CONNECTIONS_EVERYWHERE, Way::FullNat, 90.0),
            (CONNECTIONS_EVERYWHERE, Way::BareRedirect, 100.0),
        ]));
        let told: Vec<_> = bars
            .iter()
            .map(|bar| (bar.name.as_str(), bar.value, bar.limit))
            .collect();
        assert_eq!(
            told,
            [
                (
                    "full_nat's new connections, in those of direct",
                    0.8,
                    Limit::AtLeast(0.97)
                ),
                (
                    "full_nat's new connections, GRO everywhere, in those of bare redirect",
                    0.9,
                    Limit::Unjudged
                ),
            ]
        );
    }

    #[test]
    fn the_better_proxy_is_the_one_that_leaves_xlb_less() {
        let rows = [
            (CONNECTIONS, Way::FullNat, 90.0),
            (CONNECTIONS, Way::Haproxy, 45.0),
            (CONNECTIONS, Way::NginxStream, 60.0),
        ];
        let bars = bars(&report(&rows));
        assert_eq!(bars.iter().map(|bar| bar.value).collect::<Vec<_>>(), [1.5]);
    }
}
