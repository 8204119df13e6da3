//! The part of an image that a few services have, made anew where only weights and states of their backends changed: all else
//! stays in its place, so nothing else need be looked at.

use std::sync::Arc;

use lb_common::abi::{NameKey, hop_flag, name_kind};

use crate::config::{AdminState, BackendConfig, Config, ServiceConfig};
use crate::state::ids::{Ids, RingPlaces};
use crate::state::image::Image;

use super::{Inputs, holds, services};

/// Entries of some services, before and after.
#[derive(Clone, Debug)]
pub struct Part {
    /// As they are in the maps.
    pub old: Image,
    /// As they shall be.
    pub new: Image,
}

impl Part {
    /// Does to a whole image what the writes of the difference do to the maps.
    pub fn apply(&self, image: &mut Image) {
        for offset in self.old.rings.keys() {
            image.rings.remove(offset);
        }
        image
            .rings
            .extend(self.new.rings.iter().map(|(offset, ring)| (*offset, Arc::clone(ring))));
        image
            .services
            .extend(self.new.services.iter().map(|(id, service)| (*id, *service)));
        image
            .backends
            .extend(self.new.backends.iter().map(|(id, backend)| (*id, *backend)));
    }
}

/// The services that are not the very same in both configs, where these differ in nothing but weights and states of backends.
/// A backend that is in maintenance in one of them is another matter: its checks end or begin. `None`, too, where they are more
/// than `most`.
pub fn changed_settings<'a>(old: &Config, new: &'a Config, most: usize) -> Option<Vec<&'a ServiceConfig>> {
    let frame = (&old.agent, old.limits, old.timeouts, &old.dns) == (&new.agent, new.limits, new.timeouts, &new.dns);
    if !frame || old.services.len() != new.services.len() {
        return None;
    }
    let pairs = old.services.iter().zip(&new.services);
    let changed: Vec<_> = pairs
        .filter(|(old, new)| !Arc::ptr_eq(old, new))
        .take(most + 1)
        .collect();
    if changed.len() > most {
        return None;
    }
    changed
        .into_iter()
        .map(|(old, new)| differ_in_settings(old, new).then_some(new.as_ref()))
        .collect()
}

fn differ_in_settings(old: &ServiceConfig, new: &ServiceConfig) -> bool {
    let same = |(old, new): (&BackendConfig, &BackendConfig)| {
        let rests = |one: &BackendConfig| one.state == AdminState::Maint;
        let like_new = BackendConfig {
            weight: new.weight,
            state: new.state,
            ..old.clone()
        };
        like_new == *new && rests(old) == rests(new)
    };
    let all = old.backends.len() == new.backends.len() && old.backends.iter().zip(&new.backends).all(same);
    let like_new = || ServiceConfig {
        backends: new.backends.clone(),
        ..old.clone()
    };
    all && like_new() == *new
}

/// The entries of `changed`, as [`super::compile`] makes them; `None` where it has to, because something that was kept may go, a
/// ring finds no room at once or `previous` does not have all of them.
pub fn compile_settings(
    inputs: &Inputs<'_>,
    previous: &Image,
    ids: &mut Ids,
    changed: &[&ServiceConfig],
) -> Option<Part> {
    if may_go(inputs, previous, ids) {
        return None;
    }
    let mut new = Image {
        settings: previous.settings,
        ..Image::default()
    };
    let mut plans = Vec::with_capacity(changed.len());
    for service in changed {
        // Every id is known: an error is for the whole compile to tell.
        plans.push(services::plan(inputs, previous, ids, (service, &mut new)).ok()?);
    }
    let mut old = before(previous, &new)?;
    let before = plans.iter().map(|plan| ids.ring_slots.get(&plan.id).copied());
    let slots_before = before.sum::<Option<u64>>()?;
    let slots: u64 = plans.iter().map(|plan| plan.ring_slots).sum();
    let all_slots = (ids.all_ring_slots + slots).checked_sub(slots_before)?;
    if ids.ring_places != RingPlaces::Placed || all_slots > u64::from(inputs.config.limits.ring_slots) {
        return None;
    }
    for plan in &plans {
        let entry = services::entry(inputs, previous, ids, (plan, services::Built::default(), &mut new));
        old.services.insert(plan.id, *previous.services.get(&plan.id)?);
        new.services.insert(plan.id, entry);
    }
    if ids.ring_places != RingPlaces::Placed {
        return None;
    }
    let spans: Vec<(u32, u32)> = old.ring_spans().collect();
    for (offset, _) in spans {
        old.rings.insert(offset, Arc::clone(previous.rings.get(&offset)?));
    }
    ids.ring_slots
        .extend(plans.iter().map(|plan| (plan.id, plan.ring_slots)));
    ids.all_ring_slots = all_slots;
    let (left, taken) = (gone(&old, &new), gone(&new, &old));
    ids.spans().moved(left.into_iter(), taken.into_iter(), inputs.now);
    ids.due = [ids.due, ids.spans().next_due()].into_iter().flatten().min();
    Some(Part { old, new })
}

/// Whether a whole compile would let go of something that is no longer configured.
fn may_go(inputs: &Inputs<'_>, previous: &Image, ids: &Ids) -> bool {
    let holds = holds(inputs);
    let is_idle = |id: &u32| inputs.live_flows.get(id).is_none_or(|flows| *flows == 0);
    let mut removed = ids
        .removed_since
        .iter()
        .filter(|(id, _)| previous.backends.contains_key(id));
    removed.any(|(id, since)| inputs.now.saturating_sub(*since) >= holds.least && is_idle(id))
        || ids.retired.may_go(holds, inputs.now)
}

/// Offsets of rings that `other` does not have.
fn gone(image: &Image, other: &Image) -> Vec<u32> {
    let offsets = image.rings.keys().copied();
    offsets.filter(|offset| !other.rings.contains_key(offset)).collect()
}

/// The entries that stand in the places of `new`; `None` where one is missing or is another's.
fn before(previous: &Image, new: &Image) -> Option<Image> {
    let mut old = Image {
        settings: previous.settings,
        ..Image::default()
    };
    for (key, name) in &new.names {
        let known = previous.names.get(key).filter(|known| *known == name)?;
        old.names.insert(*key, *known);
    }
    for (key, endpoint) in &new.endpoints {
        let known = previous.endpoints.get(key).filter(|known| *known == endpoint)?;
        old.endpoints.insert(*key, *known);
    }
    for (id, backend) in &new.backends {
        let leaves = backend.hop_flags & hop_flag::VALID != 0;
        if leaves && !previous.tx_ports.contains(&backend.hop_ifindex) {
            // Its way out is not in the device map yet.
            return None;
        }
        old.backends.insert(*id, *previous.backends.get(id)?);
    }
    let named = |key: &NameKey| key.kind == name_kind::SERVICE;
    new.names.keys().any(named).then_some(old)
}
