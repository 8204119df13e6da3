//! The client's programs: wrk and h2load, run for a while in the client's namespace, and what they report.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::ways::Lane;
use crate::process::run as run_command;
use crate::topology::host_port;

/// How long a program may take beyond its time.
const PATIENCE: &str = "--kill-after=30";

/// What wrk reports.
#[derive(Debug, PartialEq)]
pub(super) struct Wrk {
    pub(super) requests: f64,
    pub(super) per_second: f64,
}

/// What becomes of wrk's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connections {
    /// Each carries request after request.
    Kept,
    /// The server is asked to close each after its answer.
    OneRequestEach,
}

/// What wrk is to do.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) path: &'static str,
    /// At a time.
    pub(super) connections: u32,
    pub(super) fate: Connections,
    pub(super) threads: u32,
}

/// As many requests as it can.
pub(super) fn wrk(lane: &Lane, load: Load, time: Duration) -> Result<Wrk> {
    let mut command = lane.client().command("timeout");
    // wrk knows whole seconds only; an interrupt ends it at any time, with its report.
    command
        .args(["--preserve-status", "--signal=INT", PATIENCE])
        .arg(time.as_secs_f64().to_string())
        .args([
            "wrk",
            "-t",
            &load.threads.to_string(),
            "-c",
            &load.connections.to_string(),
        ])
        .args(["-d", &format!("{}s", time.as_secs() + 10)]);
    if load.fate == Connections::OneRequestEach {
        command.args(["-H", "Connection: close"]);
    }
    parse_wrk(&run_command(command.arg(url(lane, load.path)))?, load.fate)
}

/// Refused connections, kept ones that broke and answers other than 200 are no figures.
fn parse_wrk(text: &str, connections: Connections) -> Result<Wrk> {
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
        // "connect 0, read 12, write 0, timeout 0": a server that closes, as it was asked to, is a read error to wrk.
        let may_close = connections == Connections::OneRequestEach || line.contains("read 0, write 0,");
        let is_fine = may_close && line.contains("connect 0,") && line.trim_end().ends_with("timeout 0");
        ensure!(is_fine, "wrk: {}", line.trim());
    }
    let (requests, per_second) = (number(find(" requests in ")?)?, number(find("Requests/sec:")?)?);
    ensure!(requests > 0.0, "wrk got no answer:\n{text}");
    Ok(Wrk { requests, per_second })
}

/// What h2load recorded of requests at a fixed rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latency {
    /// How many. h2load sends a connection's next request when the last is answered: whoever answers too late gets fewer.
    pub(super) requests: f64,
    /// Seconds for which the machine's CPUs were not idle meanwhile, h2load included.
    pub(super) busy: f64,
    /// Percentiles in microseconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
}

/// Requests at a fixed rate.
pub(super) fn latency(lane: &Lane, connections: u32, time: Duration, per_second: f64) -> Result<Latency> {
    // Not beside the agent's config: it watches that directory, and would wake for each line of the record.
    let directory = lane.topology().room.file("h2load");
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let record = directory.join("record.tsv");
    let _ = fs::remove_file(&record);
    let per_client = (per_second / f64::from(connections)).max(1.0);
    let mut command: Command = lane.client().command("timeout");
    command
        .args([PATIENCE, &(time.as_secs() + 30).to_string()])
        .args(["h2load", "--h1", "-t", "1", "-c", &connections.to_string()])
        .args(["-D", &format!("{}ms", time.as_millis())])
        .args(["--rps", &format!("{per_client:.0}")])
        .arg(format!("--log-file={}", record.display()))
        .arg(url(lane, "/"));
    let before = busy_ticks()?;
    run_command(&mut command)?;
    // A tick is 1/100 s here whatever the kernel ticks at: USER_HZ is part of its ABI.
    let busy = f64::from(u32::try_from(busy_ticks()? - before).context("ticks of a few seconds")?) / 100.0;
    let times = times(&record)?;
    let [p50, p99, p999] = percentiles(&times);
    Ok(Latency {
        requests: f64::from(times.len() as u32),
        busy,
        p50,
        p99,
        p999,
    })
}

/// Microseconds of each request, sorted. A line of h2load's file: start, status, microseconds, separated by tabs.
fn times(record: &Path) -> Result<Vec<f64>> {
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
    Ok(times)
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

fn percentiles(sorted: &[f64]) -> [f64; 3] {
    [500, 990, 999].map(|thousandths| {
        let index = sorted.len() * thousandths / 1_000;
        sorted.get(index).copied().unwrap_or(f64::NAN)
    })
}

fn url(lane: &Lane, path: &str) -> String {
    format!("http://{}{path}", host_port(lane.target(), lane.port()))
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
        assert_eq!(parse_wrk(GOOD, Connections::Kept).expect("figures"), wanted);
    }

    #[test]
    fn errors_that_wrk_counts_are_errors() {
        let bad = [
            "  Non-2xx or 3xx responses: 12\n",
            "  Socket errors: connect 3, read 0, write 0, timeout 0\n",
            "  Socket errors: connect 0, read 0, write 0, timeout 7\n",
        ];
        for line in bad {
            assert!(
                parse_wrk(&format!("{GOOD}{line}"), Connections::OneRequestEach).is_err(),
                "{line}"
            );
        }
        let closed = format!("{GOOD}  Socket errors: connect 0, read 9, write 0, timeout 0\n");
        assert!(parse_wrk(&closed, Connections::OneRequestEach).is_ok());
        assert!(
            parse_wrk(&closed, Connections::Kept).is_err(),
            "a kept connection broke"
        );
        assert!(parse_wrk("", Connections::Kept).is_err());
    }

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("record");
        let lines: Vec<String> = (1..=1_000).rev().map(|time| format!("5\t200\t{time}")).collect();
        fs::write(&path, lines.join("\n")).expect("written");
        assert_eq!(
            percentiles(&times(&path).expect("times")).map(|time| time as u32),
            [501, 991, 1_000]
        );
        fs::write(&path, "5\t502\t7\n").expect("written");
        assert!(times(&path).is_err());
    }
}
