//! Services all of whose backends are down, and what then happens to new connections. Pure.
//!
//! "All" is asked family by family, because each family has a ring of its own. Backends that the operator took out
//! (drain, maintenance, weight 0) do not count: they are out on purpose, and panic never brings them back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::{AdminState, BackendConfig, Panic, ServiceConfig};

use super::compile::Inputs;
use super::health::HealthState;
use super::ids::Family;
use super::links::BackendRef;

/// Every service and family without a backend that is up, with what its config says about that.
pub fn all_down(inputs: &Inputs<'_>) -> BTreeMap<(String, Family), Panic> {
    all_down_of(inputs, inputs.config.services.iter().map(Arc::as_ref))
}

/// [`all_down`] of some services.
pub fn all_down_of<'a>(
    inputs: &Inputs<'_>,
    services: impl Iterator<Item = &'a ServiceConfig>,
) -> BTreeMap<(String, Family), Panic> {
    let mut found = BTreeMap::new();
    for service in services {
        for family in families(inputs, service) {
            found.insert((service.name.clone(), family), service.panic);
        }
    }
    found
}

/// Families of a service whose backends are all used although all are down.
pub(super) fn used(inputs: &Inputs<'_>, service: &ServiceConfig) -> BTreeSet<Family> {
    match service.panic {
        Panic::Refuse => BTreeSet::new(),
        Panic::UseAll => families(inputs, service),
    }
}

/// Whether a backend is one of those that panic brings back.
pub(super) fn counts(backend: &BackendConfig) -> bool {
    backend.weight > 0 && backend.state == AdminState::Ready
}

/// Families that have a VIP and backends, all of them down by a decision of their checks: one whose first probes have
/// not decided yet is not down.
fn families(inputs: &Inputs<'_>, service: &ServiceConfig) -> BTreeSet<Family> {
    [Family::V4, Family::V6]
        .into_iter()
        .filter(|family| {
            let mut backends = service
                .backends
                .iter()
                .filter(|backend| Family::of(backend.address) == *family && counts(backend))
                .peekable();
            let has_vip = service.vips.iter().any(|vip| Family::of(*vip) == *family);
            has_vip && backends.peek().is_some() && backends.all(|backend| is_down(inputs, service, backend))
        })
        .collect()
}

fn is_down(inputs: &Inputs<'_>, service: &ServiceConfig, backend: &BackendConfig) -> bool {
    let health = || inputs.health.get(&reference(service, backend)).copied();
    service.check_of(backend).is_some() && health() == Some(HealthState::Down)
}

fn reference(service: &ServiceConfig, backend: &BackendConfig) -> BackendRef {
    BackendRef {
        service: service.name.clone(),
        backend: backend.name.clone(),
    }
}
