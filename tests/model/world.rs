//! What the nodes have on their disks and in their memory, what is on its way between them, and all
//! that can happen next.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate::dynamo::key::Partition;
use quorate::dynamo::ring::{Change, MemberChange, Ring, plan};
use stateright::{Model, Property};

use super::calm;
use super::tables::{Bits, Facts, Rank, Tables, WRITE, each, id};
use super::{
    Fault, MOVE_ENDS, NEEDS_GIVER, NEVER_ENDS, NO_WAY_BACK, STALE_READ, Scenario, TWO_RINGS,
    UNVERIFIED, Wish,
};

/// Epochs that are remembered.
const EPOCHS: usize = 10;
/// No ring.
pub(crate) const NONE: u8 = u8::MAX;
/// Every node.
pub(crate) const ALL: Bits = 0b1111;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    // On its disk.
    pub(crate) ring: u8,
    pub(crate) acceptor: u16,
    pub(crate) silence: u16,
    /// What it gains in the move of its ring is verified.
    pub(crate) verified: bool,
    /// For whom it has flipped what it owns.
    pub(crate) flips: Bits,
    // In its memory.
    pub(crate) seen: Rank,
    /// Whom it has pulled from.
    pub(crate) pulled: Bits,
    /// Who has said that it has flipped for this node.
    pub(crate) got: Bits,
    /// Whether its transfers are done, as its lifecycle knows.
    pub(crate) done: bool,
    /// Who has said that its transfers are done.
    pub(crate) heard: Bits,
}

/// An attempt to change the ring; its questions may arrive after the proposer has died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Attempt {
    pub(crate) node: u8,
    pub(crate) epoch: u8,
    /// Gone if the node has crashed, or given up.
    pub(crate) proposer: Option<u16>,
    pub(crate) predict: u16,
    /// Whom the question has not reached.
    pub(crate) predict_left: Bits,
    pub(crate) accept: Option<u16>,
    pub(crate) accept_left: Bits,
}

/// What must never happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Broken {
    TwoRings,
    OwnersBeforeVerified,
    StaleRead,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) nodes: Vec<Node>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) committed: [u8; EPOCHS],
    /// Who holds the write.
    pub(crate) has: Bits,
    pub(crate) acked: bool,
    pub(crate) crashes: u8,
    pub(crate) losses: u8,
    pub(crate) tries: u8,
    pub(crate) broken: Option<Broken>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Gives up what it was at, and proposes this.
    Propose {
        node: u8,
        change: u16,
    },
    /// A question arrives; its answer does too, or is lost.
    Predict {
        attempt: usize,
        at: u8,
        answered: bool,
    },
    Accept {
        attempt: usize,
        at: u8,
        answered: bool,
    },
    /// Takes the newer ring of another node.
    Learn {
        node: u8,
        from: u8,
    },
    Pull {
        node: u8,
        from: u8,
    },
    Flip {
        node: u8,
        at: u8,
        answered: bool,
    },
    /// The same of all owners at once: pulls, or, when that is done, has them flip.
    Bring {
        node: u8,
    },
    /// Hears that another node's transfers are done.
    Hear {
        node: u8,
        from: u8,
    },
    Crash {
        node: u8,
    },
    /// A write is acknowledged by these.
    Write {
        holders: Bits,
    },
}

/// Whether nodes come to rest of which these live.
type Calmed = HashMap<([Node; 4], Bits), bool>;

pub(crate) struct World {
    pub(crate) scenario: Scenario,
    tables: Mutex<Tables>,
    pub(crate) first: State,
    /// What calm makes of states that were met.
    calmed: Mutex<Calmed>,
}

impl World {
    pub(crate) fn new(scenario: Scenario) -> Self {
        let first = (scenario.first)();
        let mut tables = Tables::new(scenario.fault, key(&first, scenario.key_moves_by));
        let (ring, acceptor) = (tables.ring_number(first), tables.blank_acceptor());
        let silence = tables.no_silence();
        let node = Node {
            ring,
            acceptor,
            silence,
            verified: false,
            flips: 0,
            seen: (0, 0),
            pulled: 0,
            got: 0,
            done: false,
            heard: 0,
        };
        let state = State {
            nodes: vec![node; 4],
            attempts: Vec::new(),
            committed: [NONE; EPOCHS],
            has: 0,
            acked: false,
            crashes: scenario.crashes,
            losses: scenario.losses,
            tries: scenario.tries,
            broken: None,
        };
        Self {
            scenario,
            tables: Mutex::new(tables),
            first: state,
            calmed: Mutex::default(),
        }
    }

