//! The product's pure functions, each asked once for the same arguments and remembered: so a state
//! of the model is a few small numbers, and a step of it looks a few things up.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use quorate::dynamo::key::Partition;
use quorate::dynamo::membership::lifecycle::{
    Effect, Event, Hello, Lifecycle, Me, NodeState, RingStamp,
};
use quorate::dynamo::membership::promise::{
    AcceptReply, Acceptor, Ballot, Loss, PredictReply, Proposal, Proposer, Silence, Step,
};
use quorate::dynamo::node_id::NodeId;
use quorate::dynamo::ring::{Addresses, Change, ClusterId, Member, Pulls, Ring, plan};

use super::Fault as Planted;
use super::numbers::Numbered;
use super::reads::{Admitted, Says};

/// Nodes in a set: a bit for each.
pub(crate) type Bits = u8;
/// A ballot: its round, 0 for none, and the node.
pub(crate) type Rank = (u8, u8);

/// W and R; N is the ring's.
pub(crate) const WRITE: usize = 2;
pub(crate) const READ: usize = 2;

pub(crate) const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A question of a proposer to the acceptors.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Ask {
    epoch: u64,
    ballot: Ballot,
    proposal: Proposal,
}

#[derive(Clone, PartialEq)]
enum Reply {
    Promise(PredictReply),
    Accept(AcceptReply),
}

/// A proposer is what it was made with and what it was answered.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Past {
    ring: u8,
    node: u8,
    rank: Rank,
    change: u16,
    /// Whether it has heard enough promises: later ones are nothing to it.
    asked: bool,
    answers: [BTreeMap<u8, u16>; 2],
}

/// What a proposer does next.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Next {
    Wait,
    /// Asks everybody to accept this.
    Ask(u16),
    Committed(u8),
    Lost(Rank),
}

/// Partitions that have the same owners now and later, and so move alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) owners: Bits,
    /// 0 at rest.
    pub(crate) incoming: Bits,
    pub(crate) gained_by: Bits,
    /// The sets of owners from which all that was acknowledged comes, a bit for each set.
    whole_with: u16,
    /// The sets that are enough to have flipped.
    handed_over_with: u16,
}

impl Row {
    pub(crate) fn is_whole_with(self, pulled: Bits) -> bool {
        self.whole_with & 1 << (pulled & self.owners) != 0
    }

    pub(crate) fn is_handed_over_with(self, flipped: Bits) -> bool {
        self.handed_over_with & 1 << (flipped & self.owners) != 0
    }
}

/// The sets of nodes of which this is true, a bit for each.
fn sets(is_true: impl Fn(Bits) -> bool) -> u16 {
    let sets = (0..16).filter(|set| is_true(*set));
    sets.map(|set| 1 << set).sum()
}

/// What the model asks of a ring.
pub(crate) struct Facts {
    pub(crate) epoch: u64,
    pub(crate) is_moving: bool,
    pub(crate) voters: Bits,
    pub(crate) gainers: Bits,
    pub(crate) rows: Vec<Row>,
    /// That of the key that is written.
    pub(crate) key: Row,
}

/// Whoever proposes: its ring, itself, the highest ballot it has seen, and the change.
type Making = (u8, u8, Rank, u16);

pub(crate) struct Tables {
    pub(crate) fault: Planted,
    /// The partition of the key that is written.
    pub(crate) key: Partition,
    rings: Vec<(Arc<Ring>, Arc<Facts>)>,
    ring_numbers: HashMap<(u64, u64), u8>,
    acceptors: Numbered<Acceptor>,
    changes: Numbered<Change>,
    asks: Numbered<Ask>,
    replies: Vec<Reply>,
    silences: Numbered<Option<Silence>>,
    proposers: Vec<(Past, Proposer)>,
    proposer_numbers: HashMap<Past, u16>,
    made: HashMap<Making, Option<(u16, u16)>>,
    voted: HashMap<(bool, u16, u8, u16), (u16, u16)>,
    answered: HashMap<(u16, u8, u16), (u16, Next)>,
    lives: HashMap<(u8, u8, bool, Bits), Option<u16>>,
    pub(crate) admitted: HashMap<(u8, u8, bool, Bits), Admitted>,
    pub(crate) answers: HashMap<(u8, bool, [Says; 4]), bool>,
}

