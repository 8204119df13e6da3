//! Services with their endpoints, names, backends and rings.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::abi::{
    Backend, Endpoint, EndpointKey, NameKey, Service, backend_state, endpoint_kind, mode, name_kind, on_miss,
};

use crate::config::{BackendConfig, Mode, OnMiss, ServiceConfig};
use crate::state::ids::{BackendKey, Family, Ids, RingKey, RingPlaces, WaitingRing};
use crate::state::image::Image;
use crate::state::names;
use crate::state::panic;
use crate::state::rings::{self, RingMember};

use super::{CompileError, Inputs, backends, mapped};

pub(super) fn compile(
    inputs: &Inputs<'_>,
    previous: &Image,
    ids: &mut Ids,
    image: &mut Image,
) -> Result<(), CompileError> {
    let mut plans = Vec::with_capacity(inputs.config.services.len());
    for service in &inputs.config.services {
        plans.push(plan(inputs, previous, ids, (service, &mut *image))?);
    }
    ids.all_ring_slots = rings_fit(&plans, inputs.config.limits.ring_slots)?;
    ids.ring_slots = plans.iter().map(|plan| (plan.id, plan.ring_slots)).collect();
    let built = build_changed(previous, ids, &plans);
    for (plan, built) in plans.iter().zip(built) {
        let entry = entry(inputs, previous, ids, (plan, built, &mut *image));
        image.services.insert(plan.id, entry);
    }
    Ok(())
}

/// Rings of one service that were built already, by family.
pub(super) type Built = [Option<Arc<Vec<u32>>>; 2];

/// The rings that are not what they were, built on every CPU: from nothing there are thousands.
fn build_changed(previous: &Image, ids: &mut Ids, plans: &[Plan<'_>]) -> Vec<Built> {
    let mut built: Vec<Built> = vec![Built::default(); plans.len()];
    let mut places = Vec::new();
    let mut keys = Vec::new();
    for (plan, built) in plans.iter().zip(&mut built) {
        for ((family, key), place) in plan.rings.iter().zip(built) {
            if key.size > 0 && Standing::of(previous, ids, (plan.id, *family), key).fits.is_none() {
                places.push(place);
                keys.push(key);
            }
        }
    }
    for (place, ring) in places.into_iter().zip(rings::build_all(&keys)) {
        *place = Some(Arc::new(ring));
    }
    built
}

/// A service whose ids are known, before its rings are placed.
pub(super) struct Plan<'a> {
    pub(super) id: u32,
    config: &'a ServiceConfig,
    pub(super) rings: [(Family, RingKey); 2],
    /// Slots of both rings, also of one that has no member now: what fits once fits in every state of health.
    pub(super) ring_slots: u64,
}

pub(super) fn plan<'a>(
    inputs: &Inputs<'a>,
    previous: &Image,
    ids: &mut Ids,
    (service, image): (&'a ServiceConfig, &mut Image),
) -> Result<Plan<'a>, CompileError> {
    let limits = inputs.config.limits;
    let id = ids.service(&service.name, limits)?;
    let (kind, text) = (name_kind::SERVICE, names::of_service(&service.name));
    image.names.insert(NameKey { kind, id }, names::to_name(&text));
    let mut entries = Vec::with_capacity(service.backends.len());
    let panicking = panic::used(inputs, service);
    for backend in &service.backends {
        let text = names::of_backend(&service.name, &backend.name);
        let (address, port) = (mapped(backend.address), backend.port);
        let name = names::to_name(&text);
        let backend_id = ids.backend(BackendKey { text, address, port }, limits)?;
        let mut entry = backends::entry(inputs, previous, id, (backend_id, service, backend));
        if panicking.contains(&Family::of(backend.address)) && panic::counts(backend) {
            entry.state = backend_state::ACTIVE;
        }
        image.names.insert(backend_name(backend_id), name);
        image.backends.insert(backend_id, entry);
        entries.push((backend, backend_id, entry));
    }
    endpoints(service, id, image);
    let seed = inputs.config.agent.hash_seed;
    let keys = [Family::V4, Family::V6].map(|family| (family, ring_key(service, family, seed, &entries)));
    Ok(Plan {
        id,
        config: service,
        ring_slots: keys.iter().map(|(_, (_, size))| u64::from(*size)).sum(),
        rings: keys.map(|(family, (key, _))| (family, key)),
    })
}

