//! Where each service stands in a config, made when somebody first asks.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::config::ServiceConfig;

/// Services by name. It may be older than the services it is asked about: what it says is looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(OnceLock<Arc<HashMap<String, usize>>>);

impl Places {
    /// Where a service stands among `services`.
    pub(super) fn find(&self, services: &[Arc<ServiceConfig>], name: &str) -> Option<usize> {
        let is_it = |service: &Arc<ServiceConfig>| service.name == name;
        let known = self.0.get_or_init(|| {
            let named = services.iter().enumerate();
            Arc::new(named.map(|(at, service)| (service.name.clone(), at)).collect())
        });
        let known = known.get(name).copied();
        known
            .filter(|at| services.get(*at).is_some_and(is_it))
            .or_else(|| services.iter().position(is_it))
    }
}
