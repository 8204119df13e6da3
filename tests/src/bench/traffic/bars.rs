//! What xlb promises of real traffic, and how far the kernel lets an XDP program come. Pure.

use super::group_of;
use super::part::{CONNECTIONS, P99, REQUESTS};
use super::stands::{FULL_NAT, FULL_NAT_EVERYWHERE, GENERIC, REDIRECTS, REDIRECTS_EVERYWHERE, STANDS, Stand};
use super::ways::{Hook, Way};
use crate::bench::report::{Bar, Limit, Paired, Report, paired};

/// What is held against the bars, and the least that an XDP program does between interfaces of the same build, which says how
/// much of them it could keep.
struct Held {
    name: &'static str,
    way: Way,
    at: &'static Stand,
    least_name: &'static str,
    least: Way,
    least_at: &'static Stand,
    is_judged: bool,
}

/// Full_nat is held against its bars where the kernel runs it in the driver and where behind it.
const HELD: [Held; 3] = [
    Held {
        name: "full_nat",
        way: Way::FullNat(Hook::Native),
        at: &FULL_NAT,
        least_name: "bare redirect",
        least: Way::BareRedirect(Hook::Native),
        least_at: &REDIRECTS,
        is_judged: true,
    },
    Held {
        name: "generic full_nat",
        way: Way::FullNat(Hook::Generic),
        at: &GENERIC,
        least_name: "generic bare redirect",
        least: Way::BareRedirect(Hook::Generic),
        least_at: &REDIRECTS,
        is_judged: true,
    },
    Held {
        name: "GRO everywhere: full_nat",
        way: Way::FullNat(Hook::Native),
        at: &FULL_NAT_EVERYWHERE,
        least_name: "GRO everywhere: bare redirect",
        least: Way::BareRedirect(Hook::Native),
        least_at: &REDIRECTS_EVERYWHERE,
        is_judged: false,
    },
];

/// What a way is compared with.
#[derive(Clone, Copy)]
enum Other {
    One(Way),
    /// The proxy that leaves it less.
    BetterProxy,
}

impl Other {
    fn name(self) -> &'static str {
        match self {
            Self::One(way) => way.name(),
            Self::BetterProxy => "the better proxy",
        }
    }

    /// A way's figure of a group of a stand in this one's, the median of what it is within each round.
    fn in_those(self, report: &Report, stand: &Stand, group: &str, way: Way) -> Option<Paired> {
        let in_those_of = |other: Way| paired(report, &group_of(stand, group), way.name(), other.name());
        match self {
            Self::One(other) => in_those_of(other),
            Self::BetterProxy => {
                let (haproxy, nginx) = (in_those_of(Way::Haproxy)?, in_those_of(Way::NginxStream)?);
                Some(if haproxy.median < nginx.median { haproxy } else { nginx })
            }
        }
    }
}

/// Every bar whose rows were measured.
pub(super) fn bars(report: &Report) -> Vec<Bar> {
    let mut bars = Vec::new();
    for held in &HELD {
        for group in [CONNECTIONS, REQUESTS] {
            for (other, limit) in [
                (Other::One(Way::Direct), Limit::AtLeast(0.97)),
                (Other::One(Way::Nftables), Limit::AtLeast(1.10)),
                (Other::BetterProxy, Limit::AtLeast(1.5)),
            ] {
                push_both(report, held, group, other, limit, &mut bars);
            }
        }
        push_both(
            report,
            held,
            P99,
            Other::One(Way::Direct),
            Limit::AtMost(1.1),
            &mut bars,
        );
    }
    for stand in &STANDS {
        // How far ahead of the proxies anything could be that forwards packets, and what two equal ways differ by.
        for (way, other, groups) in [
            (Way::Direct, Other::BetterProxy, [CONNECTIONS, REQUESTS].as_slice()),
            (Way::DirectAgain, Other::One(Way::Direct), &[CONNECTIONS, REQUESTS, P99]),
        ] {
            for group in groups {
                push(
                    &mut bars,
                    format!(
                        "{}'s {}, in those of {}",
                        way.name(),
                        group_of(stand, group),
                        other.name()
                    ),
                    other.in_those(report, stand, group, way),
                    Limit::Unjudged,
                );
            }
        }
    }
    bars
}

