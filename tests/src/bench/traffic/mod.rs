//! `bench traffic`: a client, a balancer and a server, one row per way to balance between them.
//!
//! The ways of a stand are built alike, stand at the same time and take turns, a second each, backwards in every second round:
//! what disturbs the machine disturbs all. Each round builds them anew: a line that is balanced in the driver's hook keeps a speed of
//! its own for as long as it stands. Bars are medians of ratios within a round. Everything (client, balancer, server) shares the
//! machine's CPUs.

mod bars;
mod network;
mod part;
mod relay;
mod stands;
mod tools;
mod ways;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use self::network::congestion_control;
use self::part::{FIXED_RATE, Part, REQUESTS, groups, measure};
use self::stands::{STANDS, Stand};
use self::ways::{Lane, Way};
use super::report::{Report, Row};
use super::{Effort, Groups};

/// Length of each part.
#[derive(Clone, Copy)]
struct Lengths {
    rounds: usize,
    warm_up: Duration,
    turn: Duration,
}

impl Lengths {
    const fn of(effort: Effort) -> Self {
        match effort {
            Effort::Full => Self {
                rounds: 10,
                warm_up: Duration::from_millis(500),
                turn: Duration::from_secs(1),
            },
            Effort::Quick => Self {
                rounds: 1,
                warm_up: Duration::from_millis(200),
                turn: Duration::from_millis(500),
            },
        }
    }
}

/// Figures of a stand: of each way, in its order, one list a round, in the order of [`groups`].
type Figures = Vec<Vec<Vec<f64>>>;

/// Runs it.
pub(super) fn run(effort: Effort, asked: &Groups) -> Result<Report> {
    let stands: Vec<&Stand> = STANDS.iter().filter(|stand| asked.include(stand.name)).collect();
    ensure!(
        !stands.is_empty(),
        "no stand's name holds {asked}; there are {}",
        STANDS.each_ref().map(|stand| stand.name).join("; ")
    );
    let lengths = Lengths::of(effort);
    let mut report = Report::new("traffic");
    for stand in stands {
        let figures = rounds(stand, lengths, &mut report)?;
        report.rows.extend(rows(stand, &figures)?);
        report.notes.extend(rates_of(stand, &figures));
    }
    report.bars = bars::bars(&report);
    Ok(report)
}

/// Every round of a stand. The first one of a run says under which conditions.
fn rounds(stand: &Stand, lengths: Lengths, report: &mut Report) -> Result<Figures> {
    let mut figures: Figures = vec![Vec::new(); stand.ways.len()];
    for round in 0..lengths.rounds {
        eprintln!("round {} of {}: {}", round + 1, lengths.rounds, stand.name);
        let lanes = build(stand)?;
        if report.conditions.is_empty() {
            report.conditions.push(conditions(&lanes)?);
        }
        // Not counted: caches, and the first growth of every table.
        for part in [Part::Connections, Part::Requests] {
            for (_, lane) in in_turn(round, &lanes) {
                measure(lane, part, lengths.warm_up, None).with_context(|| lane.way().name())?;
            }
        }
        let mut of_round = vec![Vec::new(); lanes.len()];
        for part in stand.parts {
            // Of this round: at the rate of a better minute, the rows would show how a full machine queues.
            let rate = rate(stand, &of_round);
            for (at, lane) in in_turn(round, &lanes) {
                let measured = measure(lane, *part, lengths.turn, rate).with_context(|| lane.way().name())?;
                of_round.get_mut(at).context("a list for each way")?.extend(measured);
            }
        }
        for lane in &lanes {
            lane.check().with_context(|| lane.way().name())?;
        }
        for (of_way, measured) in figures.iter_mut().zip(of_round) {
            of_way.push(measured);
        }
    }
    Ok(figures)
}

/// What else the figures hang on.
fn conditions(lanes: &[Lane]) -> Result<String> {
    let lane = lanes.first().context("a stand without a way")?;
    Ok(format!(
        "client, balancer and server in a line, the ways of a stand side by side; the server's congestion control: {}",
        congestion_control(lane.topology())?
    ))
}

/// Starts the ways of a stand.
fn build(stand: &Stand) -> Result<Vec<Lane>> {
    let start = |way: &Way| Lane::start(*way, stand.offloads).with_context(|| format!("start {}", way.name()));
    stand.ways.iter().map(start).collect()
}

/// The requests a second at which a round looks at latency: a part of what *direct* carried in it. Nothing before that is known.
fn rate(stand: &Stand, of_round: &[Vec<f64>]) -> Option<f64> {
    let direct = stand.ways.iter().position(|way| *way == Way::Direct)?;
    let requests = groups(stand.parts).position(|(group, _)| group == REQUESTS)?;
    Some(of_round.get(direct)?.get(requests)? * FIXED_RATE)
}

