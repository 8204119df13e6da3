//! What the checks say about every backend, and since when. Pure; time is an argument.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::history::History;
use crate::config::{AdminState, Check, Config};
use crate::health::{Judgement, PortVerdict, ProbeFault, ProbeResult};
use crate::state::health::{Health, Outcome, Thresholds, Transition};
use crate::state::{BackendRef, HealthState};
use crate::view::Timestamp;

/// The checks' memory: one record for each backend that has a check.
#[derive(Clone, Debug, Default)]
pub struct Book {
    records: Arc<Records>,
    states: HashMap<BackendRef, HealthState>,
    /// Backends in maintenance: one that comes back must prove itself as one that was down.
    resting: HashSet<BackendRef>,
}

/// Records by backend. Names are shared: the map is copied whenever results come between two snapshots.
pub(super) type Records = HashMap<Arc<BackendRef>, Record>;

/// One moment on two clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Since the agent's start; never goes back.
    pub monotonic: Duration,
    /// For people.
    pub wall: Timestamp,
}

/// What is known of one backend.
#[derive(Clone, Debug)]
pub struct Record {
    /// What is probed.
    pub target: SocketAddr,
    /// How.
    pub check: Arc<Check>,
    /// Rise and fall.
    pub health: Health,
    /// When the state became what it is, on the wall clock.
    pub since: Timestamp,
    /// The newest probe; `None` before the first.
    pub last: Option<Newest>,
    /// How the verdict changed.
    pub history: History,
}

/// What a result changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Up or down.
    pub transition: Option<Transition>,
    /// The port verdict, and what it was before.
    pub verdict: Option<VerdictChange>,
}

/// The word that a port verdict was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictChange {
    /// It is the first one.
    First,
    /// It was this one.
    From(&'static str),
}

/// The newest probe of one backend.
#[derive(Clone, Debug)]
pub struct Newest {
    /// What it found.
    pub verdict: PortVerdict,
    /// How long it took.
    pub took: Duration,
    /// Probes with a verdict like this (word and cause) in a row.
    pub in_a_row: u32,
    /// When the first of them ended.
    pub since: Timestamp,
}

impl Book {
    /// Health by backend, for the compiler; backends without a result are absent.
    pub fn states(&self) -> &HashMap<BackendRef, HealthState> {
        &self.states
    }

    /// All records, for the snapshot.
    pub fn records(&self) -> Arc<Records> {
        Arc::clone(&self.records)
    }

    /// Opens a record for every backend that is probed and closes the others. A backend whose target or check changed
    /// starts anew; the history goes on as long as the target is the same. One that comes out of maintenance counts as
    /// down until its probes are good.
    pub fn follow(&mut self, config: &Config, now: Moment) {
        let mut wanted = HashMap::new();
        let mut resting = HashSet::new();
        for service in &config.services {
            for backend in &service.backends {
                let key = || BackendRef {
                    service: service.name.clone(),
                    backend: backend.name.clone(),
                };
                if backend.state == AdminState::Maint {
                    resting.insert(key());
                    continue;
                }
                let Some(check) = service.check_of(backend) else {
                    continue;
                };
                let key = key();
                let first = if self.resting.contains(&key) {
                    HealthState::Down
                } else {
                    HealthState::Unknown
                };
                let target = check.target(backend);
                let (key, known) = match self.records.get_key_value(&key) {
                    Some((key, known)) => (Arc::clone(key), Some(known)),
                    None => (Arc::new(key), None),
                };
                let known = known.filter(|known| known.target == target);
                let record = match known {
                    Some(known) if *known.check == *check => known.clone(),
                    _ => Record {
                        target,
                        check: Arc::new(check.clone()),
                        health: Health::new(first, now.monotonic),
                        since: now.wall,
                        last: None,
                        history: known.map(|known| known.history.clone()).unwrap_or_default(),
                    },
                };
                wanted.insert(key, record);
            }
        }
        self.states = wanted
            .iter()
            .map(|(key, record)| (BackendRef::clone(key), record.health.state()))
            .filter(|(_, state)| *state != HealthState::Unknown)
            .collect();
        self.records = Arc::new(wanted);
        self.resting = resting;
    }

