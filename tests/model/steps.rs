//! What follows from each thing that happens.

use quorate::dynamo::key::Partition;
use quorate::dynamo::ring::Ring;

use super::Fault;
use super::reads::{Refusal, Says};
use super::tables::{Bits, Next, READ, each, id};
use super::world::{Action, Attempt, Broken, NONE, State, World, numbered, rings};

impl World {
    /// What follows from an action.
    pub(crate) fn step(&self, before: &State, action: Action) -> State {
        let mut state = before.clone();
        match action {
            Action::Propose { node, change } => self.propose(&mut state, node, change),
            Action::Predict {
                attempt,
                at,
                answered,
            } => {
                self.ask(&mut state, (attempt, false), at, answered);
            }
            Action::Accept {
                attempt,
                at,
                answered,
            } => {
                self.ask(&mut state, (attempt, true), at, answered);
            }
            Action::Learn { node, from } => {
                let ring = state.nodes[usize::from(from)].ring;
                self.install(&mut state, node, ring);
            }
            Action::Pull { node, from } => self.pull(&mut state, node, from),
            Action::Flip { node, at, answered } => self.flip(&mut state, node, at, answered),
            Action::Bring { node } => self.bring(&mut state, node),
            Action::Hear { node, from } => state.nodes[usize::from(node)].heard |= 1 << from,
            Action::Crash { node } => {
                state.crashes = state.crashes.saturating_sub(1);
                self.crash(&mut state, node);
            }
            Action::Write { holders } => {
                state.has |= holders;
                state.acked = true;
            }
        }
        self.prune(&mut state);
        if state.acked && self.is_stale(&state) {
            state.broken.get_or_insert(Broken::StaleRead);
        }
        state
    }

    fn crash(&self, state: &mut State, node: u8) {
        give_up(state, node);
        let blank = self.tables().blank_acceptor();
        let rings = numbered(&state.nodes).map(|(other, it)| (other, it.ring));
        let others: Vec<(u8, u8)> = rings.filter(|(other, _)| *other != node).collect();
        let it = &mut state.nodes[usize::from(node)];
        (it.seen, it.pulled, it.got, it.heard, it.done) = ((0, 0), 0, 0, 0, false);
        match self.scenario.fault {
            Fault::ForgetsPromises => it.acceptor = blank,
            Fault::ForgetsAndFallsSilent => {
                let mut tables = self.tables();
                let silence = tables.silence(others.into_iter());
                it.acceptor = blank;
                it.silence = tables.silence_under(silence, node, it.ring);
            }
            _ => {}
        }
    }

    fn propose(&self, state: &mut State, node: u8, change: u16) {
        let it = state.nodes[usize::from(node)];
        let mut tables = self.tables();
        let Some((proposer, predict)) = tables.propose(it.ring, node, it.seen, change) else {
            return;
        };
        let facts = tables.facts(it.ring);
        give_up(state, node);
        state.tries = state.tries.saturating_sub(1);
        state.attempts.push(Attempt {
            node,
            epoch: u8::try_from(facts.epoch + 1).expect("few epochs"),
            proposer: Some(proposer),
            predict,
            predict_left: facts.voters,
            accept: None,
            accept_left: 0,
        });
    }

    /// A question of an attempt reaches an acceptor.
    fn ask(&self, state: &mut State, (place, accept): (usize, bool), at: u8, answered: bool) {
        let mut attempt = state.attempts[place];
        let question = if accept {
            attempt.accept_left &= !(1 << at);
            attempt.accept.unwrap_or(attempt.predict)
        } else {
            attempt.predict_left &= !(1 << at);
            attempt.predict
        };
        let voter = &mut state.nodes[usize::from(at)];
        let mut tables = self.tables();
        let holds_to_its_flips = self.scenario.fault == Fault::HoldsToItsFlips && voter.flips != 0;
        if tables.is_silent(voter.silence, voter.ring)
            || holds_to_its_flips && tables.cancels(question)
        {
            state.attempts[place] = attempt;
            return;
        }
        let (acceptor, reply) = tables.vote(accept, voter.acceptor, voter.ring, question);
        voter.acceptor = acceptor;
        let live = attempt.proposer.filter(|_| answered);
        if !answered {
            state.losses = state.losses.saturating_sub(1);
        }
        let mut committed = None;
        if let Some(proposer) = live {
            let (proposer, next) = tables.answer(proposer, at, reply);
            attempt.proposer = Some(proposer);
            match next {
                Next::Wait => {}
                Next::Ask(question) => {
                    attempt.accept = Some(question);
                    let ring = state.nodes[usize::from(attempt.node)].ring;
                    attempt.accept_left = tables.facts(ring).voters;
                }
                Next::Committed(ring) => {
                    attempt.proposer = None;
                    committed = Some(ring);
                }
                Next::Lost(by) => {
                    attempt.proposer = None;
                    let seen = &mut state.nodes[usize::from(attempt.node)].seen;
                    *seen = by.max(*seen);
                }
            }
        }
        drop(tables);
        state.attempts[place] = attempt;
        if let Some(ring) = committed {
            self.commit(state, ring);
            self.install(state, attempt.node, ring);
        }
    }

