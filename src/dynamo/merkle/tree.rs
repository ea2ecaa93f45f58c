//! The digests of a whole store, kept up to date with every write and built by a scan that goes on
//! between the writes.
//!
//! Of each partition the scan has seen the keys up to a cursor, in key order. A write to one of
//! those changes the digests at once; a write to a key beyond is left to the scan, which will meet
//! it. So no moment is missed and none is counted twice, and the scan may stop after any key.

use super::{Digest, LeafDigests};
use crate::dynamo::key::{Key, PARTITIONS, Partition};

/// What stands for one key: its record's digest, and whether the record has a value. A record that
/// is only a delete is in the digests like any other, so that owners come to agree on it at once:
/// they forget it within one and the same sweep, which is over before anybody looks twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// See [`record_digest`](super::record_digest); 0 for no record.
    pub digest: u64,
    /// Whether there is more than a delete.
    pub has_value: bool,
}

impl Mark {
    /// Of a key without a record.
    pub const NOTHING: Self = Self {
        digest: 0,
        has_value: false,
    };
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Tree {
    parts: Vec<Part>,
    /// How many partitions are not whole.
    unbuilt: u16,
    /// Where the search for one of them goes on.
    next: u16,
}

#[derive(Debug, Clone, Default)]
struct Part {
    seen: Seen,
    root: Digest,
    /// How many of the records have a value.
    values: u64,
    /// Made with the first record.
    leaves: Option<LeafDigests>,
}

/// How far the scan of a partition has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Seen {
    #[default]
    Nothing,
    UpTo(Key),
    Whole,
}

impl Default for Tree {
    fn default() -> Self {
        let parts = Partition::all().map(|_| Part::default()).collect();
        Self {
            parts,
            unbuilt: PARTITIONS,
            next: 0,
        }
    }
}

impl Tree {
    /// Whether a write to this key must be told with [`Tree::replace`]; the scan meets the others.
    #[must_use]
    pub fn covers(&self, key: &Key) -> bool {
        match &self.part(key.hash().partition()).seen {
            Seen::Nothing => false,
            Seen::UpTo(last) => key <= last,
            Seen::Whole => true,
        }
    }

    /// Takes the key's old mark out and puts its new one in. Does nothing for a key that the scan
    /// has yet to meet.
    pub fn replace(&mut self, key: &Key, old: Mark, new: Mark) {
        if self.covers(key) {
            let part = self.part_mut(key.hash().partition());
            part.toggle(key, old.digest ^ new.digest);
            part.values = part.values.saturating_sub(old.has_value.into());
            part.values += u64::from(new.has_value);
        }
    }

    /// Which partition to scan on, and after which key; `None` when all are built.
    pub fn next_to_build(&mut self) -> Option<(Partition, Option<Key>)> {
        if self.unbuilt == 0 {
            return None;
        }
        loop {
            let partition = Partition::new(self.next)?;
            match &self.part(partition).seen {
                Seen::Nothing => return Some((partition, None)),
                Seen::UpTo(last) => return Some((partition, Some(last.clone()))),
                Seen::Whole => self.next = (self.next + 1) % PARTITIONS,
            }
        }
    }

    /// Takes in the next records of a partition, in key order, as they are now. `last` says that
    /// no more follow.
    pub fn build(&mut self, partition: Partition, page: &[(Key, Mark)], last: bool) {
        let part = self.part_mut(partition);
        for (key, mark) in page {
            part.toggle(key, mark.digest);
            part.values += u64::from(mark.has_value);
        }
        let seen = match page.last() {
            _ if last => Seen::Whole,
            Some((key, _)) => Seen::UpTo(key.detached()),
            None => return,
        };
        let was = std::mem::replace(&mut part.seen, seen);
        self.unbuilt -= u16::from(last && was != Seen::Whole);
    }

    /// Has the partition built anew, because what its digests stand for is in doubt.
    pub fn forget(&mut self, partition: Partition) {
        let was = std::mem::take(self.part_mut(partition));
        self.unbuilt += u16::from(was.seen == Seen::Whole);
    }

    /// The digest of the partition; `None` until it is built.
    #[must_use]
    pub fn root(&self, partition: Partition) -> Option<Digest> {
        let part = self.part(partition);
        (part.seen == Seen::Whole).then_some(part.root)
    }

    /// How many of the partition's records have a value; `None` until it is built.
    #[must_use]
    pub fn values(&self, partition: Partition) -> Option<u64> {
        self.root(partition)?;
        Some(self.part(partition).values)
    }

    /// The digests of the partition's leaves; `None` until it is built.
    #[must_use]
    pub fn leaves(&self, partition: Partition) -> Option<LeafDigests> {
        self.root(partition)?;
        Some(self.part(partition).leaves.clone().unwrap_or_default())
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "a Partition is below PARTITIONS, the table's length"
    )]
    fn part(&self, partition: Partition) -> &Part {
        &self.parts[partition.index()]
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "a Partition is below PARTITIONS, the table's length"
    )]
    fn part_mut(&mut self, partition: Partition) -> &mut Part {
        &mut self.parts[partition.index()]
    }
}

