//! Counting and merging the replies to a read.
//!
//! A moving partition that has flipped is read from its incoming owners, and then a quorum of the
//! owners before must vouch for the ring as well: by what they hold, or by saying under this ring
//! that they have flipped. For a move may be cancelled after its flip, and from then on a write is
//! acknowledged by the owners before alone; W of those know the newer ring and vouch no more. So
//! whatever the next ring is, either quorum meets its writes (as in the joint consensus of Ongaro
//! and Ousterhout, 2014).

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use super::{Acks, Decision, Fault, Shortfall, WriteQuorum};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{OwnerSet, Placement};
use crate::dynamo::version::{State, sync};
use crate::mutant::Mutant;

/// The quorum of one read.
#[derive(Debug, Default)]
pub struct ReadQuorum {
    /// The owners that are read.
    read: Count,
    /// While these are incoming: the owners before, which vouch for the ring.
    before: Option<Count>,
    /// What those replied that are read.
    replies: Vec<(NodeId, State)>,
    /// How many of the owners before vouch for the ring themselves.
    vouch: usize,
    /// Replies of fallbacks.
    hinted: usize,
    faults: Vec<Fault>,
    merged: Option<State>,
}

/// Outcomes among some owners. What stands in for an owner counts as that owner.
#[derive(Debug, Default)]
struct Count {
    owners: Vec<NodeId>,
    needed: usize,
    /// Who counts: each owner once, be it by itself, by who stands in for it, or both.
    got: Vec<NodeId>,
    /// Outcomes that can still come.
    open: usize,
    /// How many have been asked, and how many should have been by now.
    asked: usize,
    wanted: usize,
}

/// What a read leaves to do when all its replies are in.
#[derive(Debug, PartialEq, Eq)]
pub enum ReadFollowUp {
    /// Every replica that answered holds the merged state.
    Nothing,
    /// These do not.
    Repair {
        /// Replicas to bring up to date.
        stale: Vec<NodeId>,
        /// The state they miss.
        merged: State,
    },
}

/// What a strict read owes before it answers: so many owners must hold what it shows that every
/// later strict read of as many replicas meets one of them.
#[derive(Debug)]
pub struct WriteBack {
    /// Counts the owners that hold it, those that replied with it among them.
    pub quorum: WriteQuorum,
    /// The owners, old and new, that are not known to hold it.
    pub missing: Vec<NodeId>,
    /// What they must hold.
    pub merged: State,
    /// Whether that is to be seen to: where the replies differ. While the partition moves it is not
    /// enough that they agree, for later reads may be of the other owners.
    pub is_owed: bool,
}

impl Count {
    /// R of these; R is clamped to their number.
    fn new(owners: &[NodeId], r: usize) -> Self {
        let needed = if Mutant::FirstReplyAnswersRead.is_chosen() {
            1
        } else {
            r.clamp(1, owners.len().max(1))
        };
        Self {
            owners: owners.to_vec(),
            needed,
            got: Vec::new(),
            open: owners.len(),
            asked: 0,
            wanted: needed,
        }
    }

    fn has(&self, owner: &NodeId) -> bool {
        self.owners.contains(owner)
    }

    fn is_met(&self) -> bool {
        self.got.len() >= self.needed
    }

    fn note(&mut self, owner: &NodeId, counts: bool) {
        self.open = self.open.saturating_sub(1);
        if counts && !self.got.contains(owner) {
            self.got.push(owner.clone());
        } else if !self.is_met() {
            self.wanted += 1;
        }
    }

    fn shortfall(&self) -> Shortfall {
        Shortfall {
            needed: self.needed,
            got: self.got.len(),
        }
    }
}

impl ReadQuorum {
    /// R of the partition's owners in this set, and of its owners before if that set is incoming.
    #[must_use]
    pub fn new(placement: &Placement, set: OwnerSet, r: usize) -> Self {
        let vouched = set == OwnerSet::Incoming && !Mutant::IncomingOwnersVouch.is_chosen();
        Self {
            read: Count::new(placement.set(set).unwrap_or_default(), r),
            before: vouched.then(|| Count::new(&placement.owners, r)),
            ..Self::default()
        }
    }

