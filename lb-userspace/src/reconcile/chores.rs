//! What the writer does by the clock: read counters once a second, sweep in small slices; and the names of ids.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Drops;
use super::stats::{Sample, Sampler};
use super::sweep::Pacer;
use super::writer::{Freshness, Writer};
use crate::config::Config;
use crate::dataplane::Warning;
use crate::state::{BackendRef, Image};

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
            backend_ids: Arc::default(),
            service_ids: Arc::default(),
            names: Arc::default(),
        }
    }

    pub(super) fn sample(&self) -> Arc<Sample> {
        Arc::clone(&self.sample)
    }

    /// Ids by name and names by id, of the newest image.
    pub(super) fn reindex(&mut self, config: &Config, image: &Image) {
        let index = super::index::index(config, image);
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

    pub(super) fn due(&self) -> Instant {
        (self.sampled_at + SAMPLE_EVERY).min(self.pacer.due(self.live))
    }
}

impl Writer {
    /// Runs what is due.
    pub(super) fn chore(&mut self, now: Instant) {
        if self.chores.pacer.due(self.chores.live) <= now {
            let slice = self.chores.pacer.slice(now, self.chores.live);
            if let Err(error) = self.dataplane.sweep(slice) {
                tracing::error!(object = "sweep", cause = %error, "expired connections are not reclaimed");
            }
        }
        if now.duration_since(self.chores.sampled_at) >= SAMPLE_EVERY {
            self.sample(now);
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
        match self.dataplane.backend_stats(self.image.backends.keys().copied()) {
            Ok(totals) => {
                self.chores.sample = self.chores.sampler.record(now, totals);
                self.chores.live = self.chores.sample.live_total();
            }
            Err(error) => tracing::error!(object = "counters", cause = %error, "not read; the old ones are shown"),
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
