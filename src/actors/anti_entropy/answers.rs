//! The side that is asked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::{Handler, Message, ResponseFuture};
use tokio::time::Instant;

use super::AntiEntropy;
use crate::actors::local_reader::LocalRecords;
use crate::actors::merging::{MergeError, Merging};
use crate::actors::replica::Terms;
use crate::actors::ring_view::View;
use crate::actors::store_keeper::{GetLeaves, GetRoots, record_mark};
use crate::dynamo::key::{Key, Partition};
use crate::dynamo::merkle::{Leaf, Mark};
use crate::dynamo::quorum::Fault;
use crate::dynamo::ring::OwnerSet;
use crate::wire::entropy::{
    KeysCall, KeysReply, LeavesCall, LeavesReply, RootsCall, RootsReply, SyncCall, SyncReply,
    encode_leaves,
};

/// Records read at once.
const PAGE: usize = 256;
/// How long the store may take.
const STORE_TIME: Duration = Duration::from_secs(4);

/// A peer compares its roots.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<RootsReply, Fault>")]
pub struct AnswerRoots(pub RootsCall);

/// A peer asks for leaves.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<LeavesReply, Fault>")]
pub struct AnswerLeaves(pub LeavesCall);

/// A peer asks for keys.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<KeysReply, Fault>")]
pub struct AnswerKeys(pub KeysCall);

/// A peer exchanges states.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<SyncReply, Fault>")]
pub struct AnswerSync(pub SyncCall);

/// Whether this node owns the partition and it is at rest.
fn holds(view: &View, partition: Partition) -> bool {
    view.shares(partition, &view.me)
}

/// The keys with a record in some leaves of a partition, and their record digests.
pub(super) fn keys_of(
    records: &LocalRecords,
    partition: Partition,
    leaves: &[Leaf],
) -> Result<Vec<(Key, u64)>, Fault> {
    let leaves: BTreeSet<Leaf> = leaves.iter().copied().collect();
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page = records.scan(partition, after.as_ref(), PAGE)?;
        for (key, state) in page.entries {
            if leaves.contains(&Leaf::of(key.hash())) {
                let mark = record_mark(&key, &state);
                keys.extend((mark != Mark::NOTHING).then_some((key, mark.digest)));
            }
        }
        after = page.next_after;
        if after.is_none() {
            return Ok(keys);
        }
    }
}

impl Handler<AnswerRoots> for AntiEntropy {
    type Result = ResponseFuture<Result<RootsReply, Fault>>;

    fn handle(&mut self, AnswerRoots(call): AnswerRoots, _: &mut Self::Context) -> Self::Result {
        let (view, store) = (self.parts.view.load(), self.parts.store.clone());
        Box::pin(async move {
            view.check_epoch(call.epoch)?;
            let ours = store.send(GetRoots).await.or(Err(Fault::Broken))?;
            let mut reply = RootsReply::default();
            for (number, theirs) in call.roots {
                let partition = Partition::new(number).ok_or(Fault::NotOwner)?;
                let ours = ours.get(partition.index()).copied().flatten();
                match ours.filter(|_| holds(&view, partition)) {
                    Some(ours) if ours.0 == theirs => {}
                    Some(_) => reply.differing.push(number),
                    None => reply.unknown.push(number),
                }
            }
            Ok(reply)
        })
    }
}

impl Handler<AnswerLeaves> for AntiEntropy {
    type Result = ResponseFuture<Result<LeavesReply, Fault>>;

    fn handle(&mut self, AnswerLeaves(call): AnswerLeaves, _: &mut Self::Context) -> Self::Result {
        let (view, store) = (self.parts.view.load(), self.parts.store.clone());
        Box::pin(async move {
            view.check_epoch(call.epoch)?;
            let mut leaves = Vec::with_capacity(call.partitions.len());
            for number in call.partitions {
                let partition = Partition::new(number).ok_or(Fault::NotOwner)?;
                let ours = store.send(GetLeaves(partition)).await;
                let ours = ours.or(Err(Fault::Broken))?;
                if let Some(ours) = ours.filter(|_| holds(&view, partition)) {
                    leaves.push((number, encode_leaves(&ours)));
                }
            }
            Ok(LeavesReply { leaves })
        })
    }
}

impl Handler<AnswerKeys> for AntiEntropy {
    type Result = Result<KeysReply, Fault>;

    fn handle(&mut self, AnswerKeys(call): AnswerKeys, _: &mut Self::Context) -> Self::Result {
        let view = self.parts.view.load();
        view.check_epoch(call.epoch)?;
        let partition = Partition::new(call.partition).ok_or(Fault::NotOwner)?;
        if !holds(&view, partition) {
            return Err(Fault::NotReady);
        }
        let leaves: Vec<Leaf> = call.leaves.into_iter().filter_map(Leaf::new).collect();
        let keys = keys_of(&self.parts.records, partition, &leaves)?;
        let sent = |(key, digest): (Key, u64)| (key.as_bytes().clone(), digest);
        Ok(KeysReply {
            keys: keys.into_iter().map(sent).collect(),
        })
    }
}

impl Handler<AnswerSync> for AntiEntropy {
    type Result = ResponseFuture<Result<SyncReply, Fault>>;

    fn handle(&mut self, AnswerSync(call): AnswerSync, _: &mut Self::Context) -> Self::Result {
        let merging = Merging {
            records: self.parts.records.clone(),
            store: self.parts.store.clone(),
        };
        Box::pin(answer_sync(merging, self.parts.view.load(), call))
    }
}

async fn answer_sync(
    merging: Merging,
    view: Arc<View>,
    call: SyncCall,
) -> Result<SyncReply, Fault> {
    // What was damaged on the way counts as never arrived.
    if !call.is_intact() {
        return Err(Fault::Unreachable);
    }
    view.check_epoch(call.epoch)?;
    let terms = Terms {
        epoch: call.epoch,
        set: OwnerSet::Current,
        deadline: Instant::now() + STORE_TIME,
        trace: None,
    };
    let mut given = Vec::with_capacity(call.records.len());
    for (key, state) in call.records {
        let key = Key::new(key).or(Err(Fault::Unreachable))?;
        if !holds(&view, key.hash().partition()) {
            return Err(Fault::NotReady);
        }
        given.push((key, state));
    }
    let merged = merging.merge(given, terms).await.map_err(|why| match why {
        MergeError::Refused(fault) => fault,
        MergeError::State(_) => Fault::Unreachable,
        MergeError::GoingDown => Fault::Broken,
    })?;
    Ok(SyncReply::new(merged.states))
}
