//! One read: asks as many owners as the quorum needs, the next one as soon as one fails or takes too
//! long, answers with the merged replies, and repairs the replicas that were behind: after the
//! answer, or before it in strict mode, so that what a client has seen once it sees again.

mod fallbacks;
mod mending;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};
use slog::{debug, warn};
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::fallbacks::Fallbacks;
use super::read_counts::Counted;
use super::replica::{ReadReply, ReplicaRead, Terms};
use super::request::{Applied, Failure, Read, ReadAnswer};
use super::ring_view::View;
use super::worker::{RequestLog, Worker};
use crate::dynamo::key::Key;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quorum::{Acks, Decision, Fault, ReadQuorum, Shortfall, WriteBack};
use crate::dynamo::ring::OwnerSet;
use crate::dynamo::version::State;
use crate::wire::state::decode_state;

/// How often one read follows a ring that changes, or a partition that flips, under it.
const MAX_RESTARTS: u32 = 8;

/// Where the answer goes.
pub type ReadReplyTo = oneshot::Sender<Result<ReadAnswer, Failure>>;

/// Owns one client's read, or the look before a write.
#[derive(Debug)]
pub struct ReadCoordinator {
    worker: Worker,
    key: Key,
    /// Whether what is shown must first be held by enough owners to be shown again.
    writes_back: bool,
    needed: usize,
    deadline: Instant,
    reply: Option<ReadReplyTo>,
    log: RequestLog,
    view: Arc<View>,
    set: OwnerSet,
    restarts: u32,
    unasked: Vec<NodeId>,
    fallbacks: Fallbacks,
    /// Asked, and not heard of yet.
    awaited: Vec<NodeId>,
    quorum: ReadQuorum,
    /// What has to be held by more owners before the answer, and who stands behind it.
    back: Option<(WriteBack, Acks)>,
    /// Counts the rounds, so that replies of an earlier one are told apart.
    round: u32,
    open: usize,
}

impl ReadCoordinator {
    /// A coordinator for a client's read.
    #[must_use]
    pub fn new(worker: Worker, read: Read, deadline: Instant, reply: ReadReplyTo) -> Self {
        let (needed, strict) = (worker.read_quorum(read.options.quorum), read.options.strict);
        let read = Self::with_quorum(worker, read, needed, deadline, reply);
        Self {
            writes_back: strict,
            ..read
        }
    }

    /// A coordinator for the look before a write: `?quorum=` is about the write, not about it, and
    /// what it sees travels with the write.
    #[must_use]
    pub fn for_write(worker: Worker, read: Read, deadline: Instant, reply: ReadReplyTo) -> Self {
        let needed = worker.read_quorum(None);
        Self::with_quorum(worker, read, needed, deadline, reply)
    }

    fn with_quorum(
        worker: Worker,
        read: Read,
        needed: usize,
        deadline: Instant,
        reply: ReadReplyTo,
    ) -> Self {
        let (view, log) = (worker.view(), worker.request_log(&read.options));
        let fallbacks = Fallbacks::new(read.options.strict);
        Self {
            worker,
            key: read.key,
            writes_back: false,
            needed,
            deadline,
            reply: Some(reply),
            log,
            view,
            set: OwnerSet::Current,
            restarts: 0,
            unasked: Vec::new(),
            fallbacks,
            awaited: Vec::new(),
            back: None,
            quorum: ReadQuorum::default(),
            round: 0,
            open: 0,
        }
    }

    /// Asks the owners, from the start.
    fn ask(&mut self, ctx: &mut Context<Self>) {
        let Some(ring) = self.view.ring_to_serve() else {
            return self.answer_and_stop(Err(Failure::NotServing), ctx);
        };
        let placement = ring.placement(self.key.hash().partition());
        self.quorum = ReadQuorum::new(placement, self.set, self.needed);
        let mut order = self.worker.by_preference(&self.quorum.owners());
        if self.writes_back {
            // What those reply that stay owners need not be written to others before the answer.
            order.sort_by_key(|id| !(placement.keeps(id) && self.worker.reaches(id)));
        }
        self.fallbacks.forget();
        self.call_before_the_absent(&mut order);
        order.reverse();
        self.unasked = order;
        self.awaited.clear();
        self.back = None;
        self.round += 1;
        if self.worker.asks_all() {
            let all = std::mem::take(&mut self.unasked).into_iter();
            let (near, far): (Vec<_>, Vec<_>) = all.partition(|id| self.worker.reaches(id));
            self.unasked = far;
            for node in near.into_iter().rev() {
                self.ask_node(node, ctx);
            }
        }
        self.ask_those_wanted(ctx);
        self.decide(self.quorum.decide(), ctx);
    }

    /// Asks in order, and nobody whose outcome would be of no use: two quorums may be open.
    fn ask_those_wanted(&mut self, ctx: &mut Context<Self>) {
        let next = |act: &Self| {
            let mut unasked = act.unasked.iter();
            unasked.rposition(|node| act.quorum.wants(act.fallbacks.owner(node)))
        };
        while let Some(place) = next(self) {
            let node = self.unasked.remove(place);
            self.ask_node(node, ctx);
        }
    }

    fn ask_node(&mut self, node: NodeId, ctx: &mut Context<Self>) {
        self.quorum.ask(self.fallbacks.owner(&node));
        let role = self.fallbacks.role(&node);
        let terms = Terms {
            epoch: self.view.epoch(),
            set: role.unwrap_or_else(|| self.set_of(&node)),
            deadline: self.deadline,
            trace: Some(self.log.trace()),
        };
        let sent = self.worker.replica(&node).read.send(ReplicaRead {
            key: self.key.clone(),
            terms,
        });
        let (round, asked) = (self.round, Instant::now());
        self.awaited.push(node.clone());
        let arrived = sent.into_actor(self).map(move |outcome, act, ctx| {
            act.open -= 1;
            if matches!(outcome, Ok(Ok(_))) && node != act.view.me {
                act.worker.replied(asked.elapsed());
            }
            act.outcome(round, &node, outcome.unwrap_or(Err(Fault::Broken)), ctx);
        });
        self.open += 1;
        ctx.spawn(arrived);
    }

