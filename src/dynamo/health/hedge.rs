//! When to ask one more replica, and how often that may happen: after the time in which nineteen
//! of twenty replies have come, and for one read in twenty at most.

use std::time::Duration;

/// Replies that are remembered.
const WINDOW: usize = 128;
/// After so many new replies the delay is worked out anew.
const REFRESH: usize = 32;
/// What a hedge costs; a read earns one.
const COST: u32 = 20;
/// Hedges that may be saved up for a bad moment.
const SAVINGS: u32 = 16;
/// Nobody is asked earlier: a hedge would cost more than the wait.
const SOONEST: Duration = Duration::from_millis(2);
/// Nobody is asked later, however slow the replies have been.
const LATEST: Duration = Duration::from_millis(200);

/// The recent replies, and what is left to spend.
#[derive(Debug, Clone)]
pub struct Hedge {
    replies: Vec<Duration>,
    next: usize,
    fresh: usize,
    delay: Duration,
    tokens: u32,
}

impl Default for Hedge {
    fn default() -> Self {
        Self {
            replies: Vec::with_capacity(WINDOW),
            next: 0,
            fresh: 0,
            delay: LATEST,
            tokens: SAVINGS * COST,
        }
    }
}

impl Hedge {
    /// A read begins.
    pub fn earn(&mut self) {
        self.tokens = (self.tokens + 1).min(SAVINGS * COST);
    }

    /// Whether a read may ask one replica more; if so, that is paid for.
    pub fn spend(&mut self) -> bool {
        let rest = self.tokens.checked_sub(COST);
        self.tokens = rest.unwrap_or(self.tokens);
        rest.is_some()
    }

    /// A remote replica replied.
    pub fn note(&mut self, took: Duration) {
        match self.replies.get_mut(self.next) {
            Some(oldest) => *oldest = took,
            None => self.replies.push(took),
        }
        self.next = (self.next + 1) % WINDOW;
        self.fresh += 1;
        if self.fresh >= REFRESH {
            self.fresh = 0;
            self.delay = self.percentile().clamp(SOONEST, LATEST);
        }
    }

    /// How long to wait for a reply before asking one replica more.
    #[must_use]
    pub fn delay(&self) -> Duration {
        self.delay
    }

    /// The time in which 95 of 100 of the remembered replies have come.
    fn percentile(&self) -> Duration {
        let mut sorted = self.replies.clone();
        let at = sorted.len() * 95 / 100;
        if at < sorted.len() {
            sorted.select_nth_unstable(at);
        }
        sorted.get(at).copied().unwrap_or(LATEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn the_delay_is_the_95th_percentile_of_recent_replies_within_its_bounds() {
        let rows = [
            ("nothing is known", 0, MILLI, 0, LATEST),
            ("all are fast", 128, MILLI / 10, 0, SOONEST),
            ("all take 30 ms", 128, MILLI * 30, 0, MILLI * 30),
            ("four of a hundred are lost", 123, MILLI * 9, 5, MILLI * 9),
            ("a tenth is lost", 115, MILLI * 9, 13, LATEST),
            (
                "what is long ago is forgotten",
                1000,
                MILLI * 9,
                128,
                LATEST,
            ),
        ];
        for (row, usual, took, late, expected) in rows {
            let mut hedge = Hedge::default();
            (0..usual).for_each(|_| hedge.note(took));
            (0..late).for_each(|_| hedge.note(MILLI * 1500));
            assert_eq!(hedge.delay(), expected, "{row}");
        }
    }

    #[test]
    fn hedges_are_at_most_one_read_in_twenty_beyond_the_savings() {
        let mut hedge = Hedge::default();
        let mut hedged = 0;
        for _ in 0..10_000 {
            hedge.earn();
            hedged += u32::from(hedge.spend());
        }
        assert_eq!(
            hedged,
            SAVINGS + (10_000 - 1) / COST,
            "the first earns nothing"
        );
    }
}
