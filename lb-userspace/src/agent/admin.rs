//! The one way in for changes: config file, SIGHUP, API and CLI. One at a time; each is checked as a whole config, applied
//! by the writer, and only then stored. It must not touch maps.

mod overrides;

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::{Mutex, mpsc, oneshot};

pub(super) use overrides::log_dropped;

use super::confine;
use super::desired::{Change, Desired, DesiredError, Override};
use super::kept::OverrideFile;
use super::stage::{StageError, Staged};
use super::supervise::Reloading;
use crate::config::write_back::{BackendSetting, WriteBackError};
use crate::reconcile::{ApplyError, Event};
use crate::view::{AddBackend, ApiError, Changed, ErrorCode, Reloaded, Timestamp};

/// The owner of the desired state.
#[derive(Debug)]
pub struct Admin {
    desired: Mutex<Arc<Desired>>,
    events: mpsc::Sender<Event>,
    last_error: ArcSwapOption<ReloadFailure>,
    /// `None`: the state directory cannot be used, as the log and the status say.
    kept: Option<Arc<OverrideFile>>,
    /// Why the file is older than the overrides.
    not_kept: ArcSwapOption<String>,
}

/// A reload that was refused.
#[derive(Debug)]
pub struct ReloadFailure {
    /// Why.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// Where a change is to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// In the config file.
    File,
    /// Only in the running agent.
    Runtime,
}

impl From<bool> for Store {
    /// From the `runtime` flag of a request.
    fn from(runtime: bool) -> Self {
        if runtime { Self::Runtime } else { Self::File }
    }
}

impl Admin {
    /// Starts from the state that the writer was started with.
    pub fn new(desired: Arc<Desired>, events: mpsc::Sender<Event>) -> Self {
        Self {
            desired: Mutex::new(desired),
            events,
            last_error: ArcSwapOption::empty(),
            kept: None,
            not_kept: ArcSwapOption::empty(),
        }
    }

    /// The newest reload, if it was refused.
    pub fn last_error(&self) -> Option<Arc<ReloadFailure>> {
        self.last_error.load_full()
    }

    /// What is desired now; waits for a change that is being made.
    pub(super) async fn running(&self) -> Arc<Desired> {
        Arc::clone(&*self.desired.lock().await)
    }

    /// Reads the file again. A bad file changes nothing.
    pub async fn reload(&self, by: &str) -> Result<Reloaded, ApiError> {
        let mut current = self.desired.lock().await;
        let _reloading = Reloading::begin();
        let result = self.reload_locked(&mut current, by).await;
        match &result {
            Ok(reloaded) => {
                self.last_error.store(None);
                tracing::info!(
                    object = "config",
                    old = "running",
                    new = "reloaded",
                    cause = by,
                    generation = reloaded.generation,
                    "config reloaded"
                );
            }
            Err(error) => {
                self.last_error.store(Some(Arc::new(ReloadFailure {
                    message: error.message.clone(),
                    at: Timestamp::now(),
                })));
                tracing::error!(object = "config", old = "running", new = "refused", cause = by, error = %error.message, "config reload failed");
            }
        }
        result
    }

    async fn reload_locked(&self, current: &mut Arc<Desired>, by: &str) -> Result<Reloaded, ApiError> {
        let (path, overrides) = (current.path.clone(), current.overrides.clone());
        let read = blocking(move || Desired::read(&path, &overrides)).await?;
        let next = read.map_err(|error| ApiError {
            code: ErrorCode::BadConfig,
            message: format!("{error}\nthe running state stays as it is"),
            next: Some(next_after(&error, &current.path)),
        })?;
        log_dropped(&next, by);
        let next = Arc::new(next);
        let applied = self.apply(&next).await;
        // Failed writes are tried again, and the new config is the desired one; a config that gives no image is refused
        // by the writer, which keeps the old one.
        if matches!(applied, Ok(_) | Err(ApplyError::Ops { .. })) {
            self.keep(current, &next).await;
            *current = Arc::clone(&next);
        }
        let generation = applied.map_err(|error| match error {
            ApplyError::Ops { .. } => apply_error(&error, "the rest of the new config is in force; xlb tries again"),
            _ => apply_error(&error, "the running state stays as it is"),
        })?;
        let warnings = next.warnings.iter().map(|warning| warning.rendered.clone()).collect();
        Ok(Reloaded { generation, warnings })
    }

    /// Adds a backend.
    pub async fn add_backend(&self, request: AddBackend, by: &str) -> Result<Changed, ApiError> {
        let change = Change::Add {
            service: request.service,
            name: request.name,
            address: request.address,
            port: request.port,
            weight: request.weight,
        };
        self.change(change, request.runtime.into(), by).await
    }

    /// Removes a backend.
    pub async fn remove_backend(
        &self,
        service: String,
        backend: String,
        store: Store,
        by: &str,
    ) -> Result<Changed, ApiError> {
        self.change(Change::Remove { service, backend }, store, by).await
    }

    /// Sets a backend's weight or state.
    pub async fn set_backend(
        &self,
        service: String,
        backend: String,
        setting: BackendSetting,
        store: Store,
        by: &str,
    ) -> Result<Changed, ApiError> {
        let change = Change::Set {
            service,
            backend,
            setting,
        };
        self.change(change, store, by).await
    }

