//! Messages of reaping: whether a member allows it, and what an owner is to remove.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Asks a member whether tombstones of some partitions may go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SteadyCall {
    /// The epoch that the caller knows.
    pub epoch: u64,
    /// Partitions.
    pub partitions: Vec<u16>,
}

/// A member's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SteadyReply {
    /// For how long nothing has happened to it that could delay a message, in milliseconds.
    pub steady_ms: u64,
    /// Of the partitions asked about those of which it has records without owning them.
    pub leftovers: Vec<u16>,
}

/// Asks an owner to remove what is left of deleted keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReapCall {
    /// The epoch that the caller knows.
    pub epoch: u64,
    /// The partition's number.
    pub partition: u16,
    /// Keys, and the encoded states on which all owners agree: exactly these are removed.
    pub records: Vec<(Bytes, Bytes)>,
}

/// What an owner has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReapReply {
    /// How many of the records are not there any more.
    pub gone: u64,
}
