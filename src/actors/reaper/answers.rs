//! What other members ask: whether this one is steady, and to remove what all owners agree on.

use std::time::Duration;

use actix::prelude::{Handler, Message, ResponseFuture};

use super::{Reaper, ReaperParts};
use crate::actors::ring_view::View;
use crate::actors::store_keeper::{GetValues, Reap};
use crate::dynamo::key::{Key, Partition};
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

impl Handler<AnswerSteady> for Reaper {
    type Result = ResponseFuture<Result<SteadyReply, Fault>>;

    fn handle(&mut self, AnswerSteady(call): AnswerSteady, _: &mut Self::Context) -> Self::Result {
        let (parts, view) = (self.parts.clone(), self.parts.view.load());
        let steady_ms = u64::try_from(self.steady().as_millis()).unwrap_or(u64::MAX);
        Box::pin(async move {
            view.check_epoch(call.epoch)?;
            let partitions = call.partitions.into_iter().map(Partition::new);
            let partitions: Option<Vec<Partition>> = partitions.collect();
            let left = parts
                .leftovers(&view, &partitions.ok_or(Fault::NotOwner)?)
                .await?;
            Ok(SteadyReply {
                steady_ms,
                leftovers: left.into_iter().map(Partition::number).collect(),
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
    /// Of these partitions those of which this node has values that may get into use while it does not
    /// share them with the others; one that is not counted yet may have some. A delete that is left
    /// does no harm, and what is left of an earlier ownership is never used again.
    pub(super) async fn leftovers(
        &self,
        view: &View,
        partitions: &[Partition],
    ) -> Result<Vec<Partition>, Fault> {
        let values = self.store.send(GetValues).await.or(Err(Fault::Broken))?;
        let of = |partition: &Partition| values.get(partition.index()).copied().flatten();
        let left = partitions
            .iter()
            .filter(|p| !view.shares(**p, &view.me) && !view.leftovers.contains(**p))
            .filter(|p| of(p) != Some(0));
        Ok(left.copied().collect())
    }

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
