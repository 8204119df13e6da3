//! Five thousand checks a second on one thread, against 5,000 real targets, while 500 more hang: nobody waits for
//! another. What it costs is printed (`--nocapture`), never judged: that depends on the machine.

use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::netlab::{Lab, inside};
use crate::servers::{http, probe};
use anyhow::{Context, Result, ensure};
use lb_userspace::health::{self, Judgement, PortVerdict, Probe, ProbeFault, ProbeKind, ProbeResult};
use lb_userspace::state::BackendRef;
use nix::sys::resource::{UsageWho, getrusage};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use xlb_tests::netns::Namespace;

const ADDRESSES: u16 = 250;
const PORTS: u16 = 20;
const HANGING: u16 = 500;
const GOOD: usize = ADDRESSES as usize * PORTS as usize;
/// Probes are watched for this long, after each has had time for its first run.
const WATCHED: Duration = Duration::from_secs(5);

/// Listeners on [`PORTS`] ports of every address, on one thread: they accept and read until the other side is gone.
struct Crowd {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Crowd {
    fn start(namespace: &Namespace, first_port: u16) -> Result<Self> {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = channel();
        let file = namespace.open()?;
        let thread = thread::spawn(move || {
            nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).context("setns")?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(serve(first_port, ready, stopped))
        });
        is_ready.recv().context("the listeners did not start")?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(first_port: u16, ready: Sender<()>, stopped: tokio::sync::oneshot::Receiver<()>) -> Result<()> {
    for port in first_port..first_port + PORTS {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([0, 0, 0, 0], port)))?;
        let listener = socket.listen(4096)?;
        tokio::spawn(accept(listener));
    }
    ready.send(()).context("the test is gone")?;
    let _ = stopped.await;
    Ok(())
}

async fn accept(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {}
        });
    }
}

fn target(number: u16, first_port: u16) -> String {
    format!("10.9.{}.{}:{}", 1, number / PORTS + 1, first_port + number % PORTS)
}

fn numbered(name: String, target: &str, kind: ProbeKind) -> Result<Probe> {
    let mut probe = probe(target, kind)?;
    probe.backend = BackendRef {
        service: "many".to_owned(),
        backend: name,
    };
    probe.interval = Duration::from_secs(1);
    Ok(probe)
}

fn cpu_of_this_thread() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    let part = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(time.tv_sec() as u64) + Duration::from_micros(time.tv_usec() as u64)
    };
    Ok(part(usage.user_time()) + part(usage.system_time()))
}

/// How late a timer of 5 ms is in the probes' own runtime, for as long as it is polled.
async fn lateness(of: &mut Vec<Duration>) {
    const TICK: Duration = Duration::from_millis(5);
    loop {
        let began = tokio::time::Instant::now();
        tokio::time::sleep(TICK).await;
        of.push(began.elapsed().saturating_sub(TICK));
    }
}

fn spread(name: &str, values: &mut [Duration]) -> String {
    values.sort_unstable();
    let at = |part: usize| values.get((values.len() * part / 100).min(values.len().saturating_sub(1)));
    let shown = [0, 50, 99].map(|part| at(part).map_or_else(|| "-".to_owned(), |value| format!("{value:.1?}")));
    format!("{name} min {} median {} p99 {}", shown[0], shown[1], shown[2])
}

/// What came in the watched time.
struct Seen {
    results: Vec<ProbeResult>,
    cpu: Duration,
    time: Duration,
    late: Vec<Duration>,
}

async fn watch_probes(probes: Vec<Probe>) -> Result<Seen> {
    let (_probes, list) = watch::channel(probes);
    let (to_us, mut results) = mpsc::channel(4_096);
    let running = health::start(list, to_us);
    // Address resolution of 250 neighbours, and the first runs.
    let settle = tokio::time::Instant::now() + Duration::from_secs(4);
    while let Ok(result) = tokio::time::timeout_at(settle, results.recv()).await {
        result.context("the scheduler ended")?;
    }
    let (began, cpu) = (Instant::now(), cpu_of_this_thread()?);
    let mut all = Vec::new();
    let mut late = Vec::new();
    let gather = async {
        let until = tokio::time::Instant::now() + WATCHED;
        while let Ok(result) = tokio::time::timeout_at(until, results.recv()).await {
            all.push(result.context("the scheduler ended")?);
        }
        anyhow::Ok(())
    };
    tokio::select! {
        gathered = gather => gathered?,
        () = lateness(&mut late) => {}
    }
    let (time, cpu) = (began.elapsed(), cpu_of_this_thread()?.saturating_sub(cpu));
    running.abort();
    Ok(Seen {
        results: all,
        cpu,
        time,
        late,
    })
}

#[test]
fn five_thousand_checks_a_second_do_not_wait_for_five_hundred_that_hang() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    let addresses: Vec<String> = (1..=ADDRESSES)
        .map(|last| format!("addr add 10.9.1.{last}/32 dev t0"))
        .collect();
    lab.them.ip(&addresses.join(
        "
",
    ))?;
    lab.us.ip("route add 10.9.1.0/24 dev u0")?;
    lab.us
        .sysctl("net/ipv4/neigh/default/gc_thresh1", "4096")
        .or_else(|_| anyhow::Ok(()))?;
    let _crowd = Crowd::start(&lab.them, 20_000)?;
    let mut probes = Vec::new();
    for number in 0..ADDRESSES * PORTS {
        probes.push(numbered(
            format!("good-{number}"),
            &target(number, 20_000),
            ProbeKind::Tcp,
        )?);
    }
    for number in 0..HANGING {
        // Accepted, and then nothing: each run lasts as long as its interval.
        probes.push(numbered(
            format!("hangs-{number}"),
            &target(number * 10, 20_000),
            http(),
        )?);
    }
    let mut seen = inside(&lab.us, async || watch_probes(probes).await)?;

    let is_late = |result: &ProbeResult| matches!(result.verdict, PortVerdict::Error(ProbeFault::Late(_)));
    let (hanging, good): (Vec<_>, Vec<_>) = seen
        .results
        .drain(..)
        .partition(|result| result.backend.backend.starts_with("hangs"));
    let late = good.iter().chain(&hanging).filter(|result| is_late(result)).count();
    let wrong = good.iter().find(|result| result.verdict.judgement() == Judgement::Bad);
    ensure!(wrong.is_none(), "a false verdict: {wrong:?}");
    let odd = hanging
        .iter()
        .find(|result| !is_late(result) && !matches!(result.verdict, PortVerdict::Silent(_)));
    ensure!(odd.is_none(), "a hanging server was found to be {odd:?}");
    let probed: std::collections::HashSet<&str> = good.iter().map(|result| result.backend.backend.as_str()).collect();
    ensure!(
        probed.len() == GOOD,
        "{} of {GOOD} were probed in {WATCHED:?}",
        probed.len()
    );

    let checks = u32::try_from(good.len() + hanging.len())?;
    let mut took: Vec<Duration> = good.iter().map(|result| result.took).collect();
    println!(
        "{checks} checks in {:.2?} ({:.0}/s), {late} probe_late; {:.1} us CPU a check on the probes' thread ({:.0} % of it)\n{}\n{}",
        seen.time,
        f64::from(checks) / seen.time.as_secs_f64(),
        seen.cpu.as_secs_f64() * 1e6 / f64::from(checks),
        seen.cpu.as_secs_f64() / seen.time.as_secs_f64() * 100.0,
        spread("timer lateness:", &mut seen.late),
        spread("time to connect:", &mut took),
    );
    Ok(())
}
