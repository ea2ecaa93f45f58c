//! One other node, as a replica. Operations that arrive while a batch is in flight are sent
//! together as the next one: no timer, no added wait when idle, few calls when busy.
//!
//! Reads have a lane of their own, because a batch of writes is answered only after a sync.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::{
    Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, ResponseFuture,
    WrapFuture,
};
use bytes::Bytes;
use slog::{Logger, debug};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::deferred::{Deferred, Reply};
use super::health::Health;
use super::link::{Link, LinkError};
use super::replica::{MintReply, Minted, ReadReply, ReplicaMint, ReplicaRead, ReplicaWrite, Terms};
use super::ring_keeper::{InstallRing, RingKeeper};
use super::ring_view::RingView;
use crate::dynamo::key::Key;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quorum::Fault;
use crate::dynamo::ring::ClusterId;
use crate::limits::{MAX_BATCH_BYTES, MAX_BATCH_OPS, MAX_PEER_QUEUE};
use crate::wire::peer::{Action, Batch, BatchReply, Done, Op};
use crate::wire::ring::{decode_ring, encode_ring};

/// How long the exchange of a ring may take, beside an operation.
const RING_TIME: Duration = Duration::from_secs(1);

/// Everything a peer needs besides its name.
#[derive(Debug, Clone)]
pub struct PeerParts {
    /// Where addresses and epochs come from.
    pub view: RingView,
    /// This thread's client.
    pub link: Link,
    /// Takes the rings that other nodes are ahead with.
    pub ring_keeper: Addr<RingKeeper>,
    /// The parent of the peer's logger.
    pub log: Logger,
}

/// A remote replica; see [`super::replica`] for what it understands.
#[derive(Debug)]
pub struct Peer {
    id: NodeId,
    parts: PeerParts,
    health: Arc<Health>,
    reads: Lane,
    writes: Lane,
    flush_is_due: bool,
}

/// Operations that travel together, one batch at a time: more would only make the batches smaller.
#[derive(Debug, Default)]
struct Lane {
    queue: VecDeque<Queued>,
    is_busy: bool,
}

/// Gives one of the two lanes of a peer.
type Pick = fn(&mut Peer) -> &mut Lane;

#[derive(Debug)]
struct Queued {
    key: Key,
    action: Action,
    terms: Terms,
    reply: ReplyTo,
}

/// Whom to give the outcome.
#[derive(Debug)]
enum ReplyTo {
    Read(Reply<Result<ReadReply, Fault>>),
    Write(Reply<Result<(), Fault>>),
    Mint(oneshot::Sender<Result<MintReply, Fault>>),
}

/// Sends what is queued, once the mailbox has been emptied into the queue.
#[derive(Message)]
#[rtype(result = "()")]
struct Flush;

impl Peer {
    /// A replica on the node of this name.
    #[must_use]
    pub fn new(id: NodeId, parts: PeerParts, health: Arc<Health>) -> Self {
        Self {
            id,
            parts,
            health,
            reads: Lane::default(),
            writes: Lane::default(),
            flush_is_due: false,
        }
    }

    fn enqueue(&mut self, pick: Pick, queued: Queued, ctx: &mut Context<Self>) {
        let queue = &mut pick(self).queue;
        if queue.len() >= MAX_PEER_QUEUE {
            return queued.reply.give(Err(Fault::Overloaded));
        }
        queue.push_back(queued);
        if !self.flush_is_due {
            self.flush_is_due = true;
            ctx.notify(Flush);
        }
    }

    fn send_next(&mut self, pick: Pick, ctx: &mut Context<Self>) {
        let lane = pick(self);
        if lane.is_busy {
            return;
        }
        let batch = lane.next_batch();
        let Some(epoch) = batch.first().map(|queued| queued.terms.epoch) else {
            return;
        };
        lane.is_busy = true;
        let sent = self.exchange(epoch, batch).into_actor(self);
        ctx.spawn(sent.map(move |(), act, ctx| {
            pick(act).is_busy = false;
            act.send_next(pick, ctx);
        }));
    }

