//! What a write leaves behind for the owners that went without it: a hint each, on the first node
//! that takes it. It counts for nothing; it brings a returning owner up to date within seconds.

use std::time::Duration;

use bytes::Bytes;
use slog::{debug, warn};
use tokio::time::{Instant, timeout_at};

use super::WriteCoordinator;
use super::seat::Seat;
use crate::actors::replica::ReplicaWrite;
use crate::actors::worker::{RequestLog, Worker};
use crate::dynamo::key::Key;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quorum::{Fault, WriteFollowUp};

/// How long one node may take to store a hint.
const HINT_TIME: Duration = Duration::from_secs(4);

/// A write that some owner went without.
#[derive(Clone)]
struct Left {
    worker: Worker,
    key: Key,
    state: Bytes,
    log: RequestLog,
}

impl WriteCoordinator {
    /// Nothing is left behind by a write that was not applied.
    pub(super) fn leave_hints(&mut self) {
        let (Some(done), WriteFollowUp::Hint(owners)) = (&self.minted, self.quorum.finish()) else {
            return;
        };
        let left = Left {
            worker: self.worker.clone(),
            key: self.write.key.clone(),
            state: done.state.clone(),
            log: self.log.clone(),
        };
        let me = &self.view.me;
        let keepers = self.quorum.keepers();
        let (fallbacks, owners_too): (Vec<&NodeId>, Vec<&NodeId>) =
            keepers.partition(|id| self.is_fallback(id));
        let order = fallbacks.into_iter().chain([me]);
        let order = order.chain(owners_too.into_iter().filter(|id| *id != me));
        for owner in owners {
            let keepers = order.clone().filter(|id| **id != owner).cloned().collect();
            actix::spawn(left.clone().leave_one(owner, keepers));
        }
    }

    fn is_fallback(&self, id: &NodeId) -> bool {
        let ring = self.view.ring.as_ref();
        let placement = ring.map(|ring| ring.placement(self.write.key.hash().partition()));
        placement.is_some_and(|placement| !placement.involves(id))
    }
}

impl Left {
    async fn leave_one(self, owner: NodeId, keepers: Vec<NodeId>) {
        for keeper in keepers {
            match self.ask(&keeper, &owner).await {
                Ok(()) => {
                    debug!(self.log.open(), "a hint is kept for an owner that missed a write";
                        "event.action" => "hint", "quorate.peer" => %keeper,
                        "quorate.owner" => %owner);
                    return;
                }
                Err(fault) => debug!(self.log.open(), "a hint was not taken";
                    "quorate.peer" => %keeper, "quorate.owner" => %owner,
                    "quorate.fault" => ?fault),
            }
        }
        warn!(self.log.open(), "nobody keeps a hint for an owner that missed a write";
            "quorate.owner" => %owner);
    }

    async fn ask(&self, keeper: &NodeId, owner: &NodeId) -> Result<(), Fault> {
        let view = self.worker.view();
        let number = view.ring.as_ref().and_then(|ring| ring.number_of(owner));
        let place = Seat::fallback(
            keeper.clone(),
            owner.clone(),
            number.ok_or(Fault::NotOwner)?,
        );
        let hint = ReplicaWrite {
            key: self.key.clone(),
            state: self.state.clone(),
            terms: place.terms(view.epoch(), Instant::now() + HINT_TIME, self.log.trace()),
        };
        let deadline = hint.terms.deadline;
        let taken = self.worker.replica(keeper).write.send(hint);
        match timeout_at(deadline, taken).await {
            Ok(taken) => taken.unwrap_or(Err(Fault::Broken)),
            Err(_elapsed) => Err(Fault::TimedOut),
        }
    }
}
