//! When probes run. Each probe is a task of its own with its own clock, so that one that hangs delays nobody; a change
//! of the list touches only the probes that changed, the others keep their phase.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::connect::{Shared, connect};
use super::http::{Exchange, Layer};
use super::pulse::Pulse;
use super::tls;
use super::verdict::{Judgement, PortVerdict, ProbeFault};
use super::{Probe, ProbeKind, ProbeResult};
use crate::config::HttpCheck;
use crate::neigh;
use crate::state::BackendRef;

/// Probes that start together are spread so that at most one starts in this time, on average.
const SPREAD_PER_PROBE: Duration = Duration::from_micros(50);
/// How long a TCP probe watches whether an accepted connection is closed at once. A proxy that finds no server behind
/// it closes within a round trip.
const CLOSE_WATCH: Duration = Duration::from_millis(20);

/// Runs the probes of the list until its sender or the receiver of results is gone, or the handle is aborted. Sockets
/// belong to the network namespace of the threads of the calling runtime.
///
/// Each running probe holds a file descriptor, so the process's soft limit is raised to its hard limit.
pub fn start(probes: watch::Receiver<Vec<Probe>>, results: mpsc::Sender<ProbeResult>) -> JoinHandle<()> {
    raise_file_limit();
    let netlink = neigh::Client::open()
        .inspect_err(|error| tracing::warn!(%error, "silent_hosts_not_told_from_filtered_ports"))
        .ok();
    tokio::spawn(supervise(probes, results, Arc::new(Shared::new(netlink))))
}

fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard));
    match raised {
        Ok(limit) => tracing::debug!(limit, "file_limit_raised"),
        Err(error) => tracing::warn!(%error, "file_limit_not_raised"),
    }
}

struct Running {
    probe: Probe,
    task: AbortHandle,
}

/// Dropping the set of tasks ends them all.
async fn supervise(mut probes: watch::Receiver<Vec<Probe>>, results: mpsc::Sender<ProbeResult>, shared: Arc<Shared>) {
    let mut tasks = JoinSet::new();
    let pulse = Pulse::default();
    tasks.spawn(pulse.clone().beat());
    let mut running: HashMap<BackendRef, Running> = HashMap::new();
    loop {
        let wanted = by_backend(probes.borrow_and_update().clone());
        running.retain(|backend, old| {
            let keep = wanted.get(backend) == Some(&old.probe);
            if !keep {
                old.task.abort();
            }
            keep
        });
        let new: Vec<Probe> = wanted
            .into_values()
            .filter(|probe| !running.contains_key(&probe.backend))
            .collect();
        let count = u32::try_from(new.len()).unwrap_or(u32::MAX);
        for probe in new {
            let delay = first_delay(probe.interval, count);
            let runner = Runner {
                probe: probe.clone(),
                shared: Arc::clone(&shared),
                pulse: pulse.clone(),
            };
            let task = tasks.spawn(runner.repeat(delay, results.clone()));
            running.insert(probe.backend.clone(), Running { probe, task });
        }
        loop {
            tokio::select! {
                changed = probes.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                () = results.closed() => return,
                // Takes aborted tasks out of the set.
                Some(_) = tasks.join_next() => {}
            }
        }
    }
}

fn by_backend(probes: Vec<Probe>) -> HashMap<BackendRef, Probe> {
    probes.into_iter().map(|probe| (probe.backend.clone(), probe)).collect()
}

/// A random delay: a tenth of the interval, more where many start together, never more than the interval.
fn first_delay(interval: Duration, starting: u32) -> Duration {
    let spread = (interval / 10).max(SPREAD_PER_PROBE * starting).min(interval);
    spread.mul_f64(fastrand::f64())
}

/// The interval, a tenth shorter to a tenth longer.
fn varied(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * fastrand::f64())
}

/// What one probe's task holds.
struct Runner {
    probe: Probe,
    shared: Arc<Shared>,
    pulse: Pulse,
}

impl Runner {
    async fn repeat(self, delay: Duration, results: mpsc::Sender<ProbeResult>) {
        sleep(delay).await;
        let mut next = Instant::now();
        let mut pause = spreading(self.probe.interval);
        loop {
            let (verdict, took) = self.judged_run().await;
            let result = ProbeResult {
                backend: self.probe.backend.clone(),
                target: self.probe.target,
                verdict,
                took,
                at: std::time::Instant::now(),
            };
            if results.send(result).await.is_err() {
                return;
            }
            next = following(next, pause, Instant::now());
            sleep_until(next).await;
            pause = varied(self.probe.interval);
        }
    }

    /// A run that timed out because we were held up says nothing about the backend.
    async fn judged_run(&self) -> (PortVerdict, Duration) {
        let before = self.pulse.held_up();
        let (verdict, took) = self.run(Instant::now()).await;
        if took < self.probe.timeout || verdict.judgement() != Judgement::Bad {
            return (verdict, took);
        }
        let held_up = self.pulse.held_up_by_now().await.saturating_sub(before);
        if held_up < self.probe.timeout / 4 {
            return (verdict, took);
        }
        (PortVerdict::Error(ProbeFault::Late(held_up)), took)
    }

