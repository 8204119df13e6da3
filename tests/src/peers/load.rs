//! A steady load of short requests: each one a new connection, a line, an answer, an end. What failed and what was
//! slow is kept with its time, because "zero failed requests" is the claim the scenes make.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};

use super::Talk;
use crate::netns::Namespace;

/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running load. Dropping it stops it.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Result<Report>>>,
}

/// What came of a load.
#[derive(Debug, Default, Clone)]
pub struct Report {
    /// Answers by backend name.
    pub answers: HashMap<String, u64>,
    /// Failed requests: seconds after the start, and why.
    pub failures: Vec<(f32, String)>,
    /// The slowest request.
    pub slowest: Duration,
}

impl Report {
    /// Answered requests.
    pub fn answered(&self) -> u64 {
        self.answers.values().sum()
    }

    /// An error unless at least `least` requests were answered and none failed.
    pub fn ensure_no_failure(&self, least: u64) -> Result<()> {
        ensure!(
            self.failures.is_empty(),
            "{} of {} requests failed, the first: {:?}",
            self.failures.len(),
            self.answered() + self.failures.len() as u64,
            self.failures.first()
        );
        ensure!(
            self.answered() >= least,
            "only {} requests were made, {least} wanted",
            self.answered()
        );
        Ok(())
    }

    fn add(&mut self, other: Self) {
        for (name, count) in other.answers {
            *self.answers.entry(name).or_default() += count;
        }
        self.failures.extend(other.failures);
        self.slowest = self.slowest.max(other.slowest);
    }
}

impl Load {
    /// One worker for each target, each making a request every `interval`.
    pub fn start(from: &Namespace, targets: &[SocketAddr], interval: Duration) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut workers = Vec::new();
        for target in targets {
            let (stop, target, namespace) = (Arc::clone(&stop), *target, from.open()?);
            workers.push(
                thread::Builder::new()
                    .name(format!("load {target}"))
                    .spawn(move || {
                        setns(&namespace, CloneFlags::CLONE_NEWNET).context("setns")?;
                        Ok(work(target, interval, &stop))
                    })
                    .context("start a worker")?,
            );
        }
        Ok(Self { stop, workers })
    }

    /// Stops after the requests under way; what came of all of them.
    pub fn finish(mut self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        let mut report = Report::default();
        for worker in self.workers.drain(..) {
            let part = worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??;
            report.add(part);
        }
        Ok(report)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            // Nobody wants the report of a load that was not finished.
            let _ = worker.join();
        }
    }
}

fn work(target: SocketAddr, interval: Duration, stop: &AtomicBool) -> Report {
    let mut report = Report::default();
    let start = Instant::now();
    let mut next = start;
    while !stop.load(Ordering::Relaxed) {
        let before = Instant::now();
        match request(target) {
            Ok(name) => *report.answers.entry(name).or_default() += 1,
            Err(error) => report
                .failures
                .push((start.elapsed().as_secs_f32(), format!("{error:#}"))),
        }
        report.slowest = report.slowest.max(before.elapsed());
        next = (next + interval).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    report
}

fn request(target: SocketAddr) -> Result<String> {
    let stream = std::net::TcpStream::connect_timeout(&target, PATIENCE).context("connect")?;
    Talk::over(stream, PATIENCE)?.ask()
}
