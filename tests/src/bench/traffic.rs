//! `bench traffic`: the same client, namespaces and server, one row per way to balance between them.
//!
//! The ways take turns within a round, so that what disturbs the machine disturbs all; the bars are medians of ratios
//! within a round. Everything (client, balancer, server) shares the machine's CPUs.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::Effort;
use super::report::{Bar, Limit, Report, Row, Unit, paired};
use super::ways::{Running, Way};
use crate::netns::{Namespace, plain_checksums};
use crate::peers::Nginx;
use crate::process::run as run_command;
use crate::topology::{BackendRoute, Plan, Topology, host_port};

/// Port that nginx, the server, listens on.
pub(super) const SERVER_PORT: u16 = 8080;
/// Connections that are kept at a time.
const KEPT: u32 = 64;
/// Connections of the throughput and latency rows.
const FEW: u32 = 16;
/// The part of what *direct* carries at which latency is looked at.
const FIXED_RATE: f64 = 0.6;
const BLOB_MEGABYTES: u32 = 1;

const CONNECTIONS: &str = "new connections";
const REQUESTS: &str = "requests on kept connections";
const THROUGHPUT: &str = "throughput, files of 1 MiB";
const CPU: &str = "CPU of all, a million requests";
const P50: &str = "latency at 60 % of direct's requests, p50";
const P99: &str = "latency at 60 % of direct's requests, p99";
const P999: &str = "latency at 60 % of direct's requests, p99.9";

/// Every group of rows, in the table's order.
const GROUPS: [(&str, Unit); 7] = [
    (CONNECTIONS, Unit::PerSecond),
    (REQUESTS, Unit::PerSecond),
    (THROUGHPUT, Unit::MegabytesPerSecond),
    (CPU, Unit::Seconds),
    (P50, Unit::Microseconds),
    (P99, Unit::Microseconds),
    (P999, Unit::Microseconds),
];

/// Seconds of each part.
#[derive(Clone, Copy)]
struct Lengths {
    rounds: usize,
    warm_up: u32,
    run: u32,
}

/// Runs it.
pub(super) fn run(effort: Effort) -> Result<Report> {
    let lengths = match effort {
        Effort::Full => Lengths {
            rounds: 10,
            warm_up: 1,
            run: 3,
        },
        Effort::Quick => Lengths {
            rounds: 1,
            warm_up: 0,
            run: 1,
        },
    };
    let topology = build()?;
    let server = &topology.backends.first().context("a plan with one backend")?.namespace;
    let nginx = Nginx::start(&topology.room, server, "server", SERVER_PORT)?;
    fs::write(nginx.files().join("blob"), vec![0_u8; (BLOB_MEGABYTES as usize) << 20]).context("write the blob")?;

    let mut samples: Vec<[Vec<f64>; GROUPS.len()]> = Way::ALL.iter().map(|_| Default::default()).collect();
    // What direct carries, found out before the first round: latency is looked at the same rate in every row.
    let rate = {
        let running = Running::start(&topology, Way::Direct)?;
        let requests = requests(&topology, &running, lengths.run)?.0;
        requests * FIXED_RATE
    };
    for round in 0..lengths.rounds {
        for (way, samples) in Way::ALL.into_iter().zip(&mut samples) {
            eprintln!("round {} of {}: {}", round + 1, lengths.rounds, way.name());
            let figures = one(&topology, way, lengths, rate).with_context(|| way.name().to_owned())?;
            for (samples, figure) in samples.iter_mut().zip(figures) {
                samples.push(figure);
            }
        }
    }
    let mut report = Report::new("traffic");
    for (at, (group, unit)) in GROUPS.into_iter().enumerate() {
        for (way, samples) in Way::ALL.into_iter().zip(&samples) {
            report.rows.push(Row {
                group: group.to_owned(),
                name: way.name().to_owned(),
                unit,
                samples: samples.get(at).cloned().unwrap_or_default(),
                around: Vec::new(),
                baseline: Some(Way::Direct.name().to_owned()),
            });
        }
    }
    report.bars = bars(&report);
    Ok(report)
}

fn build() -> Result<Topology> {
    let topology = Topology::build(Plan {
        route: BackendRoute::Balancer,
        ..Plan::full_nat(1)
    })?;
    // As frames off a wire would be, for every row.
    topology.complete_checksums_everywhere()?;
    plain_checksums(&topology.router, "f0")?;
    plain_checksums(&topology.switch, "lb")?;
    topology.balancer.sysctl("net/ipv4/ip_forward", "1")?;
    for link in ["all", "front0", "back0"] {
        topology
            .balancer
            .sysctl(&format!("net/ipv4/conf/{link}/rp_filter"), "0")?;
    }
    topology.router.ip("route add 10.0.0.0/24 via 192.0.2.10\n")?;
    // New connections by the thousand: their ports must not run out, nor the sockets that wait for late segments.
    for namespace in [&topology.client, &topology.balancer] {
        namespace.sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
        namespace.sysctl("net/ipv4/tcp_tw_reuse", "1")?;
    }
    Ok(topology)
}

