//! Room for rings: a changed one is built beside the one in force. What to do, and what to say, when there is no place for it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::state::ids::{Ids, RingPlaces};
use crate::state::image::Image;
use crate::state::spans::GRACE;

/// While other rings change all the time something always rests; one that waits has waited long enough after this.
const PATIENCE: Duration = GRACE.saturating_mul(3);

/// Whether the compile that begins moves rings to lower places: one waits for more than what rests.
pub(super) fn is_to_be_made(ids: &mut Ids, now: Duration) -> bool {
    let Some(since) = ids.waits_since else {
        return false;
    };
    ids.has_slots_for_waiting && (ids.spans().next_due().is_none() || now.saturating_sub(since) >= PATIENCE)
}

/// When the next compile may place what waits, and which rings never will be placed unless something changes.
pub(super) fn due(ids: &mut Ids, (previous, image): (&Image, &Image), now: Duration) -> Option<Duration> {
    let rested = ids.spans().next_due();
    ids.without_room.clear();
    if ids.ring_places != RingPlaces::Waiting {
        ids.waits_since = None;
        return rested;
    }
    ids.waits_since.get_or_insert(now);
    let named: BTreeSet<(u32, u32)> = image.ring_spans().collect();
    let used: u64 = named.iter().map(|(_, size)| u64::from(*size)).sum();
    let capacity = u64::from(ids.ring_capacity());
    let lacks_slots = |slots: u32| used + u64::from(slots) > capacity;
    ids.has_slots_for_waiting = ids.waiting.iter().any(|ring| !lacks_slots(ring.slots));
    // What this image gives up rests from when it is in force.
    let is_moving = previous.ring_spans().any(|span| !named.contains(&span));
    let is_exhausted = ids.makes_room && rested.is_none() && !is_moving;
    let without_room = ids
        .waiting
        .iter()
        .filter(|ring| is_exhausted || lacks_slots(ring.slots));
    ids.without_room = without_room.cloned().collect();
    let next = (is_moving || !is_exhausted && ids.has_slots_for_waiting).then_some(now + GRACE);
    rested.or(next)
}