impl Part {
    fn toggle(&mut self, key: &Key, digest: u64) {
        if digest != 0 {
            self.root.toggle(digest);
            let leaves = self.leaves.get_or_insert_default();
            leaves.toggle(key.hash(), digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::dynamo::merkle::record_digest;

    type Store = BTreeMap<(Partition, Key), Mark>;

    fn key(n: u8) -> Key {
        Key::new(Bytes::from(format!("key{n}"))).unwrap()
    }

    /// One step of a store's life.
    #[derive(Debug, Clone)]
    enum Step {
        /// A key gets another record: none, only a delete, or one of two values.
        Write(u8, u8),
        /// The scan goes on for so many records.
        Build(usize),
        /// Something in the key's partition is in doubt.
        Forget(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (any::<u8>(), 0..4_u8).prop_map(|(key, value)| Step::Write(key, value)),
            3 => (1..4_usize).prop_map(Step::Build),
            1 => any::<u8>().prop_map(Step::Forget),
        ]
    }

    fn write(store: &mut Store, tree: &mut Tree, n: u8, value: u8) {
        let key = key(n);
        let new = match value {
            0 => Mark::NOTHING,
            value => Mark {
                digest: record_digest(key.as_bytes(), &[value]),
                has_value: value > 1,
            },
        };
        let place = (key.hash().partition(), key.clone());
        let old = store.insert(place, new).unwrap_or(Mark::NOTHING);
        tree.replace(&key, old, new);
    }

    /// A page of the store into the tree; gives whether anything was left to build.
    fn build(store: &Store, tree: &mut Tree, limit: usize) -> bool {
        let Some((partition, after)) = tree.next_to_build() else {
            return false;
        };
        let rest = store.iter().filter(|((p, key), _)| {
            *p == partition && after.as_ref().is_none_or(|after| key > after)
        });
        let page: Vec<(Key, Mark)> = rest
            .take(limit)
            .map(|((_, k), mark)| (k.clone(), *mark))
            .collect();
        tree.build(partition, &page, page.len() < limit);
        true
    }

    fn from_scratch(store: &Store) -> Tree {
        let mut tree = Tree::default();
        while build(store, &mut tree, 1000) {}
        tree
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_tree_built_between_writes_is_the_tree_of_the_store(
            steps in proptest::collection::vec(step(), 0..600),
        ) {
            let (mut store, mut tree) = (Store::new(), Tree::default());
            for step in steps {
                match step {
                    Step::Write(n, value) => write(&mut store, &mut tree, n, value),
                    // Most partitions are empty: many pages, so that the scan gets somewhere.
                    Step::Build(limit) => for _ in 0..40 { build(&store, &mut tree, limit); },
                    Step::Forget(n) => tree.forget(key(n).hash().partition()),
                }
            }
            while build(&store, &mut tree, 2) {}
            let scratch = from_scratch(&store);
            for partition in Partition::all() {
                prop_assert_eq!(tree.root(partition), scratch.root(partition));
                prop_assert_eq!(tree.leaves(partition), scratch.leaves(partition));
                prop_assert_eq!(tree.values(partition), scratch.values(partition));
                let leaves = tree.leaves(partition).unwrap();
                prop_assert_eq!(Some(leaves.root()), tree.root(partition));
            }
        }
    }

    #[test]
    fn a_partition_has_no_digest_until_it_is_built() {
        let mut tree = Tree::default();
        let first = Partition::new(0).unwrap();
        assert_eq!((tree.root(first), tree.leaves(first)), (None, None));
        assert_eq!(tree.next_to_build(), Some((first, None)));
        tree.build(first, &[], true);
        assert_eq!(tree.root(first), Some(Digest::default()));
        assert_eq!(tree.leaves(first), Some(LeafDigests::default()));
        assert_eq!(
            tree.next_to_build(),
            Some((Partition::new(1).unwrap(), None))
        );
        tree.forget(first);
        assert_eq!(tree.root(first), None);
    }

    #[test]
    fn a_record_that_is_only_a_delete_is_in_the_digests_and_has_no_value() {
        let (mut store, mut tree) = (Store::new(), from_scratch(&Store::new()));
        let (empty, partition) = (tree.clone(), key(7).hash().partition());
        let mut roots = Vec::new();
        for (value, values) in [(2, 1), (1, 0), (3, 1), (1, 0)] {
            write(&mut store, &mut tree, 7, value);
            assert_eq!(tree.values(partition), Some(values), "{value}");
            roots.push(tree.root(partition));
        }
        assert!(!roots.contains(&empty.root(partition)));
        assert_eq!(roots[1], roots[3], "the same delete");
        write(&mut store, &mut tree, 7, 0);
        assert_eq!(tree.root(partition), empty.root(partition));
    }
}