pub(crate) fn id(node: u8) -> NodeId {
    NodeId::new(NAMES[usize::from(node)]).expect("a name")
}

fn number_of(id: &NodeId) -> u8 {
    let place = NAMES.iter().position(|name| *name == id.as_str());
    u8::try_from(place.expect("a node of the model")).expect("few nodes")
}

pub(crate) fn member(node: u8) -> Member {
    let address = |port| format!("{}:{port}", NAMES[usize::from(node)]);
    Member {
        id: id(node),
        data_id: u64::from(node) + 1,
        zone: "z".to_owned(),
        weight: 1,
        addresses: Addresses {
            client: address(1),
            admin: address(2),
            peer: address(3),
        },
    }
}

/// The nodes of a set.
pub(crate) fn each(bits: Bits) -> impl Iterator<Item = u8> {
    (0..8).filter(move |n| bits & 1 << n != 0)
}

fn bits<'a>(ids: impl IntoIterator<Item = &'a NodeId>) -> Bits {
    ids.into_iter().map(|id| 1 << number_of(id)).sum()
}

impl Tables {
    pub(crate) fn new(fault: Planted, key: Partition) -> Self {
        Self {
            fault,
            key,
            rings: Vec::new(),
            ring_numbers: HashMap::new(),
            acceptors: Numbered::new(),
            changes: Numbered::new(),
            asks: Numbered::new(),
            replies: Vec::new(),
            silences: Numbered::new(),
            proposers: Vec::new(),
            proposer_numbers: HashMap::new(),
            made: HashMap::new(),
            voted: HashMap::new(),
            answered: HashMap::new(),
            lives: HashMap::new(),
            admitted: HashMap::new(),
            answers: HashMap::new(),
        }
    }

    pub(crate) fn ring_number(&mut self, ring: Ring) -> u8 {
        let next = u8::try_from(self.rings.len()).expect("few rings");
        let (rings, key) = (&mut self.rings, self.key);
        *self
            .ring_numbers
            .entry((ring.epoch, ring.hash().0))
            .or_insert_with(|| {
                let facts = Arc::new(facts(&ring, key));
                rings.push((Arc::new(ring), facts));
                next
            })
    }

    pub(crate) fn ring(&self, number: u8) -> &Arc<Ring> {
        &self.rings[usize::from(number)].0
    }

    pub(crate) fn facts(&self, number: u8) -> Arc<Facts> {
        self.rings[usize::from(number)].1.clone()
    }

    pub(crate) fn blank_acceptor(&mut self) -> u16 {
        self.acceptors.number(Acceptor::default())
    }

    /// Of a node that has forgotten nothing.
    pub(crate) fn no_silence(&mut self) -> u16 {
        self.silences.number(None)
    }

    /// Of a node that has just forgotten its promises, and hears at once which rings the others have.
    pub(crate) fn silence(&mut self, others: impl Iterator<Item = (u8, u8)>) -> u16 {
        let mut silence = Silence::default();
        for (node, ring) in others {
            silence.hear(id(node), self.facts(ring).epoch);
        }
        self.silences.number(Some(silence))
    }

    /// What becomes of it as a ring comes into force.
    pub(crate) fn silence_under(&mut self, silence: u16, node: u8, ring: u8) -> u16 {
        let mut silence = self.silences.all[usize::from(silence)].clone();
        if let Some(silence) = &mut silence {
            silence.follow(&id(node), self.ring(ring));
        }
        self.silences.number(silence)
    }

    pub(crate) fn is_silent(&self, silence: u16, ring: u8) -> bool {
        let silence = &self.silences.all[usize::from(silence)];
        silence.as_ref().is_some_and(|s| s.binds(self.ring(ring)))
    }

    pub(crate) fn change_number(&mut self, change: Change) -> u16 {
        self.changes.number(change)
    }

    /// Whether a question is about going back.
    pub(crate) fn cancels(&self, ask: u16) -> bool {
        self.asks.all[usize::from(ask)].proposal.change == Change::Cancel
    }