    /// As which of the moving partition's owners one of them is asked.
    fn set_of(&self, owner: &NodeId) -> OwnerSet {
        if self.quorum.reads(owner) {
            self.set
        } else {
            OwnerSet::Current
        }
    }

    /// The one timer: at the deadline the read ends; before, while there is somebody else to ask,
    /// it is time to do so.
    fn await_timer(&self, hedge_after: Duration, ctx: &mut Context<Self>) {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if self.unasked.is_empty() || hedge_after >= left {
            ctx.run_later(left, |act, ctx| {
                act.answer_and_stop(Err(Failure::DeadlineExceeded(Applied::No)), ctx);
            });
        } else {
            ctx.run_later(hedge_after, move |act, ctx| {
                act.hedge(ctx);
                act.await_timer(hedge_after * 2, ctx);
            });
        }
    }

    /// Asks one replica more if the budget allows it, or if it is needed: who is awaited does badly
    /// and the next one does not.
    fn hedge(&mut self, ctx: &mut Context<Self>) {
        let mut unasked = self.unasked.iter();
        let could_use = |node: &NodeId| self.quorum.could_use(self.fallbacks.owner(node));
        let next = unasked
            .rposition(could_use)
            .filter(|_| self.reply.is_some());
        let Some((place, next)) = next.and_then(|at| Some((at, self.unasked.get(at)?))) else {
            return;
        };
        let is_stuck = || self.awaited.iter().any(|id| !self.worker.prefers(id));
        if self.worker.prefers(next) && is_stuck() || self.worker.may_hedge() {
            self.worker.counts().count(Counted::Hedge);
            let next = self.unasked.remove(place);
            self.ask_node(next, ctx);
        }
    }

    fn outcome(
        &mut self,
        round: u32,
        node: &NodeId,
        outcome: Result<ReadReply, Fault>,
        ctx: &mut Context<Self>,
    ) {
        if round != self.round {
            return self.stop_when_done(ctx);
        }
        self.awaited.retain(|id| id != node);
        let outcome = outcome.and_then(|reply| match reply {
            None => Ok(State::default()),
            Some(bytes) => decode_state(&bytes).map_err(|error| {
                warn!(self.log.open(), "a state does not decode";
                    "quorate.peer" => %node, "error.message" => %error);
                Fault::Broken
            }),
        });
        if let Err(fault) = &outcome {
            debug!(self.log.open(), "a replica did not answer";
                "quorate.peer" => %node, "quorate.fault" => ?fault);
            self.call_in_place_of(node, *fault);
        }
        let decision = match self.fallbacks.role(node) {
            None => self.quorum.record(node, outcome),
            Some(_) => self.quorum.record_hint(self.fallbacks.owner(node), outcome),
        };
        if decision == Decision::Wait {
            self.ask_those_wanted(ctx);
        }
        self.decide(decision, ctx);
    }

    fn decide(&mut self, decision: Decision, ctx: &mut Context<Self>) {
        match decision {
            Decision::Done if self.reply.is_some() && self.writes_back => {
                return self.write_back_or_answer(ctx);
            }
            Decision::Done if self.reply.is_some() => {
                let state = self.quorum.merged();
                self.answer(Ok(ReadAnswer {
                    state,
                    acks: self.quorum.acks(),
                }));
            }
            Decision::Failed(_) if self.reply.is_some() && self.find_other_owners() => {
                return self.ask(ctx);
            }
            Decision::Failed(Shortfall { needed, got }) => {
                let failure = Failure::QuorumNotMet(Shortfall { needed, got }, Applied::No);
                self.answer(Err(failure));
            }
            Decision::Done | Decision::Wait => {}
        }
        self.stop_when_done(ctx);
    }

    /// After refusals about the ring: takes up a newer ring, or else the moving partition's other
    /// owners, and says whether there is somebody else to ask.
    fn find_other_owners(&mut self) -> bool {
        let about_the_ring = self.faults().any(Fault::is_about_the_ring);
        if !about_the_ring || self.restarts >= MAX_RESTARTS {
            return false;
        }
        self.restarts += 1;
        let newer = self.worker.view();
        let is_newer = newer.epoch() > self.view.epoch();
        let moving = newer.is_moving(self.key.hash().partition());
        self.set = match self.set {
            OwnerSet::Current if moving && !is_newer => OwnerSet::Incoming,
            OwnerSet::Current | OwnerSet::Incoming | OwnerSet::Fallback(_) => OwnerSet::Current,
        };
        self.view = newer;
        is_newer || moving
    }

    fn stop_when_done(&mut self, ctx: &mut Context<Self>) {
        if self.reply.is_none() && self.open == 0 {
            ctx.stop();
        }
    }

    fn answer_and_stop(&mut self, answer: Result<ReadAnswer, Failure>, ctx: &mut Context<Self>) {
        self.answer(answer);
        ctx.stop();
    }

    fn answer(&mut self, answer: Result<ReadAnswer, Failure>) {
        if let Some(reply) = self.reply.take()
            && reply.send(answer).is_err()
        {
            debug!(self.log.open(), "the client went away before its answer");
        }
    }
}

impl Actor for ReadCoordinator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.view.is_flipped(self.key.hash().partition()) {
            self.set = OwnerSet::Incoming;
        }
        self.ask(ctx);
        self.await_timer(self.worker.hedge_delay(), ctx);
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        self.mend();
    }
}
