//! When to try again what has failed. Pure; time is an argument.

use std::time::{Duration, Instant};

/// First pause.
const FIRST: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST: Duration = Duration::from_secs(30);

/// Failures in a row of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// How many; at least one.
    pub attempts: u32,
    /// When to try again.
    pub next: Instant,
}

impl Backoff {
    /// After the first failure.
    pub fn first(now: Instant) -> Self {
        Self {
            attempts: 1,
            next: now + FIRST,
        }
    }

    /// After one more failure: twice the pause.
    #[must_use]
    pub fn again(self, now: Instant) -> Self {
        let doublings = self.attempts.min(16);
        Self {
            attempts: self.attempts.saturating_add(1),
            next: now + FIRST.saturating_mul(1 << doublings).min(LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        let now = Instant::now();
        let mut backoff = Backoff::first(now);
        let mut pauses = vec![backoff.next - now];
        for _ in 0..12 {
            backoff = backoff.again(now);
            pauses.push(backoff.next - now);
        }
        let ms: Vec<u128> = pauses.iter().map(Duration::as_millis).collect();
        assert_eq!(ms[..6], [100, 200, 400, 800, 1_600, 3_200]);
        assert_eq!(ms[12], 30_000);
    }
}
