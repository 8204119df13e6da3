//! `bench traffic`: the same client, namespaces and server, one row per way to balance between them.
//!
//! The ways take turns within a round, and every second round goes through them backwards, so that what disturbs the
//! machine disturbs all; the bars are medians of ratios within a round. Everything (client, balancer, server) shares the
//! machine's CPUs.

mod bars;
mod network;
mod relay;
mod tools;
mod ways;

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use self::network::Offloads;
use self::tools::{Connections, latency, wrk};
use self::ways::{Hook, Running, Way};
use super::report::{Report, Row, Unit};
use super::{Effort, Groups};
use crate::peers::Nginx;
use crate::topology::Topology;

/// Port that nginx, the server, listens on.
const SERVER_PORT: u16 = 8080;
/// Connections that are kept at a time.
const KEPT: u32 = 64;
/// Connections of the throughput rows.
const FEW: u32 = 16;
/// The part of what *direct* carries at which latency is looked at: the same rate in every row of a round.
const FIXED_RATE: f64 = 0.6;
const BLOB_MEGABYTES: u32 = 1;

const CONNECTIONS: &str = "new connections";
const REQUESTS: &str = "requests on kept connections";
const THROUGHPUT: &str = "throughput, files of 1 MiB";
const CPU: &str = "CPU of all at that rate, a million requests";
const P50: &str = "latency at 60 % of direct's requests, p50";
const P99: &str = "latency at 60 % of direct's requests, p99";
const P999: &str = "latency at 60 % of direct's requests, p99.9";
const REACHED: &str = "of those requests, reached, %";
const CONNECTIONS_EVERYWHERE: &str = "new connections, GRO everywhere";
const REQUESTS_EVERYWHERE: &str = "requests on kept connections, GRO everywhere";

/// Groups of rows under a setting of the offloads, in the table's order.
const fn groups(offloads: Offloads) -> &'static [(&'static str, Unit)] {
    match offloads {
        Offloads::AtPeers => &[
            (CONNECTIONS, Unit::PerSecond),
            (REQUESTS, Unit::PerSecond),
            (THROUGHPUT, Unit::MegabytesPerSecond),
            (P50, Unit::Microseconds),
            (P99, Unit::Microseconds),
            (P999, Unit::Microseconds),
            (REACHED, Unit::Count),
            (CPU, Unit::Seconds),
        ],
        Offloads::Everywhere => &[
            (CONNECTIONS_EVERYWHERE, Unit::PerSecond),
            (REQUESTS_EVERYWHERE, Unit::PerSecond),
        ],
    }
}

/// The groups that both settings have.
const fn connections_and_requests(offloads: Offloads) -> [&'static str; 2] {
    match offloads {
        Offloads::AtPeers => [CONNECTIONS, REQUESTS],
        Offloads::Everywhere => [CONNECTIONS_EVERYWHERE, REQUESTS_EVERYWHERE],
    }
}

/// The ways that are measured under a setting.
const fn ways(offloads: Offloads) -> &'static [Way] {
    match offloads {
        Offloads::AtPeers => &Way::ALL,
        // Proxies end connections in the balancer, gateway mode does less than full_nat, and generic XDP comes after GRO,
        // whose long packets it cannot send on.
        Offloads::Everywhere => &[
            Way::BareRedirect(Hook::Native),
            Way::Direct,
            Way::FullNat(Hook::Native),
            Way::Nftables,
        ],
    }
}

/// Length of each part.
#[derive(Clone, Copy)]
struct Lengths {
    rounds: usize,
    warm_up: Duration,
    run: Duration,
}

impl Lengths {
    const fn of(effort: Effort) -> Self {
        match effort {
            Effort::Full => Self {
                rounds: 10,
                warm_up: Duration::from_secs(1),
                run: Duration::from_secs(2),
            },
            Effort::Quick => Self {
                rounds: 1,
                warm_up: Duration::ZERO,
                run: Duration::from_millis(500),
            },
        }
    }
}