    /// Check, stage file, maps, rename, answer.
    async fn change(&self, change: Change, store: Store, by: &str) -> Result<Changed, ApiError> {
        let mut current = self.desired.lock().await;
        let change = change.by_name(&current);
        let next = match store {
            Store::File => current.with_saved(&change),
            Store::Runtime => current.with_override(Override {
                change: change.clone(),
                by: by.to_owned(),
                at: Timestamp::now(),
            }),
        };
        let next = Arc::new(next.map_err(|error| desired_error(&error, &current))?);
        let generation = self.put(&current, &next).await?;
        let (backend, done) = change.describe(&current, &next);
        let (stored, kept) = match store {
            Store::File => {
                let path = next.path.display().to_string();
                (path.clone(), format!("saved in {path}"))
            }
            Store::Runtime => {
                let ends = match self.not_kept() {
                    Some(why) => format!("; it ends with the agent: {why}"),
                    None => String::new(),
                };
                (
                    "runtime".to_owned(),
                    format!("not in the config file (--runtime){ends}"),
                )
            }
        };
        let object = format!("{}/{backend}", change.service());
        tracing::info!(object, cause = by, stored, generation, "{done}");
        *current = next;
        Ok(Changed {
            service: change.service().to_owned(),
            message: format!("{done}; {kept}; generation {generation}"),
            backend,
            generation,
            stored,
        })
    }

    /// Stage the file, maps, rename; nothing is changed where it fails. The overrides' file comes last: an agent killed right
    /// before it starts again with an override that was just saved still on top.
    async fn put(&self, current: &Arc<Desired>, next: &Arc<Desired>) -> Result<u64, ApiError> {
        let staged = if current.text == next.text {
            None
        } else {
            Some(stage(current, next).await?)
        };
        let generation = match self.apply(next).await {
            Ok(generation) => generation,
            Err(error) => {
                let undone = self.undo(current).await;
                return Err(apply_error(
                    &error,
                    &format!("the config file was not changed; {undone}"),
                ));
            }
        };
        if let Some(staged) = staged
            && let Err(error) = blocking(move || staged.commit()).await?
        {
            let undone = self.undo(current).await;
            return Err(stage_error(&error, &undone));
        }
        self.keep(current, next).await;
        Ok(generation)
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

async fn stage(current: &Desired, next: &Desired) -> Result<Staged, ApiError> {
    let (path, old, new) = (current.path.clone(), current.text.clone(), next.text.clone());
    let staged = blocking(move || Staged::write(&path, &old, &new)).await?;
    staged.map_err(|error| stage_error(&error, "nothing was changed"))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ApiError {
        code: ErrorCode::Unavailable,
        message: format!("file work in the agent was cut off: {error}"),
        next: Some("xlb status".to_owned()),
    })
}

/// What helps when the file is not accepted.
fn next_after(error: &DesiredError, path: &Path) -> String {
    match error {
        DesiredError::Read { .. } if confine::is_refused(path) => {
            "the running agent reaches only files under the directories it was started with (docs/running.md): restart it".to_owned()
        }
        _ => format!("correct the file, then: xlb check {}", path.display()),
    }
}

fn desired_error(error: &DesiredError, current: &Desired) -> ApiError {
    let (code, next) = match error {
        DesiredError::Change(WriteBackError::NoSuchService { .. }) => {
            (ErrorCode::NotFound, Some("xlb backend list".to_owned()))
        }
        DesiredError::Change(WriteBackError::NoSuchBackend { service, backend, .. }) => {
            let next = match current.backend(service, backend) {
                Some(_) => {
                    "it runs but is not in the config file (added with --runtime): repeat with --runtime".to_owned()
                }
                None => format!("xlb backend list {service}"),
            };
            (ErrorCode::NotFound, Some(next))
        }
        DesiredError::Change(WriteBackError::Duplicate { .. }) => (ErrorCode::Exists, None),
        DesiredError::Change(_)
        | DesiredError::Read { .. }
        | DesiredError::Check { .. }
        | DesiredError::Trust { .. } => (ErrorCode::BadConfig, None),
    };
    ApiError {
        code,
        message: format!("{error}; nothing was changed"),
        next,
    }
}

fn stage_error(error: &StageError, undone: &str) -> ApiError {
    let next = match error {
        StageError::ChangedOnDisk(_) => "xlb reload, then again; or --runtime to change only the running state",
        _ => "repeat with --runtime to change only the running state",
    };
    ApiError {
        code: ErrorCode::NotWritable,
        message: format!("{error}; {undone}"),
        next: Some(next.to_owned()),
    }
}

fn apply_error(error: &ApplyError, undone: &str) -> ApiError {
    let code = match error {
        ApplyError::Stopped => ErrorCode::Unavailable,
        ApplyError::Compile(_) => ErrorCode::BadConfig,
        ApplyError::Ops { .. } => ErrorCode::ApplyFailed,
    };
    ApiError {
        code,
        message: format!("{error}; {undone}"),
        next: Some("xlb status".to_owned()),
    }
}