    /// A new proposer and what it asks for; nothing if the change does not fit the ring.
    pub(crate) fn propose(
        &mut self,
        ring: u8,
        node: u8,
        seen: Rank,
        change: u16,
    ) -> Option<(u16, u16)> {
        if let Some(known) = self.made.get(&(ring, node, seen, change)) {
            return *known;
        }
        let seen_ballot = ballot(seen);
        let ballot = Ballot::above(seen_ballot.as_ref(), id(node));
        let rank = (u8::try_from(ballot.round).expect("few rounds"), node);
        let wanted = self.changes.all[usize::from(change)].clone();
        let proposer = Proposer::new(self.ring(ring).clone(), ballot.clone(), wanted);
        let made = proposer.ok().map(|proposer| {
            let ask = Ask {
                epoch: proposer.epoch(),
                ballot,
                proposal: proposer.proposal().clone(),
            };
            let past = Past {
                ring,
                node,
                rank,
                change,
                asked: false,
                answers: Default::default(),
            };
            (self.proposer_number(past, proposer), self.asks.number(ask))
        });
        self.made.insert((ring, node, seen, change), made);
        made
    }

    fn proposer_number(&mut self, past: Past, proposer: Proposer) -> u16 {
        let next = u16::try_from(self.proposers.len()).expect("few proposers");
        let proposers = &mut self.proposers;
        *self
            .proposer_numbers
            .entry(past)
            .or_insert_with_key(|past| {
                proposers.push((past.clone(), proposer));
                next
            })
    }

    /// An acceptor's answer to a prediction, or to a request to accept; and what it is then.
    pub(crate) fn vote(&mut self, accept: bool, acceptor: u16, ring: u8, ask: u16) -> (u16, u16) {
        let place = (accept, acceptor, ring, ask);
        if let Some(known) = self.voted.get(&place) {
            return *known;
        }
        let mut voter = self.acceptors.all[usize::from(acceptor)].clone();
        let (ring, ask) = (
            self.ring(ring).clone(),
            self.asks.all[usize::from(ask)].clone(),
        );
        let reply = if accept {
            if self.fault == Planted::AcceptsWithoutPromise {
                voter = Acceptor::default();
            }
            Reply::Accept(voter.accept(&ring, ask.epoch, &ask.ballot, &ask.proposal))
        } else {
            Reply::Promise(voter.predict(&ring, ask.epoch, &ask.ballot, &ask.proposal))
        };
        let known = self.replies.iter().position(|other| *other == reply);
        let number = known.unwrap_or_else(|| {
            self.replies.push(reply);
            self.replies.len() - 1
        });
        let number = u16::try_from(number).expect("few replies");
        let both = (self.acceptors.number(voter), number);
        self.voted.insert(place, both);
        both
    }

    /// A proposer hears an answer.
    pub(crate) fn answer(&mut self, proposer: u16, from: u8, reply: u16) -> (u16, Next) {
        if let Some(known) = self.answered.get(&(proposer, from, reply)) {
            return *known;
        }
        let (mut past, mut live) = self.proposers[usize::from(proposer)].clone();
        let is_promise = matches!(self.replies[usize::from(reply)], Reply::Promise(_));
        if past.asked && is_promise {
            return (proposer, Next::Wait);
        }
        let (step, phase) = match self.replies[usize::from(reply)].clone() {
            Reply::Promise(reply) => (live.on_predict(&id(from), Ok(reply)), 0),
            Reply::Accept(reply) => (live.on_accept(&id(from), Ok(reply)), 1),
        };
        past.answers[phase].insert(from, reply);
        past.asked |= matches!(step, Step::Accept(_));
        let next = match step {
            Step::Wait => Next::Wait,
            Step::Accept(proposal) => Next::Ask(self.asks.number(Ask {
                epoch: live.epoch(),
                ballot: live.ballot().clone(),
                proposal,
            })),
            Step::Committed { ring, .. } => Next::Committed(self.ring_number(*ring)),
            Step::Lost(Loss::Outbid(by)) => {
                let round = u8::try_from(by.round).expect("few rounds");
                Next::Lost((round, number_of(&by.proposer)))
            }
            Step::Lost(_) => Next::Lost((0, 0)),
        };
        let answered = (self.proposer_number(past, live), next);
        self.answered.insert((proposer, from, reply), answered);
        answered
    }

