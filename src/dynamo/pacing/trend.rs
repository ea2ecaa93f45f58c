//! Whether latency is as good as it lately was.

use std::time::Duration;

/// Latency so much above the best is no suffering, however small the best is.
const ALLOWANCE: Duration = Duration::from_millis(2);
/// Of the best, this part is forgotten at each look: twice the latency is the new best after some
/// 90 seconds of it.
const FORGET: u32 = 256;

/// Compares latency with the recent best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trend {
    best: Option<Duration>,
}

impl Trend {
    /// Takes in the latency of now; whether it is more than twice the recent best.
    pub fn suffers(&mut self, latency: Duration) -> bool {
        let best = self
            .best
            .map_or(latency, |best| (best + best / FORGET).min(latency));
        self.best = Some(best);
        latency > best * 2 + ALLOWANCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn latency_is_compared_with_the_recent_best() {
        let rows = [
            (5000, false),
            (1000, false),
            (3900, false),
            (4100, true),
            (900, false),
            (9000, true),
        ];
        let mut trend = Trend::default();
        for (latency, expected) in rows {
            assert_eq!(trend.suffers(micros(latency)), expected, "{latency} µs");
        }
    }

    #[test]
    fn what_stays_slow_becomes_the_usual() {
        let mut trend = Trend::default();
        assert!(!trend.suffers(micros(10_000)));
        let slow = (1..1000).find(|_| !trend.suffers(micros(30_000)));
        assert!(
            slow.is_some_and(|looks| (60..200).contains(&looks)),
            "{slow:?}"
        );
    }
}