const fn backend_name(id: u32) -> NameKey {
    NameKey {
        kind: name_kind::BACKEND,
        id,
    }
}

fn endpoints(service: &ServiceConfig, service_id: u32, image: &mut Image) {
    let protocol = service.protocol.number();
    let mut add = |address: IpAddr, port: u16, kind: u32| {
        let key = EndpointKey {
            address: mapped(address),
            port,
            protocol,
            reserved: 0,
        };
        image.endpoints.insert(key, Endpoint { service_id, kind });
    };
    for vip in &service.vips {
        add(*vip, service.port, endpoint_kind::SERVICE);
    }
    if service.mode == Mode::Gateway {
        for backend in &service.backends {
            add(backend.address, backend.port, endpoint_kind::GATEWAY_BACKEND);
        }
    }
}

/// What the ring of one family is made of, and the size it has with all its backends. That counts every backend that has a
/// weight, the slots only those that take flows.
fn ring_key(
    service: &ServiceConfig,
    family: Family,
    seed: u32,
    entries: &[(&BackendConfig, u32, Backend)],
) -> (RingKey, u32) {
    let of_family = |address: IpAddr| Family::of(address) == family;
    let has_vip = service.vips.iter().any(|vip| of_family(*vip));
    let of_ring = || {
        entries
            .iter()
            .filter(|(config, ..)| has_vip && of_family(config.address))
    };
    let mut members: Vec<RingMember> = of_ring()
        .filter(|(_, _, entry)| entry.state == backend_state::ACTIVE && entry.weight > 0)
        .map(|(_, id, entry)| RingMember {
            address: entry.address,
            port: entry.internal_port,
            weight: entry.weight,
            id: *id,
        })
        .collect();
    members.sort_unstable();
    let size = rings::ring_size(of_ring().map(|(config, ..)| config.weight));
    let key = RingKey {
        seed,
        size: if members.is_empty() { 0 } else { size },
        members,
    };
    (key, size)
}

