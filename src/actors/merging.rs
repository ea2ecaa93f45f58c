//! Takes states from other owners into this node's records, by sync and through the store keeper:
//! what a move pulls and what anti-entropy exchanges.

use actix::Addr;
use bytes::Bytes;

use super::local_reader::LocalRecords;
use super::replica::{ReplicaWrite, Terms};
use super::store_keeper::{Apply, StoreKeeper, StoreOp};
use crate::dynamo::key::Key;
use crate::dynamo::quorum::Fault;
use crate::dynamo::version::sync;
use crate::wire::state::{StateError, decode_state, encode_state};

/// So many records are written at once: what clients write waits for no more than these.
const AT_ONCE: usize = 32;

/// This node's records, to be read and merged into.
#[derive(Debug, Clone)]
pub struct Merging {
    /// What is here.
    pub records: LocalRecords,
    /// Takes what is missing.
    pub store: Addr<StoreKeeper>,
}

/// What came of a merge.
#[derive(Debug, Default)]
pub struct Merged {
    /// How many of the given states had something new; they are durable.
    pub missing: usize,
    /// For each given record, in order: the merged state, where it is another than the given one.
    pub states: Vec<Option<Bytes>>,
}

/// Why states were not merged; some may have been.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// One of the states makes no sense.
    #[error(transparent)]
    State(#[from] StateError),
    /// This node's store did not take one.
    #[error("this node's own store refuses: {0:?}")]
    Refused(Fault),
    /// The store is gone.
    #[error("this node is going down")]
    GoingDown,
}

impl Merging {
    /// Merges what another owner has of each key, which may be nothing, into this node's records.
    ///
    /// # Errors
    /// [`MergeError`].
    pub async fn merge(
        &self,
        given: Vec<(Key, Option<Bytes>)>,
        terms: Terms,
    ) -> Result<Merged, MergeError> {
        let (mut merged, mut ops) = (Merged::default(), Vec::new());
        for (key, theirs) in given {
            let ours = self.records.peek(&key).map_err(MergeError::Refused)?;
            let (is_new, answer) = compare(ours, theirs.as_ref())?;
            merged.states.push(answer);
            if let Some(state) = theirs.filter(|_| is_new) {
                ops.push(StoreOp::Write(ReplicaWrite { key, state, terms }));
            }
        }
        merged.missing = ops.len();
        while !ops.is_empty() {
            let rest = ops.split_off(ops.len().min(AT_ONCE));
            let apply = Apply {
                ops: std::mem::replace(&mut ops, rest),
                ..Apply::default()
            };
            let applied = self.store.send(apply).await;
            for reply in applied.or(Err(MergeError::GoingDown))? {
                reply.map_err(MergeError::Refused)?;
            }
        }
        Ok(merged)
    }
}

/// Whether the given state has something new for this node, and the merged state where it has
/// something new for the giver.
fn compare(
    ours: Option<Bytes>,
    theirs: Option<&Bytes>,
) -> Result<(bool, Option<Bytes>), StateError> {
    let (ours, theirs) = match (ours, theirs) {
        (ours, None) => return Ok((false, ours)),
        // Equal states have equal bytes.
        (Some(ours), Some(theirs)) if ours == *theirs => return Ok((false, None)),
        (ours, Some(theirs)) => (ours, decode_state(theirs)?),
    };
    let Some(ours) = ours.map(|bytes| decode_state(&bytes)).transpose()? else {
        return Ok((true, None));
    };
    let both = sync(&ours, &theirs);
    let answer = (both != theirs).then(|| encode_state(&both));
    Ok((both != ours, answer))
}
