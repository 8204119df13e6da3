//! The newest changes of one backend's port verdict. Bounded and compact: a hundred thousand backends that flap for ever
//! take 50 MB, those that do not nothing.

use std::sync::Arc;

use crate::health::PortVerdict;
use crate::view::Timestamp;

/// Changes that are kept.
pub(super) const KEPT: usize = 10;

/// Verdicts in the order in which they came, each unlike the one before. A clone shares them until one of the two grows.
#[derive(Clone, Debug, Default)]
pub struct History(Option<Arc<Vec<Entry>>>);

#[derive(Clone, Debug)]
struct Entry {
    at: Timestamp,
    verdict: PortVerdict,
}

/// One change.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// When the first probe with the new verdict ended.
    pub at: Timestamp,
    /// What it was before; `None`: nothing yet.
    pub old: Option<&'a PortVerdict>,
    /// What it became.
    pub new: &'a PortVerdict,
}

impl History {
    /// Notes a verdict that is unlike the newest.
    pub fn push(&mut self, verdict: PortVerdict, at: Timestamp) {
        let entries = Arc::make_mut(self.0.get_or_insert_default());
        // One more than the changes: the oldest says what the first change was from.
        if entries.len() > KEPT {
            entries.remove(0);
        }
        // Exactly as much room as is ever needed.
        if entries.len() == entries.capacity() {
            entries.reserve_exact((entries.len() + 1).min(KEPT + 1 - entries.len()));
        }
        entries.push(Entry { at, verdict });
    }

    /// Changes, newest first. The first verdict ever is one, while it is among the newest ten.
    pub fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        let entries = self.0.as_ref().map_or(&[][..], |entries| entries.as_slice());
        let change = |at: usize| {
            let entry = entries.get(at)?;
            let old = at.checked_sub(1).and_then(|before| entries.get(before));
            Some(Change {
                at: entry.at,
                old: old.map(|old| &old.verdict),
                new: &entry.verdict,
            })
        };
        (0..entries.len()).rev().take(KEPT).filter_map(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(unix_s: u64) -> Timestamp {
        Timestamp { unix_s }
    }

    fn words(history: &History) -> Vec<(u64, Option<&str>, &str)> {
        history
            .changes()
            .map(|change| {
                (
                    change.at.unix_s,
                    change.old.map(PortVerdict::as_str),
                    change.new.as_str(),
                )
            })
            .collect()
    }

    #[test]
    fn the_newest_ten_changes_are_kept_and_each_knows_what_was_before() {
        let mut history = History::default();
        history.push(PortVerdict::Open, at(1));
        history.push(PortVerdict::Refused, at(2));
        assert_eq!(words(&history), [(2, Some("open"), "refused"), (1, None, "open")]);
        for second in 3..100 {
            let verdict = if second % 2 == 0 {
                PortVerdict::Refused
            } else {
                PortVerdict::Open
            };
            history.push(verdict, at(second));
        }
        let kept = words(&history);
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept.first(), Some(&(99, Some("refused"), "open")));
        assert_eq!(kept.last(), Some(&(90, Some("open"), "refused")));
    }

    #[test]
    fn a_history_is_bounded_and_its_clones_share_it() {
        let mut history = History::default();
        assert!(history.0.is_none(), "one that never changed takes nothing");
        for second in 0..1_000 {
            history.push(PortVerdict::BadStatus(500), at(second));
        }
        let entries = history.0.clone().expect("entries");
        let bytes = entries.capacity() * size_of::<Entry>();
        assert!(
            bytes <= 11 * 48,
            "{bytes} bytes a backend, 100,000 backends: {} MB",
            bytes / 10
        );
        let clone = history.clone();
        assert!(clone.0.is_some_and(|shared| Arc::ptr_eq(&shared, &entries)));
    }
}
