//! What a read does for replicas that were behind: before its answer in strict mode, after it
//! otherwise, and then at the pace of background work.

use std::time::Duration;

use actix::prelude::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use bytes::Bytes;
use slog::debug;
use tokio::time::Instant;

use super::ReadCoordinator;
use crate::actors::background::Kind;
use crate::actors::read_counts::Counted;
use crate::actors::replica::{ReplicaWrite, Terms};
use crate::actors::request::{Applied, Failure, ReadAnswer};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quorum::{Decision, Fault, ReadFollowUp};
use crate::wire::state::encode_state;

/// How long the repair of a stale replica may take.
const REPAIR_TIME: Duration = Duration::from_secs(4);

impl ReadCoordinator {
    /// With the quorum met: answers if enough owners are known to agree, else brings what the replies
    /// come to to as many owners as must hold it. Replies that come in meanwhile change nothing of
    /// that any more.
    pub(super) fn write_back_or_answer(&mut self, ctx: &mut Context<Self>) {
        if self.back.is_some() {
            return;
        }
        let Some(ring) = self.view.ring.clone() else {
            return self.answer_and_stop(Err(Failure::NotServing), ctx);
        };
        let placement = ring.placement(self.key.hash().partition());
        let back = self
            .quorum
            .write_back(placement, self.worker.write_quorum(None));
        if back.is_owed {
            self.worker.counts().count(Counted::WriteBack);
            let state = encode_state(&back.merged);
            for node in &back.missing {
                self.send_back(node.clone(), state.clone(), ctx);
            }
            self.back = Some((back, self.quorum.acks()));
            self.decide_write_back(ctx);
        } else {
            let acks = self.quorum.acks();
            self.answer(Ok(ReadAnswer {
                state: back.merged,
                acks,
            }));
            self.stop_when_done(ctx);
        }
    }

    fn send_back(&mut self, node: NodeId, state: Bytes, ctx: &mut Context<Self>) {
        let terms = Terms {
            epoch: self.view.epoch(),
            set: self.set,
            deadline: self.deadline,
            trace: Some(self.log.trace()),
        };
        let key = self.key.clone();
        let message = ReplicaWrite { key, state, terms };
        let sent = self.worker.replica(&node).write.send(message);
        let round = self.round;
        let arrived = sent.into_actor(self).map(move |outcome, act, ctx| {
            act.open -= 1;
            let outcome = outcome.unwrap_or(Err(Fault::Broken));
            if let (Some((back, _)), true) = (&mut act.back, act.round == round) {
                back.quorum.record(&node, outcome);
                act.decide_write_back(ctx);
            } else {
                act.stop_when_done(ctx);
            }
        });
        self.open += 1;
        ctx.spawn(arrived);
    }

    fn decide_write_back(&mut self, ctx: &mut Context<Self>) {
        let Some((back, acks)) = &self.back else {
            return;
        };
        match back.quorum.decide() {
            Decision::Done if self.reply.is_some() => {
                let (state, acks) = (back.merged.clone(), *acks);
                self.answer(Ok(ReadAnswer { state, acks }));
            }
            Decision::Failed(_) if self.reply.is_some() && self.find_other_owners() => {
                return self.ask(ctx);
            }
            Decision::Failed(shortfall) => {
                self.answer(Err(Failure::QuorumNotMet(shortfall, Applied::No)));
            }
            Decision::Done | Decision::Wait => {}
        }
        self.stop_when_done(ctx);
    }

    /// What went wrong in this round, with the reads and with what was written back.
    pub(super) fn faults(&self) -> impl Iterator<Item = Fault> + '_ {
        let back = self.back.iter().flat_map(|(back, _)| back.quorum.faults());
        self.quorum.faults().iter().copied().chain(back)
    }

    /// The owners, before and to be, that were not to be asked: while the partition moves they may
    /// have missed as much as those that were behind.
    fn beside(&self) -> Vec<NodeId> {
        let (Some(ring), asked) = (&self.view.ring, self.quorum.owners()) else {
            return Vec::new();
        };
        let placement = ring.placement(self.key.hash().partition());
        let beside = placement.writers().filter(|id| !asked.contains(id));
        beside.cloned().collect()
    }

    /// Repairs the replicas that were behind, but for those that have been written back to.
    pub(super) fn mend(&mut self) {
        let beside = self.beside();
        let quorum = std::mem::take(&mut self.quorum);
        let ReadFollowUp::Repair { mut stale, merged } = quorum.finish() else {
            return;
        };
        stale.extend(beside);
        if let Some((back, _)) = self.back.take().filter(|(back, _)| back.merged == merged) {
            stale.retain(|node| !back.missing.contains(node));
        }
        let state = encode_state(&merged);
        for node in stale {
            // What has no turn soon is left to a later read, or to anti-entropy.
            if self.worker.background().is_crowded(Kind::Repair) {
                self.worker.counts().count(Counted::RepairDropped);
                continue;
            }
            debug!(self.log.open(), "repairing a replica that was behind";
                "event.action" => "read-repair", "quorate.peer" => %node);
            self.worker.counts().count(Counted::Repair);
            actix::spawn(self.repair(node, state.clone()));
        }
    }

    fn repair(&self, node: NodeId, state: Bytes) -> impl Future<Output = ()> + use<> {
        let (worker, key) = (self.worker.clone(), self.key.clone());
        let (epoch, set) = (self.view.epoch(), self.set);
        let trace = Some(self.log.trace());
        async move {
            let bytes = u64::try_from(state.len()).unwrap_or(u64::MAX);
            worker.background().turn(Kind::Repair, bytes).await;
            let deadline = Instant::now() + REPAIR_TIME;
            let terms = Terms {
                epoch,
                set,
                deadline,
                trace,
            };
            let write = worker.replica(&node).write;
            write.do_send(ReplicaWrite { key, state, terms });
        }
    }
}
