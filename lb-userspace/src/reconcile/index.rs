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
