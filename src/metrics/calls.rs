//! Calls to one other node, and what became of them.

use std::time::Duration;

use super::counter::{Counters, Label, labels};
use super::histogram::{Histogram, Shown};

labels! {
    /// What a call carries.
    CallKind {
        /// A batch of reads.
        Read "read",
        /// A batch of writes, answered after they are durable.
        Write "write",
        /// Nothing: it asks whether the node is there.
        Probe "probe",
    }
}

labels! {
    /// What became of a call.
    CallOutcome {
        /// It was answered.
        Answered "answered",
        /// No connection came about, or it broke.
        Failed "failed",
        /// It was given up, because its time was over or nobody waited for it any more.
        GivenUp "given_up",
    }
}

/// All calls to one node since the start.
#[derive(Debug)]
pub struct CallCounts {
    outcomes: Counters,
    durations: Box<[Histogram]>,
}

impl Default for CallCounts {
    fn default() -> Self {
        let kinds = CallKind::ALL.len();
        Self {
            outcomes: Counters::new(kinds * CallOutcome::ALL.len()),
            durations: (0..kinds).map(|_| Histogram::of_durations()).collect(),
        }
    }
}

impl CallCounts {
    /// Counts the end of a call; its duration counts only if it was answered.
    pub fn ended(&self, kind: CallKind, outcome: CallOutcome, took: Duration) {
        self.outcomes.count(place(kind, outcome));
        if outcome == CallOutcome::Answered
            && let Some(histogram) = self.durations.get(kind.number())
        {
            histogram.took(took);
        }
    }

    /// How many ended so.
    #[must_use]
    pub fn outcomes(&self, kind: CallKind, outcome: CallOutcome) -> u64 {
        self.outcomes.at(place(kind, outcome))
    }

    /// How long the answered ones took.
    #[must_use]
    pub fn durations(&self, kind: CallKind) -> Shown {
        let histogram = self.durations.get(kind.number());
        histogram.map(Histogram::shown).unwrap_or_default()
    }
}

fn place(kind: CallKind, outcome: CallOutcome) -> usize {
    kind.number() * CallOutcome::ALL.len() + outcome.number()
}
