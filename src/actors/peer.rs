//! One other node, as a replica. Operations that arrive while batches are in flight are sent
//! together as the next one: no timer, no added wait when idle, few calls when busy.

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

/// Batches under way to one node from one worker. The second keeps the way busy while the answer
/// to the first is taken in; more would only make the batches smaller.
const MAX_BATCHES: usize = 2;
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
    queue: VecDeque<Queued>,
    in_flight: usize,
    flush_is_due: bool,
}

#[derive(Debug)]
struct Queued {
    key: Key,
    action: Action,
    terms: Terms,
    reply: oneshot::Sender<Result<Done, Fault>>,
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
            queue: VecDeque::new(),
            in_flight: 0,
            flush_is_due: false,
        }
    }

    fn enqueue(
        &mut self,
        key: Key,
        action: Action,
        terms: Terms,
        ctx: &mut Context<Self>,
    ) -> ResponseFuture<Result<Done, Fault>> {
        if self.queue.len() >= MAX_PEER_QUEUE {
            return Box::pin(std::future::ready(Err(Fault::Overloaded)));
        }
        let (reply, outcome) = oneshot::channel();
        self.queue.push_back(Queued {
            key,
            action,
            terms,
            reply,
        });
        if !self.flush_is_due {
            self.flush_is_due = true;
            ctx.notify(Flush);
        }
        Box::pin(async move {
            match timeout_at(terms.deadline, outcome).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_dropped)) => Err(Fault::Broken),
                Err(_elapsed) => Err(Fault::TimedOut),
            }
        })
    }

    fn flush(&mut self, ctx: &mut Context<Self>) {
        while self.in_flight < MAX_BATCHES {
            let batch = self.next_batch();
            let Some(epoch) = batch.first().map(|queued| queued.terms.epoch) else {
                return;
            };
            self.in_flight += 1;
            let sent = self.exchange(epoch, batch).into_actor(self);
            ctx.spawn(sent.map(|(), act, ctx| {
                act.in_flight -= 1;
                act.flush(ctx);
            }));
        }
    }

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
            if next.terms.deadline > now && !next.reply.is_closed() {
                bytes += next.action.size();
                batch.push(next);
            }
        }
        batch
    }

    fn exchange(&self, epoch: u64, batch: Vec<Queued>) -> impl Future<Output = ()> + use<> {
        let (parts, id, health) = (self.parts.clone(), self.id.clone(), self.health.clone());
        async move {
            let started = Instant::now();
            let mut ops = Vec::with_capacity(batch.len());
            let mut replies = Vec::with_capacity(batch.len());
            let mut left = Duration::ZERO;
            for Queued {
                key,
                action,
                terms,
                reply,
            } in batch
            {
                let op_left = terms.deadline.saturating_duration_since(started);
                left = left.max(op_left);
                ops.push(Op {
                    key,
                    set: terms.set,
                    left: op_left,
                    action,
                });
                replies.push(reply);
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
                if reply.send(result).is_err() {
                    debug!(parts.log, "nobody waits for a reply"; "peer" => %id);
                }
            }
        }
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
        self.flush(ctx);
    }
}

impl Handler<ReplicaRead> for Peer {
    type Result = ResponseFuture<Result<ReadReply, Fault>>;

    fn handle(&mut self, msg: ReplicaRead, ctx: &mut Self::Context) -> Self::Result {
        let outcome = self.enqueue(msg.key, Action::Read, msg.terms, ctx);
        Box::pin(async move {
            match outcome.await? {
                Done::Read(state) => Ok(state),
                Done::Written
                | Done::Minted(..)
                | Done::AlreadyExists(_)
                | Done::NothingToDelete(_)
                | Done::TooManySiblings(_)
                | Done::RequestReused => Err(Fault::Broken),
            }
        })
    }
}

impl Handler<ReplicaWrite> for Peer {
    type Result = ResponseFuture<Result<(), Fault>>;

    fn handle(&mut self, msg: ReplicaWrite, ctx: &mut Self::Context) -> Self::Result {
        let outcome = self.enqueue(msg.key, Action::Write(msg.state), msg.terms, ctx);
        Box::pin(async move {
            match outcome.await? {
                Done::Written => Ok(()),
                Done::Read(_)
                | Done::Minted(..)
                | Done::AlreadyExists(_)
                | Done::NothingToDelete(_)
                | Done::TooManySiblings(_)
                | Done::RequestReused => Err(Fault::Broken),
            }
        })
    }
}

impl Handler<ReplicaMint> for Peer {
    type Result = ResponseFuture<Result<MintReply, Fault>>;

    fn handle(&mut self, msg: ReplicaMint, ctx: &mut Self::Context) -> Self::Result {
        let outcome = self.enqueue(msg.key, Action::Mint(msg.mint), msg.terms, ctx);
        Box::pin(async move {
            match outcome.await? {
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
        })
    }
}
