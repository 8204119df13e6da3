//! The one way in for changes: config file, SIGHUP, API and CLI. One at a time; each is checked as a whole config, applied
//! by the writer, and only then stored. It must not touch maps.

mod change;
mod errors;
mod guard;
mod names;
mod overrides;

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Mutex, mpsc, oneshot};

pub use change::Store;
pub use guard::{Caller, Expected};
pub(super) use names::log_findings;
pub(super) use overrides::log_dropped;

use super::desired::Desired;
use super::kept::OverrideFile;
use super::names::Names;
use super::supervise::Reloading;
use crate::reconcile::{ApplyError, Event, Snapshot};
use crate::view::{ApiError, ErrorCode, Reloaded, Revision, Timestamp};
use errors::{apply_error, next_after};

/// The owner of the desired state.
#[derive(Debug)]
pub struct Admin {
    desired: Mutex<Held>,
    events: mpsc::Sender<Event>,
    last_error: ArcSwapOption<ReloadFailure>,
    /// `None`: the state directory cannot be used, as the log and the status say.
    kept: Option<Arc<OverrideFile>>,
    /// Why the file is older than the overrides.
    not_kept: ArcSwapOption<String>,
    /// What the resolver last said of names.
    names: ArcSwap<Names>,
}

/// What the lock guards.
#[derive(Debug)]
struct Held {
    desired: Arc<Desired>,
    /// Given last. A state that was set back keeps its number: somebody may have seen it.
    newest: Revision,
}

impl Held {
    /// With the next revision; with the running one where nothing else is wanted.
    fn numbered(&mut self, mut next: Desired) -> Arc<Desired> {
        next.revision = if next.wants_the_same_as(&self.desired) {
            self.desired.revision
        } else {
            self.newest = self.newest.next();
            self.newest
        };
        Arc::new(next)
    }
}

/// The cause of a reload that a signal asks for.
pub(super) const SIGHUP: &str = "SIGHUP";

/// A refusal as the asker gets it, and for the log.
struct NotReloaded {
    error: ApiError,
    in_one_line: String,
}

impl From<ApiError> for NotReloaded {
    fn from(error: ApiError) -> Self {
        Self {
            in_one_line: error.message.replace('\n', "; "),
            error,
        }
    }
}

/// A reload that was refused.
#[derive(Debug)]
pub struct ReloadFailure {
    /// Why.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

impl Admin {
    /// Starts from the state that the writer was started with.
    pub fn new(desired: Arc<Desired>, events: mpsc::Sender<Event>) -> Self {
        Self {
            desired: Mutex::new(Held {
                newest: desired.revision,
                desired,
            }),
            events,
            last_error: ArcSwapOption::empty(),
            kept: None,
            not_kept: ArcSwapOption::empty(),
            names: ArcSwap::default(),
        }
    }

    /// The newest reload, if it was refused.
    pub fn last_error(&self) -> Option<Arc<ReloadFailure>> {
        self.last_error.load_full()
    }

    /// What is desired now; waits for a change that is being made.
    pub(super) async fn running(&self) -> Arc<Desired> {
        Arc::clone(&self.desired.lock().await.desired)
    }

    /// Reads the file again, and those that it names. A bad file changes nothing.
    pub async fn reload(&self, caller: &Caller) -> Result<Reloaded, ApiError> {
        let mut held = self.desired.lock().await;
        // Not a failure of the file: status must not say so.
        caller.refuse_unless_seen(&held.desired)?;
        let _reloading = Reloading::begin();
        let by = caller.by.as_str();
        let result = self.reload_locked(&mut held, by).await;
        match &result {
            Ok(reloaded) => {
                self.last_error.store(None);
                let new = if reloaded.changed { "reloaded" } else { "unchanged" };
                let generation = reloaded.generation;
                tracing::info!(
                    object = "config",
                    old = "running",
                    new,
                    cause = by,
                    generation,
                    "config {new}"
                );
            }
            Err(NotReloaded { error, in_one_line }) => {
                let before = self.last_error.swap(Some(Arc::new(ReloadFailure {
                    message: error.message.clone(),
                    at: Timestamp::now(),
                })));
                // The watcher and a command find the same: that is said once. A signal has no other answer.
                let again = before.is_some_and(|before| before.message == error.message);
                if !again || by == SIGHUP {
                    tracing::error!(
                        object = "config",
                        old = "running",
                        new = "refused",
                        cause = by,
                        error = in_one_line,
                        "config reload failed"
                    );
                }
            }
        }
        result.map_err(|refused| refused.error)
    }

