//! Messages of a partition's move: pages of records, digests to compare, and the flip.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Asks an owner for the next records of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullCall {
    /// The epoch whose ring makes the caller an owner to be.
    pub epoch: u64,
    /// The partition's number.
    pub partition: u16,
    /// The last key of the page before.
    pub after: Option<Bytes>,
    /// At most so many records.
    pub limit: usize,
}

/// A page of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullReply {
    /// Keys and encoded states, in key order.
    pub records: Vec<(Bytes, Bytes)>,
    /// CRC-32C over keys and states, in order.
    pub checksum: u32,
    /// Whether this is the last page.
    pub last: bool,
    /// Records that the owner has and could not give, because they are damaged.
    #[serde(default)]
    pub damaged: usize,
}

impl PullReply {
    /// A page with its checksum.
    #[must_use]
    pub fn new(records: Vec<(Bytes, Bytes)>, last: bool) -> Self {
        let checksum = checksum(&records);
        Self {
            records,
            checksum,
            last,
            damaged: 0,
        }
    }

    /// About what the page weighs.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let weigh = |(key, state): &(Bytes, Bytes)| (key.len() + state.len()) as u64;
        self.records.iter().map(weigh).sum()
    }

    /// Whether the page arrived as it was sent.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        checksum(&self.records) == self.checksum
    }
}

fn checksum(records: &[(Bytes, Bytes)]) -> u32 {
    records.iter().fold(0, |sum, (key, state)| {
        crc32c::crc32c_append(crc32c::crc32c_append(sum, key), state)
    })
}

/// Asks an owner for the digest of a partition, or to flip it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionCall {
    /// The epoch that the caller knows.
    pub epoch: u64,
    /// The partition's number.
    pub partition: u16,
}

/// The digest of a partition's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestReply {
    /// The root over all records.
    pub root: u64,
    /// How many records there are.
    pub records: u64,
    /// Whether the owner has lost some of its own, and is pulling them itself.
    #[serde(default)]
    pub recovering: bool,
}

impl DigestReply {
    /// Whether both have the same records.
    #[must_use]
    pub fn agrees(&self, other: &Self) -> bool {
        (self.root, self.records) == (other.root, other.records)
    }
}

/// Whether an old owner has durably stopped to serve reads of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlipReply {
    /// It has.
    Flipped,
    /// It is at another epoch.
    WrongEpoch,
    /// It does not own the partition, or it is not moving.
    NotMoving,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_changed_on_the_way_is_noticed() {
        let record = (Bytes::from_static(b"key"), Bytes::from_static(b"state"));
        let mut page = PullReply::new(vec![record], true);
        assert!(page.is_intact());
        page.records[0].1 = Bytes::from_static(b"stats");
        assert!(!page.is_intact());
    }
}