    pub(crate) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn calmed(&self) -> MutexGuard<'_, Calmed> {
        self.calmed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn facts(&self, node: &Node) -> Arc<Facts> {
        self.tables().facts(node.ring)
    }

    /// What a node proposes by itself, and what its operator wants.
    pub(crate) fn wanted(&self, state: &State, node: u8) -> Vec<u16> {
        let it = state.nodes[usize::from(node)];
        let mut tables = self.tables();
        let mut out: Vec<u16> = tables
            .wants(node, it.ring, it.done, it.heard)
            .into_iter()
            .collect();
        let ring = tables.ring(it.ring).clone();
        let wishes = self.scenario.operators.iter().filter(|(at, _)| *at == node);
        let has_flipped = state.nodes.iter().any(|it| it.flips != 0);
        let is_refused = |wish: &Wish| matches!(wish, Wish::Cancel { force: false }) && has_flipped;
        let wishes = wishes.filter(|(_, wish)| !is_refused(wish));
        for change in wishes.filter_map(|(_, wish)| wished(&ring, *wish)) {
            out.push(tables.change_number(change));
        }
        out.retain(|change| tables.propose(it.ring, node, it.seen, *change).is_some());
        out
    }

    /// The end of the move under way, if the node's lifecycle wants it.
    pub(crate) fn ends_of_move(&self, state: &State, node: u8) -> Vec<u16> {
        let it = state.nodes[usize::from(node)];
        let wanted = self.tables().wants(node, it.ring, it.done, it.heard);
        wanted.into_iter().collect()
    }

    /// The steps of a move between these nodes, which need no luck.
    pub(crate) fn transfers(&self, state: &State, living: Bits, out: &mut Vec<Action>) {
        let there = || numbered(&state.nodes).filter(|(node, _)| living & 1 << node != 0);
        for (node, it) in there() {
            let facts = self.facts(it);
            if facts.gainers & 1 << node == 0 {
                continue;
            }
            let gained = facts
                .rows
                .iter()
                .filter(|row| row.gained_by & 1 << node != 0);
            let owners = gained.fold(0, |all, row| all | row.owners);
            if self.scenario.coarse && living == ALL && !it.done {
                out.push(Action::Bring { node });
                continue;
            }
            let same = |other: &u8| state.nodes[usize::from(*other)].ring == it.ring;
            for at in each(owners & living).filter(same) {
                if !it.verified && at != node && it.pulled & 1 << at == 0 {
                    out.push(Action::Pull { node, from: at });
                }
                if it.verified && !it.done && it.got & 1 << at == 0 {
                    let answered = true;
                    out.push(Action::Flip { node, at, answered });
                }
            }
        }
        for (node, it) in there() {
            let tells = |(from, other): &(u8, &Node)| {
                *from != node && other.done && other.ring == it.ring && it.heard & 1 << from == 0
            };
            let all = there().filter(tells);
            out.extend(all.map(|(from, _)| Action::Hear { node, from }));
        }
    }

    /// Whether a crash takes anything.
    fn has_something_to_lose(&self, state: &State, node: u8) -> bool {
        let mine = |it: &Attempt| it.node == node && it.proposer.is_some();
        let it = state.nodes[usize::from(node)];
        state.attempts.iter().any(mine)
            || it.seen != (0, 0)
            || it.pulled | it.got | it.heard != 0
            || it.done
            || matches!(
                self.scenario.fault,
                Fault::ForgetsPromises | Fault::ForgetsAndFallsSilent
            )
    }

    /// The write of the key, by every quorum that could acknowledge it now.
    fn writes(&self, state: &State, out: &mut Vec<Action>) {
        let mut tables = self.tables();
        for ring in rings(state) {
            let key = tables.facts(ring).key;
            let mut quorums = |set: usize, owners: Bits| -> Vec<Bits> {
                let takes: Bits = each(owners)
                    .filter(|node| {
                        let it = state.nodes[usize::from(*node)];
                        let admits = tables.admits(*node, it.ring, it.verified, it.flips);
                        it.ring == ring && admits.writes[set]
                    })
                    .map(|node| 1 << node)
                    .sum();
                let size = WRITE.min(owners.count_ones() as usize);
                let all = 1..=u8::from(takes > 0) * 15;
                all.filter(|some| some & !takes == 0 && some.count_ones() as usize == size)
                    .collect()
            };
            let old = quorums(0, key.owners);
            let new = if key.incoming == 0 {
                vec![0]
            } else {
                quorums(1, key.incoming)
            };
            let both = old
                .iter()
                .flat_map(|old| new.iter().map(move |new| old | new));
            let mut both: Vec<Bits> = both.collect();
            both.sort_unstable();
            both.dedup();
            out.extend(both.into_iter().map(|holders| Action::Write { holders }));
        }
    }
}