    fn exchange(&self, epoch: u64, batch: Vec<Queued>) -> impl Future<Output = ()> + use<> {
        let (parts, id, health) = (self.parts.clone(), self.id.clone(), self.health.clone());
        async move {
            let started = Instant::now();
            let mut ops = Vec::with_capacity(batch.len());
            let mut replies = Vec::with_capacity(batch.len());
            let mut left = Duration::ZERO;
            for queued in batch {
                let (key, action, terms) = (queued.key, queued.action, queued.terms);
                let op_left = terms.deadline.saturating_duration_since(started);
                left = left.max(op_left);
                ops.push(Op {
                    key,
                    set: terms.set,
                    left: op_left,
                    action,
                });
                replies.push(queued.reply);
            }
            let batch = Batch { epoch, ops };
            let outcome = parts.send(&id, &batch, left).await;
            match &outcome {
                Ok(_) => health.answered(started.elapsed()),
                Err(_) => health.failed(),
            }
            let results = outcome.unwrap_or_else(|error| {
                debug!(parts.log, "a batch failed"; "peer" => %id, "error" => %error);
                vec![Err(Fault::from(&error)); replies.len()]
            });
            for (reply, result) in replies.into_iter().zip(results) {
                reply.give(result);
            }
        }
    }
}

impl Lane {
    /// Takes from the queue what fits into one message: operations of one epoch whose answer is
    /// still of use.
    fn next_batch(&mut self) -> Vec<Queued> {
        let now = Instant::now();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(next) = self.queue.front() {
            let same = batch
                .first()
                .is_none_or(|q: &Queued| q.terms.epoch == next.terms.epoch);
            if !same || batch.len() >= MAX_BATCH_OPS || bytes >= MAX_BATCH_BYTES {
                break;
            }
            let Some(next) = self.queue.pop_front() else {
                break;
            };
            if next.terms.deadline > now {
                bytes += next.action.size();
                batch.push(next);
            } else {
                next.reply.give(Err(Fault::TimedOut));
            }
        }
        batch
    }
}

impl ReplyTo {
    /// An answer to another question than the one asked is none.
    fn give(self, outcome: Result<Done, Fault>) {
        match self {
            Self::Read(reply) => reply.send(match outcome {
                Ok(Done::Read(state)) => Ok(state),
                other => Err(other.err().unwrap_or(Fault::Broken)),
            }),
            Self::Write(reply) => reply.send(match outcome {
                Ok(Done::Written) => Ok(()),
                other => Err(other.err().unwrap_or(Fault::Broken)),
            }),
            // Whoever asked may have asked the next owner meanwhile.
            Self::Mint(reply) => drop(reply.send(outcome.and_then(mint_reply))),
        }
    }
}

fn mint_reply(done: Done) -> Result<MintReply, Fault> {
    match done {
        Done::Minted(state, answer, siblings) => Ok(MintReply::Minted(Minted {
            state,
            answer,
            siblings,
        })),
        Done::AlreadyExists(state) => Ok(MintReply::AlreadyExists(state)),
        Done::NothingToDelete(state) => Ok(MintReply::NothingToDelete(state)),
        Done::TooManySiblings(state) => Ok(MintReply::TooManySiblings(state)),
        Done::RequestReused => Ok(MintReply::RequestReused),
        Done::Read(_) | Done::Written => Err(Fault::Broken),
    }
}

impl PeerParts {
    /// Sends a batch; when the two nodes are at different epochs, the one behind gets the ring.
    async fn send(
        &self,
        id: &NodeId,
        batch: &Batch,
        time: Duration,
    ) -> Result<Vec<Result<Done, Fault>>, LinkError> {
        let reply = self.send_once(id, batch, time).await?;
        // What was done is done, whatever becomes of the rings.
        if reply.epoch > batch.epoch
            && let Err(error) = self.fetch_ring(id).await
        {
            debug!(self.log, "a newer ring was not fetched"; "peer" => %id, "error" => %error);
        }
        let behind = |result: &Result<Done, Fault>| matches!(result, Err(Fault::RingBehind));
        if !reply.results.iter().any(behind) || !self.push_ring(id).await {
            return Ok(reply.results);
        }
        let again = match self.send_once(id, batch, time).await {
            Ok(again) => again.results,
            Err(error) => vec![Err(Fault::from(&error)); reply.results.len()],
        };
        let both = reply.results.into_iter().zip(again);
        Ok(both
            .map(|(first, again)| if behind(&first) { again } else { first })
            .collect())
    }

