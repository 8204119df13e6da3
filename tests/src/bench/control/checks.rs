//! TCP checks by the thousand, each second: how many come, how late, and what they cost the agent.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::super::Effort;
use super::super::report::{Bar, Limit, Report, Unit};
use super::process::{add_memory, cpu_time};
use super::{milliseconds, row};
use crate::agent::{Agent, agent_section};
use crate::api;
use crate::client::backends;
use crate::netns::Namespace;
use crate::process::wait_until;
use crate::topology::{Plan, Topology, VIP4};

/// Ports of one address that are checked.
const PORTS: u32 = 20;
const FIRST_PORT: u16 = 8_000;
/// Most backends of one service here.
const OF_ONE_SERVICE: u32 = 1_000;
/// Until every target has been checked once.
const PATIENCE: Duration = Duration::from_mins(1);
/// Most time between two checks of a target that are on time: the interval, a tenth that it varies by, and some slack.
const ON_TIME_MS: f64 = 1_150.0;

/// Who answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answering {
    /// A listener for each target.
    Listeners,
    /// One listener for each port, on whatever address.
    Stub,
}

pub(super) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let (real, time) = match effort {
        Effort::Full => (5_000, Duration::from_secs(20)),
        Effort::Quick => (100, Duration::from_secs(2)),
    };
    let reached = one(report, real, Answering::Listeners, time)?;
    report.bars.push(Bar::new(
        format!("checks a second of {real} wanted"),
        reached.rate,
        Limit::AtLeast(f64::from(real) * 0.99),
    ));
    report.bars.push(Bar::new(
        format!("ms between two checks of one of {real}, the longest"),
        reached.longest_ms,
        Limit::AtMost(ON_TIME_MS),
    ));
    report.bars.push(Bar::new(
        format!("agent's MB with {real} checks a second"),
        reached.resident_bytes / 1e6,
        Limit::AtMost(100.0),
    ));
    match effort {
        Effort::Full => one(report, 10_000, Answering::Stub, time).map(drop),
        Effort::Quick => Ok(()),
    }
}

struct Reached {
    rate: f64,
    longest_ms: f64,
    resident_bytes: f64,
}

fn one(report: &mut Report, targets: u32, answering: Answering, time: Duration) -> Result<Reached> {
    let who = match answering {
        Answering::Listeners => "real listeners",
        Answering::Stub => "a stub",
    };
    let group = format!("{targets} TCP checks a second, {who}");
    let topology = Topology::build(Plan::full_nat(1))?;
    let host = &topology.backends[0];
    // Every address of the network is the host's own.
    host.namespace.ip("route add local 10.1.0.0/16 dev lo\n")?;
    topology
        .balancer
        .ip(&format!("route add 10.1.0.0/16 via {}\n", host.address4))?;
    let targets_here = Targets::listen(&host.namespace, targets, answering)?;
    let section = format!(
        "{}[limits]\nbackends = {}\nring_slots = 4194304\n",
        agent_section(&topology),
        targets * 2
    );
    let mut agent = Agent::start_with(&topology, &section, &services(targets))?;
    let pid = agent.process()?.pid();
    wait_until("every target to be checked", PATIENCE, || {
        sleep(Duration::from_millis(100));
        Ok(targets_here.missing() == 0)
    })?;
    // The start is a burst of its own.
    sleep(Duration::from_secs(2));
    targets_here.forget();
    let (before, start) = (cpu_time(pid)?, Instant::now());
    sleep(time);
    let (cpu, elapsed) = (cpu_time(pid)?.saturating_sub(before), start.elapsed().as_secs_f64());
    let (checks, mut gaps) = targets_here.seen();
    let checks = f64::from(checks as u32);
    ensure!(gaps.len() > targets as usize / 2, "only {} gaps were seen", gaps.len());
    gaps.sort_by(f64::total_cmp);
    let share = |part: f64| gaps[(f64::from(gaps.len() as u32 - 1) * part) as usize];
    let rate = checks / elapsed;
    for (name, unit, value) in [
        ("checks a second", Unit::Count, rate),
        (
            "agent's CPU, % of one",
            Unit::Count,
            cpu.as_secs_f64() / elapsed * 100.0,
        ),
        ("agent's CPU a check, us", Unit::Count, cpu.as_secs_f64() * 1e6 / checks),
        ("between two checks of a target: median", Unit::Milliseconds, share(0.5)),
        ("between two checks of a target: p99", Unit::Milliseconds, share(0.99)),
        (
            "between two checks of a target: longest",
            Unit::Milliseconds,
            share(1.0),
        ),
    ] {
        report.rows.push(row(&group, name, unit, vec![value]));
    }
    let resident_bytes = add_memory(report, &group, &mut agent)?;
    // Last: so long an answer takes memory of its own.
    all_are_up(&agent, targets)?;
    Ok(Reached {
        rate,
        longest_ms: share(1.0),
        resident_bytes,
    })
}

/// A check that comes and fails is no check.
fn all_are_up(agent: &Agent, targets: u32) -> Result<()> {
    let status = api::get(agent.client().socket(), "/v1/status")?;
    let all = backends(&status);
    let down = all.iter().find(|backend| !backend.is_up());
    if let Some(down) = down {
        bail!(
            "{} of {}: {}, {}",
            down.name(),
            down.service,
            down.row["state"],
            down.health_text()
        );
    }
    ensure!(all.len() == targets as usize, "{} of {targets} targets", all.len());
    Ok(())
}

