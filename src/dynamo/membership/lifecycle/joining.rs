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
    /// The end of the move under way.
    Move {
        /// Who has yet to pull what it gains, as far as this node has heard.
        pulling: Vec<NodeId>,
        /// Of whom a majority is to agree on the end.
        voters: Vec<NodeId>,
    },
    /// Its turn, or the agreement of a majority of these.
    Turn(Vec<NodeId>),
    /// The catalogue's word that it may go ahead, which one new node gets at a time.
    Permission,
    /// The catalogue of nodes, before it founds a cluster.
    Catalogue,
    /// The members, which find out whether another process answers for this node's name.
    Name(NodeId),
    /// Partitions that it owns, whose records it has lost: so many.
    Recovery(usize),
    /// The partitions that it gains: so many.
    Transfers(usize),
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
            Self::Promises(ids) => {
                let ids = list(ids);
                write!(f, "founding a cluster: waiting for {ids} to promise")
            }
            Self::Ring => f.write_str("heard of a ring: getting it"),
            Self::Move { pulling, voters } if pulling.is_empty() => {
                let voters = list(voters);
                write!(
                    f,
                    "waiting for a majority of {voters} to end the move under way"
                )
            }
            Self::Move { pulling, .. } => {
                let pulling = list(pulling);
                write!(
                    f,
                    "waiting for {pulling} to pull what the move under way gives them"
                )
            }
            Self::Turn(voters) => {
                let voters = list(voters);
                write!(
                    f,
                    "waiting to be added to the ring by a majority of {voters}"
                )
            }
            Self::Permission => {
                f.write_str("waiting for the lock in the catalogue: one new node joins at a time")
            }
            Self::Catalogue => f.write_str("waiting for the catalogue of nodes"),
            Self::Name(id) => write!(f, "the members are finding out who answers for {id}"),
            Self::Recovery(left) => write!(f, "recovering {left} partitions from other owners"),
            Self::Transfers(gains) => {
                write!(f, "pulling {gains} partitions: quorate cluster transfers")
            }
            Self::Commit => f.write_str("its join is staged: quorate cluster plan, then commit"),
            Self::TurnedAway => f.write_str(
                "its join was reverted or cancelled: to have it join after all, start it again",
            ),
            Self::Hints => {
                f.write_str("no member any more: handing the hints that it keeps to their owners")
            }
        }
    }
}

fn list(ids: &[NodeId]) -> String {
    let ids: Vec<&str> = ids.iter().map(NodeId::as_str).collect();
    ids.join(", ")
}

impl Lifecycle {
    /// What this node waits for; nothing when it is READY or leaving.
    #[must_use]
    pub fn waiting_for(&self) -> Option<Waiting> {
        match self.state() {
            NodeState::Leaving if self.departure().is_some() => Some(Waiting::Hints),
            NodeState::Ready | NodeState::Leaving => None,
            NodeState::Pending if self.recovering > 0 => Some(Waiting::Recovery(self.recovering)),
            NodeState::Pending => Some(self.waiting_for_the_move()),
            NodeState::New if self.standing.turned_away => Some(Waiting::TurnedAway),
            NodeState::New if self.is_staged() => Some(Waiting::Commit),
            NodeState::New if self.is_moving() => Some(self.waiting_for_the_move()),
            NodeState::New if self.ring.is_some() && !self.permitted.join => {
                Some(Waiting::Permission)
            }
            NodeState::New if self.ring.is_some() => Some(Waiting::Turn(self.voters())),
            NodeState::New => Some(self.waiting_to_found()),
        }
    }

    fn voters(&self) -> Vec<NodeId> {
        let voters = self.ring.iter().flat_map(|ring| ring.voters());
        voters.map(|member| member.id.clone()).collect()
    }

