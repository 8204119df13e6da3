//! A new desired state that only sets weights or states of a few backends: their services alone are compiled, compared and
//! written. In a large config the whole way takes a second.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::ApplyError;
use super::change::{AllDown, fatal};
use super::pass;
use super::writer::{Freshness, Writer};
use crate::agent::Desired;
use crate::config::ServiceConfig;
use crate::state::panic::all_down_of;
use crate::state::{Image, Inputs, Part, changed_settings, compile_settings, diff};
use crate::view::Timestamp;

/// Of more services the whole way is as good.
const FEW: usize = 16;

/// A copy of the image that readers do not see: a small change is made in it while they keep the one they have. Without it each
/// change would copy the image.
#[derive(Debug)]
pub(super) struct Spare {
    image: Arc<Image>,
    /// What it lacks.
    behind: Option<Part>,
}

impl Spare {
    fn of(image: &Image) -> Self {
        Self {
            image: Arc::new(image.clone()),
            behind: None,
        }
    }

    /// Puts `part` into `image`. What was published before is the next spare; where a reader still has it by then, the image is
    /// copied after all.
    fn swap(spare: Option<Self>, image: &mut Arc<Image>, part: Part) -> Self {
        let unread = spare.and_then(|spare| Some((Arc::into_inner(spare.image)?, spare.behind)));
        let next = match unread {
            Some((mut next, behind)) => {
                for part in behind.iter().chain([&part]) {
                    part.apply(&mut next);
                }
                next
            }
            None => {
                let mut next = Image::clone(image);
                part.apply(&mut next);
                next
            }
        };
        Self {
            image: std::mem::replace(image, Arc::new(next)),
            behind: Some(part),
        }
    }
}

impl Writer {
    /// Applies it; `None`, and nothing done, where the whole way has to.
    pub(super) fn take_settings(&mut self, desired: &Arc<Desired>) -> Option<Result<(), ApplyError>> {
        let is_settled = self.failed.is_empty() && self.warnings.is_empty();
        if !is_settled || self.desired.trust != desired.trust {
            return None;
        }
        let changed = changed_settings(&self.desired.config, &desired.config, FEW)?;
        if changed.is_empty() {
            return None;
        }
        let now = Instant::now();
        let live_flows = if self.ids.keeps_something() {
            self.live_flows()
        } else {
            HashMap::new()
        };
        let inputs = Inputs {
            config: &desired.config,
            links: &self.links,
            hops: &self.hops,
            health: self.book.states(),
            live_flows: &live_flows,
            now: now.duration_since(self.started),
            hz: self.hz,
        };
        let part = compile_settings(&inputs, &self.image, &mut self.ids, &changed)?;
        let down = self.all_down_with(&inputs, &changed);
        self.desired = Arc::clone(desired);
        self.stale.snapshot = Freshness::Stale;
        self.note_all_down(down);
        Some(self.write(part, now))
    }

    fn write(&mut self, part: Part, now: Instant) -> Result<(), ApplyError> {
        let ops = diff(&part.old, &part.new);
        if ops.is_empty() {
            return Ok(());
        }
        let applied = pass::apply(&mut self.dataplane, &ops);
        if !applied.done.is_empty() {
            self.generation += 1;
            self.applied = Timestamp::now();
        }
        if applied.failed.is_empty() {
            let names = self.chores.names();
            self.note_states(&names, (&part.old, &part.new), "config");
            let spare = self.spare.take();
            self.spare = Some(Spare::swap(spare, &mut self.image, part));
        } else {
            let image = applied.image(&self.image, Image::default(), &ops);
            let old = std::mem::replace(&mut self.image, Arc::new(image));
            self.spare = None;
            let new = Arc::clone(&self.image);
            let names = self.chores.names();
            self.note_states(&names, (&old, &new), "config");
        }
        self.note_failures(&applied, now);
        fatal(&applied)
    }

    /// Makes a spare where there is none: right after a change nobody waits for it.
    pub(super) fn keep_spare(&mut self) {
        if self.spare.is_none() {
            self.spare = Some(Spare::of(&self.image));
        }
    }

    fn all_down_with(&self, inputs: &Inputs<'_>, changed: &[&ServiceConfig]) -> AllDown {
        let others = self.all_down.iter().filter(|((service, _), _)| {
            let is_it = |one: &&ServiceConfig| one.name == *service;
            !changed.iter().any(is_it)
        });
        let mut down: AllDown = others.map(|(key, (policy, _))| (key.clone(), *policy)).collect();
        down.extend(all_down_of(inputs, changed.iter().copied()));
        down
    }
}

#[cfg(test)]
mod tests {
    use lb_common::abi::Backend;

    use super::*;

    fn image(weight: u32) -> Image {
        let backend = Backend {
            weight,
            ..Backend::default()
        };
        Image {
            backends: [(1, backend)].into(),
            rings: [(weight * 4, Arc::new(vec![1; 4]))].into(),
            ..Image::default()
        }
    }

    fn part(old: u32, new: u32) -> Part {
        Part {
            old: image(old),
            new: image(new),
        }
    }

    #[test]
    fn every_change_is_in_the_next_image_and_in_none_that_somebody_reads() {
        let mut current = Arc::new(image(0));
        let mut spare = Some(Spare::of(&current));
        let mut read = Vec::new();
        for weight in 1..20 {
            // Some readers stay for a while.
            if weight % 3 == 0 {
                read.push((weight - 1, Arc::clone(&current)));
            }
            spare = Some(Spare::swap(spare.take(), &mut current, part(weight - 1, weight)));
            assert_eq!(*current, image(weight));
            for (then, seen) in &read {
                assert_eq!(**seen, image(*then));
            }
            if weight % 7 == 0 {
                read.clear();
            }
        }
    }

    #[test]
    fn an_image_that_nobody_reads_is_used_again() {
        let mut current = Arc::new(image(0));
        let mut spare = Some(Spare::of(&current));
        let place = |image: &Arc<Image>| std::ptr::from_ref(&image.backends[&1]);
        let mut places = Vec::new();
        for weight in 1..5 {
            spare = Some(Spare::swap(spare.take(), &mut current, part(weight - 1, weight)));
            places.push(place(&current));
        }
        assert_eq!((places[0], places[1]), (places[2], places[3]));
    }
}
