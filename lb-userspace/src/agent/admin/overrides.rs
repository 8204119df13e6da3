//! Overrides through the one way in: listed, kept over restarts, saved into the file, taken back.

use std::sync::Arc;

use super::errors::desired_error;
use super::{Admin, Caller, blocking};
use crate::agent::desired::{Chosen, Desired, DesiredError, DroppedOverride};
use crate::agent::kept::OverrideFile;
use crate::config::names_there;
use crate::view::{ApiError, DroppedView, ErrorCode, OverrideView, OverridesChanged, OverridesView, SCHEMA};

impl Admin {
    /// Overrides are written to this file.
    #[must_use]
    pub fn keeping(self, kept: Option<Arc<OverrideFile>>) -> Self {
        Self { kept, ..self }
    }

    /// Why the overrides would not outlive the agent, where there are some that should.
    pub fn not_kept(&self) -> Option<Arc<String>> {
        self.not_kept.load_full()
    }

    /// The changes that are not in the file, and those that a reading of the file left no room for.
    pub async fn overrides(&self) -> OverridesView {
        let desired = self.running().await;
        let dropped = desired.dropped.iter().map(|gone| DroppedView {
            change: desired.override_view(&gone.change),
            why: gone.why.clone(),
        });
        OverridesView {
            schema: SCHEMA,
            overrides: desired.override_views(),
            revision: desired.revision,
            dropped: dropped.collect(),
            not_kept: self.not_kept().map(|why| why.to_string()),
        }
    }

    /// Writes overrides to the config file, where they are no longer overrides.
    pub async fn save_overrides(&self, chosen: Chosen, caller: &Caller) -> Result<OverridesChanged, ApiError> {
        self.settle(&chosen, Desired::with_overrides_saved, "saved", caller)
            .await
    }

    /// Takes overrides back: the config file is in force for what they were about.
    pub async fn drop_overrides(&self, chosen: Chosen, caller: &Caller) -> Result<OverridesChanged, ApiError> {
        self.settle(&chosen, Desired::with_overrides_dropped, "dropped", caller)
            .await
    }

    async fn settle(
        &self,
        chosen: &Chosen,
        next: fn(&Desired, &Chosen) -> Result<Desired, DesiredError>,
        verb: &str,
        caller: &Caller,
    ) -> Result<OverridesChanged, ApiError> {
        let mut held = self.desired.lock().await;
        let current = Arc::clone(&held.desired);
        caller.refuse_unless_seen(&current)?;
        let (settled, left) = current.parted(chosen);
        let next = next(&current, chosen).map_err(|error| desired_error(&error, &current))?;
        let seen = current.dropped.len().saturating_sub(next.dropped.len());
        if settled.is_empty() && seen == 0 && *chosen != Chosen::All {
            return Err(no_override(chosen, &current));
        }
        let next = held.numbered(next);
        let settled: Vec<OverrideView> = settled.iter().map(|one| current.override_view(one)).collect();
        let generation = self.put(&current, &next).await?;
        for one in &settled {
            let object = one.object();
            tracing::info!(
                object,
                cause = caller.by,
                old = "override",
                new = verb,
                generation,
                "{}",
                one.what()
            );
        }
        let revision = next.revision;
        held.desired = next;
        let message = match (settled.len(), seen) {
            (0, 0) => "there are no overrides".to_owned(),
            (0, 1) => "status no longer tells of 1 that was not in force any more".to_owned(),
            (0, seen) => format!("status no longer tells of {seen} that were not in force any more"),
            (count, _) => format!(
                "{verb} {count} override{}; {} left; generation {generation}",
                if count == 1 { "" } else { "s" },
                left.len()
            ),
        };
        Ok(OverridesChanged {
            schema: SCHEMA,
            overrides: settled,
            left: left.len(),
            generation,
            revision,
            message,
        })
    }

    /// Writes the overrides where they changed, or where the last try failed. A change that cannot be kept is made all the
    /// same, and said: somebody takes a backend out because it harms.
    pub(super) async fn keep(&self, current: &Desired, next: &Desired) {
        let same = (&current.overrides, &current.dropped) == (&next.overrides, &next.dropped);
        if same && self.not_kept().is_none() {
            return;
        }
        let why = match &self.kept {
            Some(file) => {
                let (file, overrides, dropped) = (Arc::clone(file), next.overrides.clone(), next.dropped.clone());
                let written = blocking(move || file.write(&overrides, &dropped)).await;
                match written {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(error) => Some(error.message),
                }
            }
            None => {
                (!next.overrides.is_empty()).then(|| "the state directory cannot be used, see xlb status".to_owned())
            }
        };
        if let Some(why) = &why {
            tracing::warn!(
                object = "overrides",
                old = "running",
                new = "not kept",
                cause = why,
                "overrides"
            );
        }
        self.not_kept.store(why.map(Arc::new));
    }
}

/// Says in the log which overrides a reading of the file left no room for.
pub(in crate::agent) fn log_dropped(desired: &Desired, by: &str) {
    for DroppedOverride { change, why } in &desired.dropped {
        let view = desired.override_view(change);
        let object = view.object();
        tracing::warn!(
            object,
            old = "override",
            new = "dropped",
            cause = by,
            error = why,
            "{}",
            view.what()
        );
    }
}

fn no_override(chosen: &Chosen, current: &Desired) -> ApiError {
    let asked = match chosen {
        Chosen::All => "anything".to_owned(),
        Chosen::Service(service) => format!("service {service}"),
        Chosen::Backend(service, backend) => format!("{service}/{backend}"),
    };
    let views = current.override_views();
    let there: Vec<String> = views
        .iter()
        .map(|view| format!("{} {}", view.what(), view.object()))
        .collect();
    let there: Vec<&str> = there.iter().map(String::as_str).collect();
    ApiError {
        code: ErrorCode::NotFound,
        message: format!(
            "no override of {asked}; there are: {}; nothing was changed",
            names_there("", &there)
        ),
        next: Some("xlb override list".to_owned()),
    }
}
