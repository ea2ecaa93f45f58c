//! (in the making)
use super::{ClusterId, Member, Ring};
use crate::dynamo::node_id::NodeId;

/// One committed step from a ring to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Makes the first ring, epoch 1, with nothing to move.
    Found {
        /// The new cluster.
        cluster: ClusterId,
        /// N.
        replicas: usize,
        /// The founders.
        members: Vec<Member>,
    },
    /// Adds a member; the partitions it gains start to move.
    Join(Member),
    /// Ends the move under way: the incoming owners are the owners.
    Retire,
}

/// Why a change cannot follow a ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanError {
    /// A ring exists already.
    AlreadyFounded,
    /// No ring to change.
    NoRing,
    /// Nobody to found it.
    NoMembers,
    /// The name is taken by another data directory.
    NameTaken(NodeId),
    /// It is a member already.
    AlreadyMember(NodeId),
    /// The partitions of the change before are still moving.
    StillMoving,
    /// Nothing is moving.
    NotMoving,
}

/// The ring after a change.
///
/// # Errors
/// [`PlanError`].
pub fn plan(_previous: Option<&Ring>, _change: &Change) -> Result<Ring, PlanError> {
    Err(PlanError::NoRing)
}
