//! What a storage engine must do.

use bytes::Bytes;

use crate::dynamo::key::{Key, Partition};
use crate::dynamo::node_id::NodeId;

/// One change of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets a record.
    Put(Partition, Key, Bytes),
    /// Removes a record.
    Remove(Partition, Key),
    /// Sets the hint that is kept for a node, for one key.
    PutHint(NodeId, Key, Bytes),
    /// Removes a hint.
    RemoveHint(NodeId, Key),
    /// Sets a named piece of the node's own metadata.
    Meta(&'static str, Bytes),
}

/// Whether a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// The data is on the disk, not only in its cache, before the call returns.
    Disk,
    /// The data is with the operating system.
    Os,
}

/// A key and its record, as a scan gives them.
pub type Entry = (Key, Bytes);

/// A store of records by partition and key, of hints by the node they are kept for and key, and of
/// a little metadata by name. Hints and records never mix.
///
/// Reads may come from any thread at any time, and see exactly the batches whose commit has
/// returned, and perhaps one that is about to, but never one that a commit with [`Sync::Disk`] has
/// not yet brought to the disk. Commits come from one thread at a time.
pub trait Engine: Send + std::marker::Sync + 'static {
    /// The record of a key.
    ///
    /// # Errors
    /// [`EngineError`] when the engine cannot tell.
    fn get(&self, partition: Partition, key: &Key) -> Result<Option<Bytes>, EngineError>;

    /// The records of a partition in key order, after the given key, at most `limit` of them.
    ///
    /// # Errors
    /// [`EngineError`] when the engine cannot tell.
    fn page(
        &self,
        partition: Partition,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Entry>, EngineError>;

    /// The hint for a node and a key.
    ///
    /// # Errors
    /// [`EngineError`] when the engine cannot tell.
    fn hint(&self, target: &NodeId, key: &Key) -> Result<Option<Bytes>, EngineError>;

    /// The hints for a node by partition and key, after the given key, at most `limit` of them.
    ///
    /// # Errors
    /// [`EngineError`] when the engine cannot tell.
    fn hints(
        &self,
        target: &NodeId,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Entry>, EngineError>;

    /// The nodes that there are hints for, by name.
    ///
    /// # Errors
    /// [`EngineError`] when the engine cannot tell.
    fn hint_targets(&self) -> Result<Vec<NodeId>, EngineError>;

    /// A named piece of metadata.
    ///
    /// # Errors
    /// [`EngineError`] when the engine cannot tell.
    fn meta(&self, name: &'static str) -> Result<Option<Bytes>, EngineError>;

    /// Applies all changes or none.
    ///
    /// # Errors
    /// [`EngineError::Full`] when nothing was applied for want of space; any other error leaves
    /// the engine unusable.
    fn commit(&self, changes: Vec<Change>, sync: Sync) -> Result<(), EngineError>;

    /// Brings everything committed so far to the disk.
    ///
    /// # Errors
    /// [`EngineError`], after which the engine is unusable.
    fn sync(&self) -> Result<(), EngineError>;

    /// Bytes on the disk, or in memory where there is no disk.
    fn bytes(&self) -> u64;
}

/// Why an engine call failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No space is left; nothing was applied.
    #[error("the disk is full")]
    Full,
    /// What is stored there is not what was written; it is never given out.
    #[error(
        "the stored data is damaged: {0}. If this node does not get over it: stop it, remove \
        its data directory, and start it again; it gets its data back from the other nodes"
    )]
    Damaged(#[source] Box<dyn std::error::Error + Send + std::marker::Sync>),
    /// Anything else; the engine must not be used further.
    #[error("the storage engine failed: {0}")]
    Broken(#[source] Box<dyn std::error::Error + Send + std::marker::Sync>),
}
