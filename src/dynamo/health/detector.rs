//! What the calls to one node say of it.

use std::time::Duration;

use super::pace::Pace;
use super::{CALM, Call, Condition, DEAD_AFTER, LONGEST_CALM, SILENT_AFTER, STUCK_AFTER};

/// How long a node must have been well for its troubles to be forgotten.
const FORGIVEN_AFTER: Duration = Duration::from_mins(1);

/// Judges one node.
#[derive(Debug, Clone)]
pub struct Detector {
    light: Line,
    durable: Line,
    /// The last word was that no call can be made.
    failed: bool,
    /// The last moment of trouble.
    troubled: Option<Duration>,
    /// For how long there must be none.
    calm: Duration,
    condition: Condition,
}

/// The calls of one kind.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    out: usize,
    /// Since when an answer has been waited for without any other coming in.
    waiting: Option<Duration>,
    pace: Pace,
}

impl Default for Detector {
    fn default() -> Self {
        Self {
            light: Line::default(),
            durable: Line::default(),
            failed: false,
            troubled: None,
            calm: CALM,
            condition: Condition::Preferred,
        }
    }
}

impl Detector {
    /// A call was made.
    pub fn sent(&mut self, call: Call, now: Duration) {
        let line = self.line(call);
        line.out += 1;
        line.waiting.get_or_insert(now);
        self.judge(now);
    }

    /// A call is over, however it ended. What it ended with is told beside this.
    pub fn ended(&mut self, call: Call, now: Duration) {
        let line = self.line(call);
        line.out = line.out.saturating_sub(1);
        // Given up early, it says nothing; else the silence goes on until there is an answer.
        let brief = line
            .waiting
            .is_some_and(|t| now.saturating_sub(t) < SILENT_AFTER);
        if line.out == 0 && brief {
            line.waiting = None;
        }
        self.judge(now);
    }

    /// An answer came. It is a sign of life for calls of every kind.
    pub fn answered(&mut self, call: Call, now: Duration, took: Duration) {
        self.failed = false;
        self.line(call).pace.note(now, took);
        for line in [&mut self.light, &mut self.durable] {
            line.waiting = line.waiting.filter(|_| line.out > 0).map(|_| now);
        }
        self.judge(now);
    }

    /// No connection, or a broken one.
    pub fn failed(&mut self, now: Duration) {
        self.failed = true;
        self.judge(now);
    }

    /// This node itself has been standing still: nobody's silence meanwhile means anything.
    pub fn excuse(&mut self, now: Duration) {
        for line in [&mut self.light, &mut self.durable] {
            line.waiting = line.waiting.map(|_| now);
        }
    }

    /// How the node does.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// The smoothed time of recent answers; none before the first.
    #[must_use]
    pub fn pace(&self, call: Call) -> Option<Duration> {
        match call {
            Call::Light => self.light.pace.recent(),
            Call::Durable => self.durable.pace.recent(),
        }
    }

    /// Tells the pace of the node's fellows.
    pub fn compare(&mut self, call: Call, fellows: Option<Duration>) {
        self.line(call).pace.compare(fellows);
    }

    /// Judges the node by what is known and by how long it has been silent.
    pub fn judge(&mut self, now: Duration) {
        let silence = |line: &Line| {
            line.waiting
                .map_or(Duration::ZERO, |t| now.saturating_sub(t))
        };
        let (light, durable) = (silence(&self.light), silence(&self.durable));
        let late = light >= SILENT_AFTER || durable >= STUCK_AFTER;
        let slow = self.light.pace.is_slow(now) || self.durable.pace.is_slow(now);
        self.condition = if self.failed || light >= DEAD_AFTER {
            self.trouble(now);
            Condition::Unreachable
        } else if late || slow {
            self.trouble(now);
            Condition::Slow
        } else if self.is_recovering(now) {
            Condition::Slow
        } else {
            Condition::Preferred
        };
    }

    /// Trouble that comes back soon asks for a longer calm the next time.
    fn trouble(&mut self, now: Duration) {
        if self.condition == Condition::Preferred {
            let well = self.troubled.map(|t| now.saturating_sub(t));
            self.calm = match well {
                Some(well) if well < FORGIVEN_AFTER => LONGEST_CALM.min(self.calm * 2),
                Some(_) | None => CALM,
            };
        }
        self.troubled = Some(now);
    }

    fn is_recovering(&self, now: Duration) -> bool {
        let since = self.troubled.map(|t| now.saturating_sub(t));
        since.is_some_and(|since| since < self.calm)
    }

    fn line(&mut self, call: Call) -> &mut Line {
        match call {
            Call::Light => &mut self.light,
            Call::Durable => &mut self.durable,
        }
    }
}
