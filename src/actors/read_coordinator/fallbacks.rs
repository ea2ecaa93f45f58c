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
    called: Vec<Called>,
}

/// A fallback, and the owner that it stands in for.
#[derive(Debug)]
struct Called {
    node: NodeId,
    owner: NodeId,
    number: MemberNumber,
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
        let called = self.called(node);
        called.map(|called| OwnerSet::Fallback(called.number))
    }

    /// The owner that a node answers for: itself, unless it is a fallback.
    pub(super) fn owner<'a>(&'a self, node: &'a NodeId) -> &'a NodeId {
        self.called(node).map_or(node, |called| &called.owner)
    }

    fn called(&self, node: &NodeId) -> Option<&Called> {
        self.called.iter().find(|called| called.node == *node)
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
        let fallback = match self.fallbacks.called(failed) {
            Some(called) => self.call(called.owner.clone()),
            None => self.call_for(failed),
        };
        if let Some(fallback) = fallback {
            self.unasked.insert(0, fallback);
        }
    }

    /// A fallback for an owner that has none.
    fn call_for(&mut self, owner: &NodeId) -> Option<NodeId> {
        let mut called = self.fallbacks.called.iter();
        let has_one = called.any(|called| called.owner == *owner);
        if has_one {
            None
        } else {
            self.call(owner.clone())
        }
    }

    /// The next reachable fallback that this read has not called.
    fn call(&mut self, owner: NodeId) -> Option<NodeId> {
        if self.fallbacks.is_strict {
            return None;
        }
        let ring = self.view.ring.as_ref()?;
        let number = ring.number_of(&owner)?;
        let is_new = |id: &NodeId| self.fallbacks.called(id).is_none();
        let fallbacks = ring.fallbacks(self.key.hash().partition());
        let mut new = fallbacks.into_iter().filter(is_new);
        let node = new.find(|id| self.worker.reaches(id))?;
        self.quorum.stand_by(&owner);
        self.fallbacks.called.push(Called {
            node: node.clone(),
            owner,
            number,
        });
        Some(node)
    }
}