    /// What a node's lifecycle wants to propose by itself: it has this ring, is done with its own
    /// transfers or not, and has heard these say that they are.
    pub(crate) fn wants(&mut self, node: u8, ring: u8, done: bool, heard: Bits) -> Option<u16> {
        let (done, heard) = if self.fault == Planted::RetiresUnverified {
            (true, 0b1111)
        } else {
            (done, heard)
        };
        let place = (node, ring, done, heard);
        if let Some(known) = self.lives.get(&place) {
            return *known;
        }
        let wanted = wanted(node, self.ring(ring), done, heard);
        let wanted = wanted.map(|change| self.changes.number(change));
        self.lives.insert(place, wanted);
        wanted
    }
}

fn ballot((round, node): Rank) -> Option<Ballot> {
    (round > 0).then(|| Ballot {
        round: round.into(),
        proposer: id(node),
    })
}

fn facts(ring: &Ring, key: Partition) -> Facts {
    let row = |partition| {
        let row = ring.placement(partition);
        let owners = bits(&row.owners);
        let of = |set: Bits| (set & owners).count_ones() as usize;
        let pulls = |set| Pulls {
            from: of(set),
            whole: of(set),
        };
        Row {
            owners,
            incoming: bits(row.incoming.iter().flatten()),
            gained_by: bits(
                row.incoming
                    .iter()
                    .flatten()
                    .filter(|id| row.is_gained_by(id)),
            ),
            whole_with: sets(|set| row.is_whole_with(ring.replicas, WRITE, pulls(set))),
            handed_over_with: sets(|set| row.is_handed_over_with(READ, of(set))),
        }
    };
    let mut rows: Vec<Row> = Partition::all().map(row).collect();
    rows.sort_unstable();
    rows.dedup();
    Facts {
        epoch: ring.epoch,
        is_moving: ring.is_moving(),
        voters: bits(ring.voters().map(|m| &m.id)),
        gainers: rows.iter().fold(0, |all, row| all | row.gained_by),
        rows,
        key: row(key),
    }
}

/// A life that begins with this ring and hears all this, over some seconds.
fn wanted(node: u8, ring: &Arc<Ring>, done: bool, heard: Bits) -> Option<Change> {
    let me = Me {
        member: member(node),
        seeds: 3,
        expect: 3,
        replicas: ring.replicas,
        cluster: ClusterId(1),
        fresh: true,
        auto_commit: true,
    };
    let (mut life, mut effects) = Lifecycle::start(me, Some(ring.clone()), None);
    let epoch = ring.move_epoch();
    if done {
        effects.extend(life.handle(Event::TransfersDone { epoch }));
    }
    let tick = |now, dice| Event::Tick {
        now: Duration::from_secs(now),
        dice,
    };
    effects.extend(life.handle(tick(0, 0)));
    for other in each(heard).filter(|other| *other != node) {
        let hello = Hello {
            from: member(other),
            state: NodeState::Ready,
            ring: Some(RingStamp {
                cluster: ring.cluster,
                epoch: ring.epoch,
            }),
            founding: None,
            pulled: Some(epoch),
            news: Vec::new(),
            fresh: false,
        };
        effects.extend(life.handle(Event::Heard(Box::new(hello))));
    }
    for now in [2, 4, 8] {
        effects.extend(life.handle(tick(now, 0)));
    }
    effects.into_iter().find_map(|effect| match effect {
        Effect::Propose { epoch, change } if epoch == ring.epoch + 1 => Some(change),
        _ => None,
    })
}

/// The first ring of a, b and c, and what these changes make of it.
pub(crate) fn ring_after(changes: &[Change]) -> Ring {
    let first = Change::Found {
        cluster: ClusterId(1),
        replicas: 3,
        members: (0..3).map(member).collect(),
    };
    let first = plan(None, &first).expect("a first ring");
    changes.iter().fold(first, |ring, change| {
        plan(Some(&ring), change).expect("a change that fits")
    })
}
