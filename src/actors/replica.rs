//! The messages a replica understands. The local store and a remote peer handle the same ones, so
//! a coordinator cannot tell them apart.

use actix::{Message, Recipient};
use bytes::Bytes;
use tokio::time::Instant;

use crate::dynamo::key::Key;
use crate::dynamo::quorum::Fault;
use crate::dynamo::ring::OwnerSet;
use crate::dynamo::version::{Clock, Mint};
use crate::wire::trace::TraceId;

/// Under which ring a request is made, and until when its answer is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The epoch of the sender's ring.
    pub epoch: u64,
    /// Which owners of the partition are addressed.
    pub set: OwnerSet,
    /// Travels between nodes as the time left.
    pub deadline: Instant,
    /// The client's request that it is part of.
    pub trace: Option<TraceId>,
}

/// Asks for the replica's state of a key.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<ReadReply, Fault>")]
pub struct ReplicaRead {
    /// Which record.
    pub key: Key,
    /// Under which ring.
    pub terms: Terms,
}

/// The replica's state, encoded; `None` if the key was never written. Equal states have equal
/// bytes.
pub type ReadReply = Option<Bytes>;

/// Asks the replica to merge a state into its record, durably.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), Fault>")]
pub struct ReplicaWrite {
    /// Which record.
    pub key: Key,
    /// The encoded state.
    pub state: Bytes,
    /// Under which ring.
    pub terms: Terms,
}

/// Asks the replica to apply a client's write to its record, durably, under a dot of its own.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<MintReply, Fault>")]
pub struct ReplicaMint {
    /// Which record.
    pub key: Key,
    /// The write.
    pub mint: Mint,
    /// Under which ring.
    pub terms: Terms,
}

/// What became of a write at its minter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MintReply {
    /// It is durable there.
    Minted(Minted),
    /// A create found a live value; the encoded state.
    AlreadyExists(Bytes),
    /// A delete found nothing; the encoded state.
    NothingToDelete(Bytes),
    /// One more sibling would be too many; the encoded state.
    TooManySiblings(Bytes),
    /// The request's id was used for something else.
    RequestReused,
}

/// A write that is durable at its minter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Minted {
    /// The record's new state, encoded: what the other owners are sent.
    pub state: Bytes,
    /// The clock of the answer.
    pub answer: Clock,
    /// Live values in the new state.
    pub siblings: usize,
}

/// The three ways to a replica, local or remote.
#[derive(Debug, Clone)]
pub struct Replica {
    /// Reads.
    pub read: Recipient<ReplicaRead>,
    /// Merges.
    pub write: Recipient<ReplicaWrite>,
    /// Mints.
    pub mint: Recipient<ReplicaMint>,
}
