//! How a cluster begins: the first by name of the NEW nodes that see each other founds it, with
//! the promise of all of them, so that one set of nodes never founds two clusters.
//!
//! What makes that safe: only its founder completes a founding, and only its latest attempt. A
//! node keeps one founding, durably. It exchanges that for another only when the first is
//! dead for ever: a later attempt of the same founder replaces it; the founder itself keeps
//! another's; or it is its own and not completed, and it yields to a founder before it by name.
//! A node that has kept another's founding never founds, so "dead" stays true and old messages
//! do no harm.

use std::collections::BTreeSet;
use std::time::Duration;

use super::hello::{Neighbours, same_node};
use super::limits::FOUNDER_PATIENCE;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{Change, ClusterId, Member};

/// A cluster about to be founded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founding {
    /// Who founds it.
    pub founder: NodeId,
    /// Rises when the founder gives up on a node that does not answer.
    pub attempt: u64,
    /// The new cluster; the same in all attempts of one founder, and in no other's.
    pub cluster: ClusterId,
    /// N.
    pub replicas: usize,
    /// The first members, by name.
    pub members: Vec<Member>,
}

/// Why a node does not promise a founding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundRefusal {
    /// There is a ring to join.
    RingExists,
    /// It has promised another, which may still be completed.
    Promised(Box<Founding>),
    /// The founding names another data directory.
    NotNamed,
}

impl Founding {
    /// The change that makes the first ring.
    #[must_use]
    pub fn change(&self) -> Change {
        Change::Found {
            cluster: self.cluster,
            replicas: self.replicas,
            members: self.members.clone(),
        }
    }

    pub(super) fn names(&self, member: &Member) -> bool {
        self.members.iter().any(|m| same_node(m, member))
    }

    /// Whether this member is the founder, with the data directory that it founds with.
    pub(super) fn is_by(&self, member: &Member) -> bool {
        self.founder == member.id && self.names(member)
    }
}

/// The founding that a node has kept, and how far it is if it is its own.
#[derive(Debug, Default)]
pub(super) struct Pledge {
    kept: Option<Founding>,
    promised: BTreeSet<NodeId>,
    asking_since: Option<Duration>,
    completed: bool,
}

impl Pledge {
    pub(super) fn from_disk(kept: Option<Founding>) -> Self {
        Self {
            kept,
            ..Self::default()
        }
    }

    pub(super) fn kept(&self) -> Option<&Founding> {
        self.kept.as_ref()
    }

    /// Its own founding, if it has one.
    pub(super) fn own(&self, me: &Member) -> Option<&Founding> {
        self.kept.as_ref().filter(|f| f.is_by(me))
    }

    pub(super) fn is_completed(&self) -> bool {
        self.completed
    }

    /// Keeps a founding in place of what it had. Store it before anybody is told.
    pub(super) fn keep(&mut self, founding: Founding) {
        *self = Self::from_disk(Some(founding));
    }

    /// Whether this node may promise the founding it is asked about.
    pub(super) fn judge(
        &self,
        me: &Member,
        asked: &Founding,
        seen: &Neighbours,
    ) -> Result<(), FoundRefusal> {
        let Some(kept) = self.kept.as_ref().filter(|k| *k != asked) else {
            return if asked.names(me) {
                Ok(())
            } else {
                Err(FoundRefusal::NotNamed)
            };
        };
        let free = if kept.cluster == asked.cluster {
            kept.attempt < asked.attempt
        } else {
            self.yields_to(me, asked) || given_up(kept, seen)
        };
        match free {
            false => Err(FoundRefusal::Promised(Box::new(kept.clone()))),
            true if asked.names(me) => Ok(()),
            true => Err(FoundRefusal::NotNamed),
        }
    }

    /// Whether this node founds, is not done, and has learned of a founder before it by name.
    pub(super) fn yields_to(&self, me: &Member, other: &Founding) -> bool {
        self.own(me).is_some() && !self.completed && other.founder < me.id
    }

    /// Whether the ring of this cluster, heard from this node, may be taken. One who has promised
    /// takes no other ring while its founder may still count on it.
    pub(super) fn lets_take(&self, me: &Member, cluster: ClusterId, from: &Member) -> bool {
        match &self.kept {
            None => true,
            Some(kept) if kept.is_by(me) => !self.completed,
            Some(kept) => kept.cluster == cluster || kept.is_by(from),
        }
    }

    /// Who has yet to promise the node's own founding.
    pub(super) fn missing(&self, me: &Member) -> Vec<Member> {
        let open = |m: &&Member| m.id != me.id && !self.promised.contains(&m.id);
        let own = self.own(me).into_iter().flat_map(|f| &f.members);
        own.filter(open).cloned().collect()
    }

    /// Notes a promise.
    pub(super) fn promised_by(&mut self, from: &NodeId, attempt: u64) {
        if self.kept.as_ref().is_some_and(|f| f.attempt == attempt) {
            self.promised.insert(from.clone());
        }
    }

    /// The node's own founding when all have promised, once.
    pub(super) fn complete(&mut self, me: &Member) -> Option<Founding> {
        let done = self.own(me)?.clone();
        if self.completed || !self.missing(me).is_empty() {
            return None;
        }
        self.completed = true;
        Some(done)
    }

    /// The next attempt without a node that has been silent for too long, if enough others are
    /// there.
    pub(super) fn revised(
        &mut self,
        now: Duration,
        me: &Member,
        visible: Vec<Member>,
        expect: usize,
    ) -> Option<Founding> {
        let since = *self.asking_since.get_or_insert(now);
        let own = self.own(me).filter(|_| !self.completed)?;
        let is_gone = |m: &Member| visible.iter().all(|v| !same_node(v, m));
        let waits_for_the_gone = self.missing(me).iter().any(is_gone);
        let patient = now.saturating_sub(since) < FOUNDER_PATIENCE;
        if patient || !waits_for_the_gone || visible.len() < expect {
            return None;
        }
        Some(Founding {
            attempt: own.attempt + 1,
            members: visible,
            ..own.clone()
        })
    }
}

