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
