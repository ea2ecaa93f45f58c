//! What became of clients' operations at the node that coordinated them.

use std::time::Duration;

use super::counter::{Counters, Label, labels};
use super::histogram::{Histogram, SIBLINGS, Shown};

labels! {
    /// What a client asked for.
    Operation {
        /// A read.
        Get "get",
        /// A write of a key that must have no value.
        Create "create",
        /// A write.
        Put "put",
        /// A delete.
        Delete "delete",
    }
}

labels! {
    /// How it ended.
    Outcome {
        /// It was done.
        Done "done",
        /// There was nothing to read or to delete.
        NotFound "not_found",
        /// A create found a value.
        AlreadyExists "already_exists",
        /// One more sibling would have been too many.
        TooManySiblings "too_many_siblings",
        /// The `Idempotency-Key` was used for another request.
        RequestReused "request_reused",
        /// Too few replicas agreed.
        QuorumNotMet "quorum_not_met",
        /// The deadline passed.
        DeadlineExceeded "deadline_exceeded",
        /// Too many were in flight.
        Overloaded "overloaded",
        /// The node was in no ring.
        NotServing "not_serving",
        /// The disks of too many owners were full.
        StorageFull "storage_full",
    }
}

/// All operations of a node since its start.
#[derive(Debug)]
pub struct OperationCounts {
    outcomes: Counters,
    hinted: Counters,
    durations: Box<[Histogram]>,
    siblings: Histogram,
}

impl Default for OperationCounts {
    fn default() -> Self {
        let operations = Operation::ALL.len();
        Self {
            outcomes: Counters::new(operations * Outcome::ALL.len()),
            hinted: Counters::new(operations),
            durations: (0..operations).map(|_| Histogram::of_durations()).collect(),
            siblings: Histogram::new(SIBLINGS),
        }
    }
}

impl OperationCounts {
    /// Counts the end of an operation.
    pub fn ended(&self, operation: Operation, outcome: Outcome) {
        self.outcomes.count(place(operation, outcome));
    }

    /// Notes how long an operation took that was let in.
    pub fn took(&self, operation: Operation, duration: Duration) {
        if let Some(histogram) = self.durations.get(operation.number()) {
            histogram.took(duration);
        }
    }

    /// Counts an answer that rests on a fallback's word.
    pub fn hinted(&self, operation: Operation) {
        self.hinted.count(operation.number());
    }

    /// Notes how many values a read showed.
    pub fn showed(&self, siblings: usize) {
        self.siblings.met(siblings as u64);
    }

    /// How many ended so.
    #[must_use]
    pub fn outcomes(&self, operation: Operation, outcome: Outcome) -> u64 {
        self.outcomes.at(place(operation, outcome))
    }

    /// How many ended, however they did.
    #[must_use]
    pub fn answered(&self, operation: Operation) -> u64 {
        let outcomes = Outcome::ALL.iter();
        outcomes.map(|o| self.outcomes(operation, *o)).sum()
    }

    /// How many ended by a fault of the cluster, not by what the client asked.
    #[must_use]
    pub fn failures(&self, operation: Operation) -> u64 {
        let failures = Outcome::ALL.iter().filter(|outcome| outcome.is_failure());
        failures.map(|o| self.outcomes(operation, *o)).sum()
    }

    /// How many answers rested on a fallback's word.
    #[must_use]
    pub fn hinted_answers(&self, operation: Operation) -> u64 {
        self.hinted.at(operation.number())
    }

    /// How long they took.
    #[must_use]
    pub fn durations(&self, operation: Operation) -> Shown {
        let histogram = self.durations.get(operation.number());
        histogram.map(Histogram::shown).unwrap_or_default()
    }

    /// How many values reads showed.
    #[must_use]
    pub fn siblings(&self) -> Shown {
        self.siblings.shown()
    }
}

impl Outcome {
    /// Whether the cluster failed its client.
    #[must_use]
    pub fn is_failure(self) -> bool {
        match self {
            Self::Done
            | Self::NotFound
            | Self::AlreadyExists
            | Self::TooManySiblings
            | Self::RequestReused => false,
            Self::QuorumNotMet
            | Self::DeadlineExceeded
            | Self::Overloaded
            | Self::NotServing
            | Self::StorageFull => true,
        }
    }
}

fn place(operation: Operation, outcome: Outcome) -> usize {
    operation.number() * Outcome::ALL.len() + outcome.number()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_and_outcome_is_counted_apart() {
        let counts = OperationCounts::default();
        for operation in Operation::ALL {
            for (times, outcome) in Outcome::ALL.iter().enumerate() {
                (0..times).for_each(|_| counts.ended(*operation, *outcome));
            }
        }
        for operation in Operation::ALL {
            for (times, outcome) in Outcome::ALL.iter().enumerate() {
                assert_eq!(counts.outcomes(*operation, *outcome), times as u64);
            }
            assert_eq!(counts.failures(*operation), 5 + 6 + 7 + 8 + 9);
        }
        counts.took(Operation::Put, Duration::from_millis(1));
        assert_eq!(counts.durations(Operation::Put).count(), 1);
        assert_eq!(counts.durations(Operation::Get).count(), 0);
    }
}
