//! Spans of the ring arena: a buddy allocator over powers of two (Knuth, TAOCP 1, 2.5), lowest offset first. It knows
//! nothing of services or time.

use std::collections::BTreeSet;

/// Orders of spans: sizes 2^0 to 2^31.
const ORDERS: usize = 32;

/// Free spans by order. A span of order `k` starts at a multiple of 2^k.
#[derive(Clone, Debug)]
pub struct Arena {
    capacity: u32,
    free: [BTreeSet<u32>; ORDERS],
}

impl Arena {
    /// An arena of `capacity` slots, all free.
    pub fn new(capacity: u32) -> Self {
        let mut arena = Self {
            capacity,
            free: Default::default(),
        };
        for (offset, order) in pieces(0, capacity) {
            arena.put(offset, order);
        }
        arena
    }

    /// Takes `size` slots (rounded up to a power of two); `None` when no span is large enough.
    pub fn take(&mut self, size: u32) -> Option<u32> {
        let order = size.checked_next_power_of_two()?.trailing_zeros();
        let from =
            (order..ORDERS as u32).find(|order| self.free.get(*order as usize).is_some_and(|f| !f.is_empty()))?;
        let offset = self.free.get_mut(from as usize)?.pop_first()?;
        self.halve(offset, from, order);
        Some(offset)
    }

    /// As [`Arena::take`], but the lowest span of all, and only one that starts below `below`: for moving what stands there.
    pub fn take_below(&mut self, size: u32, below: u32) -> Option<u32> {
        let order = size.checked_next_power_of_two()?.trailing_zeros();
        let lowest = |from: u32| Some((*self.free.get(from as usize)?.first()?, from));
        let (offset, from) = (order..ORDERS as u32).filter_map(lowest).min()?;
        if offset >= below {
            return None;
        }
        self.free.get_mut(from as usize)?.remove(&offset);
        self.halve(offset, from, order);
        Some(offset)
    }

    /// Takes exactly these slots, which are in use already. `false`, and nothing taken, when one of them is not free
    /// or outside.
    pub fn reserve(&mut self, offset: u32, size: u32) -> bool {
        let fits = offset.checked_add(size).is_some_and(|end| end <= self.capacity);
        if !fits || !pieces(offset, size).all(|(offset, order)| self.holder(offset, order).is_some()) {
            return false;
        }
        for (offset, order) in pieces(offset, size) {
            self.carve(offset, order);
        }
        true
    }

    /// Gives slots back that were taken or reserved with the same numbers.
    pub fn release(&mut self, offset: u32, size: u32) {
        for (mut offset, mut order) in pieces(offset, size) {
            // Joined with its free other half, as far as that goes.
            while let Some(buddy) = self.buddy(offset, order) {
                self.free[order as usize].remove(&buddy);
                offset = offset.min(buddy);
                order += 1;
            }
            self.put(offset, order);
        }
    }

    /// Free slots.
    pub fn free_slots(&self) -> u64 {
        let slots = |(order, spans): (usize, &BTreeSet<u32>)| (spans.len() as u64) << order;
        self.free.iter().enumerate().map(slots).sum()
    }

    /// Of a span that is taken out only the lowest part is needed: the upper halves go back.
    fn halve(&mut self, offset: u32, from: u32, order: u32) {
        for half in (order..from).rev() {
            self.put(offset + (1 << half), half);
        }
    }

    fn put(&mut self, offset: u32, order: u32) {
        if let Some(spans) = self.free.get_mut(order as usize) {
            spans.insert(offset);
        }
    }

    /// The free other half of a span.
    fn buddy(&self, offset: u32, order: u32) -> Option<u32> {
        let buddy = offset ^ 1_u32.checked_shl(order)?;
        self.free.get(order as usize)?.contains(&buddy).then_some(buddy)
    }

    /// The free span that holds this one: its offset and order.
    fn holder(&self, offset: u32, order: u32) -> Option<(u32, u32)> {
        (order..ORDERS as u32).find_map(|larger| {
            let start = offset & !((1_u32 << larger) - 1);
            self.free
                .get(larger as usize)?
                .contains(&start)
                .then_some((start, larger))
        })
    }

