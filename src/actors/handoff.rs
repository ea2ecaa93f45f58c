//! Brings the partitions that this node gains: pulls them from the old owners, verifies them, and
//! gets the old owners to hand over their reads. Every step may be repeated, so a node that was
//! killed in the middle starts again and finds most of the work done.

#[cfg(test)]
mod tests;

use std::time::Duration;

use actix::ActorFutureExt;
use actix::prelude::{Actor, Addr, AsyncContext, Context, Handler, Message, Recipient, WrapFuture};
use futures_util::stream::{self, StreamExt};
use slog::{Logger, debug, info, warn};
use tokio::time::{Instant, sleep};

use super::action_log::nanos;
use super::asking::AskError;
use super::background::Background;
use super::link::Link;
use super::local_reader::LocalRecords;
use super::pulling::{Pulling, TransferError};
use super::ring_keeper::{Flip, RingKeeper, Verified};
use super::ring_view::RingView;
use super::store_keeper::StoreKeeper;
use super::worker::Quorums;
use crate::dynamo::key::Partition;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::Ring;
use crate::wire::transfer::{FlipReply, PartitionCall};

/// Partitions pulled at the same time.
const PARTITIONS_AT_ONCE: usize = 4;
/// Pause before something that did not work is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// The receiving side of a move.
#[derive(Debug)]
pub struct Handoff {
    parts: HandoffParts,
    done: Recipient<TransfersDone>,
    under_way: Option<u64>,
}

/// What the transfers work with.
#[derive(Debug, Clone)]
pub struct HandoffParts {
    /// Which partitions to bring, and where from.
    pub view: RingView,
    /// To the old owners.
    pub link: Link,
    /// What is here already.
    pub records: LocalRecords,
    /// Takes what is missing.
    pub store: Addr<StoreKeeper>,
    /// Remembers what is verified.
    pub ring_keeper: Addr<RingKeeper>,
    /// How many owners must have been pulled from, and must have flipped.
    pub quorums: Quorums,
    /// Tells when to go on.
    pub background: Background,
    /// Where progress is told.
    pub log: Logger,
}

/// Starts to bring what this node gains in the move of this epoch; already under way is fine.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct StartTransfers {
    /// The epoch of the move.
    pub epoch: u64,
}

/// Every partition gained in the move is verified here and flipped at the old owners.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct TransfersDone {
    /// The epoch of the move.
    pub epoch: u64,
}

impl Handoff {
    /// A handoff that reports to `done`.
    #[must_use]
    pub fn new(parts: HandoffParts, done: Recipient<TransfersDone>) -> Self {
        Self {
            parts,
            done,
            under_way: None,
        }
    }
}

impl Actor for Handoff {
    type Context = Context<Self>;
}

impl Handler<StartTransfers> for Handoff {
    type Result = ();

    fn handle(&mut self, StartTransfers { epoch }: StartTransfers, ctx: &mut Self::Context) {
        if self.under_way == Some(epoch) {
            return;
        }
        self.under_way = Some(epoch);
        let parts = self.parts.clone();
        let bringing = async move { parts.bring_all(epoch).await };
        ctx.spawn(bringing.into_actor(self).map(move |complete, act, _| {
            if act.under_way == Some(epoch) {
                act.under_way = None;
            }
            if complete {
                act.done.do_send(TransfersDone { epoch });
            }
        }));
    }
}

impl HandoffParts {
    /// Whether everything was brought; `false` when the ring has changed in between.
    async fn bring_all(&self, epoch: u64) -> bool {
        let view = self.view.load();
        let Some(ring) = view.ring.clone().filter(|ring| ring.epoch == epoch) else {
            return false;
        };
        let gains: Vec<Partition> = ring.gains(&view.me).collect();
        info!(self.log, "bringing partitions"; "event.action" => "move-begun",
            "quorate.ring.epoch" => epoch, "quorate.partitions" => gains.len());
        let started = Instant::now();
        let brought = stream::iter(gains)
            .map(|partition| self.bring(&ring, partition))
            .buffer_unordered(PARTITIONS_AT_ONCE);
        let complete = brought.all(std::future::ready).await;
        info!(self.log, "partitions brought"; "event.action" => "move-ended",
            "quorate.ring.epoch" => epoch, "quorate.complete" => complete,
            "event.duration" => nanos(started.elapsed()));
        complete
    }

    async fn bring(&self, ring: &Ring, partition: Partition) -> bool {
        while self.view.load().epoch() == ring.epoch {
            match self.bring_once(ring, partition).await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => debug!(self.log, "a partition waits";
                    "quorate.partition" => partition.number(), "error.message" => %error),
            }
            sleep(RETRY_PAUSE).await;
        }
        false
    }

    /// Whether the partition is verified and flipped; `false` while too few old owners answer.
    async fn bring_once(&self, ring: &Ring, partition: Partition) -> Result<bool, TransferError> {
        let owners = &ring.placement(partition).owners;
        if !self.view.load().verified.contains(partition) {
            // Every acknowledged write is on W of the old owners, so on one of any N − W + 1.
            let needed = owners.len() + 1 - self.quorums.write.clamp(1, owners.len());
            // An owner that is itself recovering counts only if nobody is left to ask.
            let (mut pulled, mut whole) = (0, 0);
            for owner in owners {
                match self.pulling().pull_all(ring, partition, owner).await {
                    Ok(from) => {
                        pulled += 1;
                        whole += usize::from(from.whole);
                    }
                    Err(
                        error @ (TransferError::Asked(AskError::Link(_))
                        | TransferError::NotWhole(_)),
                    ) => {
                        debug!(self.log, "an old owner does not count";
                            "quorate.peer" => %owner, "error.message" => %error);
                    }
                    Err(other) => return Err(other),
                }
            }
            if whole < needed && pulled < owners.len() {
                return Ok(false);
            }
            let verified = Verified {
                epoch: ring.epoch,
                partition,
            };
            let noted = self.ring_keeper.send(verified).await;
            noted
                .or(Err(TransferError::NotStored))?
                .or(Err(AskError::RingChanged))?;
        }
        // Without N − R + 1 of the old owners, no R of them answer a read any more.
        let needed = owners.len() + 1 - self.quorums.read.clamp(1, owners.len());
        let mut flipped = 0;
        for owner in owners {
            flipped += usize::from(self.flip(ring, partition, owner).await);
        }
        Ok(flipped >= needed)
    }

    fn pulling(&self) -> Pulling {
        Pulling {
            link: self.link.clone(),
            records: self.records.clone(),
            store: self.store.clone(),
            background: self.background.clone(),
        }
    }

    async fn flip(&self, ring: &Ring, partition: Partition, owner: &NodeId) -> bool {
        if *owner == self.view.load().me {
            let flip = Flip {
                epoch: ring.epoch,
                partition,
            };
            return matches!(
                self.ring_keeper.send(flip).await,
                Ok(Ok(FlipReply::Flipped))
            );
        }
        let call = PartitionCall {
            epoch: ring.epoch,
            partition: partition.number(),
        };
        let flipping = self.pulling();
        match flipping.ask(ring, owner, "/peer/v1/flip", &call).await {
            Ok(FlipReply::Flipped) => true,
            Ok(other) => {
                warn!(self.log, "an old owner did not flip"; "quorate.peer" => %owner,
                    "error.message" => ?other);
                false
            }
            Err(error) => {
                debug!(self.log, "an old owner is silent"; "quorate.peer" => %owner,
                    "error.message" => %error);
                false
            }
        }
    }
}
