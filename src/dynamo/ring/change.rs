//! What can change in a ring, and why it cannot.

use super::{ClusterId, Member};
use crate::dynamo::node_id::NodeId;

/// One committed step from a ring to the next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    /// A member has lost its disk: under the same name it goes on with another data directory, and
    /// owns what it owned. Nothing moves.
    Recover(Member),
    /// Ends the move under way: the incoming owners are the owners.
    Retire,
    /// Adds a change to those that are staged. Nothing moves.
    Stage(MemberChange),
    /// Drops what is staged: all of it, or what is about one node. Nothing moves.
    Revert(Option<NodeId>),
    /// Makes these changes as one; the partitions that change hands start to move.
    Commit(Vec<MemberChange>),
    /// Ends the move under way: the owners before it are the owners again.
    Cancel,
    /// Has requests steered round a member, or to it again. Nothing moves.
    Steer {
        /// The member.
        node: NodeId,
        /// Whether round it.
        down: bool,
    },
}

/// One change of who is a member, or of a member's share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MemberChange {
    /// A node becomes a member.
    Join(Member),
    /// A member hands over what it owns, and is none any more.
    Leave(NodeId),
    /// A node becomes a member in the place of another, and owns exactly what that one owned.
    Replace {
        /// Who goes.
        old: NodeId,
        /// Who comes.
        new: Member,
    },
    /// A member that is gone for good: others get what it owned, from the owners that are left.
    Forget(NodeId),
    /// Sets a member's share.
    Weight {
        /// Whose.
        node: NodeId,
        /// The new one, at least 1.
        weight: u32,
    },
    /// Sets a member's failure domain.
    Zone {
        /// Whose.
        node: NodeId,
        /// The new one.
        zone: String,
    },
    /// A member that may be gone gets nothing by the changes beside this one, where others can
    /// take it. By itself it changes nothing.
    Spare(NodeId),
}

impl MemberChange {
    /// The node that it is about; of a replacement, the one that comes.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        match self {
            Self::Join(member) | Self::Replace { new: member, .. } => &member.id,
            Self::Leave(node)
            | Self::Forget(node)
            | Self::Weight { node, .. }
            | Self::Zone { node, .. }
            | Self::Spare(node) => node,
        }
    }

    /// Whether it is about this node.
    #[must_use]
    pub fn concerns(&self, node: &NodeId) -> bool {
        self.node() == node || matches!(self, Self::Replace { old, .. } if old == node)
    }

    /// Whether the node is no member any more once it is made.
    #[must_use]
    pub fn takes_out(&self, node: &NodeId) -> bool {
        match self {
            Self::Leave(goes) | Self::Forget(goes) | Self::Replace { old: goes, .. } => {
                goes == node
            }
            Self::Join(_) | Self::Weight { .. } | Self::Zone { .. } | Self::Spare(_) => false,
        }
    }

    /// Whether it may be committed while partitions move, because what moves may be waiting for the
    /// very member that it takes out.
    #[must_use]
    pub fn interrupts(&self) -> bool {
        matches!(self, Self::Forget(_) | Self::Replace { .. })
    }

    /// Whether the two cannot both be staged: the later one stands for the earlier one. A weight
    /// and a zone go together, and so do they with a join.
    pub(super) fn supersedes(&self, earlier: &Self) -> bool {
        let kind = |change: &Self| match change {
            Self::Join(_) | Self::Leave(_) | Self::Replace { .. } | Self::Forget(_) => 0,
            Self::Weight { .. } => 1,
            Self::Zone { .. } => 2,
            Self::Spare(_) => 3,
        };
        kind(self) == kind(earlier)
            && (earlier.concerns(self.node())
                || matches!(self, Self::Replace { old, .. } if earlier.concerns(old)))
    }
}

impl std::fmt::Display for MemberChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Join(member) => write!(f, "join {}", member.id),
            Self::Leave(node) => write!(f, "leave {node}"),
            Self::Replace { old, new } => write!(f, "replace {old} {}", new.id),
            Self::Forget(node) => write!(f, "forget {node}"),
            Self::Weight { node, weight } => write!(f, "weight {node} {weight}"),
            Self::Zone { node, zone } => write!(f, "zone {node} {zone}"),
            Self::Spare(node) => write!(f, "spare {node}"),
        }
    }
}

/// How a member ceased to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It handed over what it owned.
    Left,
    /// Another node owns what it owned.
    Replaced,
    /// It was gone for good.
    Forgotten,
}

impl std::fmt::Display for Departure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Left => "left",
            Self::Replaced => "was replaced in",
            Self::Forgotten => "was forgotten by",
        })
    }
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
    /// It is no member.
    NotMember(NodeId),
    /// The partitions of the change before are still moving.
    StillMoving,
    /// Nothing is moving.
    NotMoving,
    /// This data directory was a member's that is none any more.
    Departed(NodeId),
    /// Nobody would be left.
    NobodyLeft,
    /// Two of the changes are about the same node and do not go together.
    Conflict(NodeId),
    /// It is so already.
    NothingToChange,
    /// A member was forgotten in this change, or it began under an older version of the program:
    /// it can only go forward.
    CannotCancel,
    /// So much is staged that no more is taken.
    TooMuchStaged,
    /// Some partitions have new owners already, so that going back has to be meant.
    Flipped,
}

impl std::error::Error for PlanError {}

impl std::fmt::Display for PlanError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AlreadyFounded => f.write_str("a ring exists already"),
            Self::NoRing => f.write_str("there is no ring to change"),
            Self::NoMembers => f.write_str("a ring needs at least one member"),
            Self::NameTaken(id) => write!(f, "the name {id} belongs to another data directory"),
            Self::AlreadyMember(id) => write!(f, "{id} is a member already"),
            Self::NotMember(id) => write!(f, "{id} is not a member"),
            Self::StillMoving => f.write_str("partitions of the change before are still moving"),
            Self::NotMoving => f.write_str("no partition is moving"),
            Self::Departed(id) => write!(f, "the data of {id} has left this cluster"),
            Self::NobodyLeft => f.write_str("no member would be left"),
            Self::Conflict(id) => write!(f, "two changes of {id} do not go together"),
            Self::NothingToChange => f.write_str("it is so already"),
            Self::CannotCancel => f.write_str("this change can only go forward"),
            Self::Flipped => f.write_str("some partitions are served by their new owners already"),
            Self::TooMuchStaged => f.write_str("too much is staged; commit or revert it first"),
        }
    }
}
