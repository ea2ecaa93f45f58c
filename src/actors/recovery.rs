//! Brings back what a lost store held: every partition noted as recovering is pulled from its other
//! owners, and only then served again. A store that has gone back in time is emptied first, so that
//! no value returns that was deleted, and whose delete was reaped, since its time.
//!
//! An acknowledged write is on W of the N owners, so on W − 1 of the others if this node had it, and
//! on one of any N − W + 1 of them: pulled from so many that have lost nothing, a partition is
//! whole. Discarding is irreversible and not urgent, so it waits until all N − 1 others answer and
//! have lost nothing: then each acknowledged write is at hand at the very moment.

#[cfg(test)]
mod tests;

use std::time::Duration;

use actix::prelude::{Actor, Addr, AsyncContext, Context};
use actix::{ActorFutureExt, WrapFuture};
use futures_util::stream::{self, StreamExt};
use slog::{Logger, debug, info};
use tokio::time::{Instant, sleep};

use super::action_log::nanos;
use super::asking::AskError;
use super::pulling::{Pass, Pulling, TransferError};
use super::ring_keeper::{Discarded, KeeperError, Recovered, RingKeeper};
use super::ring_view::RingView;
use super::store_keeper::{Discard, DiscardHints};
use super::worker::Quorums;
use crate::dynamo::key::Partition;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::Ring;

/// Between two looks at what is to be recovered, and before what did not work is tried again.
pub const PAUSE: Duration = Duration::from_millis(500);
/// Partitions pulled at the same time.
const PARTITIONS_AT_ONCE: usize = 4;

/// What recovery works with.
#[derive(Debug, Clone)]
pub struct RecoveryParts {
    /// What is to be recovered, and from whom.
    pub view: RingView,
    /// Pulls.
    pub pulling: Pulling,
    /// Notes what is recovered.
    pub ring_keeper: Addr<RingKeeper>,
    /// How many owners must have been pulled from.
    pub quorums: Quorums,
    /// Between two looks; [`PAUSE`].
    pub pause: Duration,
    /// Where progress is told.
    pub log: Logger,
}

/// The actor; see the module.
#[derive(Debug)]
pub struct Recovery {
    parts: RecoveryParts,
}

impl Recovery {
    /// Recovers whatever the view says is to be recovered, for as long as it lives.
    #[must_use]
    pub fn new(parts: RecoveryParts) -> Self {
        Self { parts }
    }
}

impl Actor for Recovery {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (parts, me) = (self.parts.clone(), ctx.address().downgrade());
        let recovering = async move {
            while me.upgrade().is_some() {
                parts.recover_all().await;
                sleep(parts.pause).await;
            }
        };
        ctx.spawn(recovering.into_actor(self).map(|(), _, _| ()));
    }
}

impl RecoveryParts {
    /// One attempt at everything that is to be recovered.
    async fn recover_all(&self) {
        let view = self.view.load();
        let lost: Vec<Partition> = view.recovering.iter().collect();
        let Some(ring) = view.ring.clone().filter(|_| !lost.is_empty()) else {
            return;
        };
        let (started, attempted) = (Instant::now(), lost.len());
        let attempts = stream::iter(lost).map(|partition| self.recover(&ring, partition));
        let attempts = attempts.buffer_unordered(PARTITIONS_AT_ONCE);
        let done = attempts
            .filter(|done| std::future::ready(*done))
            .count()
            .await;
        if done > 0 {
            info!(self.log, "recovered partitions"; "quorate.partitions" => done,
                "quorate.partitions_left" => attempted - done,
                "event.duration" => nanos(started.elapsed()));
        }
    }

    async fn recover(&self, ring: &Ring, partition: Partition) -> bool {
        match self.recover_once(ring, partition).await {
            Ok(done) => done,
            Err(error) => {
                debug!(self.log, "a partition waits to be recovered";
                    "quorate.partition" => partition.number(), "error.message" => %error);
                false
            }
        }
    }

    /// Whether the partition is recovered; `false` while too few others answer.
    async fn recover_once(&self, ring: &Ring, partition: Partition) -> Result<bool, TransferError> {
        let view = self.view.load();
        let owners = &ring.placement(partition).owners;
        let others: Vec<&NodeId> = owners.iter().filter(|id| **id != view.me).collect();
        if view.tainted.contains(partition) && !self.discard(ring, partition, &others).await? {
            return Ok(false);
        }
        let needed = owners.len() + 1 - self.quorums.write.clamp(1, owners.len());
        let (mut pulled, mut whole) = (0, 0);
        for owner in &others {
            match self.pull(ring, partition, owner).await {
                Ok(is_whole) => {
                    pulled += 1;
                    whole += usize::from(is_whole);
                }
                Err(
                    error @ (TransferError::Asked(AskError::Link(_)) | TransferError::NotWhole(_)),
                ) => {
                    debug!(self.log, "an owner does not count"; "quorate.peer" => %owner,
                        "error.message" => %error);
                }
                Err(other) => return Err(other),
            }
        }
        // When all others were pulled from, there is nobody left who could know more.
        let recovered = whole >= needed || pulled == others.len();
        if recovered {
            self.note(Recovered(partition)).await?;
        }
        Ok(recovered)
    }

    /// Whether what that owner has is here now, and that owner has lost nothing itself.
    async fn pull(
        &self,
        ring: &Ring,
        partition: Partition,
        owner: &NodeId,
    ) -> Result<bool, TransferError> {
        let theirs = self.pulling.digest_of(ring, partition, owner).await?;
        if self.pulling.agrees(partition, &theirs)? {
            return Ok(!theirs.recovering);
        }
        let pulled = self
            .pulling
            .pull_all(ring, partition, owner, &mut Pass::default(), &|_| ())
            .await?;
        Ok(pulled.whole)
    }

    /// Empties the partition, if all others answer and have lost nothing.
    async fn discard(
        &self,
        ring: &Ring,
        partition: Partition,
        others: &[&NodeId],
    ) -> Result<bool, TransferError> {
        for owner in others {
            if self
                .pulling
                .digest_of(ring, partition, owner)
                .await?
                .recovering
            {
                return Ok(false);
            }
        }
        // Where nobody else owns the partition, an old copy is all there is.
        if !others.is_empty() {
            let store = &self.pulling.store;
            // None is taken until no partition has old records, so that none of these is newer.
            let hints = store.send(DiscardHints).await;
            let records = store.send(Discard(partition)).await;
            for discarded in [hints, records] {
                discarded
                    .or(Err(TransferError::NotStored))?
                    .or(Err(TransferError::NotStored))?;
            }
        }
        self.note(Discarded(partition)).await?;
        Ok(true)
    }

    async fn note<M>(&self, message: M) -> Result<(), TransferError>
    where
        M: actix::Message<Result = Result<(), KeeperError>> + Send + 'static,
        RingKeeper: actix::Handler<M>,
    {
        let noted = self.ring_keeper.send(message).await;
        noted
            .or(Err(TransferError::NotStored))?
            .or(Err(TransferError::NotStored))
    }
}
