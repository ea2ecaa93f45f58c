//! Who is asked for one slot of a write, and as what: the owner itself, or a fallback for it.

use tokio::time::Instant;

use super::WriteCoordinator;
use crate::actors::replica::Terms;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quorum::{Decision, Fault, WriteQuorum};
use crate::dynamo::ring::{MemberNumber, OwnerSet, Ring};
use crate::wire::trace::TraceId;

/// A node in a slot.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    pub(super) node: NodeId,
    /// The owner it stands in for, and that one's number in the ring.
    stands_for: Option<(NodeId, MemberNumber)>,
}

impl Seat {
    pub(super) fn home(node: NodeId) -> Self {
        Self {
            node,
            stands_for: None,
        }
    }

    pub(super) fn fallback(node: NodeId, owner: NodeId, number: MemberNumber) -> Self {
        Self {
            node,
            stands_for: Some((owner, number)),
        }
    }

    /// Whose slot it is.
    pub(super) fn owner(&self) -> &NodeId {
        self.stands_for
            .as_ref()
            .map_or(&self.node, |(owner, _)| owner)
    }

    pub(super) fn terms(&self, epoch: u64, deadline: Instant, trace: TraceId) -> Terms {
        let set = match self.stands_for {
            None => OwnerSet::Current,
            Some((_, number)) => OwnerSet::Fallback(number),
        };
        Terms {
            epoch,
            set,
            deadline,
            trace: Some(trace),
        }
    }

    pub(super) fn record(&self, quorum: &mut WriteQuorum, outcome: Result<(), Fault>) -> Decision {
        match &self.stands_for {
            None => quorum.record(&self.node, outcome),
            Some((owner, _)) => quorum.record_hint(owner, &self.node, outcome),
        }
    }
}

impl WriteCoordinator {
    /// An owner that seems to be there, then a fallback, then an owner that seems not to be.
    pub(super) fn next_minter(&mut self, ring: &Ring) -> Option<Seat> {
        if let Some(owner) = self.untried.pop() {
            return Some(Seat::home(owner));
        }
        self.call_fallbacks(ring);
        let vacant = self.quorum.vacancy().cloned();
        let fallback = vacant.and_then(|owner| self.fallback_for(&owner, ring));
        fallback.or_else(|| self.last_resort.pop().map(Seat::home))
    }

    /// A node that keeps silent must leave a fallback, where there may be one, half of the time.
    pub(super) fn deadline_of_one(&self, ring: &Ring) -> Instant {
        let owners = ring
            .placement(self.write.key.hash().partition())
            .writers()
            .count();
        let may_be = !self.write.options.strict && ring.members.len() > owners;
        if may_be && (!self.stand_by || self.quorum.spare() > 0) {
            let now = Instant::now();
            now + self.deadline.saturating_duration_since(now) / 2
        } else {
            self.deadline
        }
    }

    /// Tells the quorum of the reachable fallbacks, once.
    pub(super) fn call_fallbacks(&mut self, ring: &Ring) {
        if self.stand_by || self.write.options.strict {
            return;
        }
        self.stand_by = true;
        let mut fallbacks = ring.fallbacks(self.write.key.hash().partition());
        fallbacks.retain(|id| self.worker.reaches(id));
        self.quorum.stand_by(fallbacks);
    }

    pub(super) fn fallback_for(&mut self, owner: &NodeId, ring: &Ring) -> Option<Seat> {
        let number = ring.number_of(owner)?;
        let node = self.quorum.call_up(owner)?;
        Some(Seat::fallback(node, owner.clone(), number))
    }
}
