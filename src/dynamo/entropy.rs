//! What two owners make of comparing their digests, look by look: which differences are real, and
//! which are only writes on their way.
//!
//! A write reaches the owners one after the other, so at any moment busy partitions differ. A
//! partition must differ in two looks before its leaves are asked for, and a leaf must have shown
//! the same two digests in two looks before its keys are: then nothing was written to it in
//! between, and what is missing will not come by itself. A leaf that is written all the time is
//! looked into after [`HOT_LOOKS`] looks all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::key::Partition;
use super::merkle::{Leaf, LeafDigests};

/// After so many looks at a partition's leaves those that differ are looked into, stable or not.
pub const HOT_LOOKS: u32 = 8;

/// One node's comparison with one other.
#[derive(Debug, Default)]
pub struct Pair {
    /// Looks at roots before leaves are asked for, beyond the second.
    courtesy: u32,
    differing: BTreeMap<Partition, Difference>,
    agreed: Option<Duration>,
    repaired: u64,
}

#[derive(Debug, Default)]
struct Difference {
    looks: u32,
    leaf_looks: u32,
    /// The leaves that differed in the last look: this node's digest and the other's.
    leaves: BTreeMap<Leaf, (u64, u64)>,
}

/// How far two nodes are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Partitions that differed in the last look.
    pub partitions: usize,
    /// Keys that this node has brought into agreement with the other since it started.
    pub repaired: u64,
    /// For how long nothing has been known to agree completely; `None` if it never has.
    pub since_agreement: Option<Duration>,
}

impl Pair {
    /// A comparison that begins. Both nodes of a pair compare; the one that `yields` waits one look
    /// longer, so that the other's repair usually comes first and nothing is repaired twice.
    #[must_use]
    pub fn new(yields: bool) -> Self {
        Self {
            courtesy: u32::from(yields),
            ..Self::default()
        }
    }

    /// Takes a look at the roots of these partitions, of which some differ; gives those whose
    /// leaves are worth asking for. What could not be compared says nothing.
    pub fn look(
        &mut self,
        now: Duration,
        compared: &BTreeSet<Partition>,
        differing: &BTreeSet<Partition>,
    ) -> Vec<Partition> {
        self.differing
            .retain(|p, _| differing.contains(p) && compared.contains(p));
        for partition in differing.intersection(compared) {
            self.differing.entry(*partition).or_default().looks += 1;
        }
        if self.differing.is_empty() && !compared.is_empty() {
            self.agreed = Some(now);
        }
        let due = self
            .differing
            .iter()
            .filter(|(_, d)| d.looks >= 2 + self.courtesy);
        due.map(|(partition, _)| *partition).collect()
    }

    /// Takes a look at the leaves of a partition; gives those whose keys are worth asking for.
    pub fn look_at_leaves(
        &mut self,
        partition: Partition,
        ours: &LeafDigests,
        theirs: &LeafDigests,
    ) -> Vec<Leaf> {
        let difference = self.differing.entry(partition).or_default();
        let digests = |leaf: Leaf| (ours.leaf(leaf), theirs.leaf(leaf));
        let found: BTreeMap<Leaf, (u64, u64)> = ours
            .differing(theirs)
            .into_iter()
            .map(|leaf| (leaf, digests(leaf)))
            .collect();
        difference.leaf_looks += 1;
        let hot = difference.leaf_looks >= HOT_LOOKS;
        if hot {
            difference.leaf_looks = 0;
        }
        let before = std::mem::replace(&mut difference.leaves, found.clone());
        let real = found
            .into_iter()
            .filter(|(leaf, digests)| hot || before.get(leaf) == Some(digests));
        real.map(|(leaf, _)| leaf).collect()
    }

    /// Notes that so many keys were brought into agreement.
    pub fn repaired(&mut self, keys: u64) {
        self.repaired += keys;
    }

    /// How far the two are apart.
    #[must_use]
    pub fn lag(&self, now: Duration) -> Lag {
        Lag {
            partitions: self.differing.len(),
            repaired: self.repaired,
            since_agreement: self.agreed.map(|at| now.saturating_sub(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamo::merkle::LEAVES;

    const SECOND: Duration = Duration::from_secs(1);

    fn set(numbers: &[u16]) -> BTreeSet<Partition> {
        numbers.iter().filter_map(|n| Partition::new(*n)).collect()
    }

    fn leaves(changed: &[(usize, u64)]) -> LeafDigests {
        let mut all = [0; LEAVES];
        for (at, digest) in changed {
            all[*at] = *digest;
        }
        LeafDigests::from_slice(&all).unwrap()
    }

    #[test]
    fn a_partition_must_differ_in_two_looks_and_three_when_it_yields() {
        type Row<'a> = (&'a str, bool, &'a [&'a [u16]], &'a [u16]);
        let all = set(&[1, 2, 3]);
        let rows: [Row; 6] = [
            ("once", false, &[&[1]], &[]),
            ("twice", false, &[&[1], &[1]], &[1]),
            ("with an agreement between", false, &[&[1], &[], &[1]], &[]),
            ("one of two again", false, &[&[1, 2], &[2, 3]], &[2]),
            ("twice, yielding", true, &[&[1], &[1]], &[]),
            ("three times, yielding", true, &[&[1], &[1], &[1]], &[1]),
        ];
        for (what, yields, looks, expected) in rows {
            let mut pair = Pair::new(yields);
            let found = looks.iter().map(|d| pair.look(SECOND, &all, &set(d)));
            let last: BTreeSet<Partition> = found.last().unwrap().into_iter().collect();
            assert_eq!(last, set(expected), "{what}");
        }
    }

    #[test]
    fn what_is_not_compared_neither_differs_nor_agrees() {
        let mut pair = Pair::new(false);
        pair.look(SECOND, &set(&[1, 2]), &set(&[1]));
        assert_eq!(pair.lag(SECOND).partitions, 1);
        assert_eq!(pair.lag(SECOND).since_agreement, None);
        assert_eq!(pair.look(SECOND, &set(&[2]), &set(&[1])), []);
        assert_eq!(pair.lag(SECOND * 3).since_agreement, Some(SECOND * 2));
        pair.look(SECOND * 4, &set(&[]), &set(&[]));
        assert_eq!(pair.lag(SECOND * 4).since_agreement, Some(SECOND * 3));
    }

    #[test]
    fn a_leaf_is_looked_into_once_it_has_stood_still() {
        let mut pair = Pair::new(false);
        let p = Partition::new(9).unwrap();
        let theirs = leaves(&[]);
        let (still, moved) = (leaves(&[(3, 7), (4, 1)]), leaves(&[(3, 7), (4, 2)]));
        assert_eq!(pair.look_at_leaves(p, &still, &theirs), []);
        let found = pair.look_at_leaves(p, &moved, &theirs);
        assert_eq!(found, [Leaf::new(3).unwrap()]);
        assert_eq!(pair.look_at_leaves(p, &moved, &moved), []);
    }

    #[test]
    fn a_leaf_that_never_stands_still_is_looked_into_at_last() {
        let mut pair = Pair::new(false);
        let p = Partition::new(9).unwrap();
        for round in 1..=u64::from(HOT_LOOKS) * 2 {
            let found = pair.look_at_leaves(p, &leaves(&[(5, round)]), &leaves(&[]));
            let due = round.is_multiple_of(u64::from(HOT_LOOKS));
            assert_eq!(found.len(), usize::from(due), "look {round}");
        }
    }
}