/// The bar, and beneath it what the least of programs has of it.
fn push_both(report: &Report, held: &Held, group: &str, other: Other, limit: Limit, bars: &mut Vec<Bar>) {
    let limit = if held.is_judged { limit } else { Limit::Unjudged };
    push(
        bars,
        format!("{}'s {group}, in those of {}", held.name, other.name()),
        other.in_those(report, held.at, group, held.way),
        limit,
    );
    push(
        bars,
        format!("({}'s {group}, in those of {})", held.least_name, other.name()),
        other.in_those(report, held.least_at, group, held.least),
        Limit::Unjudged,
    );
}

fn push(bars: &mut Vec<Bar>, name: String, value: Option<Paired>, limit: Limit) {
    bars.extend(value.map(|value| Bar {
        quartiles: Some(value.quartiles),
        ..Bar::new(name, value.median, limit)
    }));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::part::groups;
    use super::*;
    use crate::bench::report::{Row, Unit};

    fn report(rows: &[(&Stand, &str, Way, f64)]) -> Report {
        let mut report = Report::new("traffic");
        report.rows = rows
            .iter()
            .map(|(stand, group, way, sample)| Row {
                group: group_of(stand, group),
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
    fn a_whole_run_has_every_bar_once() {
        let rows: Vec<_> = STANDS
            .iter()
            .flat_map(|stand| {
                let groups = groups(stand.parts);
                groups.flat_map(move |(group, _)| stand.ways.iter().map(move |way| (stand, group, *way, 1.0)))
            })
            .collect();
        let bars = bars(&report(&rows));
        let judged = bars.iter().filter(|bar| bar.is_met().is_some()).count();
        assert_eq!(
            judged,
            2 * 7,
            "connections and requests against three, and p99, in both hooks"
        );
        let names: BTreeSet<_> = bars.iter().map(|bar| &bar.name).collect();
        assert_eq!(names.len(), bars.len());
    }

    #[test]
    fn a_bar_whose_rows_were_not_measured_is_left_out() {
        let full_nat = Way::FullNat(Hook::Native);
        assert_eq!(bars(&report(&[(&FULL_NAT, CONNECTIONS, full_nat, 90.0)])), []);
        let one_proxy = [
            (&FULL_NAT, CONNECTIONS, full_nat, 90.0),
            (&FULL_NAT, CONNECTIONS, Way::Haproxy, 50.0),
        ];
        assert_eq!(bars(&report(&one_proxy)), []);
        let elsewhere = [
            (&FULL_NAT, CONNECTIONS, full_nat, 90.0),
            (&GENERIC, CONNECTIONS, Way::Direct, 50.0),
        ];
        assert_eq!(bars(&report(&elsewhere)), [], "nothing is compared across stands");
    }

    #[test]
    fn what_the_least_of_programs_keeps_of_a_bar_stands_beneath_it() {
        let bars = bars(&report(&[
            (&FULL_NAT, CONNECTIONS, Way::FullNat(Hook::Native), 80.0),
            (&FULL_NAT, CONNECTIONS, Way::Direct, 100.0),
            (&REDIRECTS, CONNECTIONS, Way::BareRedirect(Hook::Native), 45.0),
            (&REDIRECTS, CONNECTIONS, Way::Direct, 50.0),
            (&FULL_NAT_EVERYWHERE, CONNECTIONS, Way::FullNat(Hook::Native), 70.0),
            (&FULL_NAT_EVERYWHERE, CONNECTIONS, Way::Direct, 100.0),
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
                    "(bare redirect's new connections, in those of direct)",
                    0.9,
                    Limit::Unjudged
                ),
                (
                    "GRO everywhere: full_nat's new connections, in those of direct",
                    0.7,
                    Limit::Unjudged
                ),
            ]
        );
    }

    #[test]
    fn the_better_proxy_is_the_one_that_leaves_xlb_less() {
        let rows = [
            (&FULL_NAT, CONNECTIONS, Way::FullNat(Hook::Native), 90.0),
            (&FULL_NAT, CONNECTIONS, Way::Haproxy, 45.0),
            (&FULL_NAT, CONNECTIONS, Way::NginxStream, 60.0),
        ];
        let bars = bars(&report(&rows));
        assert_eq!(bars.iter().map(|bar| bar.value).collect::<Vec<_>>(), [1.5]);
    }
}