/// How many slots all rings have together.
fn rings_fit(plans: &[Plan<'_>], ring_slots: u32) -> Result<u64, CompileError> {
    let wanted = plans.iter().map(|plan| plan.ring_slots).sum();
    if wanted > u64::from(ring_slots) {
        return Err(CompileError::Limit {
            what: "ring slots",
            key: "ring_slots",
            wanted,
            limit: ring_slots.into(),
        });
    }
    Ok(wanted)
}

pub(super) fn entry(
    inputs: &Inputs<'_>,
    previous: &Image,
    ids: &mut Ids,
    (plan, mut built, image): (&Plan<'_>, Built, &mut Image),
) -> Service {
    let before = previous.services.get(&plan.id);
    let [(ring4_offset, ring4_size), (ring6_offset, ring6_size)] = [0, 1].map(|at| {
        let (family, key) = &plan.rings[at];
        let placed = place(
            inputs,
            previous,
            ids,
            (plan, *family, key, built[at].take()),
            &image.backends,
        );
        let Some((offset, slots)) = placed else {
            return (0, 0);
        };
        let size = slots.len() as u32;
        image.rings.insert(offset, slots);
        (offset, size)
    });
    let mut entry = Service {
        ring4_offset,
        ring4_size,
        ring6_offset,
        ring6_size,
        service_port: plan.config.port,
        protocol: plan.config.protocol.number(),
        mode: match plan.config.mode {
            Mode::FullNat => mode::FULL_NAT,
            Mode::Gateway => mode::GATEWAY,
        },
        on_miss: match plan.config.on_miss {
            OnMiss::Reset => on_miss::RESET,
            OnMiss::Drop => on_miss::DROP,
        },
        generation: before.map_or(1, |before| before.generation),
        ..Service::default()
    };
    if before.is_some_and(|before| *before != entry) {
        entry.generation = entry.generation.wrapping_add(1);
    }
    entry
}

/// The ring that a service has.
struct Standing<'a> {
    /// Its place and slots, where they can be used as they are or until there is room for others.
    ring: Option<(u32, &'a Arc<Vec<u32>>)>,
    /// The same, where they are what the key asks for.
    fits: Option<(u32, &'a Arc<Vec<u32>>)>,
}

impl<'a> Standing<'a> {
    fn of(previous: &'a Image, ids: &mut Ids, (id, family): (u32, Family), key: &RingKey) -> Self {
        let (offset, size) = previous.services.get(&id).map_or((0, 0), |before| match family {
            Family::V4 => (before.ring4_offset, before.ring4_size),
            Family::V6 => (before.ring6_offset, before.ring6_size),
        });
        let slots = previous.rings.get(&offset);
        let ring = slots
            .filter(|slots| size > 0 && slots.len() == size as usize && ids.spans().holds(offset, size))
            .map(|slots| (offset, slots));
        let is_built = |(at, of): &(u32, RingKey)| *at == offset && of == key;
        let fits = ring.filter(|_| ids.ring_keys.get(&(id, family)).is_some_and(is_built));
        Self { ring, fits }
    }
}

/// The place and the slots of a ring. An unchanged ring is neither built nor moved; a changed one goes to a new span, so
/// that the swap is one update of the service.
fn place(
    inputs: &Inputs<'_>,
    previous: &Image,
    ids: &mut Ids,
    (plan, family, key, built): (&Plan<'_>, Family, &RingKey, Option<Arc<Vec<u32>>>),
    backends: &BTreeMap<u32, Backend>,
) -> Option<(u32, Arc<Vec<u32>>)> {
    let id = plan.id;
    if key.size == 0 {
        ids.ring_keys.remove(&(id, family));
        return None;
    }
    let standing = Standing::of(previous, ids, (id, family), key);
    if let Some((offset, slots)) = standing.fits {
        let place = moved(inputs, ids, (offset, slots));
        if place != offset {
            ids.ring_keys.insert((id, family), (place, key.clone()));
        }
        return Some((place, Arc::clone(slots)));
    }
    let slots = built.unwrap_or_else(|| Arc::new(rings::build(key.seed, key.size, &key.members)));
    if let Some((offset, old)) = standing.ring.filter(|(_, old)| **old == slots) {
        let offset = moved(inputs, ids, (offset, old));
        ids.ring_keys.insert((id, family), (offset, key.clone()));
        return Some((offset, Arc::clone(old)));
    }
    if let Some(offset) = ids.spans().take(key.size, inputs.now) {
        ids.ring_keys.insert((id, family), (offset, key.clone()));
        return Some((offset, slots));
    }
    // No room until resting spans are free: the old ring serves as long (`next_due` says when to come back). Its
    // backends stay in the image (`removed`), and the program passes over those that take no flows.
    ids.ring_places = RingPlaces::Waiting;
    let takes_flows = |id: &u32| {
        backends
            .get(id)
            .is_some_and(|entry| entry.state == backend_state::ACTIVE)
    };
    ids.waiting.push(WaitingRing {
        service: plan.config.name.clone(),
        family,
        slots: key.size,
        serves: standing.ring.is_some_and(|(_, old)| old.iter().any(takes_flows)),
    });
    let (offset, old) = standing.ring?;
    Some((moved(inputs, ids, (offset, old)), Arc::clone(old)))
}

/// Where a ring stands from now on: where it stood, or lower where that makes room for one that waits.
fn moved(inputs: &Inputs<'_>, ids: &mut Ids, (offset, slots): (u32, &Arc<Vec<u32>>)) -> u32 {
    let lower = if ids.makes_room {
        ids.spans().take_below(slots.len() as u32, offset, inputs.now)
    } else {
        None
    };
    lower.unwrap_or(offset)
}
