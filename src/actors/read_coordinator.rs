//! One read: asks as many owners as the quorum needs, the next one as soon as one fails, answers
//! with the merged replies, and repairs the replicas that were behind.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};
use slog::{debug, warn};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::replica::{ReadReply, ReplicaRead, ReplicaWrite, Terms};
use super::request::{Applied, Failure, Read, ReadAnswer};
use super::ring_view::View;
use super::worker::{RequestLog, Worker};
use crate::dynamo::key::Key;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quorum::{Decision, Fault, ReadFollowUp, ReadQuorum, Shortfall};
use crate::dynamo::ring::OwnerSet;
use crate::dynamo::version::State;
use crate::wire::state::{decode_state, encode_state};

/// How often one read follows a ring that changes, or a partition that flips, under it.
const MAX_RESTARTS: u32 = 8;

/// How long the repair of a stale replica may take.
const REPAIR_TIME: Duration = Duration::from_secs(4);

/// Where the answer goes.
pub type ReadReplyTo = oneshot::Sender<Result<ReadAnswer, Failure>>;

/// Owns one client's read, or the look before a write.
#[derive(Debug)]
pub struct ReadCoordinator {
    worker: Worker,
    key: Key,
    needed: usize,
    deadline: Instant,
    reply: Option<ReadReplyTo>,
    log: RequestLog,
    view: Arc<View>,
    set: OwnerSet,
    restarts: u32,
    unasked: Vec<NodeId>,
    quorum: ReadQuorum,
    /// Counts the rounds, so that replies of an earlier one are told apart.
    round: u32,
    open: usize,
}

impl ReadCoordinator {
    /// A coordinator for a client's read.
    #[must_use]
    pub fn new(worker: Worker, read: Read, deadline: Instant, reply: ReadReplyTo) -> Self {
        let needed = worker.read_quorum(read.options.quorum);
        Self::with_quorum(worker, read, needed, deadline, reply)
    }

    /// A coordinator for the look before a write: `?quorum=` is about the write, not about it.
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
        Self {
            worker,
            key: read.key,
            needed,
            deadline,
            reply: Some(reply),
            log,
            view,
            set: OwnerSet::Current,
            restarts: 0,
            unasked: Vec::new(),
            quorum: ReadQuorum::new(0, needed),
            round: 0,
            open: 0,
        }
    }

    /// Asks the owners, from the start.
    fn ask(&mut self, ctx: &mut Context<Self>) {
        let partition = self.key.hash().partition();
        let owners = match &self.view.ring {
            Some(ring) => ring.placement(partition).set(self.set),
            None => return self.answer_and_stop(Err(Failure::NotServing), ctx),
        };
        let mut order = self.worker.by_preference(owners.unwrap_or_default());
        order.reverse();
        self.quorum = ReadQuorum::new(order.len(), self.needed);
        let first = if self.worker.asks_all() {
            order.len()
        } else {
            self.quorum.needed()
        };
        self.unasked = order;
        self.round += 1;
        for _ in 0..first {
            self.ask_next(ctx);
        }
        self.decide(self.quorum.decide(), ctx);
    }

    fn ask_next(&mut self, ctx: &mut Context<Self>) {
        let Some(node) = self.unasked.pop() else {
            return;
        };
        let terms = Terms {
            epoch: self.view.epoch(),
            set: self.set,
            deadline: self.deadline,
        };
        let sent = self.worker.replica(&node).read.send(ReplicaRead {
            key: self.key.clone(),
            terms,
        });
        let round = self.round;
        let arrived = sent.into_actor(self).map(move |outcome, act, ctx| {
            act.open -= 1;
            act.outcome(round, &node, outcome.unwrap_or(Err(Fault::Broken)), ctx);
        });
        self.open += 1;
        ctx.spawn(arrived);
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
        let outcome = outcome.and_then(|reply| match reply {
            None => Ok(State::default()),
            Some(bytes) => decode_state(&bytes).map_err(|error| {
                warn!(self.log.open(), "a state does not decode"; "peer" => %node, "error" => %error);
                Fault::Broken
            }),
        });
        if let Err(fault) = &outcome {
            debug!(self.log.open(), "a replica did not answer"; "peer" => %node, "fault" => ?fault);
            self.ask_next(ctx);
        }
        let decision = self.quorum.record(node, outcome);
        self.decide(decision, ctx);
    }

    fn decide(&mut self, decision: Decision, ctx: &mut Context<Self>) {
        match decision {
            Decision::Done if self.reply.is_some() => {
                let state = self.quorum.merged().clone();
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
        let about_the_ring = self
            .quorum
            .faults()
            .iter()
            .any(|fault| fault.is_about_the_ring());
        if !about_the_ring || self.restarts >= MAX_RESTARTS {
            return false;
        }
        self.restarts += 1;
        let newer = self.worker.view();
        let is_newer = newer.epoch() > self.view.epoch();
        let moving = newer.is_moving(self.key.hash().partition());
        self.set = match self.set {
            OwnerSet::Current if moving && !is_newer => OwnerSet::Incoming,
            OwnerSet::Current | OwnerSet::Incoming => OwnerSet::Current,
        };
        self.view = newer;
        is_newer || moving
    }

    fn stop_when_done(&mut self, ctx: &mut Context<Self>) {
        if self.reply.is_none() && self.open == 0 {
            ctx.stop();
        }
    }

    fn repair(&mut self) {
        let quorum = std::mem::replace(&mut self.quorum, ReadQuorum::new(0, 1));
        let ReadFollowUp::Repair { stale, merged } = quorum.finish() else {
            return;
        };
        let state = encode_state(&merged);
        let deadline = Instant::now() + REPAIR_TIME;
        let terms = Terms {
            epoch: self.view.epoch(),
            set: self.set,
            deadline,
        };
        for node in stale {
            debug!(self.log.open(), "repairing a replica that was behind"; "peer" => %node);
            let (key, state) = (self.key.clone(), state.clone());
            self.worker
                .replica(&node)
                .write
                .do_send(ReplicaWrite { key, state, terms });
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
        ctx.run_later(
            self.deadline.saturating_duration_since(Instant::now()),
            |act, ctx| {
                act.answer_and_stop(Err(Failure::DeadlineExceeded(Applied::No)), ctx);
            },
        );
        if self.view.is_flipped(self.key.hash().partition()) {
            self.set = OwnerSet::Incoming;
        }
        self.ask(ctx);
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        self.repair();
    }
}
