//! Brings the partitions that this node gains: pulls them from the old owners, verifies them, and
//! gets the old owners to hand over their reads. Every step may be repeated, so a node that was
//! killed in the middle starts again and finds most of the work done.

mod progress;
mod slots;
#[cfg(test)]
mod tests;

pub use progress::{GetTransfers, Step, Transfer};

use std::collections::BTreeMap;
use std::sync::Arc;
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
use super::pulling::{Pass, Pulled, Pulling, TransferError};
use super::ring_keeper::{Cleared, Flip, RingKeeper, Verified};
use super::ring_view::RingView;
use super::store_keeper::{Clear, StoreKeeper};
use super::worker::Quorums;
use crate::dynamo::key::{PARTITIONS, Partition};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{Pulls, Ring};
use crate::wire::transfer::{FlipReply, PartitionCall, PullReply};
use progress::{Begun, Board, Watch};
use slots::Slots;

/// Partitions pulled at the same time.
const AT_ONCE: usize = 4;
/// More at the same time is not allowed.
const MOST_AT_ONCE: usize = 64;
/// Pause before something that did not work is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// How far each owner's records of one partition have been pulled, for the next attempt.
type Passes = BTreeMap<NodeId, Pass>;

/// The receiving side of a move.
#[derive(Debug)]
pub struct Handoff {
    parts: HandoffParts,
    done: Recipient<TransfersDone>,
    under_way: Option<u64>,
    board: Board,
    at_once: usize,
    slots: Arc<Slots>,
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
    /// The epoch of the ring that moves them.
    pub epoch: u64,
}

/// Every partition gained in the move is verified here and flipped at the old owners.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct TransfersDone {
    /// The epoch in which the move began.
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
            board: Board::default(),
            at_once: AT_ONCE,
            slots: Arc::new(Slots::new(AT_ONCE)),
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
        let (parts, board, slots) = (self.parts.clone(), ctx.address(), self.slots.clone());
        let bringing = async move { parts.bring_all(epoch, (&board, &slots)).await };
        ctx.spawn(bringing.into_actor(self).map(move |brought, act, _| {
            if act.under_way == Some(epoch) {
                act.under_way = None;
            }
            if let Some(epoch) = brought {
                act.done.do_send(TransfersDone { epoch });
            }
        }));
    }
}

/// Sets how many partitions are pulled at the same time.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct SetAtOnce(pub u32);

impl Handler<SetAtOnce> for Handoff {
    type Result = ();

    fn handle(&mut self, SetAtOnce(wanted): SetAtOnce, _ctx: &mut Self::Context) {
        let wanted = usize::try_from(wanted).unwrap_or(MOST_AT_ONCE);
        let wanted = wanted.clamp(1, MOST_AT_ONCE);
        let before = std::mem::replace(&mut self.at_once, wanted);
        self.slots.add(wanted.saturating_sub(before));
        self.slots.remove(before.saturating_sub(wanted));
    }
}

impl HandoffParts {
    /// Brings everything; gives the epoch in which the move began, or nothing when the ring has
    /// changed in between.
    async fn bring_all(&self, epoch: u64, (board, slots): (&Addr<Handoff>, &Slots)) -> Option<u64> {
        let view = self.view.load();
        let ring = view.ring.clone().filter(|ring| ring.epoch == epoch)?;
        let gains: Vec<Partition> = ring.gains(&view.me).collect();
        board.do_send(Begun {
            epoch: ring.move_epoch(),
            me: view.me.clone(),
            partitions: gains.clone(),
        });
        // Writes of these partitions are refused until it is done.
        for partition in gains.iter().copied() {
            if let Err(error) = self.clear_old_copy(partition).await {
                warn!(self.log, "an old copy was not discarded";
                    "quorate.partition" => partition.number(), "error.message" => %error);
            }
        }
        info!(self.log, "bringing partitions"; "event.action" => "move-begun",
            "quorate.ring.epoch" => epoch, "quorate.partitions" => gains.len());
        let started = Instant::now();
        let brought = stream::iter(gains)
            .map(|partition| self.bring(&ring, Watch { partition, board }, slots))
            .buffer_unordered(usize::from(PARTITIONS));
        let complete = brought.all(std::future::ready).await;
        info!(self.log, "partitions brought"; "event.action" => "move-ended",
            "quorate.ring.epoch" => epoch, "quorate.complete" => complete,
            "event.duration" => nanos(started.elapsed()));
        complete.then(|| ring.move_epoch())
    }