/// One way's figures of one round, in the order of [`GROUPS`].
fn one(topology: &Topology, way: Way, lengths: Lengths, rate: f64) -> Result<[f64; GROUPS.len()]> {
    let running = Running::start(topology, way)?;
    if lengths.warm_up > 0 {
        requests(topology, &running, lengths.warm_up)?;
    }
    let connections = wrk(
        topology,
        &url(&running, "/"),
        KEPT,
        lengths.run,
        &["-H", "Connection: close"],
    )?;
    let (requests, cpu) = requests(topology, &running, lengths.run)?;
    let throughput = wrk(topology, &url(&running, "/files/blob"), FEW, lengths.run, &[])?;
    let [p50, p99, p999] = latency(topology, &running, lengths.run, rate)?;
    running.check()?;
    Ok([
        connections.per_second,
        requests,
        throughput.per_second * f64::from(BLOB_MEGABYTES),
        cpu,
        p50,
        p99,
        p999,
    ])
}

/// Requests a second on kept connections, and the CPU seconds of a million of them.
fn requests(topology: &Topology, running: &Running, seconds: u32) -> Result<(f64, f64)> {
    let before = busy_ticks()?;
    let wrk = wrk(topology, &url(running, "/"), KEPT, seconds, &[])?;
    let ticks = u32::try_from(busy_ticks()? - before).context("ticks of a few seconds")?;
    // A tick is 1/100 s here whatever the kernel ticks at: USER_HZ is part of its ABI.
    Ok((wrk.per_second, f64::from(ticks) / 100.0 / wrk.requests * 1e6))
}

fn url(running: &Running, path: &str) -> String {
    format!("http://{}{path}", host_port(running.target(), running.port()))
}

/// A client's program that is to run for some seconds, and is ended where it does not end by itself.
fn bounded(topology: &Topology, program: &str, seconds: u32) -> Command {
    let mut command = topology.client.command("timeout");
    command.args(["--kill-after=5", &(seconds + 30).to_string(), program]);
    command
}

/// What wrk reports.
#[derive(Debug, PartialEq)]
struct Wrk {
    requests: f64,
    per_second: f64,
}

fn wrk(topology: &Topology, url: &str, connections: u32, seconds: u32, more: &[&str]) -> Result<Wrk> {
    let mut command = bounded(topology, "wrk", seconds);
    command
        .args(["-t", "2", "-c", &connections.to_string(), "-d", &format!("{seconds}s")])
        .args(more)
        .arg(url);
    parse_wrk(&run_command(&mut command)?)
}

/// Refused connections and answers other than 200 are no figures.
fn parse_wrk(text: &str) -> Result<Wrk> {
    let number = |line: &str| {
        line.split_whitespace()
            .find_map(|word| word.parse::<f64>().ok())
            .with_context(|| format!("no number in wrk's line '{line}'"))
    };
    let find = |what: &str| {
        text.lines()
            .find(|line| line.contains(what))
            .with_context(|| format!("wrk says nothing of '{what}':\n{text}"))
    };
    if let Some(line) = text.lines().find(|line| line.contains("Non-2xx")) {
        bail!("wrk: {}", line.trim());
    }
    if let Some(line) = text.lines().find(|line| line.contains("Socket errors")) {
        // "connect 0, read 12, write 0, timeout 0": a server that closes is a read error to wrk.
        let failed = line.contains("connect 0,") && line.trim_end().ends_with("timeout 0");
        ensure!(failed, "wrk: {}", line.trim());
    }
    let (requests, per_second) = (number(find(" requests in ")?)?, number(find("Requests/sec:")?)?);
    ensure!(requests > 0.0, "wrk got no answer:\n{text}");
    Ok(Wrk { requests, per_second })
}

/// p50, p99 and p99.9 in microseconds of requests at a fixed rate, from h2load's record of each.
fn latency(topology: &Topology, running: &Running, seconds: u32, rate: f64) -> Result<[f64; 3]> {
    let record = topology.room.file("h2load.tsv");
    let _ = fs::remove_file(&record);
    let per_client = (rate / f64::from(FEW)).max(1.0);
    let mut command = bounded(topology, "h2load", seconds);
    command
        .args(["--h1", "-t", "1", "-c", &FEW.to_string(), "-D", &seconds.to_string()])
        .args(["--rps", &format!("{per_client:.0}")])
        .arg(format!("--log-file={}", record.display()))
        .arg(url(running, "/"));
    run_command(&mut command)?;
    percentiles(&record)
}

