//! What a ring says beside who owns what: what is staged, what a move came from and leads to, who
//! is steered round, and who has been a member.

use std::collections::BTreeSet;

use super::{Departure, Member, MemberChange, Ring};
use crate::dynamo::node_id::NodeId;

/// Changes that may be staged at the same time.
pub const MAX_STAGED: usize = 64;
/// Members of the past that a ring remembers; the oldest are forgotten first.
pub const MAX_DEPARTED: usize = 256;

/// The ring's affairs; nothing of it decides who owns a partition now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affairs {
    /// The changes to be committed together, in the order in which they were staged.
    pub staged: Vec<MemberChange>,
    /// The change whose partitions are moving; none at rest.
    pub under_way: Option<UnderWay>,
    /// Members that requests are steered round, by name.
    pub down: Vec<NodeId>,
    /// Who has been a member, the latest last.
    pub departed: Vec<Departed>,
}

/// A change whose partitions are moving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderWay {
    /// The epoch in which it was committed. Later epochs may come while it goes on, and what nodes
    /// note of the move holds until it ends.
    pub since: u64,
    /// The members before it, without those that were forgotten.
    pub before: Vec<Member>,
    /// Members that are none any more when it ends, and how.
    pub leaving: Vec<(NodeId, Departure)>,
    /// Whether it has forgotten a member, and so cannot go back.
    pub forgot: bool,
}

/// Somebody who was a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departed {
    /// Its name.
    pub id: NodeId,
    /// Its data directory, which is never a member again.
    pub data_id: u64,
    /// How it went.
    pub how: Departure,
    /// The epoch since which it is no member.
    pub epoch: u64,
}

impl Ring {
    /// The epoch in which the move under way began; that of the ring itself at rest.
    #[must_use]
    pub fn move_epoch(&self) -> u64 {
        let under_way = self.affairs.under_way.as_ref();
        under_way.map_or(self.epoch, |change| change.since)
    }

    /// Whether the member is on its way out.
    #[must_use]
    pub fn is_leaving(&self, id: &NodeId) -> bool {
        let under_way = self.affairs.under_way.iter();
        under_way
            .flat_map(|change| &change.leaving)
            .any(|(leaver, _)| leaver == id)
    }

    /// Whether the member is on its way out like this or, if nobody of this name is a member or
    /// staged to be one, the last one that was went like this.
    #[must_use]
    pub fn is_gone(&self, id: &NodeId, how: Departure) -> bool {
        if self.member(id).is_some() {
            let mut under_way = self.affairs.under_way.iter();
            return under_way.any(|change| change.leaving.contains(&(id.clone(), how)));
        }
        let last = self
            .affairs
            .departed
            .iter()
            .rev()
            .find(|gone| gone.id == *id);
        let comes = |change: &MemberChange| change.node() == id;
        last.is_some_and(|gone| gone.how == how) && !self.affairs.staged.iter().any(comes)
    }

    /// The members that decide about the next epoch: all but those on their way out, which may be
    /// gone already.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members
            .iter()
            .filter(|member| !self.is_leaving(&member.id))
    }

    /// The member that this data directory belonged to and that is none any more.
    #[must_use]
    pub fn departed(&self, id: &NodeId, data_id: u64) -> Option<&Departed> {
        let departed = self.affairs.departed.iter();
        departed
            .rev()
            .find(|gone| gone.id == *id && gone.data_id == data_id)
    }

    /// Of what is staged all that can be committed now. While partitions move, that is whatever
    /// takes out members that are gone.
    #[must_use]
    pub fn committable(&self) -> Vec<MemberChange> {
        let staged = &self.affairs.staged;
        let interrupts = staged.iter().filter(|change| change.interrupts());
        let interrupts: Vec<MemberChange> = interrupts.cloned().collect();
        if self.is_moving() && !interrupts.is_empty() {
            return interrupts;
        }
        staged.clone()
    }

    /// The members that have something to pull in the move under way.
    #[must_use]
    pub fn gainers(&self) -> BTreeSet<&NodeId> {
        let incoming = self.placements.iter();
        let gained =
            incoming.flat_map(|row| row.incoming.iter().flatten().map(move |id| (row, id)));
        gained
            .filter(|(row, id)| row.is_gained_by(id))
            .map(|(_, id)| id)
            .collect()
    }

    /// Whether requests are steered round the member by an operator's will.
    #[must_use]
    pub fn is_down(&self, id: &NodeId) -> bool {
        self.affairs.down.contains(id)
    }
}
