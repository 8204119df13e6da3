//! Backends by name in the desired state: their addresses, and what commands may say of them.

use std::sync::Arc;

use super::{Change, Desired, Places};
use crate::config::{AdminState, Answers, NamedBackend, expand};

/// A change of one address of a name, which only the DNS can make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::agent) struct OneAddress {
    /// What was asked for.
    pub(in crate::agent) backend: String,
    /// The entry that can be changed.
    pub(in crate::agent) entry: String,
    /// What is looked up.
    pub(in crate::agent) host: String,
}

impl Desired {
    /// The state with these addresses of its names.
    pub fn with_answers(self, answers: &Arc<Answers>) -> Self {
        let (config, name_findings) = expand(self.config, answers);
        Self {
            config,
            name_findings,
            answers: Arc::clone(answers),
            places: Places::default(),
            ..self
        }
    }

    /// Weight and state of a backend by its name or `address:port`, or of an entry by its name.
    pub(super) fn set_in(&self, service: &str, backend: &str) -> Option<(u32, AdminState)> {
        let given = || self.backend(service, backend).map(|found| (found.weight, found.state));
        let entry = self.entry(service, backend).map(|entry| (entry.weight, entry.state));
        entry.or_else(given)
    }

    fn entry(&self, service: &str, name: &str) -> Option<&NamedBackend> {
        let service = self.service(service)?;
        service.names.iter().find(|entry| entry.name == name)
    }

    /// Whether a change is about one address of a name.
    pub(in crate::agent) fn one_address(&self, change: &Change) -> Option<OneAddress> {
        let (Change::Remove { service, backend } | Change::Set { service, backend, .. }) = change else {
            return None;
        };
        let from = self.backend(service, backend)?.from.as_ref()?;
        Some(OneAddress {
            backend: backend.clone(),
            entry: from.entry.clone(),
            host: from.host.to_string(),
        })
    }
}