/// A way under one setting, and what was measured of it: one list of figures a round, in the order of [`groups`].
struct Course {
    way: Way,
    offloads: Offloads,
    rounds: Vec<Vec<f64>>,
}

/// Runs it.
pub(super) fn run(effort: Effort, asked: &Groups) -> Result<Report> {
    let lengths = Lengths::of(effort);
    let mut courses = courses(asked)?;
    let topology = network::build()?;
    let server = &network::server(&topology)?.namespace;
    let nginx = Nginx::start(&topology.room, server, "server", SERVER_PORT)?;
    fs::write(nginx.files().join("blob"), vec![0_u8; (BLOB_MEGABYTES as usize) << 20]).context("write the blob")?;

    let mut rates = Vec::new();
    for round in 0..lengths.rounds {
        // Of this round: at the rate of a better minute, the rows would show how a full machine queues.
        let rate = directs_requests(&topology, lengths)? * FIXED_RATE;
        rates.push(format!("{rate:.0}"));
        for at in order(round, courses.len()) {
            let Some(course) = courses.get_mut(at) else { continue };
            let name = course.name();
            eprintln!("round {} of {}: {name}", round + 1, lengths.rounds);
            let figures = measure(&topology, course, lengths, rate).context(name)?;
            course.rounds.push(figures);
        }
    }
    let mut report = Report::new("traffic");
    report.conditions.push(format!(
        "client, balancer and server in a line; the server's congestion control: {}",
        network::congestion_control(&topology)?
    ));
    report.notes.push(format!(
        "latency at these requests a second, round by round: {}",
        rates.join(", ")
    ));
    report.rows = rows(&courses);
    report.bars = bars::bars(&report);
    Ok(report)
}

/// What direct carries at this moment, in requests a second.
fn directs_requests(topology: &Topology, lengths: Lengths) -> Result<f64> {
    Offloads::AtPeers.set(topology)?;
    let running = Running::start(topology, Way::Direct)?;
    warm_up(topology, &running, lengths)?;
    requests(topology, &running, lengths.run)
}

fn warm_up(topology: &Topology, running: &Running, lengths: Lengths) -> Result<()> {
    if !lengths.warm_up.is_zero() {
        requests(topology, running, lengths.warm_up)?;
    }
    Ok(())
}

fn courses(asked: &Groups) -> Result<Vec<Course>> {
    let mut courses = Vec::new();
    for offloads in Offloads::ALL {
        let ways = ways(offloads).iter().filter(|way| asked.include(way.name()));
        courses.extend(ways.map(|way| Course {
            way: *way,
            offloads,
            rounds: Vec::new(),
        }));
    }
    if courses.is_empty() {
        bail!(
            "no way to balance holds {asked}; there are {}",
            Way::ALL.map(Way::name).join("; ")
        );
    }
    Ok(courses)
}

impl Course {
    fn name(&self) -> String {
        match self.offloads {
            Offloads::AtPeers => self.way.name().to_owned(),
            Offloads::Everywhere => format!("{}, GRO everywhere", self.way.name()),
        }
    }
}

/// Backwards in every second round: a machine that slows down for a minute is not always the same way's.
fn order(round: usize, count: usize) -> Vec<usize> {
    if round.is_multiple_of(2) {
        (0..count).collect()
    } else {
        (0..count).rev().collect()
    }
}

fn rows(courses: &[Course]) -> Vec<Row> {
    let mut rows = Vec::new();
    for offloads in Offloads::ALL {
        for (at, (group, unit)) in groups(offloads).iter().enumerate() {
            for course in courses.iter().filter(|course| course.offloads == offloads) {
                rows.push(Row {
                    group: (*group).to_owned(),
                    name: course.way.name().to_owned(),
                    unit: *unit,
                    samples: course
                        .rounds
                        .iter()
                        .filter_map(|round| round.get(at).copied())
                        .collect(),
                    around: Vec::new(),
                    baseline: Some(Way::Direct.name().to_owned()),
                });
            }
        }
    }
    rows
}

