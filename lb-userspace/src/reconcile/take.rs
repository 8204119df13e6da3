//! What each event changes in the writer's picture of the world.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::book::VerdictChange;
use super::writer::{Freshness, Outputs, Writer};
use super::{ApplyError, Event};
use crate::agent::Desired;
use crate::health::{Judgement, ProbeResult};
use crate::neigh::NetUpdate;
use crate::state::{BackendRef, names};

/// Whether the loop goes on.
pub(super) enum Flow {
    Continue,
    Stop,
}

impl Writer {
    /// Takes one event. Only a new desired state is applied at once; the rest waits for the end of the batch.
    pub(super) fn take(&mut self, event: Event, outputs: &Outputs) -> Flow {
        match event {
            Event::Desired { desired, reply } => self.take_desired(desired, reply, outputs),
            Event::Probe(result) => self.take_probe(&result),
            Event::Net(update) => self.take_net(update),
            Event::Presence(presence) => {
                self.presence = Arc::new(presence);
                self.stale.snapshot = Freshness::Stale;
            }
            Event::Sample { reply } => {
                self.sample_if_old(Instant::now());
                // A reader that went away needs no answer; so below.
                drop(reply.send(self.snapshot()));
            }
            Event::Drops { reply } => drop(reply.send(self.read_drops())),
            Event::Stop => return Flow::Stop,
        }
        Flow::Continue
    }

    fn take_desired(
        &mut self,
        desired: Arc<Desired>,
        reply: oneshot::Sender<Result<u64, ApplyError>>,
        outputs: &Outputs,
    ) {
        let result = match self.take_settings(&desired) {
            Some(result) => result,
            None => self.take_whole(desired),
        };
        // Whoever reads after the answer finds the change.
        self.publish(outputs);
        drop(reply.send(result.map(|()| self.generation)));
        self.keep_spare();
    }

    fn take_whole(&mut self, desired: Arc<Desired>) -> Result<(), ApplyError> {
        let (old_desired, old_book) = (std::mem::replace(&mut self.desired, desired), self.book.clone());
        self.book.follow(&self.desired.config, self.moment());
        let now = Instant::now();
        self.stale.index = Freshness::Stale;
        let result = self.bring_up_to_date(now, "config");
        if let Err(ApplyError::Compile(_)) = &result {
            self.desired = old_desired;
            self.book = old_book;
            self.stale.index = Freshness::Current;
        } else {
            // Where the image's names changed, it is done already. A large config takes a third of a second.
            if self.stale.index == Freshness::Stale {
                self.reindex();
            }
            self.sync_ports(now);
        }
        self.stale.outputs = Freshness::Stale;
        self.stale.snapshot = Freshness::Stale;
        result
    }

    fn take_probe(&mut self, result: &ProbeResult) {
        let observed = self.book.observe(result, self.moment());
        if let Some(change) = observed.verdict {
            note_verdict(result, change);
        }
        if let Some(turn) = observed.transition {
            let cause = result.sentence();
            tracing::info!(object = %result.backend, old = turn.from.as_str(), new = turn.to.as_str(), cause, "health");
            let BackendRef { service, backend } = &result.backend;
            self.turns.insert(names::of_backend(service, backend), cause);
            self.stale.maps = Freshness::Stale;
        }
    }

    fn take_net(&mut self, update: NetUpdate) {
        match update {
            NetUpdate::Links(links) => {
                self.links = Arc::new(links);
                // Probes bind to SNAT addresses that are here.
                self.stale.outputs = Freshness::Stale;
            }
            NetUpdate::Hops(hops) => self.hops = hops,
            NetUpdate::Problems(problems) => {
                self.hop_problems = Arc::new(problems);
                self.stale.snapshot = Freshness::Stale;
                return;
            }
            NetUpdate::Moved(moved) => {
                for neighbour in moved {
                    self.follow(neighbour);
                }
                return;
            }
        }
        self.stale.maps = Freshness::Stale;
    }
}

/// One line a change. The first verdict of a healthy backend is told by its coming up.
fn note_verdict(result: &ProbeResult, change: VerdictChange) {
    let (object, new) = (&result.backend, result.verdict.as_str());
    let old = match change {
        VerdictChange::First if result.verdict.judgement() == Judgement::Good => return,
        VerdictChange::First => "none",
        VerdictChange::From(old) => old,
    };
    tracing::info!(%object, old, new, cause = result.sentence(), "port_verdict");
}
