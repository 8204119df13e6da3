//! What is known of each name, and when it is asked again. Pure: time and chance are arguments.
//!
//! Answers are good for their TTL, within the bounds of `[dns]`; failures keep what was known.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::config::{Answers, DnsConfig, HostName, OnEmpty};
use crate::state::Family;
use crate::view::{NameView, Timestamp, WarningView};

/// First pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Every wait is longer by up to this part of it: never shorter, or a cache on the way would answer with what it has left.
const JITTER: f64 = 0.1;

/// A name and the family of addresses that are wanted of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Question {
    pub(super) host: HostName,
    pub(super) family: Family,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.host, self.family.as_str())
    }
}

/// How a question ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// At least one address.
    Answer { addresses: BTreeSet<IpAddr>, ttl: Duration },
    /// The name is there and has no address of the family.
    Empty { ttl: Duration },
    /// Anything else.
    Failed(String),
}

/// A moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) wall: Timestamp,
}

/// What is worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The first failure, or another cause than before.
    Failing(String),
    /// An answer again, after so many failures.
    Answered(u32),
}

/// All questions.
#[derive(Debug)]
pub(super) struct Book {
    rows: BTreeMap<Question, Row>,
    /// Of the last agent, for names that come.
    kept: Answers,
    dns: Option<DnsConfig>,
}

#[derive(Debug)]
struct Row {
    addresses: BTreeSet<IpAddr>,
    answered: Option<Answered>,
    trouble: Option<Trouble>,
    phase: Phase,
    users: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug)]
struct Answered {
    at: Timestamp,
    ttl: Duration,
}

#[derive(Clone, Debug)]
struct Trouble {
    why: String,
    since: Timestamp,
    attempts: u32,
    next: Timestamp,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Waiting(Instant),
    Asked,
}

impl Book {
    pub(super) fn new(kept: Answers) -> Self {
        Self {
            rows: BTreeMap::new(),
            kept,
            dns: None,
        }
    }

    /// Takes up the questions of a config, and drops those that are no longer in it. Other servers or times: all are asked
    /// again.
    pub(super) fn follow(&mut self, wanted: &BTreeMap<Question, BTreeSet<String>>, dns: &DnsConfig, now: Instant) {
        self.rows.retain(|question, _| wanted.contains_key(question));
        self.kept
            .retain(|host, _| wanted.keys().any(|question| question.host == *host));
        let is_new_way = self.dns.as_ref() != Some(dns);
        self.dns = Some(dns.clone());
        for (question, users) in wanted {
            let kept = self.kept.get(&question.host).into_iter().flatten();
            let kept = kept.filter(|address| Family::of(**address) == question.family);
            let row = self.rows.entry(question.clone()).or_insert_with(|| Row {
                addresses: kept.copied().collect(),
                answered: None,
                trouble: None,
                phase: Phase::Waiting(now),
                users: BTreeSet::new(),
            });
            row.users.clone_from(users);
            if is_new_way && matches!(row.phase, Phase::Waiting(_)) {
                row.phase = Phase::Waiting(now);
            }
        }
    }

