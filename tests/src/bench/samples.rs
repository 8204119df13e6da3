//! Times of a loop with and without what it is around, and the order in which things are walked.

/// Samples, the loop around them included, and what that loop cost alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    pub(super) gross: Vec<f64>,
    pub(super) around: Vec<f64>,
}

impl Samples {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self {
            gross: Vec::new(),
            around: Vec::new(),
        }
    }

    /// What was counted once, without a loop.
    pub(super) fn single(value: f64) -> Self {
        Self {
            gross: vec![value],
            around: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, gross: f64, around: f64) {
        self.gross.push(gross);
        self.around.push(around);
    }

    /// Both, round by round.
    pub(super) fn plus(&self, other: &Self) -> Self {
        let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a + b).collect();
        Self {
            gross: sum(&self.gross, &other.gross),
            around: sum(&self.around, &other.around),
        }
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.gross.extend(other.gross);
        self.around.extend(other.around);
    }
}

/// The numbers below `count` in an order that is the same in every run.
pub(super) fn shuffled(count: u32) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..count).collect();
    shuffle(&mut numbers, u64::from(count));
    numbers
}

/// Brings them into an order that is the same in every run.
pub(super) fn shuffle<T>(items: &mut [T], seed: u64) {
    fastrand::Rng::with_seed(seed).shuffle(items);
}
