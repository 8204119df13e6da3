//! The writer's loop: take events, bring the maps up to date, publish; between them sample counters and sweep.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::book::{Book, Moment};
use super::chores::Chores;
use super::outputs::VipsWanted;
use super::ports::{Ports, Synced};
use super::settings::Spare;
use super::snapshot::{FailedOp, Origin, Snapshot};
use super::take::Flow;
use super::{ApplyError, Event};
use crate::agent::Desired;
use crate::config::Panic;
use crate::dataplane::Dataplane;
use crate::health::Probe;
use crate::neigh::{HopProblem, Wanted};
use crate::state::{Family, Hop, Ids, Image, Links};
use crate::view::{AddressView, Timestamp, WarningView};

/// Events taken in one go before the maps are brought up to date.
const BATCH: usize = 4_096;

/// Events other than the operator's wait this many times as long as the latest compile took: they come in bursts, one
/// compile serves them all, and the writer stays free for the sweep and for readers.
const REST: u32 = 4;
/// Shortest time between two compiles that only look whether something kept may go.
const RECOMPILE_EVERY: Duration = Duration::from_secs(1);

/// Where the writer tells others what it needs.
#[derive(Debug)]
pub struct Outputs {
    /// Published state.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    /// To the netlink task.
    pub wanted: watch::Sender<Wanted>,
    /// To the probe scheduler.
    pub probes: watch::Sender<Vec<Probe>>,
    /// To the presence task.
    pub vips: watch::Sender<VipsWanted>,
}

/// What the writer starts from.
#[derive(Debug)]
pub struct Start {
    /// The open dataplane.
    pub dataplane: Dataplane,
    /// What the pinned maps hold.
    pub image: Image,
    /// What the operator wants.
    pub desired: Arc<Desired>,
    /// Interfaces and addresses.
    pub links: Links,
    /// Next hops that are resolved already.
    pub hops: HashMap<IpAddr, Hop>,
    /// Facts for the status.
    pub origin: Arc<Origin>,
    /// Kernel ticks per second.
    pub hz: u32,
}

/// The owner of the dataplane.
#[derive(Debug)]
pub struct Writer {
    pub(super) dataplane: Dataplane,
    pub(super) origin: Arc<Origin>,
    pub(super) hz: u32,
    pub(super) started: Instant,

    pub(super) desired: Arc<Desired>,
    pub(super) links: Arc<Links>,
    pub(super) hops: HashMap<IpAddr, Hop>,
    pub(super) hop_problems: Arc<BTreeMap<IpAddr, HopProblem>>,
    pub(super) book: Book,
    pub(super) turns: HashMap<String, String>,
    pub(super) all_down: Arc<BTreeMap<(String, Family), (Panic, Timestamp)>>,
    pub(super) presence: Arc<Vec<AddressView>>,

    pub(super) image: Arc<Image>,
    pub(super) spare: Option<Spare>,
    pub(super) ids: Ids,
    pub(super) compiled: Instant,
    not_before: Instant,
    pub(super) since: Arc<HashMap<u32, Timestamp>>,
    pub(super) ports: Ports,
    pub(super) generation: u64,
    pub(super) applied: Timestamp,
    pub(super) failed: Vec<FailedOp>,
    pub(super) warnings: Vec<WarningView>,

    pub(super) chores: Chores,
    pub(super) stale: Stale,
}

/// What the next turn of the loop must do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stale {
    /// The image may differ from what is desired.
    pub maps: Freshness,
    /// Readers should see something new.
    pub snapshot: Freshness,
    /// Others may have to do something else.
    pub outputs: Freshness,
    /// The config's names have not been looked up in the image since it was taken.
    pub index: Freshness,
}

/// Whether something is as it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Freshness {
    #[default]
    Current,
    Stale,
}

impl Writer {
    /// Brings the maps to the desired state for the first time and attaches the program.
    pub fn new(start: Start) -> Result<Self, ApplyError> {
        let now = Instant::now();
        let mut writer = Self {
            dataplane: start.dataplane,
            origin: start.origin,
            hz: start.hz,
            started: now,
            ids: Ids::recover(&start.image, Duration::ZERO),
            compiled: now,
            not_before: now,
            spare: None,
            image: Arc::new(start.image),
            desired: start.desired,
            links: Arc::new(start.links),
            hops: start.hops,
            hop_problems: Arc::default(),
            book: Book::default(),
            turns: HashMap::new(),
            all_down: Arc::default(),
            presence: Arc::default(),
            since: Arc::default(),
            ports: Ports::default(),
            generation: 0,
            applied: Timestamp::now(),
            failed: Vec::new(),
            warnings: Vec::new(),
            chores: Chores::new(now),
            // Nobody has been told anything yet, also where the adopted maps are as they should be.
            stale: Stale {
                outputs: Freshness::Stale,
                snapshot: Freshness::Stale,
                index: Freshness::Stale,
                ..Stale::default()
            },
        };
        let moment = writer.moment();
        writer.book.follow(&writer.desired.config, moment);
        writer.sample(now);
        // A write that failed is tried again; only a config that gives no image ends the start.
        if let Err(error @ ApplyError::Compile(_)) = writer.bring_up_to_date(now, "start") {
            return Err(error);
        }
        // With many names it was done while the maps were written.
        if writer.stale.index == Freshness::Stale {
            writer.reindex();
        }
        writer.keep_spare();
        writer.ports.adopt(&writer.dataplane);
        writer.sync_ports(now);
        Ok(writer)
    }