/// The partition of the key: the first that moves, now or by this change.
fn key(first: &Ring, change: fn() -> MemberChange) -> Partition {
    let moves_in = |ring: &Ring| {
        let moves = |p: &Partition| ring.placement(*p).incoming.is_some();
        Partition::all().find(moves)
    };
    let then = || {
        let change = Change::Commit(vec![change()]);
        let next = plan(Some(first), &change).expect("a change that fits");
        moves_in(&next)
    };
    moves_in(first)
        .or_else(then)
        .expect("a partition that moves")
}

/// What an operator asks for next, so that the ring becomes as is wished.
fn wished(ring: &Ring, wish: Wish) -> Option<Change> {
    match wish {
        Wish::Cancel { .. } => ring.is_moving().then_some(Change::Cancel),
        Wish::Revert => (!ring.affairs.staged.is_empty()).then_some(Change::Revert(None)),
        Wish::Change(change) => {
            let change = change();
            let over = match &change {
                MemberChange::Leave(node) | MemberChange::Replace { old: node, .. } => {
                    ring.member(node).is_none() || ring.is_leaving(node)
                }
                MemberChange::Forget(node) => ring.member(node).is_none(),
                _ => false,
            };
            match (over, ring.affairs.staged.contains(&change)) {
                (true, _) => None,
                (false, true) => Some(Change::Commit(ring.committable())),
                (false, false) => Some(Change::Stage(change)),
            }
        }
    }
}

pub(crate) fn numbered(nodes: &[Node]) -> impl Iterator<Item = (u8, &Node)> {
    (0..).zip(nodes)
}

pub(crate) fn rings(state: &State) -> Vec<u8> {
    let mut rings: Vec<u8> = state.nodes.iter().map(|it| it.ring).collect();
    rings.sort_unstable();
    rings.dedup();
    rings
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.first.clone()]
    }

    fn actions(&self, state: &State, out: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        self.transfers(state, ALL, out);
        if state.losses > 0 {
            let lost = |action: &Action| match *action {
                Action::Flip { node, at, .. } => Some(Action::Flip {
                    node,
                    at,
                    answered: false,
                }),
                _ => None,
            };
            let lost: Vec<Action> = out.iter().filter_map(lost).collect();
            out.extend(lost);
        }
        for (place, it) in state.attempts.iter().enumerate() {
            let mut arrive = |accept: bool, at: u8| {
                let can_be_lost = it.proposer.is_some() && state.losses > 0;
                for answered in [true, false].into_iter().take(1 + usize::from(can_be_lost)) {
                    out.push(if accept {
                        Action::Accept {
                            attempt: place,
                            at,
                            answered,
                        }
                    } else {
                        Action::Predict {
                            attempt: place,
                            at,
                            answered,
                        }
                    });
                }
            };
            each(it.predict_left).for_each(|at| arrive(false, at));
            each(it.accept_left).for_each(|at| arrive(true, at));
        }
        for (node, it) in numbered(&state.nodes) {
            let epoch = self.facts(it).epoch;
            for ring in rings(state) {
                let mut with = numbered(&state.nodes).filter(|(_, other)| other.ring == ring);
                if let Some((from, other)) = with.next()
                    && self.facts(other).epoch > epoch
                {
                    out.push(Action::Learn { node, from });
                }
            }
            if state.tries > 0 {
                let all = self.wanted(state, node).into_iter();
                out.extend(all.map(|change| Action::Propose { node, change }));
            }
            if state.crashes > 0 && self.has_something_to_lose(state, node) {
                out.push(Action::Crash { node });
            }
        }
        if self.scenario.writes && !state.acked {
            self.writes(state, out);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let next = self.step(state, action);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(TWO_RINGS, |_, s: &State| s.broken != Some(Broken::TwoRings)),
            Property::always(UNVERIFIED, |_, s: &State| {
                s.broken != Some(Broken::OwnersBeforeVerified)
            }),
            Property::always(STALE_READ, |_, s: &State| {
                s.broken != Some(Broken::StaleRead)
            }),
            Property::always(NEVER_ENDS, calm::ends),
            Property::always(NO_WAY_BACK, calm::can_go_back),
            Property::always(NEEDS_GIVER, calm::needs_no_giver),
            Property::sometimes(MOVE_ENDS, |world: &Self, s: &State| {
                let ring = world.tables().ring(s.nodes[0].ring).clone();
                let is_made = ring.number_of(&id(3)).is_some() || !ring.affairs.departed.is_empty();
                !ring.is_moving() && is_made
            }),
        ]
    }
}