/// Of h2load's file: start, status, microseconds, separated by tabs.
fn percentiles(record: &Path) -> Result<[f64; 3]> {
    let text = fs::read_to_string(record).with_context(|| format!("read {}", record.display()))?;
    let mut times = Vec::new();
    for line in text.lines() {
        let mut words = line.split('\t').skip(1);
        let (status, micros) = (words.next(), words.next());
        ensure!(status == Some("200"), "h2load: a request ended with {status:?}");
        let micros: f64 = micros
            .and_then(|word| word.parse().ok())
            .with_context(|| format!("h2load: '{line}'"))?;
        times.push(micros);
    }
    ensure!(!times.is_empty(), "h2load got no answer");
    times.sort_by(f64::total_cmp);
    let at = |thousandths: usize| {
        let index = times.len() * thousandths / 1_000;
        times.get(index).copied().unwrap_or(f64::NAN)
    };
    Ok([at(500), at(990), at(999)])
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

fn bars(report: &Report) -> Vec<Bar> {
    let full_nat = Way::FullNat.name();
    let mut bars = Vec::new();
    for group in [CONNECTIONS, REQUESTS] {
        let to = |other: &str| paired(report, group, full_nat, other).unwrap_or(f64::NAN);
        let better_proxy = to(Way::Haproxy.name()).min(to(Way::NginxStream.name()));
        for (other, value, limit) in [
            ("direct", to(Way::Direct.name()), 0.97),
            ("nftables", to(Way::Nftables.name()), 1.10),
            ("the better proxy", better_proxy, 1.5),
        ] {
            bars.push(Bar {
                name: format!("full_nat's {group}, in those of {other}"),
                value,
                limit: Limit::AtLeast(limit),
            });
        }
    }
    bars.push(Bar {
        name: "full_nat's p99 at 60 % of direct's requests, in direct's".to_owned(),
        value: paired(report, P99, full_nat, Way::Direct.name()).unwrap_or(f64::NAN),
        limit: Limit::AtMost(1.1),
    });
    bars
}

/// Waits until an address answers.
pub(super) fn wait_for_answer(client: &Namespace, to: IpAddr, port: u16) -> Result<()> {
    let url = format!("http://{}/healthz", host_port(to, port));
    for _ in 0..100 {
        let mut curl = client.command("curl");
        curl.args(["-sf", "-m", "1", "-o", "/dev/null", &url]);
        if run_command(&mut curl).is_ok() {
            return Ok(());
        }
        sleep(Duration::from_millis(100));
    }
    bail!("{url} does not answer")
}

/// The server's address.
pub(super) fn server_address(topology: &Topology) -> Result<Ipv4Addr> {
    Ok(topology.backends.first().context("a plan with one backend")?.address4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "Running 1s test @ http://203.0.113.10:80/
  2 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.23ms  300.00us   9.00ms   90.00%
  50321 requests in 1.00s, 8.20MB read
Requests/sec:  50112.33
Transfer/sec:      8.17MB
";

    #[test]
    fn what_wrk_prints_is_read() {
        let wanted = Wrk {
            requests: 50_321.0,
            per_second: 50_112.33,
        };
        assert_eq!(parse_wrk(GOOD).expect("figures"), wanted);
    }

    #[test]
    fn errors_that_wrk_counts_are_errors() {
        let bad = [
            "  Non-2xx or 3xx responses: 12\n",
            "  Socket errors: connect 3, read 0, write 0, timeout 0\n",
            "  Socket errors: connect 0, read 0, write 0, timeout 7\n",
        ];
        for line in bad {
            assert!(parse_wrk(&format!("{GOOD}{line}")).is_err(), "{line}");
        }
        assert!(
            parse_wrk(&format!(
                "{GOOD}  Socket errors: connect 0, read 9, write 0, timeout 0\n"
            ))
            .is_ok()
        );
        assert!(parse_wrk("").is_err());
    }

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("record");
        let lines: Vec<String> = (1..=1_000).rev().map(|time| format!("5\t200\t{time}")).collect();
        fs::write(&path, lines.join("\n")).expect("written");
        assert_eq!(
            percentiles(&path).expect("times").map(|time| time as u32),
            [501, 991, 1_000]
        );
        fs::write(&path, "5\t502\t7\n").expect("written");
        assert!(percentiles(&path).is_err());
    }
}