    fn waiting_for_the_move(&self) -> Waiting {
        let (me, voters) = (&self.me.member.id, self.voters());
        let Some(ring) = &self.ring else {
            return Waiting::Ring;
        };
        let pulling = ring.gainers().into_iter();
        let pulling: Vec<NodeId> = pulling
            .filter(|id| !self.has_pulled(ring, id))
            .cloned()
            .collect();
        if pulling.contains(me) {
            return Waiting::Transfers(ring.gains(me).count());
        }
        Waiting::Move { pulling, voters }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::{Event, Me};
    use super::*;
    use crate::dynamo::membership::fixture::{id, member, ring};
    use crate::dynamo::ring::{ClusterId, plan};

    const OLD: [&str; 4] = ["n1", "n2", "n3", "n4"];

    /// The ring after these changes of the ring of the old members.
    fn after(changes: &[Change]) -> Arc<Ring> {
        let next = |ring: Ring, change: &Change| plan(Some(&ring), change).unwrap();
        Arc::new(changes.iter().fold(ring(&OLD), next))
    }

    fn life(name: &str, ring: Arc<Ring>) -> Lifecycle {
        let me = Me {
            member: member(name),
            seeds: 1,
            expect: usize::MAX,
            replicas: 3,
            cluster: ClusterId(7),
            fresh: true,
            auto_commit: false,
        };
        Lifecycle::start(me, Some(ring), None).0
    }

    fn ids(names: &[&str]) -> Vec<NodeId> {
        names.iter().map(|name| id(name)).collect()
    }

    fn leave() -> MemberChange {
        MemberChange::Leave(id("n4"))
    }

    fn tick(life: &mut Lifecycle, seconds: u64) -> Vec<Effect> {
        let (now, dice) = (Duration::from_secs(seconds), 0);
        life.handle(Event::Tick { now, dice })
    }

    #[test]
    fn a_node_tells_what_a_move_waits_for() {
        let join = Change::Join(member("n5"));
        let moving = after(std::slice::from_ref(&join));
        let all = ids(&["n1", "n2", "n3", "n4", "n5"]);
        let gains = moving.gains(&id("n5")).count();
        let mut joiner = life("n5", moving.clone());
        assert_eq!(joiner.waiting_for(), Some(Waiting::Transfers(gains)));
        let other = life("n6", moving.clone());
        let pulling = Waiting::Move {
            pulling: ids(&["n5"]),
            voters: all.clone(),
        };
        assert_eq!(other.waiting_for(), Some(pulling));
        joiner.handle(Event::TransfersDone {
            epoch: moving.move_epoch(),
        });
        let ends = Waiting::Move {
            pulling: Vec::new(),
            voters: all,
        };
        assert_eq!(joiner.waiting_for(), Some(ends));
    }

    #[test]
    fn a_node_that_is_staged_waits_for_an_operator_and_one_turned_away_for_a_new_start() {
        let stage = Change::Stage(MemberChange::Join(member("n5")));
        let mut joiner = life("n5", after(&[]));
        assert_eq!(joiner.waiting_for(), Some(Waiting::Turn(ids(&OLD))));
        let effects = (0..9).flat_map(|n| tick(&mut joiner, n));
        let proposed = Effect::Propose {
            epoch: 2,
            change: stage.clone(),
        };
        assert!(effects.collect::<Vec<_>>().contains(&proposed));
        joiner.handle(Event::RingChanged(after(std::slice::from_ref(&stage))));
        assert_eq!(joiner.waiting_for(), Some(Waiting::Commit));
        let reverted = after(&[stage, Change::Revert(None)]);
        joiner.handle(Event::RingChanged(reverted));
        assert_eq!(joiner.waiting_for(), Some(Waiting::TurnedAway));
    }

    #[test]
    fn a_node_that_has_left_waits_until_its_hints_are_with_their_owners() {
        let commit = Change::Commit(vec![leave()]);
        let left = after(&[Change::Stage(leave()), commit, Change::Retire]);
        let mut gone = life("n4", left);
        assert_eq!(gone.waiting_for(), Some(Waiting::Hints));
        gone.handle(Event::KeepsForOthers(false));
        let ends = tick(&mut gone, 1);
        assert!(
            ends.iter()
                .any(|e| matches!(e, Effect::Exit(r) if r.is_farewell()))
        );
    }

    /// What the status says of each: a variant without a row does not compile.
    #[test]
    fn whatever_a_node_waits_for_it_says_whom_or_what() {
        let names = |waiting: &Waiting| match waiting {
            Waiting::Nodes { .. } => "2 of 3 nodes",
            Waiting::FirstByName(_) | Waiting::Founder(_) | Waiting::Name(_) => "n1",
            Waiting::Promises(_) | Waiting::Turn(_) => "n1, n2",
            Waiting::Move { pulling, .. } if pulling.is_empty() => "n1, n2",
            Waiting::Move { .. } => "n3",
            Waiting::Ring => "a ring",
            Waiting::Permission => "the lock in the catalogue",
            Waiting::Catalogue => "the catalogue of nodes",
            Waiting::Recovery(_) | Waiting::Transfers(_) => "7 partitions",
            Waiting::Commit => "quorate cluster plan, then commit",
            Waiting::TurnedAway => "start it again",
            Waiting::Hints => "the hints that it keeps to their owners",
        };
        let two = || ids(&["n1", "n2"]);
        let ends = |pulling: &[&str]| Waiting::Move {
            pulling: ids(pulling),
            voters: two(),
        };
        let (visible, expect) = (2, 3);
        let all = [
            Waiting::Nodes { visible, expect },
            Waiting::FirstByName(id("n1")),
            Waiting::Founder(id("n1")),
            Waiting::Promises(two()),
            Waiting::Ring,
            ends(&[]),
            ends(&["n3"]),
            Waiting::Turn(two()),
            Waiting::Permission,
            Waiting::Catalogue,
            Waiting::Name(id("n1")),
            Waiting::Recovery(7),
            Waiting::Transfers(7),
            Waiting::Commit,
            Waiting::TurnedAway,
            Waiting::Hints,
        ];
        for waiting in all {
            let told = waiting.to_string();
            assert!(told.contains(names(&waiting)), "{waiting:?}: {told}");
        }
    }
}
