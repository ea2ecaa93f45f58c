//! What other members ask: whether this one is steady, and to remove what all owners agree on.

use std::time::Duration;

use actix::prelude::{Handler, Message, ResponseFuture};

use super::{Reaper, ReaperParts};
use crate::actors::ring_view::View;
use crate::actors::store_keeper::{GetRoots, Reap};
use crate::dynamo::key::{Key, Partition};
use crate::dynamo::merkle::Digest;
use crate::dynamo::quorum::Fault;
use crate::wire::reaping::{ReapCall, ReapReply, SteadyCall, SteadyReply};

/// A member asks whether tombstones may go.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<SteadyReply, Fault>")]
pub struct AnswerSteady(pub SteadyCall);

/// An owner asks to remove what is left of deleted keys.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<ReapReply, Fault>")]
pub struct AnswerReap(pub ReapCall);

/// Whether this node has values of a partition that it does not own, left from before a move; one
/// whose digests are not built may have some.
pub(super) fn is_leftover(view: &View, partition: Partition, root: Option<Digest>) -> bool {
    !view.shares(partition, &view.me) && root != Some(Digest::default())
}

impl Handler<AnswerSteady> for Reaper {
    type Result = ResponseFuture<Result<SteadyReply, Fault>>;

    fn handle(&mut self, AnswerSteady(call): AnswerSteady, _: &mut Self::Context) -> Self::Result {
        let (view, store) = (self.parts.view.load(), self.parts.store.clone());
        let steady_ms = u64::try_from(self.steady().as_millis()).unwrap_or(u64::MAX);
        Box::pin(async move {
            view.check_epoch(call.epoch)?;
            let roots = store.send(GetRoots).await.or(Err(Fault::Broken))?;
            let mut leftovers = Vec::new();
            for number in call.partitions {
                let partition = Partition::new(number).ok_or(Fault::NotOwner)?;
                let root = roots.get(partition.index()).copied().flatten();
                leftovers.extend(is_leftover(&view, partition, root).then_some(number));
            }
            Ok(SteadyReply {
                steady_ms,
                leftovers,
            })
        })
    }
}

impl Handler<AnswerReap> for Reaper {
    type Result = ResponseFuture<Result<ReapReply, Fault>>;

    fn handle(&mut self, AnswerReap(call): AnswerReap, _: &mut Self::Context) -> Self::Result {
        let (parts, steady) = (self.parts.clone(), self.steady());
        Box::pin(async move { parts.reap(call, steady).await })
    }
}

impl ReaperParts {
    /// Only at the epoch and in the steadiness in which all agreed.
    async fn reap(&self, call: ReapCall, steady: Duration) -> Result<ReapReply, Fault> {
        let view = self.view.load();
        view.check_epoch(call.epoch)?;
        let partition = Partition::new(call.partition).ok_or(Fault::NotOwner)?;
        if !view.shares(partition, &view.me) || steady < self.grace {
            return Err(Fault::NotReady);
        }
        let mut records = Vec::with_capacity(call.records.len());
        for (key, state) in call.records {
            records.push((Key::new(key).or(Err(Fault::Unreachable))?, state));
        }
        let gone = self.store.send(Reap(records)).await;
        let gone = gone.or(Err(Fault::Broken))??;
        Ok(ReapReply { gone })
    }
}
