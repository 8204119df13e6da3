//! From what is desired to what is in the maps: compile, diff, write, and say what changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use lb_common::abi::{Backend, backend_state};

use super::ApplyError;
use super::backoff::Backoff;
use super::index::{Index, index};
use super::pass::{self, Applied, Ended};
use super::snapshot::FailedOp;
use super::writer::{Freshness, Writer};
use crate::config::Panic;
use crate::state::{self, CompileError, Family, Image, Inputs, Op, WaitingRing};
use crate::view::{Timestamp, WarningView};

/// Of fewer new names none waits for an index long enough that a thread is worth its start.
const MANY_NAMES: usize = 4_096;

pub(super) type AllDown = BTreeMap<(String, Family), Panic>;
type AllDownSince = BTreeMap<(String, Family), (Panic, Timestamp)>;

impl Writer {
    /// Compiles and applies the difference. `cause` goes to the log with what changed.
    pub(super) fn bring_up_to_date(&mut self, now: Instant, cause: &str) -> Result<(), ApplyError> {
        self.stale.maps = Freshness::Current;
        self.compiled = now;
        let (new, down) = match self.compile(now) {
            Ok(compiled) => compiled,
            Err(error) => {
                self.warn_compile(&error);
                return Err(error.into());
            }
        };
        self.warn_rings();
        self.note_all_down(down);
        let ops = state::diff(&self.image, &new);
        if ops.is_empty() {
            self.failed.clear();
            self.turns.clear();
            return Ok(());
        }
        let (applied, index) = self.apply_and_index(&new, &ops);
        let image = applied.image(&self.image, new, &ops);
        let old = std::mem::replace(&mut self.image, Arc::new(image));
        if !applied.done.is_empty() {
            self.generation += 1;
            self.applied = Timestamp::now();
        }
        self.spare = None;
        let old_names = self.chores.names();
        match index {
            Some(index) if applied.failed.is_empty() => self.take_index(index),
            _ if old.names != self.image.names => self.reindex(),
            _ => {}
        }
        let new = Arc::clone(&self.image);
        self.note_states(&old_names, (&old, &new), cause);
        self.turns.clear();
        self.stale.snapshot = Freshness::Stale;
        if old.names != self.image.names || old.snat != self.image.snat {
            self.stale.outputs = Freshness::Stale;
        }
        self.note_failures(&applied, now);
        fatal(&applied)
    }

