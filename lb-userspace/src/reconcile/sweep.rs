//! How many queued connections the sweep looks at, and when: all of them about every [`ROUND`], in slices so small that
//! the writer is never held up. Pure; time is an argument.

use std::time::{Duration, Instant};

/// Time for one look at every established connection. Lifetimes are seconds to hours, so a connection outlives its
/// lifetime by at most this.
pub(super) const ROUND: Duration = Duration::from_secs(5);
/// Most connections of one slice: about a millisecond.
pub(super) const MAX_SLICE: u32 = 4_096;
/// Longest pause: also with no connection known, a look a second finds those a dead agent left.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// Shortest pause.
const MIN_PAUSE: Duration = Duration::from_millis(20);
/// Connections that one run of the sweep program looks at: a smaller slice costs as much.
const ONE_RUN: u32 = 256;

/// Plans slices.
#[derive(Debug)]
pub(super) struct Pacer {
    last: Instant,
}

impl Pacer {
    /// The first slice is due at once.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last: now.checked_sub(MAX_PAUSE).unwrap_or(now),
        }
    }

    /// When the next slice is due with `live` connections.
    pub(super) fn due(&self, live: u64) -> Instant {
        self.last + pause(live)
    }

    /// The slice to run now; the caller runs it.
    pub(super) fn slice(&mut self, now: Instant, live: u64) -> u32 {
        let elapsed = now.duration_since(self.last).min(MAX_PAUSE);
        self.last = now;
        let share = u128::from(live) * elapsed.as_micros() / ROUND.as_micros();
        // One more than the share: rounding down must not stretch the round.
        let wanted = u32::try_from(share + 1).unwrap_or(u32::MAX);
        wanted.clamp(ONE_RUN, MAX_SLICE)
    }
}

fn pause(live: u64) -> Duration {
    if live == 0 {
        return MAX_PAUSE;
    }
    let micros = ROUND.as_micros() as u64 * u64::from(ONE_RUN) / live;
    Duration::from_micros(micros).clamp(MIN_PAUSE, MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connections looked at in ten rounds' time, and slices taken.
    fn simulate(live: u64) -> (u64, u64) {
        let mut now = Instant::now();
        let end = now + ROUND * 10;
        let mut pacer = Pacer::new(now);
        let (mut seen, mut slices) = (0, 0);
        while now < end {
            now = pacer.due(live).max(now);
            seen += u64::from(pacer.slice(now, live));
            slices += 1;
        }
        (seen, slices)
    }

    #[test]
    fn every_connection_is_looked_at_once_a_round() {
        for live in [100, 1_000, 60_000, 262_144, 1_000_000] {
            let (seen, _) = simulate(live);
            assert!(seen >= live * 10, "{live} connections: only {seen} looks");
            assert!(
                seen <= live * 12 + 256 * 51,
                "{live} connections: {seen} looks are too many"
            );
        }
    }

    #[test]
    fn an_idle_agent_wakes_once_a_second() {
        let (_, slices) = simulate(0);
        assert!(slices <= 51, "{slices} wake-ups in 50 s");
    }

    #[test]
    fn a_late_slice_stays_small() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        assert_eq!(pacer.slice(start + Duration::from_secs(60), 10_000_000), MAX_SLICE);
    }
}
