//! How long the slowest of the recent answers took: what a mean hides.

use std::time::Duration;

/// The part of all answers that is at least as fast.
const PART: (u64, u64) = (95, 100);

/// The 95th percentile of recent answers, from a histogram that only grows. At each look what came
/// before counts half as much.
#[derive(Debug)]
pub struct Tail {
    /// Upper bounds of the histogram's steps, in microseconds.
    bounds: &'static [u64],
    counted: Vec<u64>,
    /// In eighths, so that halves are not lost.
    recent: Vec<u64>,
}

impl Tail {
    /// Of a histogram with these steps, and one more for what is beyond them.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counted: vec![0; bounds.len() + 1],
            recent: vec![0; bounds.len() + 1],
        }
    }

    /// Takes in what the histogram holds by now. `None` if nothing was answered since the last look.
    pub fn look(&mut self, counts: &[u64]) -> Option<Duration> {
        let mut answered = 0;
        let steps = self.recent.iter_mut().zip(&mut self.counted).zip(counts);
        for ((recent, counted), now) in steps {
            let new = now.saturating_sub(*counted);
            *counted = *now;
            *recent = *recent / 2 + new * 8;
            answered += new;
        }
        (answered > 0).then(|| Duration::from_micros(self.percentile()))
    }

    /// Within a step all durations are taken for equally likely.
    fn percentile(&self) -> u64 {
        let all: u64 = self.recent.iter().sum();
        let mut left = all * PART.0 / PART.1;
        let mut from = 0;
        for (count, bound) in self.recent.iter().zip(self.bounds) {
            if left <= *count && *count > 0 {
                return from + (bound - from) * left / count;
            }
            left -= count;
            from = *bound;
        }
        from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: &[u64] = &[100, 200, 400, 800];

    fn micros(took: Option<Duration>) -> Option<u128> {
        took.map(|took| took.as_micros())
    }

    #[test]
    fn the_percentile_lies_within_the_step_that_holds_it() {
        let rows: [([u64; 5], u128); 5] = [
            ([100, 0, 0, 0, 0], 95),
            ([90, 10, 0, 0, 0], 150),
            ([95, 5, 0, 0, 0], 100),
            ([50, 40, 0, 10, 0], 600),
            ([0, 0, 0, 0, 7], 800),
        ];
        for (counts, expected) in rows {
            let mut tail = Tail::new(BOUNDS);
            assert_eq!(micros(tail.look(&counts)), Some(expected), "{counts:?}");
        }
    }

    #[test]
    fn what_was_answered_long_ago_is_forgotten_and_nothing_new_is_no_answer() {
        let mut tail = Tail::new(BOUNDS);
        assert_eq!(tail.look(&[0; 5]), None);
        assert_eq!(micros(tail.look(&[0, 0, 0, 100, 0])), Some(780));
        assert_eq!(tail.look(&[0, 0, 0, 100, 0]), None);
        let mut quick = 0;
        let mut shown = Vec::new();
        for _ in 0..12 {
            quick += 100;
            shown.extend(micros(tail.look(&[quick, 0, 0, 100, 0])));
        }
        assert!(shown.is_sorted_by(|a, b| a >= b), "{shown:?}");
        assert!(
            shown[0] > 400 && (93..=95).contains(&shown[11]),
            "{shown:?}"
        );
    }
}
