//! The ring: who the members are and which of them own each partition. An immutable value;
//! [`plan`] makes the next one.

mod affairs;
mod balance;
mod change;
mod fingerprint;
mod moves;
mod outline;
mod plan;
mod quota;
mod roster;
#[cfg(test)]
mod tests;

pub use affairs::{Affairs, Departed, MAX_DEPARTED, MAX_STAGED, UnderWay};
pub use change::{Change, Departure, MemberChange, PlanError};
pub use moves::Pulls;
pub use outline::{Load, Outline, left_below};
pub use plan::plan;

use super::key::{PARTITIONS, Partition, fmix64};
use super::node_id::NodeId;

/// Names a cluster: random, made when it is founded. Two clusters never merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClusterId(pub u64);

impl std::fmt::Display for ClusterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A fingerprint of everything that decides ownership; equal rings have equal hashes on every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RingHash(pub u64);

impl std::fmt::Display for RingHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Where a node's three listeners are reached, each as `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Addresses {
    /// The REST API.
    pub client: String,
    /// The operators' API.
    pub admin: String,
    /// The other nodes.
    pub peer: String,
}

/// One node of the ring.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Member {
    /// Its name, unique in the ring.
    pub id: NodeId,
    /// Names its data directory: another directory under the same name is not this member.
    pub data_id: u64,
    /// Replicas of a partition go to distinct zones where there are enough.
    pub zone: String,
    /// Its share of the partitions, relative to the others'; at least 1.
    pub weight: u32,
    /// As it last announced them; not part of the ring's hash.
    pub addresses: Addresses,
}

/// Who holds one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The owners that serve: N distinct members, or all of them while there are fewer than N.
    pub owners: Vec<NodeId>,
    /// While the partition moves: the owners to be. Writes need a quorum of these too.
    pub incoming: Option<Vec<NodeId>>,
}

/// As what a request addresses a node: as an owner, of which of a moving partition's sets, or as a
/// fallback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OwnerSet {
    /// [`Placement::owners`].
    Current,
    /// [`Placement::incoming`].
    Incoming,
    /// Not an owner: a node that stands in for this one, and keeps a hint for it.
    Fallback(MemberNumber),
}

/// A member by its place in the list of an epoch's members; it names nobody under another epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MemberNumber(pub u16);

/// One epoch of the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Rises by one with every committed change; a founded ring has epoch 1.
    pub epoch: u64,
    /// N: how many owners a partition has once there are as many members.
    pub replicas: usize,
    /// The members, sorted by name.
    pub members: Vec<Member>,
    /// One row a partition, [`PARTITIONS`] in all.
    pub placements: Vec<Placement>,
    /// What is staged, under way, steered round, and past.
    pub affairs: Affairs,
}

impl Ring {
    /// The member of this name.
    #[must_use]
    pub fn member(&self, id: &NodeId) -> Option<&Member> {
        self.members.iter().find(|m| m.id == *id)
    }

    /// The member's place in the list; `None` if it is not in it.
    #[must_use]
    pub fn number_of(&self, id: &NodeId) -> Option<MemberNumber> {
        let place = self.members.iter().position(|m| m.id == *id)?;
        u16::try_from(place).ok().map(MemberNumber)
    }

    /// The member in this place of the list.
    #[must_use]
    pub fn numbered(&self, number: MemberNumber) -> Option<&Member> {
        self.members.get(usize::from(number.0))
    }

    /// Who holds the partition.
    #[must_use]
    #[expect(
        clippy::indexing_slicing,
        reason = "a Partition is below PARTITIONS, the table's length"
    )]
    pub fn placement(&self, partition: Partition) -> &Placement {
        &self.placements[partition.index()]
    }

    /// The nodes that stand in for a partition's owners, nearest first: the owners of the
    /// clockwise successors that do not own the partition themselves, before or after its move.
    /// These are all other members, save those that join and own nothing yet, and those that
    /// leave, who would take what they keep for others with them.
    #[must_use]
    pub fn fallbacks(&self, partition: Partition) -> Vec<NodeId> {
        let here = self.placement(partition);
        let mut out: Vec<NodeId> = Vec::new();
        let start = partition.index();
        let clockwise = (1..usize::from(PARTITIONS)).map(|i| (start + i) % usize::from(PARTITIONS));
        for row in clockwise.filter_map(|i| self.placements.get(i)) {
            for id in &row.owners {
                if !here.involves(id) && !out.contains(id) && !self.is_leaving(id) {
                    out.push(id.clone());
                }
            }
        }
        out
    }

    /// Whether any partition is moving.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.placements.iter().any(|p| p.incoming.is_some())
    }

    /// How many partitions are moving.
    #[must_use]
    pub fn moving(&self) -> usize {
        let moving = self.placements.iter().filter(|p| p.incoming.is_some());
        moving.count()
    }

    /// The partitions that the member gains in the move under way.
    pub fn gains<'a>(&'a self, id: &'a NodeId) -> impl Iterator<Item = Partition> + 'a {
        Partition::all().filter(move |p| self.placement(*p).is_gained_by(id))
    }

    /// The fingerprint that members compare before they promise or accept this ring.
    #[must_use]
    pub fn hash(&self) -> RingHash {
        fingerprint::of(self)
    }
}

impl Placement {
    /// The owners in this set; `None` when nothing is incoming, and for a fallback, which owns
    /// nothing.
    #[must_use]
    pub fn set(&self, set: OwnerSet) -> Option<&[NodeId]> {
        match set {
            OwnerSet::Current => Some(&self.owners),
            OwnerSet::Incoming => self.incoming.as_deref(),
            OwnerSet::Fallback(_) => None,
        }
    }

    /// Whether the node owns the partition now or is about to.
    #[must_use]
    pub fn involves(&self, id: &NodeId) -> bool {
        self.owners.contains(id) || self.incoming.as_ref().is_some_and(|to| to.contains(id))
    }

    /// Whether the node owns the partition, also after the move if there is one.
    #[must_use]
    pub fn keeps(&self, id: &NodeId) -> bool {
        self.owners.contains(id) && self.incoming.as_ref().is_none_or(|to| to.contains(id))
    }

    /// Whether the node is to own the partition and has to pull it first. That is whoever does not
    /// own it yet; and where the owners become fewer all that stay, for what was acknowledged may
    /// be on one of them alone.
    #[must_use]
    pub fn is_gained_by(&self, id: &NodeId) -> bool {
        self.incoming.as_ref().is_some_and(|to| {
            to.contains(id) && (!self.owners.contains(id) || to.len() < self.owners.len())
        })
    }

    /// Of how many owners a node must have pulled to hold all that was acknowledged with `write`
    /// replicas out of `replicas`. Owners that were forgotten may have been among those.
    #[must_use]
    pub fn whole_from(&self, replicas: usize, write: usize) -> usize {
        let replicas = replicas.max(1);
        (replicas + 1 - write.clamp(1, replicas)).min(self.owners.len())
    }

    /// How many of the owners must refuse reads so that those left are too few to answer one.
    #[must_use]
    pub fn flips_needed(&self, read: usize) -> usize {
        self.owners.len() + 1 - read.clamp(1, self.owners.len().max(1))
    }

    /// Every node that a write goes to: the owners, then those that come in.
    pub fn writers(&self) -> impl Iterator<Item = &NodeId> {
        let incoming = self
            .incoming
            .iter()
            .flatten()
            .filter(|id| !self.owners.contains(id));
        self.owners.iter().chain(incoming)
    }
}
