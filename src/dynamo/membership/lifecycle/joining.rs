//! What a node does about the ring that it has: get in, pull what it gains, have the move retired.

use std::fmt;

use super::hello::{NodeState, Refusal, same_node};
use super::limits::{COURTESY, GAINERS_FIRST, LOOK_AROUND, pause};
use super::{Effect, Lifecycle};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{Change, Departed, MemberChange, Ring};

/// What keeps a node from being READY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// More NEW nodes, to found a cluster.
    Nodes {
        /// How many are there, itself included.
        visible: usize,
        /// How many it takes.
        expect: usize,
    },
    /// The first by name of the NEW nodes, to found a cluster.
    FirstByName(NodeId),
    /// The founder that this node has promised.
    Founder(NodeId),
    /// Nodes that have yet to promise this node's founding.
    Promises(Vec<NodeId>),
    /// A ring that it has heard of.
    Ring,
    /// The ring, which is moving for somebody else.
    Move,
    /// Its turn, or the end of its proposal.
    Turn,
    /// The catalogue's word that it may go ahead, which one new node gets at a time.
    Permission,
    /// The catalogue of nodes, before it founds a cluster.
    Catalogue,
    /// The members, which find out whether another process answers for this node's name.
    Name(NodeId),
    /// Partitions that it owns, whose records it has lost: so many.
    Recovery(usize),
    /// The partitions that it gains, or the other nodes that gain some.
    Transfers,
    /// An operator, who is to commit what is staged.
    Commit,
    /// To be started again: its join was reverted, or cancelled.
    TurnedAway,
    /// It is no member any more, and what it keeps for others has yet to reach them.
    Hints,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes { visible, expect } => {
                write!(
                    f,
                    "{visible} of {expect} nodes are there to found a cluster"
                )
            }
            Self::FirstByName(id) => write!(f, "waiting for {id} to found a cluster"),
            Self::Founder(id) => write!(f, "promised to found a cluster with {id}: waiting for it"),
            Self::Promises(ids) => write!(f, "founding a cluster: waiting for {ids:?} to promise"),
            Self::Ring => f.write_str("heard of a ring: getting it"),
            Self::Move => f.write_str("waiting until the ring has finished moving"),
            Self::Turn => f.write_str("waiting to be added to the ring"),
            Self::Permission => {
                f.write_str("waiting for the lock in the catalogue: one new node joins at a time")
            }
            Self::Catalogue => f.write_str("waiting for the catalogue of nodes"),
            Self::Name(id) => write!(f, "the members are finding out who answers for {id}"),
            Self::Recovery(left) => write!(f, "recovering {left} partitions from other owners"),
            Self::Transfers => f.write_str("pulling partitions"),
            Self::Commit => f.write_str("its join is staged: quorate cluster plan, then commit"),
            Self::TurnedAway => f.write_str("its join was reverted or cancelled"),
            Self::Hints => f.write_str("handing over what it keeps for others"),
        }
    }
}

impl Lifecycle {
    /// What this node waits for; nothing when it is READY or leaving.
    #[must_use]
    pub fn waiting_for(&self) -> Option<Waiting> {
        match self.state() {
            NodeState::Leaving if self.departure().is_some() => Some(Waiting::Hints),
            NodeState::Ready | NodeState::Leaving => None,
            NodeState::Pending if self.recovering > 0 => Some(Waiting::Recovery(self.recovering)),
            NodeState::Pending => Some(Waiting::Transfers),
            NodeState::New if self.standing.turned_away => Some(Waiting::TurnedAway),
            NodeState::New if self.is_staged() => Some(Waiting::Commit),
            NodeState::New if self.is_moving() => Some(Waiting::Move),
            NodeState::New if self.ring.is_some() && !self.permitted.join => {
                Some(Waiting::Permission)
            }
            NodeState::New if self.ring.is_some() => Some(Waiting::Turn),
            NodeState::New => Some(self.waiting_to_found()),
        }
    }

    fn waiting_to_found(&self) -> Waiting {
        let me = &self.me.member;
        let new = self.seen.new_ones(self.now);
        let (visible, expect) = (new.len() + 1, self.me.expect);
        let missing = self.pledge.missing(me);
        match (self.pledge.kept(), new.into_iter().map(|m| m.id).min()) {
            _ if self.claims.own => Waiting::Name(me.id.clone()),
            _ if self.ring_heard || self.pledge.is_completed() => Waiting::Ring,
            (Some(f), _) if !f.is_by(me) => Waiting::Founder(f.founder.clone()),
            (Some(_), _) => Waiting::Promises(missing.into_iter().map(|m| m.id).collect()),
            (None, Some(first)) if visible >= expect && first < me.id => {
                Waiting::FirstByName(first)
            }
            (None, _) if visible >= expect && !self.permitted.found => Waiting::Catalogue,
            (None, _) => Waiting::Nodes { visible, expect },
        }
    }

