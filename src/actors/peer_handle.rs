//! What other nodes may ask of this one, as `http` sees it.

use actix::{Addr, Handler, Message};
use slog::{Drain, Level, Logger, debug};
use tokio::time::Instant;

use super::action_log::KeyNames;
use super::anti_entropy::AntiEntropy;
use super::giver::{GiveDigest, GivePage, Giver};
use super::lifecycle::{Found, Greet, Lifecycle};
use super::local_reader::LocalRecords;
use super::reaper::Reaper;
use super::replica::{MintReply, Minted, ReplicaMint, ReplicaRead, ReplicaWrite, Terms};
use super::ring_keeper::{Accept, Flip, InstallRing, KeeperError, Predict, RingKeeper};
use super::ring_view::RingView;
use super::store_keeper::{Apply, StoreKeeper, StoreOp, StoreReply};
use super::surveyor::Surveyor;
use crate::dynamo::key::Partition;
use crate::dynamo::membership::lifecycle::Founding;
use crate::dynamo::membership::promise::{AcceptReply, PredictReply};
use crate::dynamo::quorum::Fault;
use crate::dynamo::ring::{ClusterId, Ring};
use crate::limits::MAX_REPLY_BYTES;
use crate::wire::hello::{FoundReply, HelloCall, HelloReply};
use crate::wire::membership::{AcceptCall, PredictCall};
use crate::wire::peer::{Action, Batch, BatchReply, Done, Op};
use crate::wire::proof::PeerProof;
use crate::wire::ring::encode_ring;
use crate::wire::transfer::{DigestReply, FlipReply, PartitionCall, PullCall, PullReply};

/// The peer side of a node; cheap to clone and to send to worker threads.
#[derive(Debug, Clone)]
pub struct PeerHandle {
    /// What callers must show.
    pub proof: PeerProof,
    /// The ring in force.
    pub view: RingView,
    /// For reads, which do not queue behind writes.
    pub records: LocalRecords,
    /// For writes.
    pub store: Addr<StoreKeeper>,
    /// For moves.
    pub giver: Addr<Giver>,
    /// For changes of the ring.
    pub ring_keeper: Addr<RingKeeper>,
    /// For everything before a node is a member.
    pub lifecycle: Addr<Lifecycle>,
    /// For comparisons.
    pub entropy: Addr<AntiEntropy>,
    /// For deletes that nobody needs any more.
    pub reaper: Addr<Reaper>,
    /// For what operators ask of all.
    pub surveyor: Addr<Surveyor>,
    /// Tells, at the level debug, what is asked of this node for whose request.
    pub log: Logger,
}

/// The actor that should answer is gone: the node is going down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node is going down")]
pub struct GoingDown;

/// A result of this size is given whatever else the answer holds.
const SMALL_REPLY: usize = 32 * 1024;

/// What an answer has taken so far.
#[derive(Debug, Default)]
struct Room {
    taken: usize,
}

impl Room {
    fn is_full(&self) -> bool {
        self.taken >= MAX_REPLY_BYTES
    }

    fn hold(&mut self, done: Result<Done, Fault>) -> Result<Done, Fault> {
        self.taken += done.as_ref().map_or(0, Done::size);
        done
    }
}

impl PeerHandle {
    /// What this node tells another one for an operator.
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn survey<M>(&self, question: M) -> Result<M::Result, GoingDown>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        Surveyor: Handler<M>,
        <Surveyor as actix::Actor>::Context: actix::dev::ToEnvelope<Surveyor, M>,
    {
        self.surveyor.send(question).await.or(Err(GoingDown))
    }

