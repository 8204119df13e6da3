//! Ids by name and names by id, out of `xlb_names`. Pure.

use std::collections::HashMap;

use lb_common::abi::{Backend, backend_state, name_kind};

use super::outputs::address;
use crate::config::{BackendConfig, Config};
use crate::state::{BackendRef, Image, names};

/// Names and ids of one image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// Configured backends.
    pub backends: HashMap<BackendRef, u32>,
    /// Configured services.
    pub services: HashMap<String, u32>,
    /// Every backend's `service/backend`, removed ones included; long names are cut.
    pub names: HashMap<u32, String>,
}

/// Finds the config's services and backends in an image.
pub(super) fn index(config: &Config, image: &Image) -> Index {
    let mut services_by_text = HashMap::new();
    let mut backends_by_text: HashMap<String, Vec<u32>> = HashMap::new();
    let mut index = Index::default();
    for (key, name) in &image.names {
        let text = names::to_text(name);
        match key.kind {
            name_kind::SERVICE => drop(services_by_text.insert(text, key.id)),
            name_kind::BACKEND => {
                index.names.insert(key.id, text.clone());
                backends_by_text.entry(text).or_default().push(key.id);
            }
            _ => {}
        }
    }
    for service in &config.services {
        if let Some(id) = services_by_text.get(&names::of_service(&service.name)) {
            index.services.insert(service.name.clone(), *id);
        }
        for backend in &service.backends {
            let ids = backends_by_text.get(&names::of_backend(&service.name, &backend.name));
            // Its predecessor under the same name may still have connections.
            let is_it = |id: &&u32| image.backends.get(id).is_some_and(|entry| is(entry, backend));
            if let Some(id) = ids.and_then(|ids| ids.iter().find(is_it)) {
                let key = BackendRef {
                    service: service.name.clone(),
                    backend: backend.name.clone(),
                };
                index.backends.insert(key, *id);
            }
        }
    }
    index
}

fn is(entry: &Backend, backend: &BackendConfig) -> bool {
    entry.state != backend_state::REMOVED
        && entry.internal_port == backend.port
        && address(&entry.address) == backend.address
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::fixture::{CONFIG, Fixture, moment};

    #[test]
    fn a_backend_that_moved_is_found_by_its_new_id_and_its_old_one_keeps_its_name() {
        let mut fixture = Fixture::new(CONFIG);
        let before = fixture.snapshot(1, HashMap::new());
        let a = BackendRef {
            service: "web".to_owned(),
            backend: "a".to_owned(),
        };
        let old = before.backend_ids.get(&a).copied().expect("a has an id");
        let text = CONFIG.replace("port = 8081", "port = 8082");
        let desired = crate::agent::Desired::from_text(&fixture.desired.path, text, moment(2).wall);
        fixture.desired = desired.expect("a good config").into();
        fixture.book.follow(&fixture.desired.config, moment(2));
        let after = fixture.snapshot(3, HashMap::new());
        let new = after.backend_ids.get(&a).copied().expect("a has an id");
        assert_ne!(old, new);
        let names: Vec<_> = [old, new]
            .iter()
            .map(|id| after.names.get(id).map(String::as_str))
            .collect();
        assert_eq!(names, [Some("web/a"), Some("web/a")]);
    }

    #[test]
    fn names_longer_than_the_map_are_found_all_the_same() {
        let long = "n".repeat(60);
        let text = CONFIG.replace("name = \"a\"", &format!("name = \"{long}\""));
        let snapshot = Fixture::new(&text).snapshot(1, HashMap::new());
        let key = BackendRef {
            service: "web".to_owned(),
            backend: long,
        };
        assert!(snapshot.backend_ids.contains_key(&key), "{:?}", snapshot.names);
    }
}
