//! What xlb promises of real traffic, and how far the kernel lets an XDP program come. Pure.

use super::ways::{Hook, Way};
use super::{Offloads, P99, connections_and_requests};
use crate::bench::report::{Bar, Limit, Report, paired};

/// Every bar whose rows were measured. Full_nat is held against them where the kernel runs it in the driver and where
/// behind it.
pub(super) fn bars(report: &Report) -> Vec<Bar> {
    let mut bars = Vec::new();
    for offloads in Offloads::ALL {
        for hook in Hook::ALL {
            for group in connections_and_requests(offloads) {
                rates(report, offloads, hook, group, &mut bars);
            }
        }
    }
    // How far ahead of the proxies anything could be here that forwards packets.
    for group in connections_and_requests(Offloads::AtPeers) {
        push(
            &mut bars,
            format!("direct's {group}, in those of the better proxy"),
            better_proxy(|proxy| paired(report, group, Way::Direct.name(), proxy.name())),
            Limit::Unjudged,
        );
    }
    for hook in Hook::ALL {
        push(
            &mut bars,
            format!("{}'s p99 at 60 % of direct's requests, in direct's", full_nat(hook)),
            paired(report, P99, Way::FullNat(hook).name(), Way::Direct.name()),
            Limit::AtMost(1.1),
        );
    }
    bars
}

/// Full_nat's rate of a group against those of others.
fn rates(report: &Report, offloads: Offloads, hook: Hook, group: &str, bars: &mut Vec<Bar>) {
    let to = |other: Way| paired(report, group, Way::FullNat(hook).name(), other.name());
    let redirect = Way::BareRedirect(hook);
    for (other, value, limit) in [
        ("direct", to(Way::Direct), Limit::AtLeast(0.97)),
        ("nftables", to(Way::Nftables), Limit::AtLeast(1.10)),
        ("the better proxy", better_proxy(to), Limit::AtLeast(1.5)),
        (redirect.name(), to(redirect), Limit::Unjudged),
    ] {
        let limit = match offloads {
            Offloads::AtPeers => limit,
            Offloads::Everywhere => Limit::Unjudged,
        };
        push(
            bars,
            format!("{}'s {group}, in those of {other}", full_nat(hook)),
            value,
            limit,
        );
    }
}

/// A rate in those of the proxy that leaves it less.
fn better_proxy(to: impl Fn(Way) -> Option<f64>) -> Option<f64> {
    Some(to(Way::Haproxy)?.min(to(Way::NginxStream)?))
}

fn push(bars: &mut Vec<Bar>, name: String, value: Option<f64>, limit: Limit) {
    bars.extend(value.map(|value| Bar { name, value, limit }));
}

const fn full_nat(hook: Hook) -> &'static str {
    match hook {
        Hook::Native => "full_nat",
        Hook::Generic => "generic full_nat",
    }
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
        assert_eq!(bars(&report(&[(CONNECTIONS, Way::FullNat(Hook::Native), 90.0)])), []);
        let one_proxy = [
            (CONNECTIONS, Way::FullNat(Hook::Native), 90.0),
            (CONNECTIONS, Way::Haproxy, 50.0),
        ];
        assert_eq!(bars(&report(&one_proxy)), []);
    }

    #[test]
    fn the_settings_of_offloads_have_bars_of_their_own() {
        let bars = bars(&report(&[
            (CONNECTIONS, Way::FullNat(Hook::Native), 80.0),
            (CONNECTIONS, Way::Direct, 100.0),
            (CONNECTIONS_EVERYWHERE, Way::FullNat(Hook::Native), 90.0),
            (CONNECTIONS_EVERYWHERE, Way::BareRedirect(Hook::Native), 100.0),
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
            (CONNECTIONS, Way::FullNat(Hook::Native), 90.0),
            (CONNECTIONS, Way::Haproxy, 45.0),
            (CONNECTIONS, Way::NginxStream, 60.0),
        ];
        let bars = bars(&report(&rows));
        assert_eq!(bars.iter().map(|bar| bar.value).collect::<Vec<_>>(), [1.5]);
    }
}