    fn carve(&mut self, offset: u32, order: u32) {
        let Some((start, larger)) = self.holder(offset, order) else {
            return;
        };
        self.free[larger as usize].remove(&start);
        for half in (order..larger).rev() {
            // The half that does not hold the wanted span stays free.
            let start = offset & !((1_u32 << half) - 1);
            self.put(start ^ (1 << half), half);
        }
    }
}

/// A range cut into the largest aligned powers of two: (offset, order).
fn pieces(offset: u32, size: u32) -> impl Iterator<Item = (u32, u32)> {
    let (mut at, mut left) = (offset, size);
    std::iter::from_fn(move || {
        let order = at.trailing_zeros().min(left.checked_ilog2()?);
        let piece = (at, order);
        left -= 1 << order;
        at = at.wrapping_add(1 << order);
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spans_start_at_a_multiple_of_their_size_and_the_lowest_fits_first() {
        let mut arena = Arena::new(1_024 + 256);
        assert_eq!(arena.take(1_024), Some(0));
        assert_eq!(arena.take(256), Some(1_024));
        assert_eq!(arena.take(1), None);
        arena.release(0, 1_024);
        assert_eq!(arena.take(200), Some(0));
        assert_eq!(arena.take(512), Some(512));
    }

    #[test]
    fn a_reserved_span_is_not_given_out_and_reserving_twice_fails() {
        let mut arena = Arena::new(1_024);
        assert!(arena.reserve(256, 256));
        assert!(!arena.reserve(256, 256));
        assert!(!arena.reserve(300, 10));
        assert!(!arena.reserve(1_000, 25));
        assert!(!arena.reserve(u32::MAX, 2));
        assert_eq!(arena.take(512), Some(512));
        assert_eq!(arena.take(256), Some(0));
        assert_eq!(arena.take(1), None);
    }

    #[test]
    fn what_is_moved_goes_to_the_lowest_free_place_below_it() {
        let mut arena = Arena::new(4_096);
        assert!(arena.reserve(1_792, 256) && arena.reserve(2_048, 256));
        assert_eq!(arena.take(2_048), None);
        assert_eq!(arena.take_below(256, 2_048), Some(0));
        assert_eq!(arena.take_below(256, 256), None, "the next one is at 256");
        arena.release(2_048, 256);
        assert_eq!(arena.take(2_048), Some(2_048));
    }

    proptest! {
        #[test]
        fn spans_never_overlap_and_everything_comes_back(
            capacity in 1_u32..5_000, steps in proptest::collection::vec((0_u8..3, 0_u32..5_000, 1_u32..600), 1..80),
        ) {
            let mut arena = Arena::new(capacity);
            let mut held: Vec<(u32, u32)> = Vec::new();
            for (kind, at, size) in steps {
                match kind {
                    0 if at % 2 == 1 => if let Some(offset) = arena.take_below(size, at) {
                        prop_assert!(offset < at);
                        held.push((offset, size.next_power_of_two()));
                    },
                    0 => if let Some(offset) = arena.take(size) { held.push((offset, size.next_power_of_two())) },
                    1 => {
                        let free = at + size <= capacity
                            && held.iter().all(|(offset, length)| at + size <= *offset || offset + length <= at);
                        prop_assert_eq!(arena.reserve(at, size), free);
                        if free { held.push((at, size)); }
                    }
                    _ => if !held.is_empty() {
                        let (offset, size) = held.swap_remove(at as usize % held.len());
                        arena.release(offset, size);
                    },
                }
                let mut used = vec![false; capacity as usize];
                for (offset, size) in &held {
                    for slot in *offset..offset + size {
                        prop_assert!(!std::mem::replace(&mut used[slot as usize], true));
                    }
                }
                let taken: u64 = held.iter().map(|(_, size)| u64::from(*size)).sum();
                prop_assert_eq!(arena.free_slots() + taken, u64::from(capacity));
            }
            for (offset, size) in held {
                arena.release(offset, size);
            }
            let largest = 1 << capacity.ilog2();
            prop_assert_eq!(arena.take(largest), Some(0));
        }
    }
}
