//! The step from one ring to the next: a pure function, so that every member computes the same.

use super::affairs::{Departed, MAX_DEPARTED, MAX_STAGED, UnderWay};
use super::balance::rebalance;
use super::roster::{Roster, add};
use super::{
    Affairs, Change, ClusterId, Departure, Member, MemberChange, Placement, PlanError, Ring,
};
use crate::dynamo::node_id::NodeId;

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
        (None, _) => Err(PlanError::NoRing),
        (Some(ring), Change::Join(member)) => commit(ring, &[MemberChange::Join(member.clone())]),
        (Some(ring), Change::Commit(changes)) => commit(ring, changes),
        (Some(ring), Change::Recover(member)) => recover(ring, member),
        (Some(ring), Change::Retire) => retire(ring),
        (Some(ring), Change::Cancel) => cancel(ring),
        (Some(ring), Change::Stage(change)) => stage(ring, change),
        (Some(ring), Change::Revert(node)) => revert(ring, node.as_ref()),
        (Some(ring), Change::Steer { node, down }) => steer(ring, node, *down),
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
    let rows = rebalance(&members, &[], owners_each(replicas, &members), &[]);
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
        affairs: Affairs::default(),
    })
}

/// Whoever is replaced hands its rows to exactly one; all other changes share out anew. In the
/// middle of a move only members that are gone can be taken out, and it begins anew without them.
fn commit(ring: &Ring, changes: &[MemberChange]) -> Result<Ring, PlanError> {
    let roster = Roster::after(ring, changes)?;
    let goes_on = |c: &MemberChange| c.interrupts() || matches!(c, MemberChange::Spare(_));
    if ring.is_moving() && !changes.iter().all(goes_on) {
        return Err(PlanError::StillMoving);
    }
    let n = owners_each(ring.replicas, &roster.staying);
    let before: Vec<Vec<NodeId>> = (ring.placements.iter())
        .map(|row| roster.left_of(&row.owners))
        .collect();
    let aims = ring.placements.iter().map(|row| aim(row, &roster, n));
    let handed_on: Vec<Vec<NodeId>> = aims.map(|row| roster.hand_on(&row)).collect();
    let after = if roster.only_replaces {
        handed_on
    } else {
        rebalance(&roster.staying, &handed_on, n, &roster.spared)
    };
    let mut next = next(ring);
    next.placements = before.into_iter().zip(after).map(placed).collect();
    depart(&mut next, ring, &roster.forgotten, Departure::Forgotten);
    let joined = roster.joined();
    next.affairs
        .staged
        .retain(|staged| !changes.contains(staged) && !joined.contains(&staged.node()));
    begin(&mut next, ring, roster);
    settle(&mut next);
    Ok(next)
}

/// The owners that a row has, or is on its way to. Whoever still holds it takes the place of one
/// that is forgotten, or is spared and has yet to pull it.
fn aim(row: &Placement, roster: &Roster, n: usize) -> Vec<NodeId> {
    let Some(incoming) = &row.incoming else {
        return roster.left_of(&row.owners);
    };
    let mut aim = roster.left_of(incoming);
    aim.retain(|id| row.owners.contains(id) || !roster.spared.contains(id));
    let stays = |id: &&NodeId| roster.staying.iter().any(|m| m.id == **id);
    for holder in row.owners.iter().filter(stays) {
        if aim.len() < n && aim.len() < incoming.len() && !aim.contains(holder) {
            aim.push(holder.clone());
        }
    }
    aim
}

/// Makes the members those of the move that begins, or of the rest if nothing moves.
fn begin(next: &mut Ring, ring: &Ring, roster: Roster) {
    let earlier = next.affairs.under_way.take();
    if !next.is_moving() {
        next.members.clone_from(&roster.staying);
        for (id, how) in roster.leaving {
            depart(next, ring, &[id], how);
        }
        return;
    }
    next.members = roster.members();
    let before = earlier.as_ref().map_or(&ring.members, |c| &c.before);
    let stays = |m: &&Member| !roster.forgotten.contains(&m.id);
    next.affairs.under_way = Some(UnderWay {
        since: next.epoch,
        before: before.iter().filter(stays).cloned().collect(),
        forgot: !roster.forgotten.is_empty() || earlier.is_some_and(|c| c.forgot),
        leaving: roster.leaving,
    });
}

/// A row whose owners are the same keeps still, and their order; one that has lost all of its owners
/// has nothing to pull from any more.
fn placed((owners, after): (Vec<NodeId>, Vec<NodeId>)) -> Placement {
    let same = owners.len() == after.len() && owners.iter().all(|id| after.contains(id));
    let (owners, incoming) = match (owners.is_empty(), same) {
        (true, _) => (after, None),
        (false, true) => (owners, None),
        (false, false) => (owners, Some(after)),
    };
    Placement { owners, incoming }
}

