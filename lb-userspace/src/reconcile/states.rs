//! Which lines of the log tell of backends whose state changed. Each has its own; only the backends that come with a new
//! service share that service's: a config of thousands from nothing would drown the log, and the journal drops what comes
//! too fast.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use lb_common::abi::backend_state;

use super::writer::Writer;
use crate::state::Image;
use crate::view::Timestamp;

/// States in the order of their worth to a reader.
const STATES: [u8; 4] = [
    backend_state::ACTIVE,
    backend_state::DRAINING,
    backend_state::DOWN,
    backend_state::REMOVED,
];

/// What changed between two images.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    /// (id, state before): backends with a line of their own.
    backends: Vec<(u32, u8)>,
    /// Backends by state of each service that was not there before, by service id.
    services: BTreeMap<u32, BTreeMap<u8, usize>>,
}

impl Changes {
    fn between(old: &Image, new: &Image) -> Self {
        let mut changes = Self::default();
        for (id, backend) in &new.backends {
            let before = old.backends.get(id).map_or(backend_state::EMPTY, |before| before.state);
            if before == backend.state {
                continue;
            }
            let service = backend.service_id;
            // One that is only half written has no entry yet.
            let is_new = !old.services.contains_key(&service) && new.services.contains_key(&service);
            if before == backend_state::EMPTY && is_new {
                let by_state = changes.services.entry(service).or_default();
                *by_state.entry(backend.state).or_default() += 1;
            } else {
                changes.backends.push((*id, before));
            }
        }
        changes
    }
}

impl Writer {
    /// Logs each backend whose state changed between two images, and remembers since when. `old_names` are those of the first.
    pub(super) fn note_states(
        &mut self,
        old_names: &HashMap<u32, String>,
        (old, image): (&Image, &Image),
        cause: &str,
    ) {
        self.note_since(old, image);
        let changes = Changes::between(old, image);
        // The config's names: those in the map are cut.
        let services: HashMap<u32, String> = if changes.services.is_empty() {
            HashMap::new()
        } else {
            let ids = self.chores.service_ids();
            ids.iter().map(|(name, id)| (*id, name.clone())).collect()
        };
        for (id, by_state) in &changes.services {
            let object = services.get(id).map_or("service", String::as_str);
            tracing::info!(object, id, old = "absent", new = counted(by_state), cause, "service");
        }
        let names = self.chores.names();
        for (id, before) in changes.backends {
            let state = image
                .backends
                .get(&id)
                .map_or(backend_state::EMPTY, |backend| backend.state);
            let object = names.get(&id).map_or("backend", String::as_str);
            let cause = self.turns.get(object).map_or(cause, String::as_str);
            tracing::info!(object, id, old = word(before), new = word(state), cause, "backend");
        }
        for (id, backend) in old.backends.iter().filter(|(id, _)| !image.backends.contains_key(id)) {
            let object = old_names.get(id).map_or("backend", String::as_str);
            let cause = "no connection left";
            tracing::info!(object, id, old = word(backend.state), new = "gone", cause, "backend");
        }
    }

    fn note_since(&mut self, old: &Image, image: &Image) {
        let now = Timestamp::now();
        let state = |image: &Image, id: &u32| image.backends.get(id).map(|backend| backend.state);
        for id in image.backends.keys().filter(|id| state(old, id) != state(image, id)) {
            Arc::make_mut(&mut self.since).insert(*id, now);
        }
        for id in old.backends.keys().filter(|id| !image.backends.contains_key(id)) {
            Arc::make_mut(&mut self.since).remove(id);
        }
    }
}

/// `8 active, 2 down`.
fn counted(by_state: &BTreeMap<u8, usize>) -> String {
    let counts = STATES.iter().filter_map(|state| {
        let count = by_state.get(state)?;
        Some(format!("{count} {}", word(*state)))
    });
    counts.collect::<Vec<_>>().join(", ")
}

/// A backend state in words.
const fn word(state: u8) -> &'static str {
    match state {
        backend_state::EMPTY => "absent",
        backend_state::ACTIVE => "active",
        backend_state::DRAINING => "draining",
        backend_state::DOWN => "down",
        backend_state::REMOVED => "removed",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::abi::{Backend, Service};

    /// Services, and backends as (id, service, state).
    fn image(services: &[u32], backends: &[(u32, u32, u8)]) -> Image {
        let backend = |(id, service_id, state): &(u32, u32, u8)| {
            let backend = Backend {
                service_id: *service_id,
                state: *state,
                ..Backend::default()
            };
            (*id, backend)
        };
        Image {
            services: services.iter().map(|id| (*id, Service::default())).collect(),
            backends: backends.iter().map(backend).collect(),
            ..Image::default()
        }
    }

    #[test]
    fn backends_that_come_with_their_service_share_its_line() {
        let (active, down) = (backend_state::ACTIVE, backend_state::DOWN);
        let old = image(&[1], &[(1, 1, active)]);
        let new = image(&[1, 2], &[(1, 1, active), (2, 2, active), (3, 2, down), (4, 2, active)]);
        let changes = Changes::between(&old, &new);
        assert_eq!(changes.backends, []);
        let lines: Vec<_> = changes
            .services
            .iter()
            .map(|(id, states)| (*id, counted(states)))
            .collect();
        assert_eq!(lines, [(2, "2 active, 1 down".to_owned())]);
    }

    #[test]
    fn a_backend_of_a_known_service_and_one_that_changes_have_their_own_lines() {
        let (active, down, removed) = (backend_state::ACTIVE, backend_state::DOWN, backend_state::REMOVED);
        // Service 2 was removed and comes back while its backend 3 still has connections.
        let old = image(&[1], &[(1, 1, down), (3, 2, removed)]);
        let new = image(&[1, 2], &[(1, 1, active), (2, 1, active), (3, 2, active), (4, 2, down)]);
        let changes = Changes::between(&old, &new);
        let own = [(1, down), (2, backend_state::EMPTY), (3, removed)];
        assert_eq!(changes.backends, own);
        assert_eq!(changes.services, [(2, [(down, 1)].into())].into());
    }

    #[test]
    fn backends_of_a_service_that_was_not_written_have_their_own_lines() {
        let new = image(&[], &[(1, 1, backend_state::ACTIVE)]);
        let changes = Changes::between(&Image::default(), &new);
        assert_eq!(changes.backends, [(1, backend_state::EMPTY)]);
        assert!(changes.services.is_empty());
    }
}