/// Those of every round, as a note; nothing of a stand that has no such rows.
fn rates_of(stand: &Stand, figures: &Figures) -> Option<String> {
    if !stand.parts.contains(&Part::FixedRate) {
        return None;
    }
    let rates: Vec<String> = (0..figures.first()?.len())
        .filter_map(|round| {
            let of_round: Vec<_> = figures.iter().filter_map(|way| way.get(round).cloned()).collect();
            Some(format!("{:.0}", rate(stand, &of_round)?))
        })
        .collect();
    Some(format!(
        "{}: latency at these requests a second, round by round: {}",
        stand.name,
        rates.join(", ")
    ))
}

/// The ways with their places, backwards in every second round: a machine that slows down for a minute is not always the same
/// way's.
fn in_turn(round: usize, lanes: &[Lane]) -> impl Iterator<Item = (usize, &Lane)> {
    order(round, lanes.len())
        .into_iter()
        .filter_map(|at| Some((at, lanes.get(at)?)))
}

fn order(round: usize, count: usize) -> Vec<usize> {
    if round.is_multiple_of(2) {
        (0..count).collect()
    } else {
        (0..count).rev().collect()
    }
}

/// How a stand's group is called.
fn group_of(stand: &Stand, group: &str) -> String {
    format!("{group}; {}", stand.name)
}

fn rows(stand: &Stand, figures: &Figures) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (at, (group, unit)) in groups(stand.parts).enumerate() {
        for (way, rounds) in stand.ways.iter().zip(figures) {
            // A round without its figure would put those behind it beside other rounds'.
            let samples: Option<Vec<f64>> = rounds.iter().map(|round| round.get(at).copied()).collect();
            rows.push(Row {
                group: group_of(stand, group),
                name: way.name().to_owned(),
                unit,
                samples: samples.with_context(|| format!("{}: a round without its {group}", way.name()))?,
                around: Vec::new(),
                baseline: Some(Way::Direct.name().to_owned()),
            });
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_round_goes_backwards() {
        assert_eq!(order(0, 3), [0, 1, 2]);
        assert_eq!(order(1, 3), [2, 1, 0]);
        assert_eq!(order(2, 3), [0, 1, 2]);
    }

    #[test]
    fn an_unknown_stand_is_refused_with_those_there_are() {
        let error = run(Effort::Quick, &Groups::Holding("ipvs".to_owned())).expect_err("no such stand");
        assert!(
            error
                .to_string()
                .contains("holds 'ipvs'; there are native full_nat; generic full_nat; bare redirects; gateway;"),
            "{error}"
        );
    }

    #[test]
    fn rows_take_each_rounds_figure_of_their_group() {
        let stand = &stands::FULL_NAT_EVERYWHERE;
        let figures = vec![
            vec![vec![1.0, 2.0], vec![3.0, 4.0]],
            vec![vec![5.0, 6.0], vec![7.0, 8.0]],
            vec![vec![9.0, 10.0], vec![11.0, 12.0]],
        ];
        let rows = rows(stand, &figures).expect("whole");
        let told: Vec<_> = rows
            .iter()
            .map(|row| (row.group.as_str(), row.name.as_str(), row.samples.as_slice()))
            .collect();
        let (new, kept) = (
            "new connections; GRO everywhere, full_nat",
            "requests on kept connections; GRO everywhere, full_nat",
        );
        assert_eq!(
            told,
            [
                (new, "nftables DNAT and SNAT", [1.0, 3.0].as_slice()),
                (new, "xlb full_nat", &[5.0, 7.0]),
                (new, "direct", &[9.0, 11.0]),
                (kept, "nftables DNAT and SNAT", &[2.0, 4.0]),
                (kept, "xlb full_nat", &[6.0, 8.0]),
                (kept, "direct", &[10.0, 12.0]),
            ]
        );
        let second: Vec<_> = figures.iter().map(|way| way[1].clone()).collect();
        assert_eq!(rate(stand, &second), Some(12.0 * FIXED_RATE));
        assert_eq!(
            rate(stand, &[vec![1.0], vec![5.0], vec![9.0]]),
            None,
            "before the requests"
        );
        assert_eq!(rates_of(stand, &figures), None, "no latency is looked at there");
        let torn = vec![vec![vec![1.0]], vec![vec![5.0, 6.0]], vec![vec![9.0, 10.0]]];
        assert!(super::rows(stand, &torn).is_err(), "a round without a figure");
    }
}
