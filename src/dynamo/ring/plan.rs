//! The step from one ring to the next: a pure function, so that every member computes the same.

use super::balance::rebalance;
use super::{ClusterId, Member, Placement, Ring};
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
    /// A member has lost its disk: under the same name it goes on with another data directory, and
    /// owns what it owned. Nothing moves.
    Recover(Member),
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
    /// Only a member recovers.
    NotMember(NodeId),
    /// The partitions of the change before are still moving.
    StillMoving,
    /// Nothing is moving.
    NotMoving,
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
        }
    }
}

/// The ring after a change. Equal arguments give equal rings on every node; the order of members
/// does not matter.
///
/// # Errors
/// [`PlanError`]. That a name is taken is told first, even while partitions move.
pub fn plan(previous: Option<&Ring>, change: &Change) -> Result<Ring, PlanError> {
    match (previous, change) {
        (
            None,
            Change::Found {
                cluster,
                replicas,
                members,
            },
        ) => found(*cluster, *replicas, members),
        (Some(_), Change::Found { .. }) => Err(PlanError::AlreadyFounded),
        (None, Change::Join(_) | Change::Recover(_) | Change::Retire) => Err(PlanError::NoRing),
        (Some(ring), Change::Join(member)) => join(ring, member),
        (Some(ring), Change::Recover(member)) => recover(ring, member),
        (Some(ring), Change::Retire) => retire(ring),
    }
}

fn found(cluster: ClusterId, replicas: usize, founders: &[Member]) -> Result<Ring, PlanError> {
    let mut members = Vec::with_capacity(founders.len());
    for founder in founders {
        add(&mut members, founder)?;
    }
    if members.is_empty() {
        return Err(PlanError::NoMembers);
    }
    let rows = rebalance(&members, &[], owners_each(replicas, &members));
    let placed = |owners| Placement {
        owners,
        incoming: None,
    };
    Ok(Ring {
        cluster,
        epoch: 1,
        replicas,
        placements: rows.into_iter().map(placed).collect(),
        members,
    })
}

fn join(ring: &Ring, member: &Member) -> Result<Ring, PlanError> {
    let mut members = ring.members.clone();
    add(&mut members, member)?;
    if ring.is_moving() {
        return Err(PlanError::StillMoving);
    }
    Ok(moving_to(ring, members))
}

/// Not while partitions move: what the nodes note of a move holds for its epoch only.
fn recover(ring: &Ring, member: &Member) -> Result<Ring, PlanError> {
    let mut next = ring.clone();
    let known = next.members.iter_mut().find(|m| m.id == member.id);
    let known = known.ok_or_else(|| PlanError::NotMember(member.id.clone()))?;
    if known.data_id == member.data_id {
        return Err(PlanError::AlreadyMember(member.id.clone()));
    }
    if ring.is_moving() {
        return Err(PlanError::StillMoving);
    }
    known.data_id = member.data_id;
    known.addresses = member.addresses.clone();
    next.epoch += 1;
    Ok(next)
}

fn retire(ring: &Ring) -> Result<Ring, PlanError> {
    if !ring.is_moving() {
        return Err(PlanError::NotMoving);
    }
    let mut next = ring.clone();
    next.epoch += 1;
    for row in &mut next.placements {
        if let Some(incoming) = row.incoming.take() {
            row.owners = incoming;
        }
    }
    Ok(next)
}

/// The next epoch, in which the partitions start to move to where these members should have them.
fn moving_to(ring: &Ring, members: Vec<Member>) -> Ring {
    let before: Vec<Vec<NodeId>> = ring.placements.iter().map(|p| p.owners.clone()).collect();
    let after = rebalance(&members, &before, owners_each(ring.replicas, &members));
    let moving = |(owners, after): (Vec<NodeId>, Vec<NodeId>)| Placement {
        incoming: (owners != after).then_some(after),
        owners,
    };
    Ring {
        cluster: ring.cluster,
        epoch: ring.epoch + 1,
        replicas: ring.replicas,
        members,
        placements: before.into_iter().zip(after).map(moving).collect(),
    }
}

fn owners_each(replicas: usize, members: &[Member]) -> usize {
    replicas.clamp(1, members.len().max(1))
}

/// Adds a member in the order of names.
fn add(members: &mut Vec<Member>, member: &Member) -> Result<(), PlanError> {
    match members.binary_search_by(|m| m.id.cmp(&member.id)) {
        Err(place) => {
            members.insert(place, member.clone());
            Ok(())
        }
        Ok(place) => {
            let holder = members.get(place).map(|m| m.data_id);
            if holder == Some(member.data_id) {
                Err(PlanError::AlreadyMember(member.id.clone()))
            } else {
                Err(PlanError::NameTaken(member.id.clone()))
            }
        }
    }
}