    /// One run: what happened and how long it took, without the time that a TCP probe spends on watching.
    async fn run(&self, started: Instant) -> (PortVerdict, Duration) {
        let probe = &self.probe;
        let deadline = started + probe.timeout;
        let connected = connect(probe, deadline, &self.shared).await;
        let accepted_after = started.elapsed();
        let stream = match connected {
            Ok(stream) => stream,
            Err(verdict) => return (verdict, accepted_after),
        };
        // Exchanges are boxed: else every probe's task would be as large as the largest of them, all the time.
        match &probe.kind {
            ProbeKind::Tcp => (watch_close(&stream, deadline).await, accepted_after),
            ProbeKind::Http(check) => {
                let exchange = self.exchange(check, Layer::Plain, deadline);
                (Box::pin(exchange.run(stream)).await, started.elapsed())
            }
            ProbeKind::Https(check, setup) => {
                let exchange = self.exchange(check, Layer::Tls, deadline);
                let verdict = Box::pin(async {
                    match tls::handshake(stream, setup, probe.timeout, deadline).await {
                        Ok(session) => exchange.run(session).await,
                        Err(verdict) => verdict,
                    }
                });
                (verdict.await, started.elapsed())
            }
        }
    }

    const fn exchange<'a>(&self, check: &'a HttpCheck, layer: Layer, deadline: Instant) -> Exchange<'a> {
        Exchange {
            check,
            layer,
            target: self.probe.target,
            timeout: self.probe.timeout,
            deadline,
        }
    }
}

/// From the first run to the second: half the interval to one and a half, so that probes that started together run at all
/// times of it from then on.
fn spreading(interval: Duration) -> Duration {
    interval.mul_f64(0.5 + fastrand::f64())
}

/// When the next run starts: `pause` after this one was planned, whenever this one ended. After a run that took longer
/// the plan is void; a random pause keeps probes that were held up together from starting together for ever.
fn following(planned: Instant, pause: Duration, now: Instant) -> Instant {
    let next = planned + pause;
    if next > now {
        return next;
    }
    now + (pause / 2).mul_f64(fastrand::f64())
}

/// Open, unless the other side closes at once without a word.
async fn watch_close(stream: &TcpStream, deadline: Instant) -> PortVerdict {
    let until = (Instant::now() + CLOSE_WATCH).min(deadline);
    match timeout_at(until, stream.peek(&mut [0])).await {
        Ok(Ok(0) | Err(_)) => PortVerdict::AcceptedThenClosed,
        Ok(Ok(_)) | Err(_) => PortVerdict::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_spread_by_number_but_never_past_the_interval() {
        let interval = Duration::from_secs(2);
        for starting in [1, 1_000, u32::MAX] {
            let limit = match starting {
                1 => interval / 10,
                1_000 => interval / 10,
                _ => interval,
            };
            for _ in 0..100 {
                assert!(first_delay(interval, starting) <= limit);
            }
        }
    }

    #[test]
    fn the_next_run_follows_the_plan_and_a_held_up_one_is_spread_again() {
        let (planned, interval) = (Instant::now(), Duration::from_secs(2));
        let in_time = following(planned, interval, planned + Duration::from_secs(1));
        assert_eq!(in_time, planned + interval);
        let now = planned + Duration::from_secs(10);
        let late: Vec<Instant> = (0..100).map(|_| following(planned, interval, now)).collect();
        assert!(late.iter().all(|next| *next >= now && *next <= now + interval / 2));
        assert!(late.iter().max() > late.iter().min().map(|first| *first + interval / 4).as_ref());
    }

    #[test]
    fn a_thousand_probes_that_start_together_run_at_all_times_of_their_interval() {
        let (began, interval) = (Instant::now(), Duration::from_secs(2));
        // Starts of the runs within one interval, a minute after the start, by tenths of a second.
        let from = began + Duration::from_secs(60);
        let mut starts = [0; 20];
        for _ in 0..1_000 {
            let mut next = began + first_delay(interval, 1_000);
            next = following(next, spreading(interval), next);
            while next < from + interval {
                if let Some(after) = next.checked_duration_since(from) {
                    starts[after.as_millis() as usize / 100] += 1;
                }
                next = following(next, varied(interval), next);
            }
        }
        // Fifty each on average; a burst would be hundreds in one part and none in others.
        assert!(starts.iter().all(|count| (15..=110).contains(count)), "{starts:?}");
    }

    #[tokio::test]
    async fn a_probe_waits_in_little_memory() {
        let backend = BackendRef {
            service: "web".to_owned(),
            backend: "one".to_owned(),
        };
        let probe = Probe {
            backend,
            target: ([127, 0, 0, 1], 80).into(),
            kind: ProbeKind::Tcp,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            source: None,
            source_ports: 1024..=2048,
        };
        let runner = Runner {
            probe,
            shared: Arc::new(Shared::new(None)),
            pulse: Pulse::default(),
        };
        let (results, _kept) = mpsc::channel(1);
        // Thousands of them wait at any time.
        let bytes = size_of_val(&runner.repeat(Duration::ZERO, results));
        assert!(bytes <= 3_000, "{bytes} bytes a probe");
    }

    #[test]
    fn an_interval_varies_by_a_tenth_either_way() {
        let interval = Duration::from_secs(10);
        let (mut shortest, mut longest) = (interval, interval);
        for _ in 0..1_000 {
            let one = varied(interval);
            (shortest, longest) = (shortest.min(one), longest.max(one));
        }
        assert!(shortest >= Duration::from_secs(9) && longest <= Duration::from_secs(11));
        assert!(longest > shortest + Duration::from_secs(1));
    }
}
