//! Digests of a partition: whether two replicas hold the same records, and if not, in which
//! 1024th of the partition they differ. [`Tree`] keeps them for a whole store.
//!
//! A digest is the exclusive or of one number per record, so it does not depend on any order, and
//! a record that changes is taken out and put in anew without looking at the others. It guards
//! against divergence and damage, not against an adversary: peers are authenticated.

mod tree;

pub use tree::{Mark, Tree};

use std::hash::Hasher;

use fnv::FnvHasher;

use super::key::{KeyHash, PARTITIONS, fmix64};

/// How many leaves a partition has.
pub const LEAVES: usize = 1024;

/// The number that stands for one record: its key and its encoded state.
#[must_use]
pub fn record_digest(key: &[u8], state: &[u8]) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(&(key.len() as u64).to_le_bytes());
    hasher.write(key);
    hasher.write(state);
    fmix64(hasher.finish())
}

/// The digest of a set of records. No records have digest 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Digest(pub u64);

impl Digest {
    /// Puts a record in or, if it is in, takes it out; see [`record_digest`].
    pub fn toggle(&mut self, record: u64) {
        self.0 ^= record;
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One of the [`LEAVES`] equal ranges of a partition, in the order of key hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Leaf(u16);

impl Leaf {
    /// The leaf with this number, if there is one.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        (usize::from(number) < LEAVES).then_some(Self(number))
    }

    /// Where in its partition a key lies: the bits of its hash below those of the partition.
    #[must_use]
    pub fn of(hash: KeyHash) -> Self {
        let below = hash.as_u64() << PARTITIONS.trailing_zeros();
        let [_, _, _, _, _, _, high, low] =
            (below >> (u64::BITS - LEAVES.trailing_zeros())).to_be_bytes();
        Self(u16::from_be_bytes([high, low]))
    }

    /// The leaf's number, `0..LEAVES`.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }
}

/// The digests of a partition's leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafDigests(Box<[u64; LEAVES]>);

impl Default for LeafDigests {
    fn default() -> Self {
        Self(Box::new([0; LEAVES]))
    }
}

impl LeafDigests {
    /// Of digests that a peer sent; `None` if they are not [`LEAVES`].
    #[must_use]
    pub fn from_slice(leaves: &[u64]) -> Option<Self> {
        leaves.try_into().ok().map(|leaves| Self(Box::new(leaves)))
    }

    /// As they are sent to a peer.
    #[must_use]
    pub fn as_slice(&self) -> &[u64] {
        self.0.as_slice()
    }

    /// The digest of one leaf.
    #[must_use]
    pub fn leaf(&self, leaf: Leaf) -> u64 {
        self.0.get(usize::from(leaf.0)).copied().unwrap_or_default()
    }

    /// Puts a record in or, if it is in, takes it out; see [`record_digest`].
    pub fn toggle(&mut self, hash: KeyHash, record: u64) {
        if let Some(leaf) = self.0.get_mut(usize::from(Leaf::of(hash).0)) {
            *leaf ^= record;
        }
    }

    /// The digest of the whole partition: what [`Digest::toggle`] makes of the same records.
    #[must_use]
    pub fn root(&self) -> Digest {
        Digest(self.0.iter().fold(0, |all, leaf| all ^ leaf))
    }

    /// The leaves in which the two differ, in order; none exactly when they are equal.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<Leaf> {
        let pairs = (0..).map(Leaf).zip(self.0.iter().zip(other.0.iter()));
        let unequal = pairs.filter(|(_, (a, b))| a != b);
        unequal.map(|(leaf, _)| leaf).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    type Records = BTreeMap<Vec<u8>, Vec<u8>>;

    fn records() -> impl Strategy<Value = Records> {
        let key = proptest::collection::vec(any::<u8>(), 1..3);
        let state = proptest::collection::vec(any::<u8>(), 0..3);
        proptest::collection::btree_map(key, state, 0..40)
    }

    fn digests<'a>(
        records: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>,
    ) -> (Digest, LeafDigests) {
        let (mut whole, mut leaves) = (Digest::default(), LeafDigests::default());
        for (key, state) in records {
            let record = record_digest(key, state);
            whole.toggle(record);
            leaves.toggle(KeyHash::of(key), record);
        }
        (whole, leaves)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn leaves_differ_exactly_where_records_do(a in records(), b in records()) {
            let ((root_a, leaves_a), (root_b, leaves_b)) = (digests(a.iter()), digests(b.iter()));
            prop_assert_eq!(leaves_a.root(), root_a);
            prop_assert_eq!(root_a == root_b, a == b);
            let keys: BTreeSet<&Vec<u8>> = a.keys().chain(b.keys()).collect();
            let unequal = keys.into_iter().filter(|k| a.get(*k) != b.get(*k));
            let expected: BTreeSet<Leaf> = unequal.map(|k| Leaf::of(KeyHash::of(k))).collect();
            let found = leaves_a.differing(&leaves_b);
            prop_assert!(found.is_sorted());
            prop_assert_eq!(found, leaves_b.differing(&leaves_a));
            prop_assert_eq!(leaves_a.differing(&leaves_b), Vec::from_iter(expected));
        }

        #[test]
        fn order_does_not_matter_and_a_change_is_one_out_one_in(
            a in records(),
            state in proptest::collection::vec(any::<u8>(), 0..3),
        ) {
            let (root, leaves) = digests(a.iter());
            prop_assert_eq!(&digests(a.iter().rev()), &(root, leaves.clone()));
            let Some(key) = a.keys().next().cloned() else { return Ok(()) };
            let mut changed = leaves;
            changed.toggle(KeyHash::of(&key), record_digest(&key, &a[&key]));
            changed.toggle(KeyHash::of(&key), record_digest(&key, &state));
            let mut after = a;
            after.insert(key, state);
            prop_assert_eq!(changed, digests(after.iter()).1);
        }
    }

    /// Nodes of two releases compare them; other numbers are a breaking change.
    #[test]
    fn digests_are_frozen() {
        assert_eq!(record_digest(b"key", b"state"), 0x72d3_7758_a10f_c0e6);
        assert_eq!(record_digest(b"keys", b"tate"), 0xdcb9_b2cc_8a50_ef42);
    }

    #[test]
    fn leaves_divide_a_partition_evenly_in_the_order_of_hashes() {
        let mut counts = [0_u32; LEAVES];
        let mut hashes: Vec<KeyHash> = (0..256_000_u32)
            .map(|i| KeyHash::of(&i.to_be_bytes()))
            .collect();
        hashes.sort();
        for pair in hashes.windows(2) {
            counts[usize::from(Leaf::of(pair[0]).number())] += 1;
            let together = pair[0].partition() == pair[1].partition();
            assert!(!together || Leaf::of(pair[0]) <= Leaf::of(pair[1]));
        }
        let even = counts.iter().all(|c| (160..350).contains(c));
        assert!(even, "{counts:?}");
    }

    #[test]
    fn there_are_1024_leaves() {
        assert_eq!(Leaf::new(1023).map(Leaf::number), Some(1023));
        assert_eq!(Leaf::new(1024), None);
        let peer = LeafDigests::from_slice(&[7; LEAVES]).unwrap();
        assert_eq!(LeafDigests::from_slice(peer.as_slice()), Some(peer.clone()));
        assert_eq!(LeafDigests::from_slice(&[7; LEAVES - 1]), None);
        assert_eq!(peer.leaf(Leaf::new(1023).unwrap()), 7);
        assert_eq!(Digest(7).to_string(), "0000000000000007");
    }
}