    /// All that may be asked, each once.
    #[must_use]
    pub fn owners(&self) -> Cow<'_, [NodeId]> {
        let read = &self.read;
        let Some(before) = &self.before else {
            return Cow::Borrowed(&read.owners);
        };
        let others = before.owners.iter().filter(|id| !read.has(id));
        Cow::Owned(read.owners.iter().chain(others).cloned().collect())
    }

    /// Whether the owner is one of those that are read, and not only one of those before.
    #[must_use]
    pub fn reads(&self, owner: &NodeId) -> bool {
        self.read.has(owner)
    }

    /// Lets a fallback be asked beside this owner.
    pub fn stand_by(&mut self, owner: &NodeId) {
        for count in self.counts_of(owner) {
            count.open += 1;
        }
    }

    /// Whether one more must be asked, be it this owner or who stands in for it: where fewer have
    /// been asked than are needed, and one more for each that failed.
    #[must_use]
    pub fn wants(&self, owner: &NodeId) -> bool {
        self.counts()
            .any(|count| count.has(owner) && count.asked < count.wanted)
    }

    /// Whether the outcome of this owner, or of who stands in for it, could still be of use.
    #[must_use]
    pub fn could_use(&self, owner: &NodeId) -> bool {
        self.counts()
            .any(|count| count.has(owner) && !count.is_met())
    }

    /// Notes that this owner has been asked, or who stands in for it.
    pub fn ask(&mut self, owner: &NodeId) {
        for count in self.counts_of(owner) {
            count.asked += 1;
            count.wanted = count.wanted.max(count.asked);
        }
    }

    /// Notes the one outcome of an owner.
    pub fn record(&mut self, node: &NodeId, outcome: Result<State, Fault>) -> Decision {
        let is_read = self.read.has(node);
        let vouches = !is_read && matches!(outcome, Err(Fault::Flipped));
        let counts = outcome.is_ok() || vouches;
        self.count(node, counts);
        let is_before = self.before.as_ref().is_some_and(|count| count.has(node));
        self.vouch += usize::from(counts && is_before);
        match outcome {
            Ok(state) => {
                self.merge(&state);
                if is_read {
                    self.replies.push((node.clone(), state));
                }
            }
            Err(_) if vouches => {}
            Err(fault) => self.faults.push(fault),
        }
        self.decide()
    }

    /// Notes the one outcome of a fallback for this owner. It is no replica to repair: what it has
    /// are hints.
    pub fn record_hint(&mut self, owner: &NodeId, outcome: Result<State, Fault>) -> Decision {
        self.count(owner, outcome.is_ok());
        match outcome {
            Ok(state) => {
                self.merge(&state);
                let stands_in = self.counts().any(|count| count.has(owner));
                self.hinted += usize::from(stands_in);
            }
            Err(fault) => self.faults.push(fault),
        }
        self.decide()
    }

    fn counts(&self) -> impl Iterator<Item = &Count> {
        std::iter::once(&self.read).chain(&self.before)
    }

    fn counts_of(&mut self, owner: &NodeId) -> impl Iterator<Item = &mut Count> {
        let counts = std::iter::once(&mut self.read).chain(&mut self.before);
        counts.filter(|count| count.has(owner))
    }

    fn count(&mut self, owner: &NodeId, counts: bool) {
        for count in self.counts_of(owner) {
            count.note(owner, counts);
        }
    }

    fn merge(&mut self, state: &State) {
        match &mut self.merged {
            None => self.merged = Some(state.clone()),
            Some(merged) if merged == state => {}
            Some(merged) => *merged = sync(merged, state),
        }
    }

    /// Whether the quorum is met, out of reach, or open.
    #[must_use]
    pub fn decide(&self) -> Decision {
        let out_of_reach = |count: &&Count| count.got.len() + count.open < count.needed;
        if let Some(lost) = self.counts().find(out_of_reach) {
            Decision::Failed(lost.shortfall())
        } else if self.counts().all(Count::is_met) {
            Decision::Done
        } else {
            Decision::Wait
        }
    }

    /// The merged state of the replies so far.
    #[must_use]
    pub fn merged(&self) -> State {
        self.merged.clone().unwrap_or_default()
    }

    /// Who stands behind the answer so far. Of the owners before, while those that are read are
    /// incoming, all that vouch for the ring.
    #[must_use]
    pub fn acks(&self) -> Acks {
        let (read, hinted) = (self.replies.len(), self.hinted);
        let (home, incoming) = match self.before {
            None => (read, None),
            Some(_) => (self.vouch, Some(read)),
        };
        Acks {
            home,
            incoming,
            hinted,
        }
    }

    /// The faults so far.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    fn differs(&self) -> bool {
        let merged = self.merged.as_ref();
        self.replies.iter().any(|(_, state)| merged != Some(state))
    }

    /// Brings the merged replies to W owners, and to as many that R later replies cannot miss them
    /// all (the second phase of an atomic register's read: Attiya, Bar-Noy and Dolev, 1995). While
    /// the partition moves, that holds for the incoming owners as well.
    #[must_use]
    pub fn write_back(&self, placement: &Placement, w: usize) -> WriteBack {
        let meeting = (placement.owners.len() + 1).saturating_sub(self.read.needed);
        let merged = self.merged();
        let mut quorum = WriteQuorum::new(placement, w.max(meeting));
        let holds = |id: &&NodeId| self.replies.iter().any(|(n, s)| n == *id && *s == merged);
        let (holders, missing): (Vec<_>, Vec<_>) = placement.writers().partition(holds);
        for id in holders {
            quorum.record(id, Ok(()));
        }
        let is_shown = placement.incoming.is_some() && merged != State::default();
        let is_owed = self.differs() || is_shown && quorum.decide() != Decision::Done;
        WriteBack {
            is_owed,
            quorum,
            missing: missing.into_iter().cloned().collect(),
            merged,
        }
    }

    /// What is left to do, once every outcome that will come has come.
    #[must_use]
    pub fn finish(self) -> ReadFollowUp {
        let merged = self.merged.unwrap_or_default();
        let behind = self
            .replies
            .into_iter()
            .filter(|(_, state)| *state != merged);
        let stale: Vec<NodeId> = behind.map(|(node, _)| node).collect();
        if stale.is_empty() {
            ReadFollowUp::Nothing
        } else {
            ReadFollowUp::Repair { stale, merged }
        }
    }
}