    /// One ring an epoch, and none that ends a move before it is safe.
    fn commit(&self, state: &mut State, ring: u8) {
        let tables = self.tables();
        let facts = tables.facts(ring);
        let epoch = usize::try_from(facts.epoch).expect("few epochs");
        let known = std::mem::replace(&mut state.committed[epoch], ring);
        if known != NONE {
            if known != ring {
                state.broken = Some(Broken::TwoRings);
            }
            return;
        }
        let before = match state.committed[epoch - 1] {
            NONE => self.first.nodes[0].ring,
            known => known,
        };
        let (was, is) = (tables.ring(before), tables.ring(ring));
        let of = |ring: &Ring, p| ring.placement(p).clone();
        for partition in Partition::all() {
            let (old, new) = (of(was, partition), of(is, partition));
            if old.incoming.as_ref() != Some(&new.owners) || new.incoming.is_some() {
                continue;
            }
            for (node, it) in numbered(&state.nodes) {
                if !old.is_gained_by(&id(node)) {
                    continue;
                }
                let flipped = numbered(&state.nodes).filter(|(owner, other)| {
                    old.owners.contains(&id(*owner)) && other.flips & 1 << node != 0
                });
                let same_move = tables.ring(it.ring).goes_on_from(was);
                let handed_over = old.is_handed_over_with(READ, flipped.count());
                let safe = it.verified && same_move && handed_over;
                if !safe {
                    state.broken = Some(Broken::OwnersBeforeVerified);
                    return;
                }
            }
        }
    }

    /// The ring keeper: takes a newer ring, and forgets what it noted of another move.
    fn install(&self, state: &mut State, node: u8, ring: u8) {
        let it = &mut state.nodes[usize::from(node)];
        let tables = self.tables();
        let (old, new) = (tables.facts(it.ring), tables.facts(ring));
        if new.epoch <= old.epoch {
            return;
        }
        if !tables.ring(ring).goes_on_from(tables.ring(it.ring)) {
            (it.verified, it.flips, it.done, it.heard) = (false, 0, false, 0);
        }
        drop(tables);
        it.ring = ring;
        (it.pulled, it.got) = (0, 0);
        it.silence = self.tables().silence_under(it.silence, node, ring);
        give_up(state, node);
    }

    fn pull(&self, state: &mut State, node: u8, from: u8) {
        let facts = self.facts(&state.nodes[usize::from(node)]);
        let carried = state.has & 1 << from != 0
            && facts.key.owners & 1 << from != 0
            && facts.key.gained_by & 1 << node != 0;
        if carried {
            state.has |= 1 << node;
        }
        let it = &mut state.nodes[usize::from(node)];
        it.pulled |= 1 << from;
        let mine = it.pulled | 1 << node;
        it.verified = facts
            .rows
            .iter()
            .filter(|row| row.gained_by & 1 << node != 0)
            .all(|row| match self.scenario.fault {
                Fault::PullsFromTooFew => row.owners & mine != 0,
                Fault::PullsFromAll => row.owners & !mine == 0,
                _ => row.is_whole_with(mine),
            });
    }

