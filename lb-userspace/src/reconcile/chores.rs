//! What the writer does by the clock: read counters once a second, sweep in small slices; and the names of ids.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_common::net::Mac;

use super::Drops;
use super::index::Index;
use super::ports::Synced;
use super::stats::{Sample, Sampler};
use super::sweep::Pacer;
use super::writer::{Freshness, Writer};
use crate::dataplane::Warning;
use crate::state::{BackendRef, Moved};
use crate::view::WarningView;

/// Time between two readings of the counters.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// A reading younger than this is what "now" means to a reader.
const FRESH: Duration = Duration::from_millis(100);

/// State of the chores.
#[derive(Debug)]
pub(super) struct Chores {
    sampler: Sampler,
    sample: Arc<Sample>,
    sampled_at: Instant,
    live: u64,
    pacer: Pacer,
    /// Why the newest sweep or reading failed; absent while both work.
    sweep_error: Option<String>,
    sample_error: Option<String>,
    backend_ids: Arc<HashMap<BackendRef, u32>>,
    service_ids: Arc<HashMap<String, u32>>,
    names: Arc<HashMap<u32, String>>,
}

impl Chores {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            sampler: Sampler::default(),
            sample: Arc::default(),
            sampled_at: now,
            live: 0,
            pacer: Pacer::new(now),
            sweep_error: None,
            sample_error: None,
            backend_ids: Arc::default(),
            service_ids: Arc::default(),
            names: Arc::default(),
        }
    }

    pub(super) fn sample(&self) -> Arc<Sample> {
        Arc::clone(&self.sample)
    }

    /// Ids by name and names by id, of the newest image.
    pub(super) fn take_index(&mut self, index: Index) {
        self.backend_ids = Arc::new(index.backends);
        self.service_ids = Arc::new(index.services);
        self.names = Arc::new(index.names);
    }

    pub(super) fn backend_ids(&self) -> Arc<HashMap<BackendRef, u32>> {
        Arc::clone(&self.backend_ids)
    }

    pub(super) fn service_ids(&self) -> Arc<HashMap<String, u32>> {
        Arc::clone(&self.service_ids)
    }

    pub(super) fn names(&self) -> Arc<HashMap<u32, String>> {
        Arc::clone(&self.names)
    }

    /// What does not work, for the status.
    pub(super) fn warnings(&self) -> impl Iterator<Item = WarningView> {
        let sweep = self.sweep_error.as_ref().map(|error| WarningView {
            code: "sweep_failed".to_owned(),
            message: format!("expired connections are only reclaimed when they are in the way: {error}"),
            next: None,
        });
        let sample = self.sample_error.as_ref().map(|error| WarningView {
            code: "counters_failed".to_owned(),
            message: format!("counters and rates are old: {error}"),
            next: None,
        });
        sweep.into_iter().chain(sample)
    }

    pub(super) fn due(&self) -> Instant {
        (self.sampled_at + SAMPLE_EVERY).min(self.pacer.due(self.live))
    }
}

impl Writer {
    /// Runs what is due.
    pub(super) fn chore(&mut self, now: Instant) {
        if self.chores.pacer.due(self.chores.live) <= now {
            let slice = self.chores.pacer.slice(now, self.chores.live);
            let error = self.dataplane.sweep(slice).err().map(|error| error.to_string());
            tell_once("sweep", &mut self.chores.sweep_error, error);
        }
        if now.duration_since(self.chores.sampled_at) >= SAMPLE_EVERY {
            self.sample(now);
        }
    }

    /// A neighbour of an attached interface has another MAC: connections that reply to it follow now, not when their
    /// client sends next.
    pub(super) fn follow(&mut self, moved: Moved) {
        if !self.image.ifaces.contains_key(&moved.ifindex) {
            return;
        }
        // Counted a moment ago; what came since came from the new MAC, or is half-open and will be sent again.
        self.sample(Instant::now());
        let live = u32::try_from(self.chores.live).unwrap_or(u32::MAX);
        match self.dataplane.follow(moved, live) {
            Ok(swept) => {
                let took_us = swept.took.as_micros() as u64;
                let mac = |mac: Mac| mac.map(|byte| format!("{byte:02x}")).join(":");
                let (object, cause) = (format!("neighbour on interface {}", moved.ifindex), "netlink");
                tracing::info!(
                    object,
                    old = mac(moved.old),
                    new = mac(moved.new),
                    cause,
                    connections = live,
                    took_us,
                    "neighbour"
                );
            }
            Err(error) => {
                tracing::warn!(object = %moved, old = "followed", new = "not followed", cause = %error, "neighbour");
            }
        }
    }

    /// Reads counters unless that has just been done.
    pub(super) fn sample_if_old(&mut self, now: Instant) {
        if now.duration_since(self.chores.sampled_at) >= FRESH {
            self.sample(now);
        }
    }

    /// Reads counters.
    pub(super) fn sample(&mut self, now: Instant) {
        self.chores.sampled_at = now;
        let ids = self.image.backends.keys().copied();
        let error = match self.dataplane.backend_stats(ids) {
            Ok(totals) => {
                self.chores.sample = self.chores.sampler.record(now, totals);
                self.chores.live = self.chores.sample.live_total();
                None
            }
            Err(error) => Some(error.to_string()),
        };
        tell_once("counters", &mut self.chores.sample_error, error);
        self.recheck_tx_ports();
        if self.ports.recheck(&self.dataplane) == Synced::Changed {
            // Compiles, and attaches afterwards.
            self.stale.maps = Freshness::Stale;
        }
        if self.some_removed_backend_is_idle() {
            self.stale.maps = Freshness::Stale;
        }
        self.stale.snapshot = Freshness::Stale;
    }

    /// Reads the reasons' counters.
    pub(super) fn read_drops(&self) -> Result<Drops, String> {
        let read = || {
            Ok(Drops {
                reasons: self.dataplane.reason_stats()?,
                tx_errors: self.dataplane.tx_errors()?,
                cpu: self.dataplane.cpu_totals()?,
                tx_errors_missing: self.tx_errors_missing(),
            })
        };
        read().map_err(|error: crate::dataplane::DataplaneError| error.to_string())
    }

    fn tx_errors_missing(&self) -> Option<String> {
        let missing = |warning: &Warning| match warning {
            Warning::NotCounting { .. } => Some(warning.to_string()),
            Warning::PinsEndWithMountNamespace | Warning::CountingEndsWithAgent { .. } => None,
        };
        self.dataplane.warnings().iter().find_map(missing)
    }
}

/// Logs an error when it comes and when it goes, not each time.
fn tell_once(object: &str, known: &mut Option<String>, now: Option<String>) {
    if *known != now {
        match &now {
            Some(error) => tracing::error!(object, old = "works", new = "fails", cause = error, "chore"),
            None => tracing::info!(object, old = "fails", new = "works", cause = "tried again", "chore"),
        }
        *known = now;
    }
}
