//! The smoothed time of one node's answers to calls of one kind, against that of its fellows.

use std::time::Duration;

/// Below this nobody is slow, whatever its fellows manage.
const SLOW_FLOOR: Duration = Duration::from_millis(100);
/// What is older says nothing any more: without calls, nobody stays slow.
const STALE_AFTER: Duration = Duration::from_secs(3);
/// So many times the pace of its fellows is slow.
const SLOW_TIMES: u32 = 5;

/// How fast a node answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Pace {
    recent: Option<Duration>,
    /// What it used to be: for a node that has no fellows to be compared with.
    usual: Option<Duration>,
    fellows: Option<Duration>,
    slow: bool,
    /// When the last answer came.
    noted: Duration,
}

impl Pace {
    /// Notes how long an answer took. Bad news weighs a quarter, good news a half: it takes few
    /// answers either way, and more than one good one to forget a bad one.
    pub(super) fn note(&mut self, now: Duration, took: Duration) {
        if self.is_stale(now) {
            self.recent = None;
            self.slow = false;
        }
        self.noted = now;
        self.recent = Some(match self.recent {
            None => took,
            Some(before) if took > before => before * 3 / 4 + took / 4,
            Some(before) => before / 2 + took / 2,
        });
        self.usual = Some(match self.usual {
            None => took,
            Some(before) if took > before => before * 255 / 256 + took / 256,
            Some(before) => before * 15 / 16 + took / 16,
        });
        self.decide();
    }

    pub(super) fn recent(&self) -> Option<Duration> {
        self.recent
    }

    pub(super) fn compare(&mut self, fellows: Option<Duration>) {
        self.fellows = fellows;
        self.decide();
    }

    pub(super) fn is_slow(&self, now: Duration) -> bool {
        self.slow && !self.is_stale(now)
    }

    fn is_stale(&self, now: Duration) -> bool {
        now.saturating_sub(self.noted) >= STALE_AFTER
    }

    /// Who is slow must become twice as fast as what made it so.
    fn decide(&mut self) {
        let (Some(recent), Some(normal)) = (self.recent, self.fellows.or(self.usual)) else {
            return;
        };
        let bound = SLOW_FLOOR.max(normal * SLOW_TIMES);
        self.slow = recent > if self.slow { bound / 2 } else { bound };
    }
}