    /// Writes `ops`, and where many names are new finds those of the config in `new` meanwhile, on another CPU: the kernel has
    /// the writer for longer than that takes.
    fn apply_and_index(&mut self, new: &Image, ops: &[Op]) -> (Applied, Option<Index>) {
        let names = ops.iter().filter(|op| matches!(op, Op::NameSet(..))).count();
        if names < MANY_NAMES {
            return (pass::apply(&mut self.dataplane, ops), None);
        }
        let config = &self.desired.config;
        thread::scope(|scope| {
            let indexing = thread::Builder::new()
                .name("xlb-index".to_owned())
                .spawn_scoped(scope, || index(config, new));
            let applied = pass::apply(&mut self.dataplane, ops);
            let index = indexing.ok().map(|indexing| match indexing.join() {
                Ok(index) => index,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            (applied, index)
        })
    }

    fn compile(&mut self, now: Instant) -> Result<(Image, AllDown), CompileError> {
        let live_flows = self.live_flows();
        let inputs = Inputs {
            config: &self.desired.config,
            links: &self.links,
            hops: &self.hops,
            health: self.book.states(),
            live_flows: &live_flows,
            now: now.duration_since(self.started),
            hz: self.hz,
        };
        let image = state::compile(&inputs, &self.image, &mut self.ids)?;
        Ok((image, state::panic::all_down(&inputs)))
    }

    /// Logs each service that lost its last backend or got one back, and remembers since when.
    pub(super) fn note_all_down(&mut self, down: AllDown) {
        let same = |before: &AllDownSince| before.iter().map(|(key, (policy, _))| (key, policy)).eq(down.iter());
        if same(&self.all_down) {
            return;
        }
        let now = Timestamp::now();
        for ((service, family), policy) in &down {
            let before = self
                .all_down
                .get(&(service.clone(), *family))
                .map(|(policy, _)| *policy);
            if before != Some(*policy) {
                let (old, new) = (before.map_or("up", all_down_word), all_down_word(*policy));
                let cause = format!("every {} backend is down", family.as_str());
                tracing::warn!(object = service, old, new, cause, "service");
            }
        }
        for ((service, family), (policy, _)) in self.all_down.iter().filter(|(key, _)| !down.contains_key(key)) {
            let cause = format!("not every {} backend is down any more", family.as_str());
            tracing::info!(
                object = service,
                old = all_down_word(*policy),
                new = "up",
                cause,
                "service"
            );
        }
        let since = |key: &(String, Family)| self.all_down.get(key).map_or(now, |(_, since)| *since);
        let down = down.into_iter().map(|(key, policy)| {
            let since = since(&key);
            (key, (policy, since))
        });
        self.all_down = Arc::new(down.collect());
        self.stale.snapshot = Freshness::Stale;
    }

    pub(super) fn live_flows(&self) -> HashMap<u32, u64> {
        let sample = self.chores.sample();
        self.image.backends.keys().map(|id| (*id, sample.live(*id))).collect()
    }

    /// Takes note of device map entries that the kernel removed with their interface: the next difference puts those back
    /// whose interface is there again, also under the same index.
    pub(super) fn recheck_tx_ports(&mut self) {
        match self.dataplane.tx_ports() {
            Ok(present) if present == self.image.tx_ports => {}
            Ok(present) => {
                Arc::make_mut(&mut self.image).tx_ports = present;
                self.spare = None;
                self.stale.maps = Freshness::Stale;
            }
            // The counters' reading, which fails for the same causes, tells.
            Err(error) => tracing::debug!(object = "transmit ports", cause = %error, "not read"),
        }
    }

    /// Whether the compiler may want to give an id back.
    pub(super) fn some_removed_backend_is_idle(&self) -> bool {
        let sample = self.chores.sample();
        let idle = |(id, backend): (&u32, &Backend)| backend.state == backend_state::REMOVED && sample.live(*id) == 0;
        self.image.backends.iter().any(idle)
    }

    /// Finds the config's names in the image.
    pub(super) fn reindex(&mut self) {
        self.take_index(index(&self.desired.config, &self.image));
    }

    fn take_index(&mut self, index: Index) {
        self.chores.take_index(index);
        self.stale.index = Freshness::Current;
    }

    pub(super) fn note_failures(&mut self, applied: &Applied, now: Instant) {
        let old = std::mem::take(&mut self.failed);
        for (op, error) in &applied.failed {
            let known = old.iter().find(|failed| failed.op == *op);
            let backoff = known.map_or_else(|| Backoff::first(now), |known| known.backoff.again(now));
            tracing::error!(
                object = op,
                attempts = backoff.attempts,
                left = applied.left,
                cause = error,
                "map write failed"
            );
            self.failed.push(FailedOp {
                op: op.clone(),
                error: error.clone(),
                backoff,
                since: known.map_or_else(Timestamp::now, |known| known.since),
            });
        }
    }

    /// Says which rings have no room and will get none by themselves, in the place of what the compile before said.
    fn warn_rings(&mut self) {
        let warnings: Vec<WarningView> = self.ids.rings_without_room().iter().map(no_room).collect();
        if self.warnings == warnings {
            return;
        }
        for warning in &warnings {
            tracing::warn!(object = "rings", cause = warning.message, "no room for a ring");
        }
        self.warnings = warnings;
        self.stale.snapshot = Freshness::Stale;
    }

    fn warn_compile(&mut self, error: &CompileError) {
        tracing::error!(object = "image", cause = %error, "no new image; the running one stays");
        self.warnings = vec![WarningView {
            code: "no_image".to_owned(),
            message: format!("no new image could be made, the running one stays: {error}"),
            next: None,
        }];
        self.stale.snapshot = Freshness::Stale;
    }
}

fn no_room(ring: &WaitingRing) -> WarningView {
    let WaitingRing { service, slots, .. } = ring;
    let meanwhile = if ring.serves {
        "its former one serves on, without new backends and weights"
    } else {
        "it has none that serves, so its new connections are dropped (no_backend)"
    };
    WarningView {
        code: "no_ring_room".to_owned(),
        message: format!(
            "service {service}: no room for its {} ring of {slots} slots: {meanwhile}",
            ring.family.as_str()
        ),
        next: Some(
            "raise [limits] ring_slots to twice what is used; the new size needs 'xlb unload' and a start (drops flows)"
                .to_owned(),
        ),
    }
}

/// What a service does whose every backend is down.
const fn all_down_word(policy: Panic) -> &'static str {
    match policy {
        Panic::Refuse => "refusing",
        Panic::UseAll => "panic",
    }
}

/// Failed writes about devices heal by themselves; others mean that the desired state is not in the maps.
pub(super) fn fatal(applied: &Applied) -> Result<(), ApplyError> {
    match applied.failed.last() {
        Some((op, error)) if applied.ended == Ended::AtFailure => Err(ApplyError::Ops {
            op: op.clone(),
            error: error.clone(),
            left: applied.left,
        }),
        _ => Ok(()),
    }
}
