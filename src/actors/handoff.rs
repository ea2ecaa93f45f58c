//! Brings the partitions that this node gains: pulls them from the old owners, verifies them, and
//! gets the old owners to hand over their reads. Every step may be repeated, so a node that was
//! killed in the middle starts again and finds most of the work done.

#[cfg(test)]
mod tests;

use std::time::Duration;

use actix::ActorFutureExt;
use actix::prelude::{Actor, Addr, AsyncContext, Context, Handler, Message, Recipient, WrapFuture};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use slog::{Logger, debug, info, warn};
use tokio::time::{Instant, sleep};

use super::background::{Background, Kind};
use super::giver::digest;
use super::link::{Link, LinkError};
use super::local_reader::LocalRecords;
use super::replica::{ReplicaWrite, Terms};
use super::ring_keeper::{Flip, RingKeeper, Verified};
use super::ring_view::RingView;
use super::store_keeper::{Apply, StoreKeeper, StoreOp};
use super::worker::Quorums;
use crate::dynamo::key::{Key, Partition};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{OwnerSet, Ring};
use crate::dynamo::version::{State, sync};
use crate::wire::state::decode_state;
use crate::wire::transfer::{DigestReply, FlipReply, PartitionCall, PullCall, PullReply};

/// Partitions pulled at the same time.
const PARTITIONS_AT_ONCE: usize = 4;
/// Records asked for in one page.
const PAGE_RECORDS: usize = 256;
/// What a page is taken to cost before the first has come, and what a digest costs.
const FIRST_COST: u64 = 64 << 10;
/// How long one call may take.
const CALL_TIME: Duration = Duration::from_secs(10);
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