    /// Runs until [`Event::Stop`] comes or nobody can send any more.
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>, outputs: Outputs) {
        self.tell(&outputs);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let due = tokio::time::Instant::from_std(self.next_due());
            let received = tokio::time::timeout_at(due, events.recv_many(&mut batch, BATCH)).await;
            if received == Ok(0) {
                return;
            }
            for event in batch.drain(..) {
                if let Flow::Stop = self.take(event, &outputs) {
                    return;
                }
            }
            self.work(Instant::now());
            self.tell(&outputs);
        }
    }

    /// The state as readers see it.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(Snapshot {
            origin: Arc::clone(&self.origin),
            generation: self.generation,
            applied: self.applied,
            desired: Arc::clone(&self.desired),
            image: Arc::clone(&self.image),
            backend_ids: self.chores.backend_ids(),
            service_ids: self.chores.service_ids(),
            since: Arc::clone(&self.since),
            all_down: Arc::clone(&self.all_down),
            health: self.book.records(),
            links: Arc::clone(&self.links),
            hop_problems: Arc::clone(&self.hop_problems),
            ports: Arc::new(self.ports.list()),
            presence: Arc::clone(&self.presence),
            names: self.chores.names(),
            sample: self.chores.sample(),
            failed_ops: self.failed.clone(),
            warnings: self.warnings.iter().cloned().chain(self.chores.warnings()).collect(),
        })
    }

    /// Everything that is due at `now`.
    fn work(&mut self, now: Instant) {
        let retry = self.failed.iter().any(|failed| failed.backoff.next <= now);
        if retry || self.recompile_at().is_some_and(|at| at <= now) {
            self.stale.maps = Freshness::Stale;
        }
        if self.stale.maps == Freshness::Stale && self.not_before <= now {
            // Failures are in the status and the log; they are tried again.
            drop(self.bring_up_to_date(now, "network or health"));
            self.sync_ports(now);
            let end = Instant::now();
            self.not_before = end + end.duration_since(now) * REST;
        } else if self.ports.retry_at().is_some_and(|at| at <= now) {
            self.sync_ports(now);
        }
        self.chore(now);
    }

    pub(super) fn moment(&self) -> Moment {
        Moment {
            monotonic: self.started.elapsed(),
            wall: Timestamp::now(),
        }
    }

    pub(super) fn sync_ports(&mut self, now: Instant) {
        let interfaces = &self.desired.config.agent.interfaces;
        match self.ports.sync(&mut self.dataplane, interfaces, &self.links, now) {
            Synced::Changed => self.stale.snapshot = Freshness::Stale,
            Synced::Same => {}
        }
    }

    /// When something that is kept for a while may go. Never at once: what cannot go yet is asked about again.
    fn recompile_at(&self) -> Option<Instant> {
        let due = self.ids.next_due().map(|due| self.started + due)?;
        Some(due.max(self.compiled + RECOMPILE_EVERY))
    }

    fn next_due(&self) -> Instant {
        let retries = self.failed.iter().map(|failed| failed.backoff.next);
        let waiting = (self.stale.maps == Freshness::Stale).then_some(self.not_before);
        retries
            .chain(waiting)
            .chain(self.ports.retry_at())
            .chain(self.recompile_at())
            .fold(self.chores.due(), Instant::min)
    }

    /// Publishes, and tells the other tasks what is needed from them, where that has changed.
    fn tell(&mut self, outputs: &Outputs) {
        if std::mem::take(&mut self.stale.outputs) == Freshness::Stale {
            let config = &self.desired.config;
            replace(&outputs.wanted, super::outputs::wanted(config, &self.image));
            replace(
                &outputs.probes,
                super::outputs::probes(&self.desired, &self.image, &self.links),
            );
            replace(&outputs.vips, super::outputs::vips(config, &self.image));
            self.stale.snapshot = Freshness::Stale;
        }
        self.publish(outputs);
    }

    pub(super) fn publish(&mut self, outputs: &Outputs) {
        if std::mem::take(&mut self.stale.snapshot) == Freshness::Stale {
            outputs.snapshots.send_replace(self.snapshot());
        }
    }
}

/// Sends a value only when it is another one.
fn replace<T: PartialEq>(channel: &watch::Sender<T>, value: T) {
    channel.send_if_modified(|current| {
        let changed = *current != value;
        if changed {
            *current = value;
        }
        changed
    });
}
