//! One write, from the client's request to its answer and the replicas' last words.
//!
//! Look (a quorum read, for the rules that need one) → mint at one owner → replicate to the
//! others → answer at the quorum → wait for the late replicas. A ring that changes in between is
//! followed within the deadline.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};
use bytes::Bytes;
use slog::{debug, warn};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::read_coordinator::ReadCoordinator;
use super::replica::{MintReply, Minted, ReplicaMint, ReplicaWrite, Terms};
use super::request::{Applied, Failure, Read, ReadAnswer, Write, WriteAnswer};
use super::ring_view::View;
use super::worker::{RequestLog, Worker};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quorum::{Acks, Decision, Fault, Shortfall, WriteQuorum};
use crate::dynamo::ring::{OwnerSet, Placement, Ring};
use crate::dynamo::version::{Body, Context as Seen, Mint, RequestId, State, WriteKind};
use crate::limits::SIBLINGS_WARN;
use crate::wire::state::decode_state;

/// How often one write follows a ring that changes under it.
const MAX_RING_CHANGES: u32 = 8;

/// Owns one client's write.
#[derive(Debug)]
pub struct WriteCoordinator {
    worker: Worker,
    write: Write,
    request: RequestId,
    needed: usize,
    deadline: Instant,
    reply: Option<oneshot::Sender<Result<WriteAnswer, Failure>>>,
    log: RequestLog,
    view: Arc<View>,
    ring_changes: u32,
    /// What the quorum read saw, when the write's rule needs one.
    look: Option<(State, Acks)>,
    untried: Vec<NodeId>,
    /// Whether some attempt to mint may have succeeded unseen.
    doubtful: bool,
    minted: Option<Minted>,
    quorum: WriteQuorum,
    /// Replicas whose outcome is still to come.
    open: usize,
}

impl WriteCoordinator {
    /// A coordinator for one write; `anonymous` identifies it if its client did not.
    #[must_use]
    pub fn new(
        worker: Worker,
        write: Write,
        anonymous: RequestId,
        deadline: Instant,
        reply: oneshot::Sender<Result<WriteAnswer, Failure>>,
    ) -> Self {
        let view = worker.view();
        let log = worker.request_log(&write.options);
        let request = write.request.unwrap_or(anonymous);
        let needed = worker.write_quorum(write.options.quorum);
        let nowhere = Placement {
            owners: Vec::new(),
            incoming: None,
        };
        Self {
            worker,
            write,
            request,
            needed,
            deadline,
            reply: Some(reply),
            log,
            view,
            ring_changes: 0,
            look: None,
            untried: Vec::new(),
            doubtful: false,
            minted: None,
            quorum: WriteQuorum::new(&nowhere, 1),
            open: 0,
        }
    }

    /// Creates and deletes decide by what a quorum sees; a retry must find its first attempt.
    fn needs_a_look(&self) -> bool {
        self.write.kind != WriteKind::Put || self.write.request.is_some()
    }

    fn look(&self, ctx: &mut Context<Self>) {
        let (sender, seen) = oneshot::channel();
        let read = Read {
            key: self.write.key.clone(),
            options: self.write.options.clone(),
        };
        ReadCoordinator::for_write(self.worker.clone(), read, self.deadline, sender).start();
        let arrived = seen.into_actor(self).map(|seen, act, ctx| match seen {
            Ok(Ok(seen)) => act.looked(seen, ctx),
            Ok(Err(failure)) => act.fail(failure, ctx),
            Err(_gone) => act.fail(Failure::NotServing, ctx),
        });
        ctx.spawn(arrived);
    }

    fn looked(&mut self, seen: ReadAnswer, ctx: &mut Context<Self>) {
        let known = |clock: &Option<_>| {
            clock
                .as_ref()
                .is_none_or(|clock| seen.state.context.covers_all(clock))
        };
        let retried = seen.state.written_by(self.request.id).is_some();
        let refused = match self.write.kind {
            _ if retried => None,
            WriteKind::Create if seen.state.is_live() => {
                Some(Failure::AlreadyExists(seen.state.clone(), seen.acks))
            }
            WriteKind::Delete if !seen.state.is_live() && known(&self.write.clock) => {
                Some(Failure::NotFound(seen.state.context.clone(), seen.acks))
            }
            WriteKind::Create | WriteKind::Put | WriteKind::Delete => None,
        };
        if let Some(failure) = refused {
            return self.fail(failure, ctx);
        }
        self.look = Some((seen.state, seen.acks));
        self.plan_mint(ctx);
    }

    /// Starts, or starts over under a newer ring, at the first owner that is likely to answer.
    fn plan_mint(&mut self, ctx: &mut Context<Self>) {
        self.view = self.worker.view();
        let Some(ring) = self.view.ring.clone() else {
            return self.fail(Failure::NotServing, ctx);
        };
        let placement = ring.placement(self.write.key.hash().partition());
        self.quorum = WriteQuorum::new(placement, self.needed);
        // Racing creates must meet at one minter to be decided there; other writes are fastest here.
        self.untried = match self.write.kind {
            WriteKind::Create => self.worker.in_ring_order(&placement.owners),
            WriteKind::Put | WriteKind::Delete => self.worker.by_preference(&placement.owners),
        };
        self.untried.reverse();
        self.mint(&ring, ctx);
    }

