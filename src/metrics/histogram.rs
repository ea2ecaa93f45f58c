//! How often which size, or which duration, was met. Steps are fine enough for the console to tell
//! a percentile from; Prometheus is shown every other one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the steps of a duration, in microseconds: six a decade, 50 µs to 10 s.
pub const MICROS: &[u64] = &[
    50, 70, 100, 150, 200, 300, 500, 700, 1_000, 1_500, 2_000, 3_000, 5_000, 7_000, 10_000, 15_000,
    20_000, 30_000, 50_000, 70_000, 100_000, 150_000, 200_000, 300_000, 500_000, 700_000,
    1_000_000, 1_500_000, 2_000_000, 3_000_000, 5_000_000, 7_000_000, 10_000_000,
];

/// Upper bounds of the steps of a number of siblings; 100 is the most that a key may have.
pub const SIBLINGS: &[u64] = &[0, 1, 2, 3, 5, 10, 25, 50, 100];

/// Counts by step; shared by all threads.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    steps: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// What a histogram holds at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// How many were met in each step, and last, beyond all of them.
    pub steps: Vec<u64>,
    /// The sum of all.
    pub sum: u64,
}

impl Histogram {
    /// One with these upper bounds, empty.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            steps: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// One for durations.
    #[must_use]
    pub fn of_durations() -> Self {
        Self::new(MICROS)
    }

    /// Notes a duration, in a histogram of durations.
    pub fn took(&self, duration: Duration) {
        // Rounded up, so that nothing is counted as shorter than it was.
        let micros = duration.as_nanos().div_ceil(1000);
        self.met(u64::try_from(micros).unwrap_or(u64::MAX));
    }

    /// Notes a size.
    pub fn met(&self, size: u64) {
        let step = self.bounds.partition_point(|bound| *bound < size);
        if let Some(counter) = self.steps.get(step) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(size, Ordering::Relaxed);
    }

    /// What it holds now.
    #[must_use]
    pub fn shown(&self) -> Shown {
        let steps = self.steps.iter().map(|step| step.load(Ordering::Relaxed));
        Shown {
            steps: steps.collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

impl Shown {
    /// How many were met.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.steps.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_counted_in_the_first_step_that_holds_it() {
        let histogram = Histogram::new(SIBLINGS);
        for size in [0, 1, 1, 2, 4, 5, 100, 101, u64::MAX / 2] {
            histogram.met(size);
        }
        let shown = histogram.shown();
        assert_eq!(shown.steps, [1, 2, 1, 0, 2, 0, 0, 0, 1, 2]);
        assert_eq!(shown.count(), 9);
        assert_eq!(shown.sum, 214 + u64::MAX / 2);
    }

    #[test]
    fn a_duration_is_never_counted_as_shorter_than_it_was() {
        let histogram = Histogram::of_durations();
        let nanos = [0, 1, 50_000, 50_001, 10_000_000_000, 10_000_000_001];
        for nanos in nanos {
            histogram.took(Duration::from_nanos(nanos));
        }
        let steps = histogram.shown().steps;
        assert_eq!((steps[0], steps[1]), (3, 1));
        assert_eq!((steps[MICROS.len() - 1], steps[MICROS.len()]), (1, 1));
    }

    #[test]
    fn bounds_rise() {
        for bounds in [MICROS, SIBLINGS] {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        }
    }
}