    /// The cluster that this node belongs to, if it does.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.view.load().ring.as_ref().map(|ring| ring.cluster)
    }

    /// Does what a batch asks, and gives one result an operation, as far as one answer can hold
    /// them: reads beyond that are [`Fault::Postponed`].
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn batch(&self, batch: Batch) -> Result<BatchReply, GoingDown> {
        let (now, view) = (Instant::now(), self.view.load());
        let mut results: Vec<Option<Result<Done, Fault>>> = Vec::with_capacity(batch.ops.len());
        let (mut ops, mut room) = (Vec::new(), Room::default());
        let is_told = self.log.is_enabled(Level::Debug);
        for op in batch.ops.iter().filter(|_| is_told) {
            self.tell(op);
        }
        for Op {
            key,
            set,
            left,
            trace,
            action,
        } in batch.ops
        {
            let terms = Terms {
                epoch: batch.epoch,
                set,
                deadline: now + left,
                trace,
            };
            results.push(match action {
                Action::Read if room.is_full() => Some(Err(Fault::Postponed)),
                Action::Read => {
                    let read = ReplicaRead { key, terms };
                    let done = self.records.read(&view, &read).map(Done::Read);
                    Some(room.hold(done))
                }
                Action::Write(state) => {
                    ops.push(StoreOp::Write(ReplicaWrite { key, state, terms }));
                    None
                }
                Action::Mint(mint) => {
                    ops.push(StoreOp::Mint(ReplicaMint { key, mint, terms }));
                    None
                }
            });
        }
        let heard = batch.heard;
        let stored = if ops.is_empty() && heard.is_empty() {
            Vec::new()
        } else {
            let apply = Apply { ops, heard };
            self.store.send(apply).await.or(Err(GoingDown))?
        };
        let stored = stored.into_iter().map(|reply| reply.map(done));
        // Unlike a read, a mint that is done cannot be asked for again; it was doubtful before.
        let mut stored = stored.map(|done| match done {
            Ok(done) if room.is_full() && done.size() > SMALL_REPLY => Err(Fault::Broken),
            done => room.hold(done),
        });
        let results = results
            .into_iter()
            .map(|read| read.or_else(|| stored.next()).unwrap_or(Err(Fault::Broken)));
        Ok(BatchReply {
            results: results.collect(),
            epoch: self.view.load().epoch(),
        })
    }

    /// Work of the background is part of nobody's request.
    fn tell(&self, op: &Op) {
        let Some(trace) = &op.trace else { return };
        let action = match &op.action {
            Action::Read => "replica-read",
            Action::Write(_) => "replica-write",
            Action::Mint(_) => "replica-mint",
        };
        debug!(self.log, "a node asks its replica"; "event.action" => action,
            "trace.id" => trace.as_str(),
            "quorate.key.hash" => KeyNames::Hashed.show(&op.key));
    }

    /// The ring in force, encoded.
    ///
    /// # Errors
    /// [`KeeperError::NoRing`] before there is one.
    pub fn ring(&self) -> Result<Vec<u8>, KeeperError> {
        let view = self.view.load();
        let ring = view.ring.as_ref().ok_or(KeeperError::NoRing)?;
        encode_ring(ring).or(Err(KeeperError::NoRing))
    }

    /// Puts a newer ring in force.
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn install(&self, ring: Ring) -> Result<Result<u64, KeeperError>, GoingDown> {
        self.ring_keeper
            .send(InstallRing(ring))
            .await
            .or(Err(GoingDown))
    }

    /// The first phase of a change of the ring.
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn predict(
        &self,
        call: PredictCall,
    ) -> Result<Result<PredictReply, KeeperError>, GoingDown> {
        self.ring_keeper
            .send(Predict(call))
            .await
            .or(Err(GoingDown))
    }

    /// The second phase.
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn accept(
        &self,
        call: AcceptCall,
    ) -> Result<Result<AcceptReply, KeeperError>, GoingDown> {
        self.ring_keeper.send(Accept(call)).await.or(Err(GoingDown))
    }

    /// Stops to serve reads of a moving partition as its old owner.
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn flip(
        &self,
        call: PartitionCall,
    ) -> Result<Result<FlipReply, KeeperError>, GoingDown> {
        let Some(partition) = Partition::new(call.partition) else {
            return Ok(Ok(FlipReply::NotMoving));
        };
        let flip = Flip {
            epoch: call.epoch,
            partition,
        };
        self.ring_keeper.send(flip).await.or(Err(GoingDown))
    }

    /// A page of a partition.
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn pull(&self, call: PullCall) -> Result<Result<PullReply, Fault>, GoingDown> {
        self.giver.send(GivePage(call)).await.or(Err(GoingDown))
    }

    /// A partition's digest.
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn digest(
        &self,
        call: PartitionCall,
    ) -> Result<Result<DigestReply, Fault>, GoingDown> {
        let Some(partition) = Partition::new(call.partition) else {
            return Ok(Err(Fault::NotOwner));
        };
        self.giver
            .send(GiveDigest {
                epoch: call.epoch,
                partition,
            })
            .await
            .or(Err(GoingDown))
    }

    /// Takes part in a comparison: one of the messages of [`anti_entropy`](super::anti_entropy).
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn compare<M>(&self, message: M) -> Result<M::Result, GoingDown>
    where
        M: Message<Result: Send> + Send + 'static,
        AntiEntropy: Handler<M>,
    {
        self.entropy.send(message).await.or(Err(GoingDown))
    }

    /// Takes part in reaping: one of the messages of [`reaper`](super::reaper).
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn reaping<M>(&self, message: M) -> Result<M::Result, GoingDown>
    where
        M: Message<Result: Send> + Send + 'static,
        Reaper: Handler<M>,
    {
        self.reaper.send(message).await.or(Err(GoingDown))
    }

    /// Hears who calls, and says who this is.
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn hello(&self, call: HelloCall) -> Result<HelloReply, GoingDown> {
        self.lifecycle.send(Greet(call)).await.or(Err(GoingDown))
    }

    /// Promises to take part in the founding of a cluster, or not.
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn found(&self, call: Founding) -> Result<FoundReply, GoingDown> {
        self.lifecycle.send(Found(call)).await.or(Err(GoingDown))
    }
}