/// Nothing moves by it, so it may come while partitions do.
fn recover(ring: &Ring, member: &Member) -> Result<Ring, PlanError> {
    let mut next = next(ring);
    let known = next.members.iter_mut().find(|m| m.id == member.id);
    let known = known.ok_or_else(|| PlanError::NotMember(member.id.clone()))?;
    if known.data_id == member.data_id {
        return Err(PlanError::AlreadyMember(member.id.clone()));
    }
    known.data_id = member.data_id;
    known.addresses = member.addresses.clone();
    Ok(next)
}

fn retire(ring: &Ring) -> Result<Ring, PlanError> {
    if !ring.is_moving() {
        return Err(PlanError::NotMoving);
    }
    let mut next = next(ring);
    for row in &mut next.placements {
        if let Some(incoming) = row.incoming.take() {
            row.owners = incoming;
        }
    }
    for (id, how) in next
        .affairs
        .under_way
        .take()
        .into_iter()
        .flat_map(|c| c.leaving)
    {
        next.members.retain(|m| m.id != id);
        depart(&mut next, ring, &[id], how);
    }
    settle(&mut next);
    Ok(next)
}

/// Every acknowledged write is on a quorum of the old owners until the move ends, so going back loses
/// nothing however far it has come. Who has not heard of it yet may read what has flipped from
/// owners that newer writes pass by: `tests/model` shows how.
fn cancel(ring: &Ring) -> Result<Ring, PlanError> {
    if !ring.is_moving() {
        return Err(PlanError::NotMoving);
    }
    let mut next = next(ring);
    let under_way = next
        .affairs
        .under_way
        .take()
        .filter(|change| !change.forgot);
    next.members = under_way.ok_or(PlanError::CannotCancel)?.before;
    for member in &mut next.members {
        if let Some(now) = ring.member(&member.id) {
            member.data_id = now.data_id;
            member.addresses = now.addresses.clone();
        }
    }
    for row in &mut next.placements {
        row.incoming = None;
    }
    settle(&mut next);
    Ok(next)
}

fn stage(ring: &Ring, change: &MemberChange) -> Result<Ring, PlanError> {
    Roster::after(ring, std::slice::from_ref(change))?;
    let mut next = next(ring);
    let staged = &mut next.affairs.staged;
    if staged.contains(change) {
        return Err(PlanError::NothingToChange);
    }
    staged.retain(|earlier| !change.supersedes(earlier));
    staged.push(change.clone());
    if staged.len() > MAX_STAGED {
        return Err(PlanError::TooMuchStaged);
    }
    Ok(next)
}

fn revert(ring: &Ring, node: Option<&NodeId>) -> Result<Ring, PlanError> {
    let mut next = next(ring);
    let is_dropped = |staged: &MemberChange| node.is_none_or(|node| staged.concerns(node));
    next.affairs.staged.retain(|staged| !is_dropped(staged));
    if next.affairs.staged.len() == ring.affairs.staged.len() {
        return Err(PlanError::NothingToChange);
    }
    Ok(next)
}

fn steer(ring: &Ring, node: &NodeId, down: bool) -> Result<Ring, PlanError> {
    if ring.member(node).is_none() {
        return Err(PlanError::NotMember(node.clone()));
    }
    if ring.is_down(node) == down {
        return Err(PlanError::NothingToChange);
    }
    let mut next = next(ring);
    next.affairs.down.retain(|other| other != node);
    if down {
        next.affairs.down.push(node.clone());
        next.affairs.down.sort_unstable();
    }
    Ok(next)
}

fn next(ring: &Ring) -> Ring {
    let mut next = ring.clone();
    next.epoch += 1;
    next
}

fn depart(next: &mut Ring, ring: &Ring, ids: &[NodeId], how: Departure) {
    let epoch = next.epoch;
    for member in ids.iter().filter_map(|id| ring.member(id)) {
        next.affairs.departed.push(Departed {
            id: member.id.clone(),
            data_id: member.data_id,
            how,
            epoch,
        });
    }
    let surplus = next.affairs.departed.len().saturating_sub(MAX_DEPARTED);
    next.affairs.departed.drain(..surplus);
}

/// Drops what makes no sense any more with the members as they are now.
fn settle(next: &mut Ring) {
    let staged = std::mem::take(&mut next.affairs.staged);
    let fits = |change: &MemberChange| Roster::after(next, std::slice::from_ref(change)).is_ok();
    let staged: Vec<MemberChange> = staged.into_iter().filter(fits).collect();
    next.affairs.staged = staged;
    let members = &next.members;
    next.affairs
        .down
        .retain(|id| members.iter().any(|m| m.id == *id));
}

fn owners_each(replicas: usize, members: &[Member]) -> usize {
    replicas.clamp(1, members.len().max(1))
}
