//! A set of partitions, a bit for each.

use crate::dynamo::key::{PARTITIONS, Partition};

/// A set of partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartitionSet([u64; PARTITIONS as usize / 64]);

#[expect(
    clippy::indexing_slicing,
    reason = "a Partition is below PARTITIONS, and there is a bit for each"
)]
impl PartitionSet {
    /// Adds a partition.
    pub fn insert(&mut self, partition: Partition) {
        self.0[partition.index() / 64] |= 1 << (partition.index() % 64);
    }

    /// Takes a partition out.
    pub fn remove(&mut self, partition: Partition) {
        self.0[partition.index() / 64] &= !(1 << (partition.index() % 64));
    }

    /// Whether the partition is in the set.
    #[must_use]
    pub fn contains(&self, partition: Partition) -> bool {
        self.0[partition.index() / 64] & (1 << (partition.index() % 64)) != 0
    }
}

impl PartitionSet {
    /// How many partitions are in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The partitions in order.
    pub fn iter(&self) -> impl Iterator<Item = Partition> + '_ {
        Partition::all().filter(|partition| self.contains(*partition))
    }
}

impl FromIterator<Partition> for PartitionSet {
    fn from_iter<I: IntoIterator<Item = Partition>>(partitions: I) -> Self {
        let mut out = Self::default();
        for partition in partitions {
            out.insert(partition);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_set_holds_what_was_put_in() {
        let some = [0, 63, 64, 255].map(|n| Partition::new(n).unwrap());
        let mut set: PartitionSet = some.into_iter().collect();
        assert!(set.iter().eq(some) && set.len() == 4);
        set.remove(some[2]);
        assert!(!set.contains(some[2]) && set.contains(some[1]) && set.len() == 3);
        for partition in some {
            set.remove(partition);
        }
        assert!(set.is_empty());
    }
}