/// Whether the founder itself has been heard to keep another's founding, which is for ever.
fn given_up(kept: &Founding, seen: &Neighbours) -> bool {
    let founder = seen.last_of(&kept.founder);
    founder.is_some_and(|h| {
        let keeps = h.founding.as_ref();
        kept.is_by(&h.from) && keeps.is_some_and(|k| k.founder != kept.founder)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamo::membership::fixture::{id, member};
    use crate::dynamo::membership::lifecycle::{Hello, NodeState};

    /// A founding by the first of the names; its cluster follows from the founder's.
    fn by(names: &[&str], attempt: u64) -> Founding {
        let founder = member(names[0]);
        Founding {
            founder: founder.id,
            attempt,
            cluster: ClusterId(founder.data_id),
            replicas: 3,
            members: names.iter().map(|n| member(n)).collect(),
        }
    }

    fn hello(from: &str, keeps: &Founding) -> Hello {
        Hello {
            from: member(from),
            state: NodeState::New,
            ring: None,
            founding: Some(keeps.clone()),
            pulled: None,
            news: Vec::new(),
            fresh: false,
        }
    }

    #[test]
    fn a_founding_is_exchanged_only_for_one_that_proves_it_dead() {
        let (n1, n2) = (by(&["n1", "n3"], 1), by(&["n2", "n3"], 1));
        let own = by(&["n3", "n4"], 1);
        let mut wiped = by(&["n3", "n4"], 1);
        wiped.members[0].data_id = 99;
        let cases = [
            // kept, heard from n2 to keep, asked, promised?
            (None, None, n2.clone(), true),
            (Some(&n2), None, n2.clone(), true),
            (Some(&n2), None, by(&["n2", "n3"], 2), true),
            (Some(&by(&["n2", "n3"], 2)), None, n2.clone(), false),
            (Some(&n2), None, n1.clone(), false),
            (Some(&n1), None, n2.clone(), false),
            (Some(&n2), Some(&n2), n1.clone(), false),
            (Some(&n2), Some(&n1), n1.clone(), true),
            (Some(&own), None, n1.clone(), true),
            (Some(&own), None, by(&["n4", "n3"], 1), false),
            (Some(&wiped), None, n1.clone(), false),
        ];
        for (kept, heard, asked, promised) in cases {
            let row = format!("{kept:?}, {heard:?}, {asked:?}");
            let pledge = Pledge::from_disk(kept.cloned());
            let mut seen = Neighbours::default();
            if let Some(keeps) = heard {
                seen.note(Duration::ZERO, hello("n2", keeps));
            }
            let answer = pledge.judge(&member("n3"), &asked, &seen);
            let kept = kept.map(|k| FoundRefusal::Promised(Box::new(k.clone())));
            assert_eq!(answer.err(), kept.filter(|_| !promised), "{row}");
        }
    }

    #[test]
    fn a_founding_that_does_not_name_this_data_directory_is_not_promised() {
        let pledge = Pledge::default();
        let mut asked = by(&["n1", "n3"], 1);
        asked.members[1].data_id = 99;
        for asked in [asked, by(&["n1", "n2"], 1)] {
            let answer = pledge.judge(&member("n3"), &asked, &Neighbours::default());
            assert_eq!(answer, Err(FoundRefusal::NotNamed));
        }
    }

    #[test]
    fn a_completed_founding_yields_to_nobody() {
        let mut pledge = Pledge::from_disk(Some(by(&["n3"], 1)));
        let (me, n1) = (member("n3"), by(&["n1", "n3"], 1));
        assert!(pledge.yields_to(&me, &n1));
        assert_eq!(pledge.complete(&me), Some(by(&["n3"], 1)));
        assert!(!pledge.yields_to(&me, &n1));
        assert!(!pledge.lets_take(&me, n1.cluster, &member("n1")));
        assert_eq!(pledge.complete(&me), None);
    }

    #[test]
    fn one_who_has_promised_takes_a_ring_of_its_founders_cluster_or_from_its_founder() {
        let founding = by(&["n1", "n3"], 1);
        let (ours, other) = (founding.cluster, ClusterId(5));
        let mut namesake = member("n1");
        namesake.data_id = 99;
        let cases = [
            (None, other, member("n2"), true),
            (Some(&founding), ours, member("n2"), true),
            (Some(&founding), other, member("n2"), false),
            (Some(&founding), other, member("n1"), true),
            (Some(&founding), other, namesake, false),
        ];
        for (kept, cluster, from, takes) in cases {
            let pledge = Pledge::from_disk(kept.cloned());
            let row = format!("{kept:?} {cluster} {}", from.id);
            assert_eq!(
                pledge.lets_take(&member("n3"), cluster, &from),
                takes,
                "{row}"
            );
        }
    }

    #[test]
    fn only_promises_of_the_latest_attempt_count_and_all_are_needed() {
        let me = member("n1");
        let mut pledge = Pledge::from_disk(Some(by(&["n1", "n2", "n3"], 2)));
        pledge.promised_by(&id("n2"), 2);
        pledge.promised_by(&id("n3"), 1);
        assert_eq!(pledge.complete(&me), None);
        assert_eq!(pledge.missing(&me), [member("n3")]);
        pledge.promised_by(&id("n3"), 2);
        assert!(pledge.complete(&me).is_some());
    }
}
