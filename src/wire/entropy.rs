//! Messages of anti-entropy: two owners compare digests from the roots down, and exchange the
//! states of what differs.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::dynamo::merkle::{LEAVES, LeafDigests};

/// The caller's roots of the partitions that both own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootsCall {
    /// The epoch whose ring makes both owners.
    pub epoch: u64,
    /// Partitions and the caller's roots.
    pub roots: Vec<(u16, u64)>,
}

/// What the callee says of them; whatever is in neither list agrees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootsReply {
    /// Its root is another.
    pub differing: Vec<u16>,
    /// It cannot tell now.
    pub unknown: Vec<u16>,
}

/// Asks for the digests of the leaves of some partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeavesCall {
    /// The epoch that the caller knows.
    pub epoch: u64,
    /// Partitions.
    pub partitions: Vec<u16>,
}

/// The digests of the leaves, of those partitions for which the callee has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeavesReply {
    /// Partitions, and for each [`LEAVES`] digests of 8 bytes, big-endian.
    pub leaves: Vec<(u16, Bytes)>,
}

/// Asks which keys a partition has in some of its leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysCall {
    /// The epoch that the caller knows.
    pub epoch: u64,
    /// The partition's number.
    pub partition: u16,
    /// The leaves.
    pub leaves: Vec<u16>,
}

/// The keys with a value in those leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysReply {
    /// Keys and record digests.
    pub keys: Vec<(Bytes, u64)>,
}

/// Gives the caller's states of some keys and asks for the callee's: afterwards both have the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncCall {
    /// The epoch that the caller knows.
    pub epoch: u64,
    /// Keys, and the caller's encoded states of them; nothing where it has none.
    pub records: Vec<(Bytes, Option<Bytes>)>,
    /// CRC-32C over keys and states, in order.
    pub checksum: u32,
}

/// What the callee has after it merged what it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncReply {
    /// One for each record of the call, in order: the encoded state, where it is another than the
    /// caller's.
    pub states: Vec<Option<Bytes>>,
    /// CRC-32C over the states, in order.
    pub checksum: u32,
}

impl SyncCall {
    /// A call with its checksum.
    #[must_use]
    pub fn new(epoch: u64, records: Vec<(Bytes, Option<Bytes>)>) -> Self {
        let checksum = sum_of_records(&records);
        Self {
            epoch,
            records,
            checksum,
        }
    }

    /// Whether it arrived as it was sent.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        sum_of_records(&self.records) == self.checksum
    }
}

impl SyncReply {
    /// A reply with its checksum.
    #[must_use]
    pub fn new(states: Vec<Option<Bytes>>) -> Self {
        let checksum = sum_of_states(&states);
        Self { states, checksum }
    }

    /// Whether it arrived as it was sent.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        sum_of_states(&self.states) == self.checksum
    }
}

fn sum_of_records(records: &[(Bytes, Option<Bytes>)]) -> u32 {
    records.iter().fold(0, |sum, (key, state)| {
        let state = state.as_ref().map_or(&[][..], |state| state);
        crc32c::crc32c_append(crc32c::crc32c_append(sum, key), state)
    })
}

fn sum_of_states(states: &[Option<Bytes>]) -> u32 {
    let states = states.iter().flatten();
    states.fold(0, |sum, state| crc32c::crc32c_append(sum, state))
}

/// The digests of a partition's leaves as they travel.
#[must_use]
pub fn encode_leaves(leaves: &LeafDigests) -> Bytes {
    let digests = leaves.as_slice().iter().flat_map(|leaf| leaf.to_be_bytes());
    digests.collect::<Vec<u8>>().into()
}

/// The digests that [`encode_leaves`] made the bytes of; `None` if it made them of something else.
#[must_use]
pub fn decode_leaves(bytes: &[u8]) -> Option<LeafDigests> {
    let (digests, rest) = bytes.as_chunks::<8>();
    let digests: Vec<u64> = digests.iter().map(|d| u64::from_be_bytes(*d)).collect();
    (rest.is_empty() && digests.len() == LEAVES)
        .then(|| LeafDigests::from_slice(&digests))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamo::key::KeyHash;
    use crate::wire::state::tests::golden;

    #[test]
    fn leaves_read_back_and_nothing_else_does() {
        let mut leaves = LeafDigests::default();
        leaves.toggle(KeyHash::of(b"key"), 7);
        let bytes = encode_leaves(&leaves);
        assert_eq!(decode_leaves(&bytes), Some(leaves));
        assert_eq!(decode_leaves(&bytes[8..]), None);
        assert_eq!(decode_leaves(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn a_state_that_changed_on_the_way_is_noticed() {
        let (key, state) = (Bytes::from_static(b"key"), Bytes::from_static(b"state"));
        let mut call = SyncCall::new(5, vec![(key.clone(), None), (key, Some(state.clone()))]);
        assert!(call.is_intact());
        call.records[1].0 = Bytes::from_static(b"kez");
        assert!(!call.is_intact());
        let mut reply = SyncReply::new(vec![None, Some(state)]);
        assert!(reply.is_intact());
        reply.states[0] = Some(Bytes::from_static(b"more"));
        assert!(!reply.is_intact());
    }

    /// Nodes of two releases exchange these bytes.
    #[test]
    fn the_messages_are_frozen() {
        let call = RootsCall {
            epoch: 5,
            roots: vec![(3, 0x0102)],
        };
        let roots = golden(include_str!("../../tests/golden/roots-call-v1.hex"));
        assert_eq!(rmp_serde::to_vec_named(&call).unwrap(), roots);
        let call = SyncCall::new(
            5,
            vec![(Bytes::from_static(b"key"), Some(Bytes::from_static(b"s")))],
        );
        let sync = golden(include_str!("../../tests/golden/sync-call-v1.hex"));
        assert_eq!(rmp_serde::to_vec_named(&call).unwrap(), sync);
    }
}
