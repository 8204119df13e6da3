//! Service and backend names of backend ids, as one snapshot has them.

use std::collections::HashMap;

use crate::reconcile::Snapshot;

/// Names by backend id.
#[derive(Clone, Debug, Default)]
pub struct Naming {
    by_id: HashMap<u32, (String, String)>,
}

impl Naming {
    /// Names of a moment; removed backends included.
    pub fn of_snapshot(snapshot: &Snapshot) -> Self {
        // Of removed ones only the joined text is left.
        let removed = snapshot.names.iter().map(|(id, text)| {
            let (service, backend) = text.split_once('/').unwrap_or(("?", text));
            (*id, (service.to_owned(), backend.to_owned()))
        });
        let mut by_id: HashMap<_, _> = removed.collect();
        let known = snapshot.backend_ids.iter();
        by_id.extend(known.map(|(name, id)| (*id, (name.service.clone(), name.backend.clone()))));
        Self { by_id }
    }

    #[cfg(test)]
    pub(super) fn from_pairs<const N: usize>(pairs: [(u32, &str, &str); N]) -> Self {
        let by_id = pairs.map(|(id, service, backend)| (id, (service.to_owned(), backend.to_owned())));
        Self { by_id: by_id.into() }
    }

    /// Service and backend of an id.
    pub fn of(&self, backend_id: u32) -> (&str, &str) {
        match self.by_id.get(&backend_id) {
            Some((service, backend)) => (service, backend),
            None => ("?", "?"),
        }
    }

    /// Whether a service has any backend here.
    pub fn has_service(&self, service: &str) -> bool {
        self.by_id.values().any(|(known, _)| known == service)
    }

    /// Services that have a backend here.
    pub(crate) fn services(&self) -> impl Iterator<Item = &str> {
        self.by_id.values().map(|(service, _)| service.as_str())
    }

    /// Backends, of one service or of all.
    pub(crate) fn backends<'n>(&'n self, of: Option<&'n str>) -> impl Iterator<Item = &'n str> {
        let all = self.by_id.values();
        all.filter(move |(service, _)| of.is_none_or(|wanted| wanted == service))
            .map(|(_, backend)| backend.as_str())
    }

    /// A backend as somebody wrote it: its name, or service and name with a slash between. A name that holds slashes
    /// itself is found as it stands.
    pub(crate) fn split(&self, text: &str) -> (Option<String>, String) {
        if self.by_id.values().any(|(_, backend)| backend == text) {
            return (None, text.to_owned());
        }
        let pair = text
            .match_indices('/')
            .filter_map(|(at, _)| Some((text.get(..at)?, text.get(at + 1..)?)))
            .find(|(service, _)| self.has_service(service));
        match pair {
            Some((service, backend)) => (Some(service.to_owned()), backend.to_owned()),
            None => (None, text.to_owned()),
        }
    }
}
