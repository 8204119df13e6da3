//! Stable ids of services and backends, and everything else that must outlive one compile: ring spans, what is being
//! retired. An id is recovered by name after a restart and reused as late as possible.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use lb_common::abi::name_kind;
use lb_common::net::Addr;

use crate::config::Limits;

use super::compile::CompileError;
use super::image::Image;
use super::names;
use super::retired::Retired;
use super::rings::RingMember;
use super::spans::Spans;

/// Ids and ring spans in use. Owned by the reconcile task; recovered from the pinned image after a restart.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    services: Register<String>,
    backends: Register<BackendKey>,
    /// Service and backend ids of the image that was compiled last.
    desired: (BTreeSet<u32>, BTreeSet<u32>),
    /// Since when a backend is no longer configured.
    pub(super) removed_since: HashMap<u32, Duration>,
    pub(super) retired: Retired,
    /// Where each ring was last placed, and what it was built from. Of a ring that was never written the place is another one
    /// than the image has.
    pub(super) ring_keys: HashMap<(u32, Family), (u32, RingKey)>,
    /// Slots that the rings of a service need, whoever is up.
    pub(super) ring_slots: HashMap<u32, u64>,
    /// The same of all services together.
    pub(super) all_ring_slots: u64,
    pub(super) ring_places: RingPlaces,
    /// Those that wait, where `ring_places` says so.
    pub(super) waiting: Vec<WaitingRing>,
    /// Since when at least one has waited.
    pub(super) waits_since: Option<Duration>,
    /// Whether this compile moves rings to lower places for one that waits.
    pub(super) makes_room: bool,
    /// Whether there are slots for one of them, if not in one piece.
    pub(super) has_slots_for_waiting: bool,
    /// Those of `waiting` that neither time nor moving will give a place.
    pub(super) without_room: Vec<WaitingRing>,
    spans: Option<Spans>,
    limits: Option<Limits>,
    pub(super) due: Option<Duration>,
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Of an address.
    pub const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// As people write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// Whether every ring of the newest image has the place that it asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RingPlaces {
    #[default]
    Placed,
    /// One waits for room.
    Waiting,
    /// The compile failed: some may have got places that no image names.
    Unknown,
}

/// A ring of the newest image that has no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingRing {
    /// Name of its service.
    pub service: String,
    /// Family of its backends.
    pub family: Family,
    /// Slots that it needs in one piece.
    pub slots: u32,
    /// Whether the ring before it still has a backend that takes connections; else the service drops new ones.
    pub serves: bool,
}

/// What a ring is made of; the same key gives the same ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RingKey {
    pub(super) seed: u32,
    pub(super) size: u32,
    pub(super) members: Vec<RingMember>,
}

/// A membership as flows know it: another address or port under the same name is another backend, because flows keep
/// where they go and find their next hop by id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BackendKey {
    /// Text in `xlb_names`.
    pub(super) text: String,
    pub(super) address: Addr,
    pub(super) port: u16,
}

impl Ids {
    /// Ids as the maps know them. `now` is the clock that later goes to `Inputs::now`.
    pub fn recover(image: &Image, now: Duration) -> Self {
        let mut ids = Self {
            retired: Retired::recover(image, now),
            ..Self::default()
        };
        ids.learn(image);
        ids
    }

    /// When `compile` should be called again even if nothing changes: something that is kept for a while may go then.
    /// On the clock of `Inputs::now`. Backends that wait for connections to end are not in it: call again when the
    /// count of a `REMOVED` one falls to 0.
    pub fn next_due(&self) -> Option<Duration> {
        self.due
    }

    /// Rings of the newest image for which there is no place, nor will be one unless something changes. Those that have one
    /// in a few seconds are not among them.
    pub fn rings_without_room(&self) -> &[WaitingRing] {
        &self.without_room
    }

    /// Whether something stays for connections that may still need it: only then does a compile ask for live flows.
    pub fn keeps_something(&self) -> bool {
        !self.removed_since.is_empty() || !self.retired.is_empty()
    }

    /// Takes over ids from the kernel's image; the first call fixes the limits.
    pub(super) fn begin(&mut self, limits: Limits, image: &Image, now: Duration) -> Result<(), CompileError> {
        let running = *self.limits.get_or_insert(limits);
        limits_unchanged(running, limits)?;
        let (services, backends) = &mut self.desired;
        services.extend(image.service_ids());
        backends.extend(image.backends.keys());
        self.services.retain(services);
        self.backends.retain(backends);
        self.learn(image);
        self.spans
            .get_or_insert_with(|| Spans::new(running.ring_slots))
            .look_at(image, now);
        Ok(())
    }