fn done(reply: StoreReply) -> Done {
    match reply {
        StoreReply::Written => Done::Written,
        StoreReply::Minted(MintReply::Minted(Minted {
            state,
            answer,
            siblings,
        })) => Done::Minted(state, answer, siblings),
        StoreReply::Minted(MintReply::AlreadyExists(state)) => Done::AlreadyExists(state),
        StoreReply::Minted(MintReply::NothingToDelete(state)) => Done::NothingToDelete(state),
        StoreReply::Minted(MintReply::TooManySiblings(state)) => Done::TooManySiblings(state),
        StoreReply::Minted(MintReply::RequestReused) => Done::RequestReused,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::actors::fake::{key, state};
    use crate::actors::fake_node::{FakeNode, ring_of};
    use crate::dynamo::ring::OwnerSet;
    use crate::dynamo::version::{Body, State};

    /// 256 reads of a mebibyte each were more than a message may hold, and all of them failed.
    #[actix::test]
    async fn an_answer_holds_so_many_bytes_and_postpones_the_rest() {
        let node = FakeNode::new("a");
        node.install(ring_of(&[("a", "127.0.0.1:1")], &["a"], None))
            .await;
        let mut large: State = state(&[7]);
        let value = format!("\"{}\"", "x".repeat(MAX_REPLY_BYTES / 4));
        large.siblings[0].body = Body::Value(value.into());
        let names = ["1", "2", "3", "4", "5", "6"];
        for name in names {
            node.write(&key(name), &large).await;
        }
        let ops = names.map(|name| Op {
            key: key(name),
            set: OwnerSet::Current,
            left: Duration::from_secs(9),
            trace: None,
            action: Action::Read,
        });
        let (epoch, ops) = (5, ops.to_vec());
        let reply = node
            .peer_handle()
            .batch(Batch {
                epoch,
                ops,
                heard: Vec::new(),
            })
            .await
            .unwrap();
        let (held, rest) = reply.results.split_at(4);
        assert!(
            held.iter()
                .all(|result| matches!(result, Ok(Done::Read(Some(_)))))
        );
        assert_eq!(rest, [Err(Fault::Postponed), Err(Fault::Postponed)]);
    }
}
