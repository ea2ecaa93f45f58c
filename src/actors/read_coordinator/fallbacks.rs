//! Fallbacks in a read: they answer with their hints in the place of owners that are away, unless
//! the read is strict.

use super::ReadCoordinator;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quorum::Fault;
use crate::dynamo::ring::{MemberNumber, OwnerSet};

/// Which fallbacks a read has called.
#[derive(Debug)]
pub(super) struct Fallbacks {
    is_strict: bool,
    /// Each with the number of the owner that it stands in for.
    called: Vec<(NodeId, MemberNumber)>,
}

impl Fallbacks {
    pub(super) fn new(is_strict: bool) -> Self {
        Self {
            is_strict,
            called: Vec::new(),
        }
    }

    /// Under another ring, or for other owners, they are called anew.
    pub(super) fn forget(&mut self) {
        self.called.clear();
    }

    /// As what a fallback is addressed; `None` for an owner.
    pub(super) fn role(&self, node: &NodeId) -> Option<OwnerSet> {
        let called = self.called.iter().find(|(id, _)| id == node);
        called.map(|(_, number)| OwnerSet::Fallback(*number))
    }
}

impl ReadCoordinator {
    /// Puts a fallback for every owner that seems to be away in front of those owners.
    pub(super) fn call_before_the_absent(&mut self, order: &mut Vec<NodeId>) {
        let first_absent = order.iter().position(|id| !self.worker.reaches(id));
        let Some(first_absent) = first_absent else {
            return;
        };
        let absent = order.split_off(first_absent);
        for owner in &absent {
            order.extend(self.call_for(owner));
        }
        order.extend(absent);
    }

    /// Lets another fallback be asked, after all others, in the place of a node that failed.
    pub(super) fn call_in_place_of(&mut self, failed: &NodeId, fault: Fault) {
        if self.reply.is_none() || fault.is_about_the_ring() {
            return;
        }
        let fallback = match self.fallbacks.role(failed) {
            Some(OwnerSet::Fallback(owner)) => self.call(owner),
            Some(OwnerSet::Current | OwnerSet::Incoming) | None => self.call_for(failed),
        };
        if let Some(fallback) = fallback {
            self.unasked.insert(0, fallback);
        }
    }

    /// A fallback for an owner that has none.
    fn call_for(&mut self, owner: &NodeId) -> Option<NodeId> {
        let ring = self.view.ring.as_ref();
        let number = ring.and_then(|ring| ring.number_of(owner))?;
        let has_one = self.fallbacks.called.iter().any(|(_, n)| *n == number);
        if has_one { None } else { self.call(number) }
    }

    /// The next reachable fallback that this read has not called.
    fn call(&mut self, owner: MemberNumber) -> Option<NodeId> {
        if self.fallbacks.is_strict {
            return None;
        }
        let ring = self.view.ring.as_ref()?;
        let is_new = |id: &NodeId| self.fallbacks.role(id).is_none();
        let fallbacks = ring.fallbacks(self.key.hash().partition());
        let mut new = fallbacks.into_iter().filter(is_new);
        let next = new.find(|id| self.worker.reaches(id))?;
        self.fallbacks.called.push((next.clone(), owner));
        self.quorum.stand_by(1);
        Some(next)
    }
}