    /// Remembers what was compiled: its ids stay until an image without them is the next one's `previous`.
    pub(super) fn finish(&mut self, next: &Image) {
        self.desired = (next.service_ids().collect(), next.backends.keys().copied().collect());
        self.ring_keys.retain(|(id, _), _| next.services.contains_key(id));
    }

    pub(super) fn service(&mut self, name: &str, limits: Limits) -> Result<u32, CompileError> {
        let limit = limits.services;
        self.services
            .id(names::of_service(name), limit)
            .ok_or(CompileError::Limit {
                what: "services",
                key: "services",
                wanted: self.services.len() + 1,
                limit: limit.into(),
            })
    }

    pub(super) fn backend(&mut self, key: BackendKey, limits: Limits) -> Result<u32, CompileError> {
        let limit = limits.backends;
        self.backends.id(key, limit).ok_or(CompileError::Limit {
            what: "backends (removed ones that still have connections among them)",
            key: "backends",
            wanted: self.backends.len() + 1,
            limit: limit.into(),
        })
    }

    /// Slots of the arena.
    pub(super) fn ring_capacity(&self) -> u32 {
        self.limits.map_or(0, |limits| limits.ring_slots)
    }

    pub(super) fn spans(&mut self) -> &mut Spans {
        // begin() has set both; a compile without it would find an empty arena and say so.
        self.spans.get_or_insert_with(|| Spans::new(0))
    }

    fn learn(&mut self, image: &Image) {
        for (key, name) in &image.names {
            let text = names::to_text(name);
            match (key.kind, image.backends.get(&key.id)) {
                (name_kind::SERVICE, _) => self.services.learn(text, key.id),
                (name_kind::BACKEND, Some(backend)) => {
                    let (address, port) = (backend.address, backend.internal_port);
                    self.backends.learn(BackendKey { text, address, port }, key.id);
                }
                _ => {}
            }
        }
        // Ids without a name are in use all the same.
        self.services.used.extend(image.service_ids());
        self.backends.used.extend(image.backends.keys());
    }
}

fn limits_unchanged(running: Limits, wanted: Limits) -> Result<(), CompileError> {
    let pairs = [
        ("connections", running.connections, wanted.connections),
        ("half_open", running.half_open, wanted.half_open),
        ("services", running.services, wanted.services),
        ("backends", running.backends, wanted.backends),
        ("ring_slots", running.ring_slots, wanted.ring_slots),
        ("endpoints", running.endpoints, wanted.endpoints),
    ];
    match pairs.into_iter().find(|(_, running, wanted)| running != wanted) {
        None => Ok(()),
        Some((key, running, wanted)) => Err(CompileError::LimitsChanged { key, running, wanted }),
    }
}

/// Ids of one kind by what they stand for.
#[derive(Clone, Debug)]
struct Register<K> {
    by_key: BTreeMap<K, u32>,
    /// Ids in use, named or not.
    used: BTreeSet<u32>,
    /// The id given out last.
    last: u32,
}

impl<K> Default for Register<K> {
    fn default() -> Self {
        Self {
            by_key: BTreeMap::new(),
            used: BTreeSet::new(),
            last: 0,
        }
    }
}

impl<K: Ord + Clone> Register<K> {
    fn learn(&mut self, key: K, id: u32) {
        self.by_key.entry(key).or_insert(id);
        self.used.insert(id);
        self.last = self.last.max(id);
    }

    /// The key's id, a new one if it has none: the next free one after the last, so that an id rests as long as it can.
    fn id(&mut self, key: K, limit: u32) -> Option<u32> {
        if let Some(id) = self.by_key.get(&key) {
            return Some(*id);
        }
        let after = self.last.saturating_add(1)..=limit;
        let id = after
            .chain(1..=limit.min(self.last))
            .find(|id| !self.used.contains(id))?;
        self.by_key.insert(key, id);
        self.used.insert(id);
        self.last = id;
        Some(id)
    }

    fn retain(&mut self, ids: &BTreeSet<u32>) {
        self.by_key.retain(|_, id| ids.contains(id));
        self.used.retain(|id| ids.contains(id));
    }

    fn len(&self) -> u64 {
        self.used.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_start_at_1_rest_as_long_as_they_can_and_end_at_the_limit() {
        let mut register = Register::default();
        assert_eq!(
            (register.id("a", 3), register.id("b", 3), register.id("a", 3)),
            (Some(1), Some(2), Some(1))
        );
        register.retain(&[2].into());
        assert_eq!(register.id("c", 3), Some(3));
        assert_eq!(register.id("d", 3), Some(1));
        assert_eq!(register.id("e", 3), None);
    }
}
