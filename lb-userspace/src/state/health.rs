//! Rise and fall: what a row of probe results makes of a backend. Pure; time is an argument.

use std::time::Duration;

/// What the checks say about a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HealthState {
    /// Not decided yet: no probe was good, and not enough were bad.
    #[default]
    Unknown,
    /// Passes its checks.
    Up,
    /// Fails its checks.
    Down,
}

impl HealthState {
    /// Label in views and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// How one probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Good,
    /// Any other way.
    Bad,
}

/// How many probes in a row decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Good ones before a backend that was down is up.
    pub rise: u32,
    /// Bad ones before a backend that was up is down.
    pub fall: u32,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state left.
    pub from: HealthState,
    /// How long it had lasted.
    pub lasted: Duration,
    /// The state entered.
    pub to: HealthState,
}

/// The health of one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    state: HealthState,
    since: Duration,
    last: Option<Outcome>,
    in_a_row: u32,
}

impl Health {
    /// A backend without a probe yet. `now` is a monotonic clock.
    pub const fn new(state: HealthState, now: Duration) -> Self {
        Self {
            state,
            since: now,
            last: None,
            in_a_row: 0,
        }
    }

    /// What the checks say.
    pub const fn state(&self) -> HealthState {
        self.state
    }

    /// Since when they say so.
    pub const fn since(&self) -> Duration {
        self.since
    }

    /// How the latest probe ended, and how many in a row ended like it.
    pub const fn row(&self) -> (Option<Outcome>, u32) {
        (self.last, self.in_a_row)
    }

    /// Takes one result in. The first good probe of a backend that is still unknown is enough, so that a start is quick;
    /// later `rise` good or `fall` bad ones in a row decide.
    pub fn observe(&mut self, outcome: Outcome, thresholds: Thresholds, now: Duration) -> Option<Transition> {
        self.in_a_row = if self.last == Some(outcome) {
            self.in_a_row.saturating_add(1)
        } else {
            1
        };
        self.last = Some(outcome);
        let to = match (self.state, outcome) {
            (HealthState::Unknown, Outcome::Good) => HealthState::Up,
            (HealthState::Down, Outcome::Good) if self.in_a_row >= thresholds.rise => HealthState::Up,
            (HealthState::Unknown | HealthState::Up, Outcome::Bad) if self.in_a_row >= thresholds.fall => {
                HealthState::Down
            }
            _ => return None,
        };
        let transition = Transition {
            from: self.state,
            lasted: now.saturating_sub(self.since),
            to,
        };
        (self.state, self.since) = (to, now);
        Some(transition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const THRESHOLDS: Thresholds = Thresholds { rise: 2, fall: 3 };

    const fn at(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn after(start: HealthState, outcomes: &[Outcome]) -> Health {
        let mut health = Health::new(start, at(0));
        for (i, outcome) in outcomes.iter().enumerate() {
            health.observe(*outcome, THRESHOLDS, at(i as u64 + 1));
        }
        health
    }

    use HealthState::{Down, Unknown, Up};
    use Outcome::{Bad, Good};

    #[test]
    fn the_first_good_probe_brings_an_unknown_backend_up() {
        assert_eq!(after(Unknown, &[Good]).state(), Up);
        assert_eq!(after(Unknown, &[Bad, Bad, Good]).state(), Up);
    }

    #[test]
    fn an_unknown_backend_is_down_after_fall_bad_probes() {
        assert_eq!(after(Unknown, &[Bad, Bad]).state(), Unknown);
        assert_eq!(after(Unknown, &[Bad, Bad, Bad]).state(), Down);
    }

    #[test]
    fn one_good_probe_starts_the_count_of_bad_ones_anew() {
        assert_eq!(after(Up, &[Bad, Bad, Good, Bad, Bad]).state(), Up);
        assert_eq!(after(Up, &[Bad, Bad, Good, Bad, Bad, Bad]).state(), Down);
    }

    #[test]
    fn a_backend_that_was_down_needs_rise_good_probes() {
        assert_eq!(after(Down, &[Good]).state(), Down);
        assert_eq!(after(Down, &[Good, Good]).state(), Up);
    }

    #[test]
    fn a_transition_says_from_what_to_what_and_how_long_it_had_lasted() {
        let mut health = Health::new(Up, at(10));
        assert_eq!(
            health.observe(Bad, Thresholds { rise: 1, fall: 1 }, at(25)),
            Some(Transition {
                from: Up,
                lasted: at(15),
                to: Down
            })
        );
        assert_eq!((health.since(), health.row()), (at(25), (Some(Bad), 1)));
    }

    proptest! {
        #[test]
        fn a_state_is_left_only_after_enough_of_the_other_outcome_in_a_row(
            outcomes in proptest::collection::vec(prop_oneof![Just(Good), Just(Bad)], 0..60), rise in 1_u32..5, fall in 1_u32..5,
        ) {
            let mut health = Health::new(Up, at(0));
            for (i, outcome) in outcomes.iter().enumerate() {
                let changed = health.observe(*outcome, Thresholds { rise, fall }, at(i as u64));
                let needed = if *outcome == Good { rise } else { fall } as usize;
                let row = outcomes[..=i].iter().rev().take_while(|other| *other == outcome).count();
                prop_assert_eq!(health.row(), (Some(*outcome), row as u32));
                if let Some(changed) = changed {
                    prop_assert!(row >= needed && changed.from != changed.to);
                    prop_assert_eq!(changed.to == Up, *outcome == Good);
                }
                // Enough in a row always decides.
                prop_assert!(row < needed || (health.state() == Up) == (*outcome == Good));
            }
        }
    }
}