/// A course's figures of one round, in the order of [`groups`].
fn measure(topology: &Topology, course: &Course, lengths: Lengths, rate: f64) -> Result<Vec<f64>> {
    course.offloads.set(topology)?;
    let running = Running::start(topology, course.way)?;
    warm_up(topology, &running, lengths)?;
    let one_each = (KEPT, Connections::OneRequestEach);
    let connections = wrk(topology, &running, "/", one_each, lengths.run)?.per_second;
    let mut figures = vec![connections, requests(topology, &running, lengths.run)?];
    if course.offloads == Offloads::AtPeers {
        let blobs = wrk(topology, &running, "/files/blob", (FEW, Connections::Kept), lengths.run)?.per_second;
        figures.push(blobs * f64::from(BLOB_MEGABYTES));
        let before = busy_ticks()?;
        let latency = latency(topology, &running, KEPT, lengths.run, rate)?;
        // A tick is 1/100 s here whatever the kernel ticks at: USER_HZ is part of its ABI.
        let cpu = f64::from(u32::try_from(busy_ticks()? - before).context("ticks of a few seconds")?) / 100.0;
        figures.extend([latency.p50, latency.p99, latency.p999]);
        figures.push(latency.requests / lengths.run.as_secs_f64() / rate * 100.0);
        figures.push(cpu / latency.requests * 1e6);
    }
    running.check()?;
    Ok(figures)
}

/// Requests a second on kept connections.
fn requests(topology: &Topology, running: &Running, time: Duration) -> Result<f64> {
    Ok(wrk(topology, running, "/", (KEPT, Connections::Kept), time)?.per_second)
}

/// Ticks in which the machine's CPUs were not idle.
fn busy_ticks() -> Result<u64> {
    let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    let line = text.lines().next().context("an empty /proc/stat")?;
    let numbers: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq; guest time is in user time already.
    match numbers.as_slice() {
        [user, nice, system, _, _, irq, softirq, ..] => Ok(user + nice + system + irq + softirq),
        _ => bail!("/proc/stat: '{line}'"),
    }
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
    fn ways_are_chosen_by_a_text_in_their_names() {
        let names = |text: &str| -> Vec<String> {
            let courses = courses(&Groups::Holding(text.to_owned())).expect("ways");
            courses.iter().map(Course::name).collect()
        };
        assert_eq!(
            names("xlb"),
            [
                "xlb full_nat",
                "xlb full_nat, generic XDP",
                "xlb gateway",
                "xlb full_nat, GRO everywhere"
            ]
        );
        let error = courses(&Groups::Holding("ipvs".to_owned())).err().expect("no way");
        assert!(
            error
                .to_string()
                .contains("holds 'ipvs'; there are bare redirect; nftables DNAT and SNAT; xlb full_nat; direct;")
        );
    }

    #[test]
    fn rows_take_each_rounds_figure_of_their_group() {
        let course = |offloads, rounds: &[&[f64]]| Course {
            way: Way::FullNat(Hook::Native),
            offloads,
            rounds: rounds.iter().map(|round| round.to_vec()).collect(),
        };
        let rows = rows(&[
            course(Offloads::AtPeers, &[&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 99.0]]),
            course(Offloads::Everywhere, &[&[8.0, 9.0], &[10.0, 11.0]]),
        ]);
        assert_eq!(rows.len(), 10);
        let samples = |group: &str| {
            rows.iter()
                .find(|row| row.group == group)
                .map(|row| row.samples.as_slice())
        };
        assert_eq!(samples(P99), Some([5.0].as_slice()));
        assert_eq!(samples(REQUESTS_EVERYWHERE), Some([9.0, 11.0].as_slice()));
    }
}
