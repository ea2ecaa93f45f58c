//! The members after some changes, before it is decided who owns what.

use super::{Departure, Member, MemberChange, PlanError, Ring};
use crate::dynamo::node_id::NodeId;

/// Who stays, comes and goes.
#[derive(Debug)]
pub(super) struct Roster {
    /// The members once the changes are made, by name.
    pub(super) staying: Vec<Member>,
    /// Members that hand over what they own, and how they go.
    pub(super) leaving: Vec<(NodeId, Departure)>,
    /// Members that are gone and can hand over nothing.
    pub(super) forgotten: Vec<NodeId>,
    /// Members that get nothing where others can take it.
    pub(super) spared: Vec<NodeId>,
    /// Whether nobody's share changes but that of whoever is replaced.
    pub(super) only_replaces: bool,
    /// The members before that leave, as they are.
    leavers: Vec<Member>,
    handed_on: Vec<(NodeId, NodeId)>,
    joined: Vec<NodeId>,
}

impl Roster {
    /// Makes the changes in their order.
    pub(super) fn after(ring: &Ring, changes: &[MemberChange]) -> Result<Self, PlanError> {
        let leavers = ring.members.iter().filter(|m| ring.is_leaving(&m.id));
        let under_way = ring.affairs.under_way.iter();
        let mut roster = Self {
            staying: ring.voters().cloned().collect(),
            leaving: under_way.flat_map(|c| c.leaving.clone()).collect(),
            forgotten: Vec::new(),
            spared: ring.affairs.down.clone(),
            only_replaces: true,
            leavers: leavers.cloned().collect(),
            handed_on: Vec::new(),
            joined: Vec::new(),
        };
        for change in changes {
            roster.make(ring, change)?;
        }
        let spares = |change: &MemberChange| matches!(change, MemberChange::Spare(_));
        match (changes.iter().all(spares), roster.staying.is_empty()) {
            (true, _) => Err(PlanError::NothingToChange),
            (false, true) => Err(PlanError::NobodyLeft),
            (false, false) => Ok(roster),
        }
    }

    /// Everybody who takes part in the move: who stays, and who hands over.
    pub(super) fn members(&self) -> Vec<Member> {
        let mut members: Vec<Member> = self.staying.iter().chain(&self.leavers).cloned().collect();
        members.sort_by(|a, b| a.id.cmp(&b.id));
        members
    }

    /// Who was no member before.
    pub(super) fn joined(&self) -> Vec<&NodeId> {
        self.joined.iter().collect()
    }

    /// A row without whoever is forgotten.
    pub(super) fn left_of(&self, row: &[NodeId]) -> Vec<NodeId> {
        let stays = |id: &&NodeId| !self.forgotten.contains(id);
        row.iter().filter(stays).cloned().collect()
    }

    /// A row with whoever is replaced replaced.
    pub(super) fn hand_on(&self, row: &[NodeId]) -> Vec<NodeId> {
        let heir = |id: &NodeId| {
            let heir = self.handed_on.iter().find(|(old, _)| old == id);
            heir.map_or(id, |(_, new)| new).clone()
        };
        row.iter().map(heir).collect()
    }

    fn make(&mut self, ring: &Ring, change: &MemberChange) -> Result<(), PlanError> {
        self.only_replaces &= matches!(
            change,
            MemberChange::Replace { .. } | MemberChange::Spare(_)
        );
        match change {
            MemberChange::Join(member) => self.join(ring, member),
            MemberChange::Leave(node) => self.leave(ring, node, Departure::Left),
            MemberChange::Replace { old, new } => {
                self.join(ring, new)?;
                self.handed_on.push((old.clone(), new.id.clone()));
                self.leave(ring, old, Departure::Replaced)
            }
            MemberChange::Forget(node) => self.forget(ring, node),
            MemberChange::Spare(node) => {
                let known = ring
                    .member(node)
                    .ok_or(PlanError::NotMember(node.clone()))?;
                self.spared.push(known.id.clone());
                Ok(())
            }
            MemberChange::Weight { node, weight } => {
                let (member, weight) = (self.member(ring, node)?, (*weight).max(1));
                changed(&mut member.weight, weight)
            }
            MemberChange::Zone { node, zone } => {
                changed(&mut self.member(ring, node)?.zone, zone.clone())
            }
        }
    }

    fn join(&mut self, ring: &Ring, member: &Member) -> Result<(), PlanError> {
        if ring.departed(&member.id, member.data_id).is_some() {
            return Err(PlanError::Departed(member.id.clone()));
        }
        let namesake = ring.member(&member.id);
        if namesake.is_some_and(|known| known.data_id != member.data_id) {
            return Err(PlanError::NameTaken(member.id.clone()));
        }
        if namesake.is_some() {
            return Err(PlanError::AlreadyMember(member.id.clone()));
        }
        self.joined.push(member.id.clone());
        add(&mut self.staying, member).or(Err(PlanError::Conflict(member.id.clone())))
    }

    fn leave(&mut self, ring: &Ring, node: &NodeId, how: Departure) -> Result<(), PlanError> {
        let leaver = self.take_out(ring, node)?;
        self.leavers.push(leaver);
        self.leaving.push((node.clone(), how));
        Ok(())
    }

    /// One that was on its way out before, and has died, needs no taking out.
    fn forget(&mut self, ring: &Ring, node: &NodeId) -> Result<(), PlanError> {
        if ring.is_leaving(node) && !self.forgotten.contains(node) {
            self.leaving.retain(|(leaver, _)| leaver != node);
            self.leavers.retain(|leaver| leaver.id != *node);
        } else {
            self.take_out(ring, node)?;
        }
        self.forgotten.push(node.clone());
        Ok(())
    }

    fn take_out(&mut self, ring: &Ring, node: &NodeId) -> Result<Member, PlanError> {
        self.member(ring, node)?;
        let place = self.staying.iter().position(|m| m.id == *node);
        let place = place.filter(|_| !self.joined.contains(node));
        place.map_or(Err(PlanError::Conflict(node.clone())), |place| {
            Ok(self.staying.remove(place))
        })
    }

    fn member(&mut self, ring: &Ring, node: &NodeId) -> Result<&mut Member, PlanError> {
        let error = match ring.member(node) {
            Some(_) => PlanError::Conflict(node.clone()),
            None => PlanError::NotMember(node.clone()),
        };
        self.staying.iter_mut().find(|m| m.id == *node).ok_or(error)
    }
}

fn changed<T: PartialEq>(value: &mut T, new: T) -> Result<(), PlanError> {
    if *value == new {
        return Err(PlanError::NothingToChange);
    }
    *value = new;
    Ok(())
}

/// Adds a member in the order of names.
pub(super) fn add(members: &mut Vec<Member>, member: &Member) -> Result<(), PlanError> {
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
