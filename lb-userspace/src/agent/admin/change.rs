//! Changes of services and backends: check, stage the file, maps, rename, answer.

use std::sync::Arc;

use super::errors::{apply_error, desired_error, stage_error};
use super::names::refuse_one_address;
use super::{Admin, Caller, blocking};
use crate::agent::desired::{Change, Desired, Override};
use crate::agent::stage::{StageError, Staged};
use crate::config::write_back::{BackendSetting, keeper};
use crate::reconcile::newly_taken_out;
use crate::view::{AddBackend, AddService, ApiError, Changed, Timestamp};

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
    /// Adds a service.
    pub async fn add_service(&self, request: AddService, caller: &Caller) -> Result<Changed, ApiError> {
        let change = Change::AddService {
            service: request.service,
        };
        self.change(change, request.runtime.into(), caller).await
    }

    /// Removes a service with its backends.
    pub async fn remove_service(&self, service: String, store: Store, caller: &Caller) -> Result<Changed, ApiError> {
        self.change(Change::RemoveService { service }, store, caller).await
    }

    /// Adds a backend.
    pub async fn add_backend(&self, request: AddBackend, caller: &Caller) -> Result<Changed, ApiError> {
        let change = Change::Add {
            service: request.service,
            name: request.name,
            address: request.address,
            port: request.port,
            weight: request.weight,
        };
        self.change(change, request.runtime.into(), caller).await
    }

    /// Removes a backend.
    pub async fn remove_backend(
        &self,
        service: String,
        backend: String,
        store: Store,
        caller: &Caller,
    ) -> Result<Changed, ApiError> {
        self.change(Change::Remove { service, backend }, store, caller).await
    }

    /// Sets a backend's weight or state.
    pub async fn set_backend(
        &self,
        service: String,
        backend: String,
        setting: BackendSetting,
        store: Store,
        caller: &Caller,
    ) -> Result<Changed, ApiError> {
        let change = Change::Set {
            service,
            backend,
            setting,
        };
        self.change(change, store, caller).await
    }

    /// Check, stage file, maps, rename, answer.
    async fn change(&self, change: Change, store: Store, caller: &Caller) -> Result<Changed, ApiError> {
        let mut held = self.desired.lock().await;
        let current = Arc::clone(&held.desired);
        caller.refuse_unless_seen(&current)?;
        let by = caller.by.as_str();
        let change = change.by_name(&current);
        refuse_one_address(&change, &current)?;
        let next = match store {
            Store::File => current.with_saved(&change),
            Store::Runtime => current.with_override(Override {
                change: change.clone(),
                by: by.to_owned(),
                at: Timestamp::now(),
            }),
        };
        let next = held.numbered(next.map_err(|error| desired_error(&error, &current))?);
        let generation = self.put(&current, &next).await?;
        let (backend, done) = change.describe(&current, &next);
        let (stored, kept) = self.stored(store, &current, &next);
        let object = match &backend {
            Some(backend) => format!("{}/{backend}", change.service()),
            None => change.service().to_owned(),
        };
        tracing::info!(object, cause = by, stored, generation, "{done}");
        let revision = next.revision;
        let mut warnings = newly_taken_out(&current, &next);
        warnings.extend(next.warnings_after(&change, backend.as_deref(), &current, &warnings));
        held.desired = next;
        Ok(Changed {
            service: change.service().to_owned(),
            message: format!("{done}; {kept}; generation {generation}"),
            backend,
            generation,
            revision,
            stored,
            warnings,
        })
    }

    /// Where a change stands, for programs and for people.
    fn stored(&self, store: Store, current: &Desired, next: &Desired) -> (String, String) {
        match store {
            Store::File => {
                let path = next.path.display().to_string();
                let kept = if next.has_text_of(current) {
                    format!("{path} says so already and was not written")
                } else {
                    format!("saved in {path}")
                };
                (path, kept)
            }
            Store::Runtime => {
                let ends = match self.not_kept() {
                    Some(why) => format!("; it ends with the agent: {why}"),
                    None => String::new(),
                };
                let kept = format!("not in the config file (--runtime){ends}");
                ("runtime".to_owned(), kept)
            }
        }
    }

    /// Stage the file, maps, rename; nothing is changed where it fails. The overrides' file comes last: an agent killed right
    /// before it starts again with an override that was just saved still on top.
    pub(super) async fn put(&self, current: &Arc<Desired>, next: &Arc<Desired>) -> Result<u64, ApiError> {
        let staged = if current.has_text_of(next) {
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
}

async fn stage(current: &Desired, next: &Desired) -> Result<Staged, ApiError> {
    let refused = |error: StageError| stage_error(&error, "nothing was changed");
    let (path, old, new) = (current.path.clone(), current.text.clone(), next.text.clone());
    if let Some(how) = keeper(current.config.agent.managed_by.as_deref(), &old) {
        return Err(refused(StageError::Managed { path, how }));
    }
    blocking(move || Staged::write(&path, &old, &new))
        .await?
        .map_err(refused)
}