    /// What is left of an earlier ownership goes before anything is pulled; whether there was any.
    async fn clear_old_copy(&self, partition: Partition) -> Result<bool, TransferError> {
        if !self.view.load().stale.contains(partition) {
            return Ok(false);
        }
        loop {
            let removed = self.store.send(Clear(partition)).await;
            let removed = removed.or(Err(TransferError::NotStored))?;
            if removed.or(Err(TransferError::NotStored))?.is_empty {
                break;
            }
        }
        let noted = self.ring_keeper.send(Cleared(partition)).await;
        let noted = noted.or(Err(TransferError::NotStored))?;
        noted.map(|()| true).or(Err(TransferError::NotStored))
    }

    /// A partition that waits holds up no other one.
    async fn bring(&self, ring: &Ring, watch: Watch<'_>, slots: &Slots) -> bool {
        let mut passes = Passes::new();
        while self.view.load().epoch() == ring.epoch {
            let Some(slot) = slots.take().await else {
                return false;
            };
            let brought = self.bring_once(ring, watch, &mut passes).await;
            slots.give_back(slot);
            match brought {
                Ok(true) => {
                    watch.is_at(Step::Flipped);
                    return true;
                }
                Ok(false) => {}
                Err(error) => {
                    watch.waits_for(error.to_string());
                    debug!(self.log, "a partition waits";
                        "quorate.partition" => watch.partition.number(),
                        "error.message" => %error);
                }
            }
            sleep(RETRY_PAUSE).await;
        }
        false
    }

    /// Whether the partition is verified and flipped; `false` while too few old owners answer.
    async fn bring_once(
        &self,
        ring: &Ring,
        watch: Watch<'_>,
        passes: &mut Passes,
    ) -> Result<bool, TransferError> {
        let partition = watch.partition;
        let row = ring.placement(partition);
        if self.clear_old_copy(partition).await? {
            // What was pulled before is gone with it.
            passes.clear();
        }
        if !self.view.load().verified.contains(partition) {
            if !self.pull_enough(ring, watch, passes).await? {
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
        watch.is_at(Step::Verified);
        // Without N − R + 1 of the old owners, no R of them answer a read any more.
        let (mut flipped, mut silent) = (0, Vec::new());
        for owner in &row.owners {
            if self.flip(ring, partition, owner).await {
                flipped += 1;
            } else {
                silent.push(owner.to_string());
            }
        }
        let is_over = row.is_handed_over_with(self.quorums.read, flipped);
        if !is_over {
            watch.waits_for(format!("{} to stop serving reads", silent.join(", ")));
        }
        Ok(is_over)
    }

    /// Pulls from the old owners; whether from enough that everything acknowledged is here.
    async fn pull_enough(
        &self,
        ring: &Ring,
        watch: Watch<'_>,
        passes: &mut Passes,
    ) -> Result<bool, TransferError> {
        let row = ring.placement(watch.partition);
        let view = self.view.load();
        let (mut pulls, mut silent) = (Pulls::default(), Vec::new());
        for owner in &row.owners {
            if *owner == view.me {
                pulls.from += 1;
                pulls.whole += usize::from(!view.recovering.contains(watch.partition));
                continue;
            }
            let pass = passes.entry(owner.clone()).or_default();
            match self.pull_from(ring, watch, owner, pass).await {
                Ok(from) => {
                    pulls.from += 1;
                    pulls.whole += usize::from(from.whole);
                }
                Err(
                    error @ (TransferError::Asked(AskError::Link(_)) | TransferError::NotWhole(_)),
                ) => {
                    debug!(self.log, "an old owner does not count"; "quorate.peer" => %owner,
                        "error.message" => %error);
                    silent.push(owner.to_string());
                }
                Err(other) => return Err(other),
            }
        }
        let enough = row.is_whole_with(ring.replicas, self.quorums.write, pulls);
        if !enough {
            watch.waits_for(format!("{} to answer", silent.join(", ")));
        }
        Ok(enough)
    }

    async fn pull_from(
        &self,
        ring: &Ring,
        watch: Watch<'_>,
        owner: &NodeId,
        pass: &mut Pass,
    ) -> Result<Pulled, TransferError> {
        let theirs = self
            .pulling()
            .digest_of(ring, watch.partition, owner)
            .await?;
        watch.pulls_from(owner, theirs.records, pass.seen);
        if self.pulling().agrees(watch.partition, &theirs)? {
            // As when the move begins anew without a member that has died.
            let whole = !theirs.recovering;
            return Ok(Pulled { whole });
        }
        let seen = |page: &PullReply| watch.pulled(page);
        (self.pulling())
            .pull_all(ring, watch.partition, owner, pass, &seen)
            .await
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
