//! One write, from the client's request to its answer and the replicas' last words.
//!
//! Look (a quorum read, for the rules that need one) → mint at one owner → replicate to the
//! others → answer at the quorum → wait for the late replicas → leave a hint for owners that went
//! without. Unless the request is strict, a fallback takes the place of an owner that is away, in
//! each of these steps. A ring that changes in between is followed within the deadline.

mod follow_up;
mod seat;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};
use bytes::Bytes;
use slog::{debug, warn};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use self::seat::Seat;

use super::read_coordinator::ReadCoordinator;
use super::replica::{MintReply, Minted, ReplicaMint, ReplicaWrite};
use super::request::{Applied, Failure, Read, ReadAnswer, Write, WriteAnswer};
use super::ring_view::View;
use super::timely::timely;
use super::worker::{RequestLog, Worker};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quorum::{Acks, Decision, Fault, Shortfall, WriteQuorum};
use crate::dynamo::ring::{Placement, Ring};
use crate::dynamo::version::{Body, Clock, Mint, Reason, RequestId, State, WriteKind};
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
    /// Owners that may mint, the likeliest last.
    untried: Vec<NodeId>,
    /// Owners to try when no fallback is left: they seem to be away.
    last_resort: Vec<NodeId>,
    /// Whether the quorum knows the fallbacks.
    stand_by: bool,
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
            last_resort: Vec::new(),
            stand_by: false,
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
        let known = |clock: &Option<Clock>| {
            let mut clock = clock.iter();
            clock.all(|clock| seen.state.context.covers_all(&clock.seen))
        };
        let retried = seen.state.written_by(self.request.id).is_some();
        let refused = match self.write.kind {
            _ if retried => None,
            WriteKind::Create if seen.state.is_live() => {
                Some(Failure::AlreadyExists(seen.state.clone(), seen.acks))
            }
            WriteKind::Delete if !seen.state.is_live() && known(&self.write.clock) => {
                Some(Failure::NotFound(Clock::of(&seen.state), seen.acks))
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
        let Some(ring) = self.view.ring_to_serve().cloned() else {
            return self.fail(Failure::NotServing, ctx);
        };
        let placement = ring.placement(self.write.key.hash().partition());
        self.count_anew(placement);
        if self.write.options.strict
            && let Decision::Failed(shortfall) = self.quorum.foresee(|id| self.worker.reaches(id))
        {
            return self.fail_short(shortfall, ctx);
        }
        // Racing creates must meet at one minter to be decided there; other writes are fastest here.
        self.untried = match self.write.kind {
            WriteKind::Create => self.worker.in_ring_order(&placement.owners),
            WriteKind::Put | WriteKind::Delete => self.worker.by_preference(&placement.owners),
        };
        self.untried.reverse();
        let (near, far) = (self.untried.drain(..)).partition(|id| self.worker.reaches(id));
        (self.untried, self.last_resort) = (near, far);
        if !self.last_resort.is_empty() {
            self.call_fallbacks(&ring);
        }
        self.mint(&ring, ctx);
    }

    fn count_anew(&mut self, placement: &Placement) {
        self.quorum = WriteQuorum::new(placement, self.needed);
        self.stand_by = false;
    }

    fn mint(&mut self, ring: &Ring, ctx: &mut Context<Self>) {
        if let Decision::Failed(shortfall) = self.quorum.decide() {
            return self.fail_short(shortfall, ctx);
        }
        let Some(minter) = self.next_minter(ring) else {
            return self.fail_short(self.quorum.shortfall(), ctx);
        };
        let left = self.deadline.saturating_duration_since(Instant::now());
        // A node that keeps silent must leave the next one its share of the time.
        let others = self.untried.len() + self.quorum.spare() + self.last_resort.len();
        let share = left / u32::try_from(others + 1).unwrap_or(u32::MAX);
        let terms = minter.terms(ring.epoch, Instant::now() + share, self.log.trace());
        let message = ReplicaMint {
            key: self.write.key.clone(),
            mint: self.as_mint(),
            terms,
        };
        let sent = self.worker.replica(&minter.node).mint.send(message);
        let sent = timely(terms.deadline, sent).into_actor(self);
        let arrived = sent.map(move |outcome, act, ctx| {
            let outcome = outcome.map(|sent| sent.unwrap_or(Err(Fault::Broken)));
            act.mint_outcome(&minter, outcome.unwrap_or(Err(Fault::TimedOut)), ctx);
        });
        ctx.spawn(arrived);
    }

    fn as_mint(&self) -> Mint {
        let merged = (self.look.as_ref()).map(|(state, _)| Box::new(state.clone()));
        let seen = match (self.write.kind, &self.write.clock, &merged) {
            (_, Some(clock), _) => clock.clone(),
            (WriteKind::Delete, None, Some(merged)) => Clock::from(merged.context.clone()),
            _ => Clock::default(),
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
            remember: if self.doubtful {
                Some(Reason::Doubtful)
            } else {
                self.write.request.map(|_| Reason::Keyed)
            },
            merged,
        }
    }

    fn mint_outcome(
        &mut self,
        minter: &Seat,
        outcome: Result<MintReply, Fault>,
        ctx: &mut Context<Self>,
    ) {
        if self.reply.is_none() {
            return;
        }
        match outcome {
            Ok(MintReply::Minted(done)) => {
                self.minted = Some(done);
                minter.record(&mut self.quorum, Ok(()));
                self.replicate(ctx);
            }
            Ok(MintReply::AlreadyExists(state)) => {
                self.refused(&state, Failure::AlreadyExists, ctx);
            }
            Ok(MintReply::NothingToDelete(state)) => {
                let not_found = |s: State, acks| Failure::NotFound(Clock::of(&s), acks);
                self.refused(&state, not_found, ctx);
            }
            // What to merge, and who says so, takes a quorum.
            Ok(MintReply::TooManySiblings(_)) if self.look.is_none() => self.look(ctx),
            Ok(MintReply::TooManySiblings(state)) => {
                self.refused(&state, Failure::TooManySiblings, ctx);
            }
            Ok(MintReply::RequestReused) => self.fail(Failure::RequestReused, ctx),
            Err(fault) if fault.is_about_the_ring() && self.follow_ring() => self.plan_mint(ctx),
            Err(fault) => {
                debug!(self.log.open(), "a mint failed"; "quorate.peer" => %minter.node,
                    "quorate.fault" => ?fault);
                self.doubtful |= fault.may_have_applied();
                let Some(ring) = self.view.ring.clone() else {
                    return self.fail(Failure::NotServing, ctx);
                };
                self.call_fallbacks(&ring);
                minter.record(&mut self.quorum, Err(fault));
                self.mint(&ring, ctx);
            }
        }
    }

    fn refused(
        &mut self,
        state: &Bytes,
        failure: impl FnOnce(State, Acks) -> Failure,
        ctx: &mut Context<Self>,
    ) {
        let acks = self.look.as_ref().map(|(_, acks)| *acks);
        let acks = acks.unwrap_or_default();
        match decode_state(state) {
            Ok(state) => self.fail(failure(state, acks), ctx),
            Err(error) => {
                warn!(self.log.open(), "a minter's state does not decode";
                    "error.message" => %error);
                self.fail_short(self.quorum.shortfall(), ctx);
            }
        }
    }

    /// Sends the minted state to every other owner, old and new, or to a fallback for it.
    fn replicate(&mut self, ctx: &mut Context<Self>) {
        let Some(ring) = self.view.ring.clone() else {
            return;
        };
        let placement = ring.placement(self.write.key.hash().partition());
        for owner in placement.writers() {
            if self.quorum.is_filled(owner) {
                continue;
            }
            let is_silent =
                (self.quorum.outcome(owner)).is_some_and(|o| o.is_err_and(Fault::is_silence));
            let fallback = if is_silent || !self.worker.reaches(owner) {
                self.call_fallbacks(&ring);
                self.fallback_for(owner, &ring)
            } else {
                None
            };
            let seat = fallback.unwrap_or_else(|| Seat::home(owner.clone()));
            self.send(seat, &ring, ctx);
        }
        self.decide(self.quorum.decide(), ctx);
    }

    fn send(&mut self, seat: Seat, ring: &Ring, ctx: &mut Context<Self>) {
        let Some(done) = &self.minted else {
            return;
        };
        let deadline = self.deadline_of_one(ring);
        let message = ReplicaWrite {
            key: self.write.key.clone(),
            state: done.state.clone(),
            terms: seat.terms(ring.epoch, deadline, self.log.trace()),
        };
        let epoch = ring.epoch;
        let taken = self.worker.replica(&seat.node).write.send(message);
        let taken = timeout_at(deadline, taken).into_actor(self);
        let arrived = taken.map(move |outcome, act, ctx| {
            act.open -= 1;
            let outcome = outcome.map(|taken| taken.unwrap_or(Err(Fault::Broken)));
            act.write_outcome(epoch, &seat, outcome.unwrap_or(Err(Fault::TimedOut)), ctx);
        });
        self.open += 1;
        ctx.spawn(arrived);
    }

    fn write_outcome(
        &mut self,
        epoch: u64,
        seat: &Seat,
        outcome: Result<(), Fault>,
        ctx: &mut Context<Self>,
    ) {
        let stale = outcome.is_err_and(Fault::is_about_the_ring);
        if stale && self.reply.is_some() && self.view.epoch() == epoch && self.follow_ring() {
            return self.replicate_anew(ctx);
        }
        if outcome.is_err() && self.view.epoch() != epoch {
            // Under a newer ring every replica was asked anew; what failed under an older one says
            // nothing about that.
            return self.decide(self.quorum.decide(), ctx);
        }
        if let Err(fault) = outcome {
            debug!(self.log.open(), "a replica did not take a write";
                "quorate.peer" => %seat.node, "quorate.fault" => ?fault);
            self.replace(seat, fault, ctx);
        } else {
            seat.record(&mut self.quorum, outcome);
        }
        self.decide(self.quorum.decide(), ctx);
    }

    /// Asks the next fallback in the place of a node that failed, and when there is none, the owner
    /// itself if that has not been tried.
    fn replace(&mut self, failed: &Seat, fault: Fault, ctx: &mut Context<Self>) {
        let Some(ring) = self.view.ring.clone() else {
            return;
        };
        self.call_fallbacks(&ring);
        failed.record(&mut self.quorum, Err(fault));
        let owner = failed.owner();
        if self.quorum.is_filled(owner) || fault.is_about_the_ring() {
            return;
        }
        let untried = self.quorum.outcome(owner).is_none();
        let next = self.fallback_for(owner, &ring);
        if let Some(seat) = next.or_else(|| untried.then(|| Seat::home(owner.clone()))) {
            self.send(seat, &ring, ctx);
        }
    }

    /// The owners have changed: count afresh, the minter too, which must know the new ring.
    fn replicate_anew(&mut self, ctx: &mut Context<Self>) {
        if let Some(ring) = self.view.ring.clone() {
            self.count_anew(ring.placement(self.write.key.hash().partition()));
            self.replicate(ctx);
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
                "quorate.key.hash" => hash, "quorate.siblings" => siblings);
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

    /// One owner's refusal says nothing of what another one may have done, unheard.
    fn fail(&mut self, failure: Failure, ctx: &mut Context<Self>) {
        let failure = if self.doubtful && failure.says_not_applied() {
            Failure::QuorumNotMet(self.quorum.shortfall(), Applied::Unknown)
        } else {
            failure
        };
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

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        self.leave_hints();
    }
}