    /// Questions whose time has come; they count as asked.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Question> {
        let mut due = Vec::new();
        for (question, row) in &mut self.rows {
            if matches!(row.phase, Phase::Waiting(next) if next <= now) {
                row.phase = Phase::Asked;
                due.push(question.clone());
            }
        }
        due
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let waiting = self.rows.values().filter_map(|row| match row.phase {
            Phase::Waiting(next) => Some(next),
            Phase::Asked => None,
        });
        waiting.min()
    }

    /// Takes an outcome; `chance` is in 0.0 to 1.0.
    pub(super) fn take(
        &mut self,
        question: &Question,
        outcome: Outcome,
        dns: &DnsConfig,
        moment: Moment,
        chance: f64,
    ) -> Option<Turn> {
        // A config that came in between may have no use for it.
        let row = self.rows.get_mut(question)?;
        let good_for = |ttl: Duration| ttl.clamp(dns.min_ttl, dns.max_ttl);
        let (addresses, ttl) = match outcome {
            Outcome::Answer { addresses, ttl } => (addresses, good_for(ttl)),
            Outcome::Empty { ttl } if row.addresses.is_empty() || dns.on_empty == OnEmpty::Remove => {
                (BTreeSet::new(), good_for(ttl))
            }
            Outcome::Empty { .. } => {
                let why = format!("an answer without {} addresses", question.family.as_str());
                return row.fail(why, moment, chance);
            }
            Outcome::Failed(why) => return row.fail(why, moment, chance),
        };
        row.addresses = addresses;
        row.answered = Some(Answered { at: moment.wall, ttl });
        row.phase = Phase::Waiting(moment.now + longer(ttl, chance));
        row.trouble.take().map(|trouble| Turn::Answered(trouble.attempts))
    }

    /// Addresses of a question.
    pub(super) fn count(&self, question: &Question) -> usize {
        self.rows.get(question).map_or(0, |row| row.addresses.len())
    }

    /// Addresses by name.
    pub(super) fn answers(&self) -> Answers {
        let mut answers = Answers::new();
        for (question, row) in self.rows.iter().filter(|(_, row)| !row.addresses.is_empty()) {
            let addresses = row.addresses.iter().copied();
            answers.entry(question.host.clone()).or_default().extend(addresses);
        }
        answers
    }

    /// For status.
    pub(super) fn rows(&self) -> Vec<NameView> {
        self.rows.iter().map(|(question, row)| row.view(question)).collect()
    }

    /// What an operator should look at.
    pub(super) fn problems(&self) -> Vec<WarningView> {
        let failing = self
            .rows
            .iter()
            .filter_map(|(question, row)| Some((question, row, row.trouble.as_ref()?)));
        let warning = |(question, row, trouble): (&Question, &Row, &Trouble)| {
            let kept = match (row.addresses.len(), row.answered) {
                (0, _) => "it has no address here".to_owned(),
                (count, Some(answered)) => format!("its {count} addresses of {} stay in use", answered.at),
                (count, None) => format!("the {count} addresses that the last agent knew stay in use"),
            };
            WarningView {
                code: "name_failing".to_owned(),
                message: format!(
                    "name {question}: {} (since {}, {} times); {kept}; asked again at {}",
                    trouble.why, trouble.since, trouble.attempts, trouble.next
                ),
                next: Some(format!(
                    "getent ahosts {}",
                    question.host.as_str().trim_end_matches('.')
                )),
            }
        };
        failing.map(warning).collect()
    }
}

impl Row {
    fn fail(&mut self, why: String, moment: Moment, chance: f64) -> Option<Turn> {
        let before = self.trouble.take();
        let attempts = before.as_ref().map_or(0, |trouble| trouble.attempts).saturating_add(1);
        let pause = FIRST_PAUSE
            .saturating_mul(1 << (attempts - 1).min(16))
            .min(LONGEST_PAUSE);
        let pause = longer(pause, chance);
        let is_new = before.as_ref().is_none_or(|trouble| trouble.why != why);
        self.phase = Phase::Waiting(moment.now + pause);
        self.trouble = Some(Trouble {
            why: why.clone(),
            since: before.map_or(moment.wall, |trouble| trouble.since),
            attempts,
            next: Timestamp {
                unix_s: moment.wall.unix_s.saturating_add(pause.as_secs()),
            },
        });
        is_new.then_some(Turn::Failing(why))
    }

    fn view(&self, question: &Question) -> NameView {
        let trouble = self.trouble.as_ref();
        NameView {
            name: question.host.to_string(),
            family: question.family.as_str().to_owned(),
            backends: self.users.iter().cloned().collect(),
            addresses: self.addresses.iter().copied().collect(),
            answered: self.answered.map(|answered| answered.at),
            ttl_s: self.answered.map(|answered| answered.ttl.as_secs()),
            error: trouble.map(|trouble| trouble.why.clone()),
            error_since: trouble.map(|trouble| trouble.since),
            failures: trouble.map_or(0, |trouble| trouble.attempts),
            next_try: trouble.map(|trouble| trouble.next),
        }
    }
}

fn longer(wait: Duration, chance: f64) -> Duration {
    wait + wait.mul_f64(JITTER * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests;