    fn bring(&self, state: &mut State, node: u8) {
        let it = state.nodes[usize::from(node)];
        let facts = self.facts(&it);
        let gained = facts
            .rows
            .iter()
            .filter(|row| row.gained_by & 1 << node != 0);
        let owners = gained.fold(0, |all, row| all | row.owners);
        let same = |at: &u8| state.nodes[usize::from(*at)].ring == it.ring;
        let there: Vec<u8> = each(owners).filter(same).collect();
        for at in there {
            if it.verified {
                self.flip(state, node, at, true);
            } else if at != node {
                self.pull(state, node, at);
            }
        }
        if !state.nodes[usize::from(node)].verified {
            state.nodes[usize::from(node)].pulled = 0;
        }
        if !state.nodes[usize::from(node)].done {
            state.nodes[usize::from(node)].got = 0;
        }
    }

    fn flip(&self, state: &mut State, node: u8, at: u8, answered: bool) {
        let facts = self.facts(&state.nodes[usize::from(node)]);
        if self.scenario.fault != Fault::GoesOnServing {
            state.nodes[usize::from(at)].flips |= 1 << node;
        }
        if !answered {
            state.losses = state.losses.saturating_sub(1);
            return;
        }
        let it = &mut state.nodes[usize::from(node)];
        it.got |= 1 << at;
        let got = it.got;
        it.done |= facts
            .rows
            .iter()
            .filter(|row| row.gained_by & 1 << node != 0)
            .all(|row| row.is_handed_over_with(got));
    }

    /// Forgets what cannot matter any more: questions about epochs that everybody is past.
    fn prune(&self, state: &mut State) {
        let mut tables = self.tables();
        for attempt in &mut state.attempts {
            // An acceptor that is bound to something higher stays so.
            let mut idle = |accept: bool, left: Bits, question: u16| -> Bits {
                let is_idle = |at: &u8| {
                    let it = state.nodes[usize::from(*at)];
                    let is_due = tables.facts(it.ring).epoch + 1 >= u64::from(attempt.epoch);
                    is_due && tables.vote(accept, it.acceptor, it.ring, question).0 == it.acceptor
                };
                each(left).filter(is_idle).map(|at| 1 << at).sum()
            };
            let (predict, accept) = (attempt.predict_left, attempt.accept_left);
            if attempt.proposer.is_none() || attempt.accept.is_some() {
                attempt.predict_left &= !idle(false, predict, attempt.predict);
            }
            if let (None, Some(question)) = (attempt.proposer, attempt.accept) {
                attempt.accept_left &= !idle(true, accept, question);
            }
        }
        let epochs = state.nodes.iter().map(|it| tables.facts(it.ring).epoch);
        let lowest = epochs.min().unwrap_or(0);
        let matters = |it: &Attempt| {
            let waits = it.predict_left != 0 || it.accept_left != 0 || it.proposer.is_some();
            waits && u64::from(it.epoch) > lowest
        };
        state.attempts.retain(matters);
        state.attempts.sort_unstable();
    }

    /// Whether a read would be answered by nodes none of which has what was acknowledged. The owners
    /// to be are asked only by somebody whom an owner has told that it has flipped.
    fn is_stale(&self, state: &State) -> bool {
        let mut tables = self.tables();
        rings(state).into_iter().any(|ring| {
            let key = tables.facts(ring).key;
            let mut says = |incoming: bool| {
                [0, 1, 2, 3].map(|node: u8| {
                    let it = state.nodes[usize::from(node)];
                    if it.ring != ring {
                        return Says::Nothing;
                    }
                    let set = usize::from(incoming && key.incoming & 1 << node != 0);
                    let admitted = tables.admits(node, it.ring, it.verified, it.flips);
                    match admitted.reads[set] {
                        Ok(()) if state.has & 1 << node == 0 => Says::Blind,
                        Err(Refusal::Flipped) => Says::Flipped,
                        _ => Says::Nothing,
                    }
                })
            };
            let before = says(false);
            let after = before.contains(&Says::Flipped).then(|| says(true));
            tables.is_answered(ring, false, before)
                || after.is_some_and(|after| tables.is_answered(ring, true, after))
        })
    }
}

/// Whatever the node was proposing, it does so no more.
fn give_up(state: &mut State, node: u8) {
    for attempt in state.attempts.iter_mut().filter(|it| it.node == node) {
        attempt.proposer = None;
    }
}