    /// Takes a result. Results of targets that are no longer probed are ignored.
    pub fn observe(&mut self, result: &ProbeResult, now: Moment) -> Observed {
        let Some(record) = Arc::make_mut(&mut self.records).get_mut(&result.backend) else {
            return Observed::default();
        };
        if record.target != result.target {
            return Observed::default();
        }
        let mut observed = Observed {
            transition: None,
            verdict: record.note(result, now.wall),
        };
        let outcome = match result.verdict.judgement() {
            Judgement::Good => Outcome::Good,
            Judgement::Bad => Outcome::Bad,
            // The fault is ours: it says nothing about the backend.
            Judgement::Inconclusive => return observed,
        };
        let thresholds = Thresholds {
            rise: record.check.rise,
            fall: record.check.fall,
        };
        observed.transition = record.health.observe(outcome, thresholds, now.monotonic);
        if let Some(transition) = observed.transition {
            record.since = now.wall;
            self.states.insert(result.backend.clone(), transition.to);
        }
        observed
    }
}

impl Record {
    fn note(&mut self, result: &ProbeResult, now: Timestamp) -> Option<VerdictChange> {
        if let Some(last) = self.last.as_mut().filter(|last| last.verdict.is_like(&result.verdict)) {
            last.verdict.clone_from(&result.verdict);
            last.took = result.took;
            last.in_a_row = last.in_a_row.saturating_add(1);
            return None;
        }
        // After a change of the check the newest entry of the history may be like this one.
        let before = self.history.changes().next().map(|change| change.new.clone());
        let change = match &before {
            // It says something about this host's load, and would push out what happened to the backend.
            _ if matches!(result.verdict, PortVerdict::Error(ProbeFault::Late(_))) => None,
            Some(before) if before.is_like(&result.verdict) => None,
            Some(before) => Some(VerdictChange::From(before.as_str())),
            None => Some(VerdictChange::First),
        };
        if change.is_some() {
            self.history.push(result.verdict.clone(), now);
        }
        self.last = Some(Newest {
            verdict: result.verdict.clone(),
            took: result.took,
            in_a_row: 1,
            since: now,
        });
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::time::Instant;

    const CONFIG: &str = r#"
[agent]
interfaces = ["eth0"]
[[service]]
name = "web"
vip = ["203.0.113.10"]
port = 80
protocol = "tcp"
internal_port = 8080
check = { tcp = {}, rise = 2, fall = 2 }
[[service.backend]]
name = "a"
address = "10.0.0.11"
"#;

    fn config(text: &str) -> Config {
        crate::config::parse(Path::new("test.toml"), text)
            .expect("a good config")
            .0
    }

    fn at(s: u64) -> Moment {
        Moment {
            monotonic: Duration::from_secs(s),
            wall: Timestamp { unix_s: 1_000 + s },
        }
    }

    fn result(port: u16, verdict: PortVerdict) -> ProbeResult {
        ProbeResult {
            backend: BackendRef {
                service: "web".to_owned(),
                backend: "a".to_owned(),
            },
            target: SocketAddr::from(([10, 0, 0, 11], port)),
            verdict,
            took: Duration::from_millis(1),
            at: Instant::now(),
        }
    }

    fn newest(book: &Book) -> (u32, u64) {
        let records = book.records();
        let last = records.values().next().and_then(|record| record.last.clone());
        last.map(|last| (last.in_a_row, last.since.unix_s))
            .expect("a probe was noted")
    }

    #[test]
    fn a_row_of_the_same_verdict_is_counted_from_its_first_probe() {
        let mut book = Book::default();
        book.follow(&config(CONFIG), at(0));
        book.observe(&result(8080, PortVerdict::Open), at(1));
        let first = book.observe(&result(8080, PortVerdict::Refused), at(2));
        assert_eq!(
            (first.transition, first.verdict),
            (None, Some(VerdictChange::From("open")))
        );
        let second = book.observe(&result(8080, PortVerdict::Refused), at(3));
        assert_eq!(second.verdict, None);
        let turn = second.transition.expect("fall is 2");
        assert_eq!((turn.from, turn.to), (HealthState::Up, HealthState::Down));
        assert_eq!(newest(&book), (2, 1_002));
        assert_eq!(book.states().values().collect::<Vec<_>>(), [&HealthState::Down]);
    }

    #[test]
    fn a_fault_of_ours_is_shown_but_decides_nothing() {
        let mut book = Book::default();
        book.follow(&config(CONFIG), at(0));
        book.observe(&result(8080, PortVerdict::Open), at(1));
        for s in 2..10 {
            let fault = PortVerdict::Error(ProbeFault::NoFiles);
            assert_eq!(book.observe(&result(8080, fault), at(s)).transition, None);
        }
        assert_eq!(newest(&book), (8, 1_002));
    }

    #[test]
    fn another_port_starts_anew_and_late_results_of_the_old_one_are_ignored() {
        let mut book = Book::default();
        book.follow(&config(CONFIG), at(0));
        book.observe(&result(8080, PortVerdict::Open), at(1));
        book.follow(&config(&CONFIG.replace("8080", "9090")), at(2));
        assert!(book.states().is_empty());
        assert_eq!(
            book.observe(&result(8080, PortVerdict::Open), at(3)),
            Observed::default()
        );
        assert!(
            book.observe(&result(9090, PortVerdict::Open), at(4))
                .transition
                .is_some()
        );
    }

    #[test]
    fn an_unrelated_change_keeps_what_is_known() {
        let mut book = Book::default();
        book.follow(&config(CONFIG), at(0));
        book.observe(&result(8080, PortVerdict::Open), at(1));
        let more = format!("{CONFIG}\n[[service.backend]]\nname = \"b\"\naddress = \"10.0.0.12\"\n");
        book.follow(&config(&more), at(2));
        assert_eq!(book.records().len(), 2);
        assert_eq!(book.states().len(), 1);
    }

    fn changes(book: &Book) -> Vec<(Option<&'static str>, &'static str)> {
        let records = book.records();
        let record = records.values().next().expect("a record");
        let words =
            |change: super::super::history::Change<'_>| (change.old.map(PortVerdict::as_str), change.new.as_str());
        record.history.changes().map(words).collect()
    }

    #[test]
    fn the_history_outlives_a_reload_and_another_check_but_not_another_target() {
        let mut book = Book::default();
        book.follow(&config(CONFIG), at(0));
        book.observe(&result(8080, PortVerdict::Open), at(1));
        book.observe(&result(8080, PortVerdict::Refused), at(2));
        book.follow(&config(CONFIG), at(3));
        assert_eq!(changes(&book), [(Some("open"), "refused"), (None, "open")]);
        book.follow(&config(&CONFIG.replace("fall = 2", "fall = 3")), at(4));
        let again = book.observe(&result(8080, PortVerdict::Refused), at(5));
        assert_eq!(again.verdict, None, "still refused");
        assert_eq!(changes(&book).len(), 2);
        book.follow(&config(&CONFIG.replace("8080", "9090")), at(6));
        assert_eq!(changes(&book), []);
    }

    #[test]
    fn a_probe_that_we_held_up_is_shown_and_leaves_no_trace_in_the_history() {
        let mut book = Book::default();
        book.follow(&config(CONFIG), at(0));
        book.observe(&result(8080, PortVerdict::Open), at(1));
        let late = PortVerdict::Error(ProbeFault::Late(Duration::from_secs(1)));
        assert_eq!(book.observe(&result(8080, late), at(2)), Observed::default());
        assert_eq!(newest(&book), (1, 1_002));
        assert_eq!(
            book.observe(&result(8080, PortVerdict::Open), at(3)),
            Observed::default()
        );
        assert_eq!(changes(&book), [(None, "open")]);
    }

    #[test]
    fn another_cause_of_the_same_word_is_a_change() {
        use crate::health::Unreachable;
        let mut book = Book::default();
        book.follow(&config(CONFIG), at(0));
        book.observe(&result(8080, PortVerdict::Unreachable(Unreachable::Host(None))), at(1));
        let other = book.observe(
            &result(8080, PortVerdict::Unreachable(Unreachable::Network(None))),
            at(2),
        );
        assert_eq!(other.verdict, Some(VerdictChange::From("unreachable")));
        assert_eq!(newest(&book), (1, 1_002));
    }
}