    fn mint(&mut self, ring: &Ring, ctx: &mut Context<Self>) {
        if let Decision::Failed(shortfall) = self.quorum.decide() {
            return self.fail_short(shortfall, ctx);
        }
        let Some(minter) = self.untried.pop() else {
            return self.fail_short(self.quorum.shortfall(), ctx);
        };
        let left = self.deadline.saturating_duration_since(Instant::now());
        // An owner that keeps silent must leave the next one its share of the time.
        let share = left / u32::try_from(self.untried.len() + 1).unwrap_or(1);
        let terms = Terms {
            epoch: ring.epoch,
            set: OwnerSet::Current,
            deadline: Instant::now() + share,
        };
        let message = ReplicaMint {
            key: self.write.key.clone(),
            mint: self.as_mint(),
            terms,
        };
        let sent = self.worker.replica(&minter).mint.send(message);
        let arrived = sent.into_actor(self).map(move |outcome, act, ctx| {
            let outcome = outcome.unwrap_or(Err(Fault::Broken));
            act.mint_outcome(&minter, outcome, ctx);
        });
        ctx.spawn(arrived);
    }

    fn as_mint(&self) -> Mint {
        let merged = self.look.as_ref().map(|(state, _)| state.clone());
        let seen = match (self.write.kind, &self.write.clock, &merged) {
            (_, Some(clock), _) => clock.clone(),
            (WriteKind::Delete, None, Some(merged)) => merged.context.clone(),
            _ => Seen::empty(),
        };
        Mint {
            kind: self.write.kind,
            seen,
            body: self
                .write
                .value
                .clone()
                .map_or(Body::Tombstone, Body::Value),
            request: self.request,
            remember: self.write.request.is_some() || self.doubtful,
            merged,
        }
    }

    fn mint_outcome(
        &mut self,
        minter: &NodeId,
        outcome: Result<MintReply, Fault>,
        ctx: &mut Context<Self>,
    ) {
        if self.reply.is_none() {
            return;
        }
        match outcome {
            Ok(MintReply::Minted(done)) => {
                self.minted = Some(done);
                self.replicate(Some(minter.clone()), ctx);
            }
            Ok(MintReply::AlreadyExists(state)) => {
                self.refused(&state, Failure::AlreadyExists, ctx);
            }
            Ok(MintReply::NothingToDelete(state)) => {
                self.refused(&state, |s, acks| Failure::NotFound(s.context, acks), ctx);
            }
            Ok(MintReply::TooManySiblings(state)) => {
                self.refused(&state, Failure::TooManySiblings, ctx);
            }
            Ok(MintReply::RequestReused) => self.fail(Failure::RequestReused, ctx),
            Err(fault) if fault.is_about_the_ring() && self.follow_ring() => self.plan_mint(ctx),
            Err(fault) => {
                debug!(self.log.open(), "a mint failed"; "peer" => %minter, "fault" => ?fault);
                self.doubtful |= fault.may_have_applied();
                self.quorum.record(minter, Err(fault));
                match self.view.ring.clone() {
                    Some(ring) => self.mint(&ring, ctx),
                    None => self.fail(Failure::NotServing, ctx),
                }
            }
        }
    }

    fn refused(
        &mut self,
        state: &Bytes,
        failure: impl FnOnce(State, Acks) -> Failure,
        ctx: &mut Context<Self>,
    ) {
        let acks = self
            .look
            .as_ref()
            .map_or(Acks { home: 1, hinted: 0 }, |(_, acks)| *acks);
        match decode_state(state) {
            Ok(state) => self.fail(failure(state, acks), ctx),
            Err(error) => {
                warn!(self.log.open(), "a minter's state does not decode"; "error" => %error);
                self.fail_short(self.quorum.shortfall(), ctx);
            }
        }
    }

    /// Sends the minted state to every other owner, old and new.
    fn replicate(&mut self, minter: Option<NodeId>, ctx: &mut Context<Self>) {
        let (Some(done), Some(ring)) = (&self.minted, self.view.ring.clone()) else {
            return;
        };
        let terms = Terms {
            epoch: ring.epoch,
            set: OwnerSet::Current,
            deadline: self.deadline,
        };
        let placement = ring.placement(self.write.key.hash().partition());
        for node in placement
            .writers()
            .filter(|id| Some(*id) != minter.as_ref())
        {
            let message = ReplicaWrite {
                key: self.write.key.clone(),
                state: done.state.clone(),
                terms,
            };
            let (node, epoch) = (node.clone(), ring.epoch);
            let sent = self.worker.replica(&node).write.send(message);
            let arrived = sent.into_actor(self).map(move |outcome, act, ctx| {
                act.open -= 1;
                act.write_outcome(epoch, &node, outcome.unwrap_or(Err(Fault::Broken)), ctx);
            });
            self.open += 1;
            ctx.spawn(arrived);
        }
        let decision = match minter {
            Some(node) => self.quorum.record(&node, Ok(())),
            None => self.quorum.decide(),
        };
        self.decide(decision, ctx);
    }

