//! What a change would do, told for people.

use super::{NodeId, Partition, Ring};

/// A step from one ring to the next, in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// Partitions whose owners change.
    pub moving: usize,
    /// Every member before or after, by name.
    pub loads: Vec<Load>,
    /// Partitions that will have fewer distinct zones among their owners than there could be.
    pub crowded: Vec<Partition>,
    /// Partitions left with fewer owners that hold data than before, until they have moved.
    pub short: Vec<Partition>,
    /// Of these, the ones that nobody holds any more.
    pub lost: Vec<Partition>,
}

/// What one member owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Which member.
    pub node: NodeId,
    /// Partitions that it owns before.
    pub before: usize,
    /// Partitions that it is to own.
    pub after: usize,
    /// Partitions that it has to pull, and from how many owners each might come.
    pub gains: Vec<(Partition, Vec<NodeId>)>,
}

impl Outline {
    /// Of the step from `before` to `next`, which may have begun to move.
    #[must_use]
    pub fn of(before: &Ring, next: &Ring) -> Self {
        Self {
            moving: next.moving(),
            loads: loads(before, next),
            crowded: Partition::all().filter(|p| is_crowded(next, *p)).collect(),
            short: left_below(before, next, usize::MAX),
            lost: left_below(before, next, 1),
        }
    }
}

/// Partitions left with fewer than `count` owners that hold data, and with fewer than before, until
/// they have moved.
#[must_use]
pub fn left_below(before: &Ring, next: &Ring, count: usize) -> Vec<Partition> {
    let is_short = |p: &Partition| {
        let owners = &before.placement(*p).owners;
        let left = owners.iter().filter(|id| next.member(id).is_some());
        left.count() < count.min(owners.len())
    };
    Partition::all().filter(is_short).collect()
}

fn loads(before: &Ring, next: &Ring) -> Vec<Load> {
    let mut names: Vec<&NodeId> = before
        .members
        .iter()
        .chain(&next.members)
        .map(|m| &m.id)
        .collect();
    names.sort_unstable();
    names.dedup();
    let load = |node: &NodeId| Load {
        node: node.clone(),
        before: before
            .placements
            .iter()
            .filter(|row| row.owners.contains(node))
            .count(),
        after: Partition::all()
            .filter(|p| at_the_end(next, *p).contains(node))
            .count(),
        gains: next
            .gains(node)
            .map(|p| (p, next.placement(p).owners.clone()))
            .collect(),
    };
    names.into_iter().map(load).collect()
}

fn at_the_end(ring: &Ring, partition: Partition) -> &[NodeId] {
    let row = ring.placement(partition);
    row.incoming.as_deref().unwrap_or(&row.owners)
}

fn is_crowded(ring: &Ring, partition: Partition) -> bool {
    let distinct = |mut zones: Vec<&str>| {
        zones.sort_unstable();
        zones.dedup();
        zones.len()
    };
    let all = distinct(ring.voters().map(|m| m.zone.as_str()).collect());
    let owners = at_the_end(ring, partition);
    let zone = |id| ring.member(id).map(|m| m.zone.as_str());
    let used = distinct(owners.iter().filter_map(zone).collect());
    used < all.min(owners.len())
}