fn services(targets: u32) -> String {
    let mut text = String::new();
    for target in 0..targets {
        // Writing to a String does not fail.
        if target % OF_ONE_SERVICE == 0 {
            let number = target / OF_ONE_SERVICE;
            let _ = writeln!(
                text,
                "[[service]]\nname = \"s{number}\"\nvip = \"{VIP4}\"\nport = {}\n\
                 check = {{ tcp = {{}}, interval = \"1s\", timeout = \"900ms\", rise = 1, fall = 3 }}",
                1_000 + number
            );
        }
        let (address, port) = place(target);
        let _ = writeln!(text, "[[service.backend]]\naddress = \"{address}\"\nport = {port}");
    }
    text
}

fn place(target: u32) -> (Ipv4Addr, u16) {
    let address = Ipv4Addr::from(0x0a01_0001 + target / PORTS);
    (address, FIRST_PORT + (target % PORTS) as u16)
}

fn number(local: SocketAddr) -> Option<usize> {
    let SocketAddr::V4(local) = local else { return None };
    let address = u32::from(*local.ip()).checked_sub(0x0a01_0001)?;
    let port = u32::from(local.port().checked_sub(FIRST_PORT)?);
    Some((address * PORTS + port) as usize)
}

/// Accepts, closes and remembers.
struct Targets {
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Seen {
    checks: AtomicU64,
    of_each: Mutex<OfEach>,
}

#[derive(Default)]
struct OfEach {
    newest: Vec<Option<Instant>>,
    gaps_ms: Vec<f64>,
}

impl OfEach {
    /// Those of targets that have waited longer than any gap was are gaps, too: a target that is checked no more would
    /// otherwise be on time.
    fn gaps_until(&self, now: Instant) -> Vec<f64> {
        let longest = self.gaps_ms.iter().copied().fold(0.0, f64::max);
        let open = self.newest.iter().flatten().map(|newest| milliseconds(now - *newest));
        let open = open.filter(|gap| *gap > longest);
        self.gaps_ms.iter().copied().chain(open).collect()
    }
}

impl Targets {
    fn listen(namespace: &Namespace, targets: u32, answering: Answering) -> Result<Self> {
        let places: Vec<SocketAddr> = match answering {
            Answering::Listeners => (0..targets).map(|target| place(target).into()).collect(),
            Answering::Stub => (0..PORTS as u16)
                .map(|port| (Ipv4Addr::UNSPECIFIED, FIRST_PORT + port).into())
                .collect(),
        };
        let bind = || {
            places
                .iter()
                .map(TcpListener::bind)
                .collect::<std::io::Result<Vec<_>>>()
        };
        let listeners = namespace.enter(bind)?.context("listen")?;
        let seen = Arc::new(Seen {
            checks: AtomicU64::new(0),
            of_each: Mutex::new(OfEach {
                newest: vec![None; targets as usize],
                gaps_ms: Vec::new(),
            }),
        });
        let stop = Arc::new(AtomicBool::new(false));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (inside, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                for listener in listeners {
                    tokio::spawn(accept(listener, Arc::clone(&inside)));
                }
                while !stopped.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        });
        Ok(Self {
            seen,
            stop,
            thread: Some(thread),
        })
    }

    fn missing(&self) -> usize {
        let of_each = self.seen.of_each.lock();
        of_each.map_or(usize::MAX, |seen| {
            seen.newest.iter().filter(|time| time.is_none()).count()
        })
    }

    fn forget(&self) {
        self.seen.checks.store(0, Ordering::Relaxed);
        if let Ok(mut of_each) = self.seen.of_each.lock() {
            of_each.gaps_ms.clear();
        }
    }

    /// Checks, and milliseconds between two of one target up to now.
    fn seen(&self) -> (u64, Vec<f64>) {
        let gaps = self.seen.of_each.lock().map(|seen| seen.gaps_until(Instant::now()));
        (self.seen.checks.load(Ordering::Relaxed), gaps.unwrap_or_default())
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in there has already been printed.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, seen: Arc<Seen>) {
    let listener = listener
        .set_nonblocking(true)
        .and_then(|()| tokio::net::TcpListener::from_std(listener));
    let listener = listener.expect("a non-blocking listener");
    loop {
        // A check that hung up meanwhile is none.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let now = Instant::now();
        seen.checks.fetch_add(1, Ordering::Relaxed);
        let target = stream.local_addr().ok().and_then(number);
        if let (Some(target), Ok(mut of_each)) = (target, seen.of_each.lock()) {
            let newest = of_each.newest.get_mut(target).and_then(|newest| newest.replace(now));
            of_each.gaps_ms.extend(newest.map(|before| milliseconds(now - before)));
        }
        // The check closes first, or finds it closed: accepted is what counts.
        tokio::spawn(hang_up(stream));
    }
}

/// Closes when the check has: a server that closes first would fail it.
async fn hang_up(mut stream: tokio::net::TcpStream) {
    use tokio::io::AsyncReadExt as _;
    let mut nothing = [0; 8];
    let read = stream.read(&mut nothing);
    // The end of the check, or of patience with it; which does not matter.
    let _ = tokio::time::timeout(Duration::from_secs(5), read).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_is_checked_no_more_has_a_gap_up_to_the_end() {
        let start = Instant::now();
        let after = |time| Some(start + Duration::from_millis(time));
        let of_each = OfEach {
            newest: vec![after(9_500), after(8_950), after(3_000), None],
            gaps_ms: vec![1_000.0, 1_100.0, 950.0],
        };
        let gaps = of_each.gaps_until(start + Duration::from_secs(10));
        assert_eq!(gaps, [1_000.0, 1_100.0, 950.0, 7_000.0]);
    }
}