    fn write_outcome(
        &mut self,
        epoch: u64,
        node: &NodeId,
        outcome: Result<(), Fault>,
        ctx: &mut Context<Self>,
    ) {
        let stale = outcome.is_err_and(Fault::is_about_the_ring);
        if stale && self.reply.is_some() && self.view.epoch() == epoch && self.follow_ring() {
            return self.replicate_anew(ctx);
        }
        if outcome.is_err() && self.view.epoch() != epoch {
            // A refusal of the ring before says nothing about the question asked since.
            return self.decide(self.quorum.decide(), ctx);
        }
        if let Err(fault) = outcome {
            debug!(self.log.open(), "a replica did not take a write"; "peer" => %node, "fault" => ?fault);
        }
        // Under a newer ring every replica was asked anew; what failed under an older one says
        // nothing about that.
        let decision = match outcome {
            Err(_) if self.view.epoch() != epoch => self.quorum.decide(),
            Ok(()) | Err(_) => self.quorum.record(node, outcome),
        };
        self.decide(decision, ctx);
    }

    /// The owners have changed: count afresh, the minter too, which must know the new ring.
    fn replicate_anew(&mut self, ctx: &mut Context<Self>) {
        if let Some(ring) = &self.view.ring {
            let placement = ring.placement(self.write.key.hash().partition());
            self.quorum = WriteQuorum::new(placement, self.needed);
            self.replicate(None, ctx);
        }
    }

    /// Takes up a newer ring if there is one, and says whether.
    fn follow_ring(&mut self) -> bool {
        let newer = self.worker.view();
        if newer.epoch() <= self.view.epoch() || self.ring_changes >= MAX_RING_CHANGES {
            return false;
        }
        self.ring_changes += 1;
        self.view = newer;
        true
    }

    fn decide(&mut self, decision: Decision, ctx: &mut Context<Self>) {
        match (decision, &self.minted) {
            (Decision::Done, Some(done)) => {
                let answer = WriteAnswer {
                    clock: done.answer.clone(),
                    siblings: done.siblings,
                    acks: self.quorum.acks(),
                };
                self.warn_of_siblings(answer.siblings);
                self.answer(Ok(answer));
            }
            (Decision::Failed(shortfall), _) if self.reply.is_some() => {
                self.fail_short(shortfall, ctx);
            }
            (Decision::Done | Decision::Wait | Decision::Failed(_), _) => {}
        }
        if self.open == 0 && self.reply.is_none() {
            ctx.stop();
        }
    }

    fn warn_of_siblings(&self, siblings: usize) {
        if siblings >= SIBLINGS_WARN && self.reply.is_some() {
            let hash = format!("{:016x}", self.write.key.hash().as_u64());
            warn!(self.log.open(), "a key has many siblings: its writers do not merge what they read";
                "quorate.key_hash" => hash, "quorate.siblings" => siblings);
        }
    }

    fn fail_short(&mut self, shortfall: Shortfall, ctx: &mut Context<Self>) {
        let full = self
            .quorum
            .faults()
            .any(|fault| fault == Fault::StorageFull);
        let failure = if full {
            Failure::StorageFull(self.applied())
        } else {
            Failure::QuorumNotMet(shortfall, self.applied())
        };
        self.fail(failure, ctx);
    }

    fn applied(&self) -> Applied {
        if self.minted.is_some() || self.doubtful {
            Applied::Unknown
        } else {
            Applied::No
        }
    }

    fn fail(&mut self, failure: Failure, ctx: &mut Context<Self>) {
        self.answer(Err(failure));
        if self.open == 0 {
            ctx.stop();
        }
    }

    fn answer(&mut self, answer: Result<WriteAnswer, Failure>) {
        if let Some(reply) = self.reply.take()
            && reply.send(answer).is_err()
        {
            debug!(self.log.open(), "the client went away before its answer");
        }
    }
}

impl Actor for WriteCoordinator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let left: Duration = self.deadline.saturating_duration_since(Instant::now());
        ctx.run_later(left, |act, ctx| {
            // A mint in flight at the deadline may yet be applied.
            let sent = act.view.ring.is_some() && (act.look.is_some() || !act.needs_a_look());
            let applied = if sent { Applied::Unknown } else { Applied::No };
            act.answer(Err(Failure::DeadlineExceeded(applied)));
            ctx.stop();
        });
        if self.needs_a_look() {
            self.look(ctx);
        } else {
            self.plan_mint(ctx);
        }
    }
}
