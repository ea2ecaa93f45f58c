//! What the store keeper is asked, and what it answers.

use actix::Message;
use bytes::Bytes;
use serde::Serialize;

use crate::actors::replica::{MintReply, ReplicaMint, ReplicaWrite, Terms};
use crate::dynamo::key::Key;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quorum::Fault;
use crate::dynamo::ring::ClusterId;
use crate::dynamo::version::State;

/// One operation of a peer's batch.
#[derive(Debug, Clone)]
pub enum StoreOp {
    /// Merge a state.
    Write(ReplicaWrite),
    /// Apply a client's write.
    Mint(ReplicaMint),
}

/// What became of one operation of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreReply {
    /// The state is merged and durable.
    Written,
    /// The mint's reply; what it says is durable.
    Minted(MintReply),
}

/// Asks for a whole batch to be applied in order; the replies come together, in the same order.
#[derive(Debug, Default, Message)]
#[rtype(result = "Vec<Result<StoreReply, Fault>>")]
pub struct Apply {
    /// The operations.
    pub ops: Vec<StoreOp>,
    /// Earlier mints for other nodes that need not be told again.
    pub heard: Vec<u128>,
}

/// Asks for a damaged record to be replaced by what enough other owners hold that every
/// acknowledged write is in it; an empty state removes it.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Fault>")]
pub struct Recover {
    /// Which record.
    pub key: Key,
    /// What takes its place.
    pub state: State,
    /// Under which ring.
    pub terms: Terms,
}

/// Asks for a piece of metadata to be stored; it is on the disk when this is answered, whatever
/// the durability.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Fault>")]
pub struct SaveMeta {
    /// Its name.
    pub name: &'static str,
    /// Its new value.
    pub value: Bytes,
}

/// Asks for hints to be removed that their target has acknowledged. One that has changed since
/// stays; an unreadable one goes, whatever it is said to be.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Fault>")]
pub struct DropHints {
    /// Whom they were for.
    pub target: NodeId,
    /// The keys, each with the encoded state that was acknowledged.
    pub acknowledged: Vec<(Key, Bytes)>,
}

/// Asks for the cluster this node has joined to be noted for good.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), NoteClusterError>")]
pub struct NoteCluster {
    /// The cluster.
    pub cluster: ClusterId,
}

/// Why a cluster was not noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteClusterError {
    /// The store belongs to another one, and still does.
    #[error("the store belongs to cluster {0}")]
    Other(ClusterId),
    /// The store is closed.
    #[error("the store is closed")]
    Ended,
}

/// Asks for a new incarnation, because the store has gone back in time; its boot number rises to
/// the one given. Done, durably, when this is answered.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), Fault>")]
pub struct RenewIncarnation {
    /// Above every start that others have seen.
    pub boot: u64,
}

/// Asks for the boot number to rise if records were written since it last did, so that a copy of the
/// directory from before is known for one. Gives the number, which is durable.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<u64, Fault>")]
pub struct CountOn;

/// Asks for everything to be finished and marked as whole, after which nothing more is taken.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Fault>")]
pub struct Drain;

/// What is kept for one other node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HintStatus {
    /// Keys.
    pub count: u64,
    /// Bytes of keys and records.
    pub bytes: u64,
    /// For how long there have been hints for the node without a break, as far as this process
    /// has seen it: no hint is older.
    pub oldest_seconds: u64,
}
