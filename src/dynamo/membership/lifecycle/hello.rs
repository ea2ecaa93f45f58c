//! What nodes tell each other about themselves, and what a node remembers of that for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::limits::LATELY;
use super::pledge::Founding;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{ClusterId, Departed, Departure, Member};

/// How far a node has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// Not a member of a ring.
    New,
    /// A member that owns nothing yet: it pulls the partitions it gains.
    Pending,
    /// A member that serves.
    Ready,
    /// On its way out: it finishes what it has begun.
    Leaving,
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "NEW",
            Self::Pending => "PENDING",
            Self::Ready => "READY",
            Self::Leaving => "LEAVING",
        })
    }
}

/// Which ring a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingStamp {
    /// Whose.
    pub cluster: ClusterId,
    /// Which.
    pub epoch: u64,
}

/// What a node says of itself, as a greeting and as the answer to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Who speaks.
    pub from: Member,
    /// How far it has come.
    pub state: NodeState,
    /// The ring that it has, member or not.
    pub ring: Option<RingStamp>,
    /// The founding that it has promised to take part in, its own or another's.
    pub founding: Option<Founding>,
    /// The epoch for which it has pulled everything it gains.
    pub pulled: Option<u64>,
    /// The NEW nodes that it has heard itself lately.
    pub news: Vec<Member>,
    /// Its store holds no record: if its name is taken, it may be that member with a lost disk.
    pub fresh: bool,
}

/// Why a greeting is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Another data directory has this name.
    NameTaken {
        /// The name.
        name: NodeId,
        /// The peer address of the node that has it.
        holder: String,
    },
    /// A member has this name and another data directory, which this one may have lost. Whether
    /// another process still answers for the name is being found out; ask again.
    NameContested {
        /// The name.
        name: NodeId,
        /// The peer address of the member that has it.
        holder: String,
    },
    /// The two belong to different clusters, which never merge.
    OtherCluster {
        /// The peer address of the node that refuses.
        at: String,
        /// Its cluster.
        cluster: ClusterId,
    },
    /// This data directory was a member's that is none any more.
    Departed {
        /// Its name.
        name: NodeId,
        /// How it went.
        how: Departure,
        /// The epoch since which it is no member.
        epoch: u64,
    },
    /// It is no member, and its data directory holds records, which may be older than deletes that
    /// the members have forgotten.
    NotEmpty {
        /// Its name.
        name: NodeId,
    },
}

impl Refusal {
    /// Whether the node has done all that it was asked to do and ends in good order.
    #[must_use]
    pub fn is_farewell(&self) -> bool {
        let good = [Departure::Left, Departure::Replaced];
        matches!(self, Self::Departed { how, .. } if good.contains(how))
    }

    pub(super) fn departed(gone: &Departed) -> Self {
        Self::Departed {
            name: gone.id.clone(),
            how: gone.how,
            epoch: gone.epoch,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameTaken { name, holder } => {
                write!(
                    f,
                    "the name {name} is held by the node at {holder}, which has another data directory"
                )
            }
            Self::NameContested { name, holder } => {
                write!(
                    f,
                    "finding out whether the node at {holder} still answers for {name}"
                )
            }
            Self::OtherCluster { at, cluster } => {
                write!(f, "the node at {at} belongs to another cluster, {cluster}")
            }
            Self::Departed { name, how, epoch } => {
                write!(
                    f,
                    "{name} {how} the cluster in epoch {epoch}, and its data directory is no \
                    member's any more; to bring it back as a new member: quorate cluster rejoin"
                )
            }
            Self::NotEmpty { name } => {
                write!(
                    f,
                    "{name} is no member, and its data directory holds records; to have it join \
                    without them: quorate cluster rejoin"
                )
            }
        }
    }
}

/// The last hello of every node, and hearsay of NEW ones. What is older than [`LATELY`] says
/// nothing about who is there now, so a node that has crashed blocks nobody for longer.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    heard: BTreeMap<NodeId, (Duration, Hello)>,
    hearsay: BTreeMap<NodeId, (Duration, Member)>,
}

impl Neighbours {
    pub(super) fn note(&mut self, now: Duration, hello: Hello) {
        for member in &hello.news {
            let known = (now, member.clone());
            self.hearsay.insert(member.id.clone(), known);
        }
        self.heard.insert(hello.from.id.clone(), (now, hello));
    }

    /// The last word of a node, however old.
    pub(super) fn last_of(&self, id: &NodeId) -> Option<&Hello> {
        self.heard.get(id).map(|(_, hello)| hello)
    }

    /// Whether this very data directory has spoken since then.
    pub(super) fn has_spoken(&self, member: &Member, since: Duration) -> bool {
        let last = self.heard.get(&member.id);
        last.is_some_and(|(at, hello)| *at >= since && same_node(&hello.from, member))
    }

    pub(super) fn fresh(&self, now: Duration) -> impl Iterator<Item = &Hello> {
        let fresh = move |(at, hello)| is_fresh(now, at).then_some(hello);
        self.heard
            .values()
            .map(|(at, h)| (*at, h))
            .filter_map(fresh)
    }

    /// The NEW nodes heard lately, by name.
    pub(super) fn new_ones(&self, now: Duration) -> Vec<Member> {
        let new = self.fresh(now).filter(|h| h.state == NodeState::New);
        new.map(|h| h.from.clone()).collect()
    }

    /// The names of the NEW nodes that this node or one it has heard lately has heard.
    pub(super) fn in_line(&self, now: Duration) -> BTreeSet<NodeId> {
        let new = self.new_ones(now).into_iter().map(|m| m.id);
        new.chain(self.rumoured(now).map(|m| m.id.clone()))
            .collect()
    }

    /// Everybody who seems to be there.
    pub(super) fn known(&self, now: Duration) -> Vec<Member> {
        let heard = self.fresh(now).map(|h| &h.from);
        heard.chain(self.rumoured(now)).cloned().collect()
    }

    /// Hearsay about nodes that have not spoken for themselves.
    fn rumoured(&self, now: Duration) -> impl Iterator<Item = &Member> {
        let unheard = move |id: &NodeId| self.fresh(now).all(|h| h.from.id != *id);
        let fresh = self
            .hearsay
            .values()
            .filter(move |(at, _)| is_fresh(now, *at));
        fresh.map(|(_, m)| m).filter(move |m| unheard(&m.id))
    }
}

fn is_fresh(now: Duration, at: Duration) -> bool {
    now.saturating_sub(at) < LATELY
}

/// Whether the two are one node, wherever it listens.
pub(super) fn same_node(a: &Member, b: &Member) -> bool {
    a.id == b.id && a.data_id == b.data_id
}
