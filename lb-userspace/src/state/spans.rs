//! Which ring spans are in use, and when one may be used again. Truth is the image in the kernel: a span is free once
//! no image has named it for a grace period, so a packet that read a service's entry just before a swap still finds the
//! old ring. An image that was compiled and never applied therefore leaks nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::arena::Arena;
use super::image::Image;

/// How long a span stays untouched after the last service left it.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// Spans of the arena that are in use or resting.
#[derive(Clone, Debug)]
pub(super) struct Spans {
    arena: Arena,
    held: BTreeMap<u32, Held>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    size: u32,
    /// Since when no image has named it.
    unnamed_since: Option<Duration>,
}

impl Spans {
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            arena: Arena::new(capacity),
            held: BTreeMap::new(),
        }
    }

    /// Takes over what the kernel's image names, and frees what none has named for [`GRACE`].
    pub(super) fn look_at(&mut self, image: &Image, now: Duration) {
        let named: BTreeSet<(u32, u32)> = image.ring_spans().collect();
        let (arena, held) = (&mut self.arena, &mut self.held);
        held.retain(|offset, span| {
            if named.contains(&(*offset, span.size)) {
                span.unnamed_since = None;
                return true;
            }
            let since = *span.unnamed_since.get_or_insert(now);
            let keep = now.saturating_sub(since) < GRACE;
            if !keep {
                arena.release(*offset, span.size);
            }
            keep
        });
        for (offset, size) in named {
            // A span that overlaps another one or leaves the arena is nobody's: its service gets a new ring.
            if !held.contains_key(&offset) && arena.reserve(offset, size) {
                let unnamed_since = None;
                held.insert(offset, Held { size, unnamed_since });
            }
        }
    }

    /// Whether this span is held with exactly this size.
    pub(super) fn holds(&self, offset: u32, size: u32) -> bool {
        self.held.get(&offset).is_some_and(|held| held.size == size)
    }

    /// Takes a new span for an image that is being compiled; `None` while there is no room.
    pub(super) fn take(&mut self, size: u32, now: Duration) -> Option<u32> {
        let offset = self.arena.take(size)?;
        let unnamed_since = Some(now);
        self.held.insert(offset, Held { size, unnamed_since });
        Some(offset)
    }

    /// A span for what stands at `below`, at a lower place; `None` where there is none.
    pub(super) fn take_below(&mut self, size: u32, below: u32, now: Duration) -> Option<u32> {
        let offset = self.arena.take_below(size, below)?;
        let unnamed_since = Some(now);
        self.held.insert(offset, Held { size, unnamed_since });
        Some(offset)
    }

    /// An image is about to name other spans: what [`Spans::look_at`] would find in it.
    pub(super) fn moved(&mut self, old: impl Iterator<Item = u32>, new: impl Iterator<Item = u32>, now: Duration) {
        for offset in old {
            if let Some(held) = self.held.get_mut(&offset) {
                held.unnamed_since = Some(now);
            }
        }
        for offset in new {
            if let Some(held) = self.held.get_mut(&offset) {
                held.unnamed_since = None;
            }
        }
    }

    /// When the next resting span is free.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let resting = self.held.values().filter_map(|span| span.unnamed_since);
        resting.min().map(|since| since + GRACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::abi::Service;

    const fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn image(ring4_offset: u32) -> Image {
        let service = Service {
            ring4_offset,
            ring4_size: 256,
            ..Service::default()
        };
        Image {
            services: [(1, service)].into(),
            ..Image::default()
        }
    }

    #[test]
    fn a_span_is_given_out_again_only_after_its_grace() {
        let mut spans = Spans::new(512);
        spans.look_at(&image(0), at(0));
        assert_eq!(spans.take(256, at(0)), Some(256));
        spans.look_at(&image(256), at(100));
        assert_eq!(spans.take(256, at(100)), None);
        spans.look_at(&image(256), at(2_099));
        assert_eq!(spans.take(256, at(2_099)), None);
        spans.look_at(&image(256), at(2_100));
        assert_eq!(spans.take(256, at(2_100)), Some(0));
    }

    #[test]
    fn a_span_that_was_never_applied_comes_back() {
        let mut spans = Spans::new(256);
        assert_eq!(spans.take(256, at(0)), Some(0));
        spans.look_at(&Image::default(), at(2_000));
        assert_eq!(spans.take(256, at(2_000)), Some(0));
    }

    #[test]
    fn a_span_from_outside_the_arena_is_ignored() {
        let mut spans = Spans::new(256);
        spans.look_at(&image(4_096), at(0));
        assert!(!spans.holds(4_096, 256));
        assert_eq!(spans.take(256, at(0)), Some(0));
    }
}
