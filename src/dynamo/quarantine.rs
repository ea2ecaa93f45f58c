//! For how long a node keeps its copy of a partition that it owns no more. Time counts once every
//! member has acknowledged an epoch in which the node owns it no more: then nobody asks it any
//! longer, and whoever owns the partition has verified all of it before that epoch came about.
//! Copies are kept in case something was wrong all the same. Only time in which the node runs
//! counts, so that no wall clock is needed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::key::Partition;

/// One old copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The epoch in which it was found to be one.
    pub epoch: u64,
    /// Every member has been at that epoch or a later one.
    pub acknowledged: bool,
    /// How long it has been kept since.
    pub waited: Duration,
}

/// All old copies of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine {
    time: Duration,
    kept: BTreeMap<Partition, Kept>,
}

/// What a node sees when it looks at its old copies.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Since the look before.
    pub elapsed: Duration,
    /// The epoch of its ring.
    pub epoch: u64,
    /// Every member is known to be at that epoch.
    pub acknowledged: bool,
}

impl Quarantine {
    /// Copies that have been kept so far, each to be kept for this time.
    #[must_use]
    pub fn new(time: Duration, kept: impl IntoIterator<Item = (Partition, Kept)>) -> Self {
        let kept = kept.into_iter().collect();
        Self { time, kept }
    }

    /// Takes a look at the partitions of which the node has an old copy; those that are no more
    /// among them begin anew should they come back.
    pub fn look(&mut self, look: Look, leftovers: impl IntoIterator<Item = Partition>) {
        let mut before = std::mem::take(&mut self.kept);
        for partition in leftovers {
            let fresh = Kept {
                epoch: look.epoch,
                acknowledged: false,
                waited: Duration::ZERO,
            };
            let mut kept = before.remove(&partition).unwrap_or(fresh);
            if kept.acknowledged {
                kept.waited = self.time.min(kept.waited + look.elapsed);
            }
            kept.acknowledged |= look.acknowledged && look.epoch >= kept.epoch;
            self.kept.insert(partition, kept);
        }
    }

    /// The copies that may go now.
    #[must_use]
    pub fn due(&self) -> Vec<Partition> {
        let due = |kept: &Kept| kept.acknowledged && kept.waited >= self.time;
        let due = self.kept.iter().filter(|(_, kept)| due(kept));
        due.map(|(partition, _)| *partition).collect()
    }

    /// Whether some member has yet to acknowledge for one of them.
    #[must_use]
    pub fn waits_for_members(&self) -> bool {
        self.kept.values().any(|kept| !kept.acknowledged)
    }

    /// How long it takes until the last of them may go.
    #[must_use]
    pub fn left(&self) -> Duration {
        let left = |kept: &Kept| self.time.saturating_sub(kept.waited);
        self.kept.values().map(left).max().unwrap_or_default()
    }

    /// The copies by partition.
    pub fn kept(&self) -> impl Iterator<Item = (Partition, Kept)> + '_ {
        self.kept
            .iter()
            .map(|(partition, kept)| (*partition, *kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(100);

    fn p(n: u16) -> Partition {
        Partition::new(n).unwrap()
    }

    fn look(seconds: u64, epoch: u64, acknowledged: bool) -> Look {
        Look {
            elapsed: Duration::from_secs(seconds),
            epoch,
            acknowledged,
        }
    }

    #[test]
    fn a_copy_is_kept_for_its_time_after_all_have_acknowledged() {
        let mut quarantine = Quarantine::new(TIME, []);
        let rows = [
            // seconds, epoch, acknowledged by all, then left, due
            (9000, 7, false, 100, false),
            (9000, 7, false, 100, false),
            (9000, 8, true, 100, false),
            (60, 9, false, 40, false),
            (39, 9, false, 1, false),
            (1, 9, false, 0, true),
            (9000, 9, false, 0, true),
        ];
        for (row, (seconds, epoch, acknowledged, left, due)) in rows.into_iter().enumerate() {
            quarantine.look(look(seconds, epoch, acknowledged), [p(3)]);
            assert_eq!(quarantine.left(), Duration::from_secs(left), "row {row}");
            assert_eq!(quarantine.due(), [p(3)][..usize::from(due)], "row {row}");
        }
    }

    #[test]
    fn a_partition_that_was_owned_meanwhile_begins_anew() {
        let mut quarantine = Quarantine::new(TIME, []);
        quarantine.look(look(0, 7, true), [p(3), p(4)]);
        quarantine.look(look(100, 7, true), [p(3), p(4)]);
        assert_eq!(quarantine.due(), [p(3), p(4)]);
        quarantine.look(look(1, 8, true), [p(4)]);
        assert_eq!(quarantine.due(), [p(4)]);
        quarantine.look(look(1, 9, true), [p(3), p(4)]);
        quarantine.look(look(99, 9, true), [p(3), p(4)]);
        assert_eq!(quarantine.due(), [p(4)]);
        let again = Quarantine::new(TIME, quarantine.kept());
        assert_eq!(again, quarantine, "a restart keeps what has been waited");
    }

    #[test]
    fn without_a_time_only_the_acknowledgement_is_waited_for() {
        let mut quarantine = Quarantine::new(Duration::ZERO, []);
        quarantine.look(look(50, 7, false), [p(0)]);
        assert!(quarantine.due().is_empty() && quarantine.waits_for_members());
        quarantine.look(look(50, 7, true), [p(0)]);
        assert_eq!(quarantine.due(), [p(0)]);
        assert!(!quarantine.waits_for_members());
    }
}