/// Why a partition could not be brought yet.
#[derive(Debug, thiserror::Error)]
enum TransferError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the ring has changed")]
    RingChanged,
    #[error("an answer was damaged on the way")]
    Damaged,
    #[error("the owner holds {0} damaged records, which it cannot give")]
    NotWhole(usize),
    #[error("this node's own store did not take a record")]
    NotStored,
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
        info!(self.log, "bringing partitions"; "epoch" => epoch, "partitions" => gains.len());
        let started = Instant::now();
        let brought = stream::iter(gains)
            .map(|partition| self.bring(&ring, partition))
            .buffer_unordered(PARTITIONS_AT_ONCE);
        let complete = brought.all(std::future::ready).await;
        info!(self.log, "partitions brought"; "epoch" => epoch, "complete" => complete,
            "took_ms" => u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
        complete
    }

    async fn bring(&self, ring: &Ring, partition: Partition) -> bool {
        while self.view.load().epoch() == ring.epoch {
            match self.bring_once(ring, partition).await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => debug!(self.log, "a partition waits";
                    "partition" => partition.number(), "error" => %error),
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
            let mut pulled = 0;
            for owner in owners {
                match self.pull_all(ring, partition, owner).await {
                    Ok(()) => pulled += 1,
                    Err(error @ (TransferError::Link(_) | TransferError::NotWhole(_))) => {
                        debug!(self.log, "an old owner does not count"; "peer" => %owner,
                            "error" => %error);
                    }
                    Err(other) => return Err(other),
                }
            }
            if pulled < needed {
                return Ok(false);
            }
            let verified = Verified {
                epoch: ring.epoch,
                partition,
            };
            let noted = self.ring_keeper.send(verified).await;
            noted
                .or(Err(TransferError::NotStored))?
                .or(Err(TransferError::RingChanged))?;
        }
        // Without N − R + 1 of the old owners, no R of them answer a read any more.
        let needed = owners.len() + 1 - self.quorums.read.clamp(1, owners.len());
        let mut flipped = 0;
        for owner in owners {
            flipped += usize::from(self.flip(ring, partition, owner).await);
        }
        Ok(flipped >= needed)
    }

    /// Pulls from one owner until it holds nothing that is not here.
    async fn pull_all(
        &self,
        ring: &Ring,
        partition: Partition,
        owner: &NodeId,
    ) -> Result<(), TransferError> {
        loop {
            let missing = self.pull_once(ring, partition, owner).await?;
            self.background.turn(Kind::Transfers, FIRST_COST).await;
            let call = PartitionCall {
                epoch: ring.epoch,
                partition: partition.number(),
            };
            let theirs: DigestReply = self.call(ring, owner, "/peer/v1/digest", &call).await?;
            let ours = digest(&self.records, partition).or(Err(TransferError::NotStored))?;
            // Equal digests, or a whole pass in which every record was here already: another
            // owner, or a write under way, may have given this node more than that one has.
            if ours == theirs || missing == 0 {
                return Ok(());
            }
        }
    }

    /// One pass over the owner's records; gives how many had something new. An owner with damaged
    /// records gives what it has, and does not count as pulled from.
    async fn pull_once(
        &self,
        ring: &Ring,
        partition: Partition,
        owner: &NodeId,
    ) -> Result<usize, TransferError> {
        let (mut after, mut missing, mut cost, mut damaged) = (None, 0, FIRST_COST, 0);
        loop {
            self.background.turn(Kind::Transfers, cost).await;
            let call = PullCall {
                epoch: ring.epoch,
                partition: partition.number(),
                after: after.take(),
                limit: PAGE_RECORDS,
            };
            let page: PullReply = self.call(ring, owner, "/peer/v1/pull", &call).await?;
            if !page.is_intact() {
                return Err(TransferError::Damaged);
            }
            cost = page.bytes();
            damaged += page.damaged;
            let last = page.last;
            after = page.records.last().map(|(key, _)| key.clone());
            missing += self.take_in(ring, page).await?;
            if last || after.is_none() {
                return match damaged {
                    0 => Ok(missing),
                    damaged => Err(TransferError::NotWhole(damaged)),
                };
            }
        }
    }

    async fn take_in(&self, ring: &Ring, page: PullReply) -> Result<usize, TransferError> {
        let deadline = Instant::now() + CALL_TIME;
        let terms = Terms {
            epoch: ring.epoch,
            set: OwnerSet::Incoming,
            deadline,
        };
        let mut ops = Vec::new();
        for (key, state) in page.records {
            let key = Key::new(Bytes::from(key.into_vec())).or(Err(TransferError::Damaged))?;
            let bytes = Bytes::from(state.into_vec());
            let theirs = decode_state(&bytes).or(Err(TransferError::Damaged))?;
            let ours = self.records.peek(&key).or(Err(TransferError::NotStored))?;
            let ours = ours.map_or_else(|| Ok(State::default()), |bytes| decode_state(&bytes));
            let ours = ours.or(Err(TransferError::Damaged))?;
            if sync(&ours, &theirs) != ours {
                ops.push(StoreOp::Write(ReplicaWrite {
                    key,
                    state: bytes,
                    terms,
                }));
            }
        }
        let missing = ops.len();
        if missing > 0 {
            let applied = self.store.send(Apply { ops }).await;
            let applied = applied.or(Err(TransferError::NotStored))?;
            if applied.iter().any(Result::is_err) {
                return Err(TransferError::NotStored);
            }
        }
        Ok(missing)
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
        match self.call(ring, owner, "/peer/v1/flip", &call).await {
            Ok(FlipReply::Flipped) => true,
            Ok(other) => {
                warn!(self.log, "an old owner did not flip"; "peer" => %owner, "why" => ?other);
                false
            }
            Err(error) => {
                debug!(self.log, "an old owner is silent"; "peer" => %owner, "error" => %error);
                false
            }
        }
    }

    async fn call<T: Serialize, R: DeserializeOwned>(
        &self,
        ring: &Ring,
        owner: &NodeId,
        path: &str,
        call: &T,
    ) -> Result<R, TransferError> {
        let member = ring.member(owner).ok_or(TransferError::RingChanged)?;
        let body = rmp_serde::to_vec_named(call).or(Err(TransferError::Damaged))?;
        let (peer, cluster) = (&member.addresses.peer, Some(ring.cluster));
        let answer = self.link.post(peer, path, body, cluster, CALL_TIME).await?;
        rmp_serde::from_slice(&answer).or(Err(TransferError::Damaged))
    }
}