    async fn send_once(
        &self,
        id: &NodeId,
        batch: &Batch,
        time: Duration,
    ) -> Result<BatchReply, LinkError> {
        let body = batch.encode().or(Err(LinkError::Unreachable))?;
        let answer = self.post(id, "/peer/v1/batch", body, time).await?;
        let reply = BatchReply::decode(&answer).or(Err(LinkError::Broken))?;
        if reply.results.len() == batch.ops.len() {
            Ok(reply)
        } else {
            Err(LinkError::Broken)
        }
    }

    async fn fetch_ring(&self, id: &NodeId) -> Result<(), LinkError> {
        let answer = self
            .post(id, "/peer/v1/ring/get", Vec::new(), RING_TIME)
            .await?;
        let ring = decode_ring(&answer).or(Err(LinkError::Broken))?;
        match self.ring_keeper.send(InstallRing(ring)).await {
            Ok(Ok(_epoch)) => Ok(()),
            Ok(Err(refused)) => {
                debug!(self.log, "a peer's ring was refused"; "peer" => %id, "why" => ?refused);
                Ok(())
            }
            Err(_closed) => Err(LinkError::Broken),
        }
    }

    /// Whether the node has taken the ring in force here.
    async fn push_ring(&self, id: &NodeId) -> bool {
        let ring = self.view.load().ring.clone();
        let Some(Ok(body)) = ring.map(|ring| encode_ring(&ring)) else {
            return false;
        };
        let pushed = self.post(id, "/peer/v1/ring", body, RING_TIME).await;
        if let Err(error) = &pushed {
            debug!(self.log, "a ring was not taken"; "peer" => %id, "error" => %error);
        }
        pushed.is_ok()
    }

    async fn post(
        &self,
        id: &NodeId,
        path: &str,
        body: Vec<u8>,
        time: Duration,
    ) -> Result<Bytes, LinkError> {
        let view = self.view.load();
        let ring = view.ring.as_ref();
        let member = ring
            .and_then(|ring| ring.member(id))
            .ok_or(LinkError::Unreachable)?;
        let cluster: Option<ClusterId> = ring.map(|ring| ring.cluster);
        self.link
            .post(&member.addresses.peer, path, body, cluster, time)
            .await
    }
}

impl Actor for Peer {
    type Context = Context<Self>;
}

impl Handler<Flush> for Peer {
    type Result = ();

    fn handle(&mut self, _: Flush, ctx: &mut Self::Context) {
        self.flush_is_due = false;
        self.send_next(|peer| &mut peer.reads, ctx);
        self.send_next(|peer| &mut peer.writes, ctx);
    }
}

// Whoever reads or writes has a deadline of its own, and it is that of the operation.

impl Handler<ReplicaRead> for Peer {
    type Result = Deferred<Result<ReadReply, Fault>>;

    fn handle(&mut self, msg: ReplicaRead, ctx: &mut Self::Context) -> Self::Result {
        let (reply, deferred) = Deferred::new();
        let queued = Queued {
            key: msg.key,
            action: Action::Read,
            terms: msg.terms,
            reply: ReplyTo::Read(reply),
        };
        self.enqueue(|peer| &mut peer.reads, queued, ctx);
        deferred
    }
}

impl Handler<ReplicaWrite> for Peer {
    type Result = Deferred<Result<(), Fault>>;

    fn handle(&mut self, msg: ReplicaWrite, ctx: &mut Self::Context) -> Self::Result {
        let (reply, deferred) = Deferred::new();
        let queued = Queued {
            key: msg.key,
            action: Action::Write(msg.state),
            terms: msg.terms,
            reply: ReplyTo::Write(reply),
        };
        self.enqueue(|peer| &mut peer.writes, queued, ctx);
        deferred
    }
}

impl Handler<ReplicaMint> for Peer {
    type Result = ResponseFuture<Result<MintReply, Fault>>;

    /// Other than the rest, a mint must be given up in time for the next owner to be asked.
    fn handle(&mut self, msg: ReplicaMint, ctx: &mut Self::Context) -> Self::Result {
        let (reply, outcome) = oneshot::channel();
        let queued = Queued {
            key: msg.key,
            action: Action::Mint(msg.mint),
            terms: msg.terms,
            reply: ReplyTo::Mint(reply),
        };
        self.enqueue(|peer| &mut peer.writes, queued, ctx);
        Box::pin(async move {
            match timeout_at(msg.terms.deadline, outcome).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_dropped)) => Err(Fault::Broken),
                Err(_elapsed) => Err(Fault::TimedOut),
            }
        })
    }
}
