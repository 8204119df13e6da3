//! Addresses of names through the one way in, and what status says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::Admin;
use super::errors::apply_error;
use crate::agent::desired::{Change, Desired};
use crate::agent::names::Names;
use crate::config::{Answers, HostName, NameFinding};
use crate::reconcile::ApplyError;
use crate::view::{ApiError, ErrorCode};

impl Admin {
    /// Puts new addresses of names in force; nothing is changed where they are those of before. `causes` says by name why.
    pub(in crate::agent) async fn take_answers(
        &self,
        answers: &Arc<Answers>,
        causes: &BTreeMap<HostName, String>,
    ) -> Result<(), ApiError> {
        let mut held = self.desired.lock().await;
        let current = Arc::clone(&held.desired);
        if current.answers == *answers {
            return Ok(());
        }
        let next = Arc::new(Desired::clone(&current).with_answers(answers));
        if next.config == current.config && next.name_findings == current.name_findings {
            // Of a family without a VIP, or of a name that is no longer there.
            held.desired = next;
            return Ok(());
        }
        let applied = self.apply(&next).await;
        // As with a reload: failed writes are tried again, and these are the addresses that are desired.
        if !matches!(applied, Ok(_) | Err(ApplyError::Ops { .. })) {
            return applied
                .map(drop)
                .map_err(|error| apply_error(&error, "the addresses of before stay in use"));
        }
        let generation = applied.as_ref().map_or(0, |generation| *generation);
        log_changes(&current.answers, &next.answers, causes, generation);
        log_findings(&current.name_findings, &next.name_findings);
        held.desired = next;
        Ok(())
    }

    /// What the resolver last said.
    pub fn names(&self) -> Arc<Names> {
        self.names.load_full()
    }

    /// The resolver says something else.
    pub(in crate::agent) fn publish_names(&self, names: Names) {
        self.names.store(Arc::new(names));
    }
}

/// Only the DNS can change one address of a name.
pub(super) fn refuse_one_address(change: &Change, current: &Desired) -> Result<(), ApiError> {
    let Some(found) = current.one_address(change) else {
        return Ok(());
    };
    let (service, entry, host) = (change.service(), &found.entry, &found.host);
    Err(ApiError {
        code: ErrorCode::NotFound,
        message: format!(
            "backend {} of service {service} is one address of {host}, which the DNS gives and takes; nothing was changed",
            found.backend
        ),
        next: Some(format!(
            "name all its addresses as {entry}, or take this one out of the records of {host}"
        )),
    })
}

/// One line for each name; the writer has one for each backend.
fn log_changes(old: &Answers, new: &Answers, causes: &BTreeMap<HostName, String>, generation: u64) {
    let hosts: BTreeSet<&HostName> = old.keys().chain(new.keys()).collect();
    for object in hosts.into_iter().filter(|host| old.get(*host) != new.get(*host)) {
        let cause = causes
            .get(object)
            .map_or("it is no longer in the config", String::as_str);
        let (old, new) = (shown(old.get(object)), shown(new.get(object)));
        tracing::info!(%object, old, new, cause, generation, "name");
    }
}

fn shown(addresses: Option<&BTreeSet<IpAddr>>) -> String {
    let addresses: Vec<String> = addresses.into_iter().flatten().map(ToString::to_string).collect();
    if addresses.is_empty() {
        "none".to_owned()
    } else {
        addresses.join(" ")
    }
}

/// What is wrong since now.
pub(in crate::agent) fn log_findings(old: &[NameFinding], new: &[NameFinding]) {
    for finding in new.iter().filter(|finding| !old.contains(finding)) {
        let (object, cause, next) = (&finding.object, &finding.why, &finding.next);
        tracing::warn!(
            object,
            old = "answered",
            new = "left out",
            cause,
            next,
            "backend by name"
        );
    }
}