    /// A member that owns nothing yet is PENDING; one that gains more beside what it serves stays
    /// READY.
    pub(super) fn current_state(&self) -> NodeState {
        let id = &self.me.member.id;
        match &self.ring {
            _ if self.draining || self.departure().is_some() => NodeState::Leaving,
            Some(_) if !self.is_member() => NodeState::New,
            Some(_) if self.recovering > 0 => NodeState::Pending,
            Some(ring) if ring.gains(id).next().is_some() && !owns_any(ring, id) => {
                NodeState::Pending
            }
            Some(_) => NodeState::Ready,
            None => NodeState::New,
        }
    }

    pub(super) fn is_member(&self) -> bool {
        let me = &self.me.member;
        let known = self.ring.as_ref().and_then(|r| r.member(&me.id));
        known.is_some_and(|m| same_node(m, me))
    }

    pub(super) fn is_moving(&self) -> bool {
        self.ring.as_ref().is_some_and(|r| r.is_moving())
    }

    /// The next step towards READY, and towards a ring at rest.
    pub(super) fn follow(&mut self, ring: &Ring, out: &mut Vec<Effect>) {
        if self.proposing || self.now < self.not_before || self.departure().is_some() {
            return;
        }
        let change = if self.is_member() {
            self.may_retire(ring).then_some(Change::Retire)
        } else {
            self.way_in(ring, out)
        };
        if let Some(change) = change {
            self.proposing = true;
            let epoch = ring.epoch + 1;
            out.push(Effect::Propose { epoch, change });
        }
    }

    /// How a node that is no member becomes one: as the member that it was, at once, or once an
    /// operator commits it.
    fn way_in(&mut self, ring: &Ring, out: &mut Vec<Effect>) -> Option<Change> {
        let me = self.me.member.clone();
        let recovers = ring.member(&me.id).is_some();
        let waits = ring.is_moving() && !recovers;
        if self.standing.turned_away || self.is_staged() && !self.me.auto_commit {
            return None;
        }
        if waits || !self.is_my_turn(ring) {
            self.not_before = self.now + pause(self.dice);
            return None;
        }
        if recovers {
            return Some(Change::Recover(me));
        }
        if !self.permitted.join {
            return None;
        }
        if !self.me.fresh {
            // What was deleted while it was away may be in there.
            out.push(Effect::Exit(Refusal::NotEmpty { name: me.id }));
            return None;
        }
        self.standing.asked = true;
        Some(if self.me.auto_commit {
            Change::Join(me)
        } else {
            Change::Stage(MemberChange::Join(me))
        })
    }

    /// Whether the ring's staged changes make this node a member.
    pub(super) fn is_staged(&self) -> bool {
        let staged = self.ring.iter().flat_map(|ring| &ring.affairs.staged);
        let me = &self.me.member;
        staged.into_iter().any(|change| match change {
            MemberChange::Join(new) | MemberChange::Replace { new, .. } => same_node(new, me),
            MemberChange::Leave(_)
            | MemberChange::Forget(_)
            | MemberChange::Weight { .. }
            | MemberChange::Zone { .. }
            | MemberChange::Spare(_) => false,
        })
    }

    /// How this node ceased to be a member, if it was one.
    pub(super) fn departure(&self) -> Option<&Departed> {
        let me = &self.me.member;
        let ring = self.ring.as_ref()?;
        ring.departed(&me.id, me.data_id)
    }

    /// Whether the move can end and this node is to propose it: at once if it gained something
    /// itself, and else when those that did have had the time.
    fn may_retire(&mut self, ring: &Ring) -> bool {
        let me = &self.me.member.id;
        let gainers = ring.gainers();
        if gainers.is_empty()
            || ring.is_leaving(me)
            || !gainers.iter().all(|id| self.has_pulled(ring, id))
        {
            self.retirable_since = None;
            return false;
        }
        let since = *self.retirable_since.get_or_insert(self.now);
        gainers.contains(me) || self.now.saturating_sub(since) >= GAINERS_FIRST
    }

    /// Whether a member has pulled all that it gains. That stays true once it is, so an old word of
    /// the same data directory is as good as a new one.
    fn has_pulled(&self, ring: &Ring, id: &NodeId) -> bool {
        let epoch = Some(ring.move_epoch());
        if *id == self.me.member.id {
            return self.pulled == epoch;
        }
        let (member, word) = (ring.member(id), self.seen.last_of(id));
        let word = word.filter(|hello| member.is_some_and(|m| same_node(m, &hello.from)));
        word.is_some_and(|hello| hello.pulled == epoch)
    }

    /// Whether this node is the first by name of those who want in, or has waited long enough for
    /// the others. It looks around first, so that it knows the others.
    fn is_my_turn(&mut self, ring: &Ring) -> bool {
        let line = self.seen.in_line(self.now);
        let mut before = line.range(..self.me.member.id.clone());
        if self.now < LOOK_AROUND {
            return false;
        }
        if before.all(|id| ring.member(id).is_some()) {
            return true;
        }
        let since = *self.deferring_since.get_or_insert(self.now);
        self.now.saturating_sub(since) >= COURTESY
    }
}

fn owns_any(ring: &Ring, id: &NodeId) -> bool {
    ring.placements.iter().any(|p| p.owners.contains(id))
}
