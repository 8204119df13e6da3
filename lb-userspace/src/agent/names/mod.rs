//! Keeps the addresses of backends by name: asks when a TTL is over, and hands what changed to the one way in. It decides
//! nothing about backends ([`crate::config::expand`] does) and never holds up the agent.

mod book;
mod kept;
mod lookup;
mod system;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::admin::Admin;
use crate::config::{Answers, Config, DnsConfig, HostName};
use crate::reconcile::Snapshot;
use crate::state::Family;
use crate::view::{NameView, Timestamp, WarningView};

use book::{Book, Moment, Outcome, Question, Turn};
pub(super) use kept::{KeptNames, NamesFile};
use lookup::Lookup;
pub(super) use system::{HOSTS, RESOLV_CONF};

/// What status says of names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Names {
    /// One for each name and family.
    pub rows: Vec<NameView>,
    /// What an operator should look at.
    pub problems: Vec<WarningView>,
}

/// Runs until the writer is gone.
pub(super) async fn run(admin: Arc<Admin>, snapshots: watch::Receiver<Arc<Snapshot>>, kept: KeptNames) {
    let keeper = Keeper {
        admin,
        book: Book::new(kept.answers()),
        file: kept.file.map(Arc::new),
        written: kept.names,
        not_kept: None,
        refused: None,
    };
    keeper.run(snapshots).await;
}

/// The task's own.
struct Keeper {
    admin: Arc<Admin>,
    book: Book,
    /// `None`: the state directory cannot be used, as the log and the status say.
    file: Option<Arc<NamesFile>>,
    /// What is in the file.
    written: Answers,
    /// Why the file is older than the answers.
    not_kept: Option<String>,
    /// Why the addresses in use are older than the answers.
    refused: Option<String>,
}

type Asked = JoinSet<(Question, Outcome)>;

impl Keeper {
    async fn run(mut self, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
        let lookup = Arc::new(Lookup::default());
        let mut asked = Asked::new();
        let mut desired = Arc::clone(&snapshots.borrow_and_update().desired);
        self.follow(&desired.config);
        loop {
            for question in self.book.due(Instant::now()) {
                let (lookup, dns) = (Arc::clone(&lookup), desired.config.dns.clone());
                asked.spawn(async move {
                    let outcome = lookup.ask(&question, &dns).await;
                    (question, outcome)
                });
            }
            let next = self.book.next();
            let due = async {
                match next {
                    Some(next) => sleep_until(next.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = snapshots.changed() => {
                    if changed.is_err() { return }
                    let now = Arc::clone(&snapshots.borrow_and_update().desired);
                    if !Arc::ptr_eq(&now, &desired) {
                        desired = now;
                        self.follow(&desired.config);
                    }
                }
                Some(Ok((question, outcome))) = asked.join_next(), if !asked.is_empty() => {
                    self.take(&question, outcome, &mut asked, &desired.config.dns).await;
                }
                () = due => {}
            }
        }
    }

    fn follow(&mut self, config: &Config) {
        self.book.follow(&wanted(config), &config.dns, Instant::now());
        self.publish();
    }

    /// One outcome, and those that came with it: the two families of a name should be one change.
    async fn take(&mut self, question: &Question, outcome: Outcome, asked: &mut Asked, dns: &DnsConfig) {
        let mut causes = BTreeMap::new();
        self.note(question, outcome, dns, &mut causes);
        while let Some(done) = asked.try_join_next() {
            if let Ok((question, outcome)) = done {
                self.note(&question, outcome, dns, &mut causes);
            }
        }
        let answers = Arc::new(self.book.answers());
        let taken = self.admin.take_answers(&answers, &causes).await;
        let refused = taken.err().map(|error| error.message);
        if let Some(cause) = refused.as_ref().filter(|cause| self.refused.as_ref() != Some(*cause)) {
            tracing::error!(
                object = "names",
                old = "answered",
                new = "not in force",
                cause,
                "backends by name"
            );
        }
        self.refused = refused;
        self.keep(&answers).await;
        self.publish();
    }

    fn note(
        &mut self,
        question: &Question,
        outcome: Outcome,
        dns: &DnsConfig,
        causes: &mut BTreeMap<HostName, String>,
    ) {
        let cause = match &outcome {
            Outcome::Answer { ttl, .. } => Some(format!("answer with ttl {} s", ttl.as_secs())),
            Outcome::Empty { .. } => Some("answer without addresses".to_owned()),
            Outcome::Failed(_) => None,
        };
        causes.extend(cause.map(|cause| (question.host.clone(), cause)));
        let moment = Moment {
            now: Instant::now(),
            wall: Timestamp::now(),
        };
        match self.book.take(question, outcome, dns, moment, fastrand::f64()) {
            Some(Turn::Failing(cause)) => {
                let kept = self.book.count(question);
                tracing::warn!(object = %question, old = "answered", new = "failing", cause, kept, "name");
            }
            Some(Turn::Answered(lasted)) => {
                let cause = format!("an answer after {lasted} failures");
                tracing::info!(object = %question, old = "failing", new = "answered", cause, "name");
            }
            None => {}
        }
    }

    /// Writes the answers where they changed, or where the last try failed.
    async fn keep(&mut self, answers: &Arc<Answers>) {
        let Some(file) = &self.file else { return };
        if self.written == **answers && self.not_kept.is_none() {
            return;
        }
        let (file, wanted) = (Arc::clone(file), Arc::clone(answers));
        let written = tokio::task::spawn_blocking(move || file.write(&wanted, Timestamp::now())).await;
        let why = match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        match &why {
            None => self.written.clone_from(answers),
            Some(cause) if self.not_kept.is_none() => {
                tracing::warn!(
                    object = "names",
                    old = "answered",
                    new = "not kept",
                    cause,
                    "backends by name"
                );
            }
            Some(_) => {}
        }
        self.not_kept = why;
    }

    fn publish(&self) {
        let mut problems = self.book.problems();
        problems.extend(self.refused.as_ref().map(|why| WarningView {
            code: "names_not_in_force".to_owned(),
            message: format!("the newest addresses of backends by name are not in force: {why}"),
            next: Some("xlb status -o wide".to_owned()),
        }));
        problems.extend(self.not_kept.as_ref().map(|why| WarningView {
            code: "names_not_kept".to_owned(),
            message: format!("the addresses of backends by name would not outlive the agent: {why}"),
            next: None,
        }));
        self.admin.publish_names(Names {
            rows: self.book.rows(),
            problems,
        });
    }
}

/// What is to be asked for a config, and who uses it.
fn wanted(config: &Config) -> BTreeMap<Question, BTreeSet<String>> {
    let mut wanted: BTreeMap<Question, BTreeSet<String>> = BTreeMap::new();
    for service in &config.services {
        for entry in &service.names {
            for vip in &service.vips {
                let family = Family::of(*vip);
                let host = entry.host.clone();
                let users = wanted.entry(Question { host, family }).or_default();
                users.insert(format!("{}/{}", service.name, entry.name));
            }
        }
    }
    wanted
}