    async fn reload_locked(&self, held: &mut Held, by: &str) -> Result<Reloaded, NotReloaded> {
        let current = Arc::clone(&held.desired);
        let (path, overrides) = (current.path.clone(), current.overrides.clone());
        let read = blocking(move || Desired::read(&path, &overrides)).await?;
        let next = read.map_err(|error| NotReloaded {
            in_one_line: error.in_one_line(),
            error: ApiError {
                code: ErrorCode::BadConfig,
                message: format!("{error}\nthe running state stays as it is"),
                next: Some(next_after(&error, &current.path)),
            },
        })?;
        log_dropped(&next, by);
        let next = next.with_answers(&current.answers).with_notices(&current.dropped);
        let next = held.numbered(next);
        let changed = next.revision != current.revision;
        // What the last reload left to be told, or undone, is still work; so is what the host has changed in the warnings.
        let told = next.dropped == current.dropped && self.last_error().is_none() && next.warnings == current.warnings;
        let generation = if changed || !told {
            self.take(held, &next).await?
        } else {
            self.snapshot().await?.generation
        };
        let path = current.path.display();
        let done = match (changed, next.has_text_of(&current)) {
            (true, false) => format!("reloaded {path}"),
            (true, true) => format!("{path} is unchanged; what it refers to has changed and was reloaded"),
            (false, _) => format!("{path} is unchanged, and so is what it refers to: nothing to do"),
        };
        Ok(Reloaded {
            changed,
            generation,
            revision: next.revision,
            message: format!("{done}; generation {generation}"),
            warnings: next.warnings.iter().map(|warning| warning.rendered.clone()).collect(),
        })
    }

    /// Puts what was read into force.
    async fn take(&self, held: &mut Held, next: &Arc<Desired>) -> Result<u64, ApiError> {
        let applied = self.apply(next).await;
        // Failed writes are tried again, and the new config is the desired one; a config that gives no image is refused
        // by the writer, which keeps the old one.
        if matches!(applied, Ok(_) | Err(ApplyError::Ops { .. })) {
            self.keep(&held.desired, next).await;
            held.desired = Arc::clone(next);
        }
        applied.map_err(|error| match error {
            ApplyError::Ops { .. } => apply_error(&error, "the rest of the new config is in force; xlb tries again"),
            _ => apply_error(&error, "the running state stays as it is"),
        })
    }

    /// The agent now, with counters.
    async fn snapshot(&self) -> Result<Arc<Snapshot>, ApiError> {
        let (reply, answer) = oneshot::channel();
        let stopped = || apply_error(&ApplyError::Stopped, "its state cannot be read");
        let sent = self.events.send(Event::Sample { reply }).await;
        sent.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())
    }

    async fn apply(&self, desired: &Arc<Desired>) -> Result<u64, ApplyError> {
        let (reply, answer) = oneshot::channel();
        let event = Event::Desired {
            desired: Arc::clone(desired),
            reply,
        };
        self.events.send(event).await.map_err(|_| ApplyError::Stopped)?;
        answer.await.map_err(|_| ApplyError::Stopped)?
    }

    /// Sets the maps back; says how that went.
    async fn undo(&self, desired: &Arc<Desired>) -> String {
        match self.apply(desired).await {
            Ok(_) => "the maps were set back".to_owned(),
            Err(error) => format!("setting the maps back failed ({error}) and is tried again"),
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ApiError {
        code: ErrorCode::Unavailable,
        message: format!("file work in the agent was cut off: {error}"),
        next: Some("xlb status".to_owned()),
    })
}
