//! What becomes of a state once nothing fails any more, or nothing but that one node stays away, the
//! new one or one of the old: everything arrives, and nobody is interrupted.

use quorate::dynamo::ring::Change;

use super::Fault;
use super::tables::{Bits, Facts, Row, each};
use super::world::{ALL, Action, Node, State, World, numbered};

/// More steps than any change takes.
const STEPS: usize = 400;

/// The node that comes.
const NEW: u8 = 3;

/// A node that others pull from. It is not the one that leaves or is replaced.
const GIVER: u8 = 0;

/// Everybody is there: the lifecycles bring the move to its end.
pub(crate) fn ends(world: &World, state: &State) -> bool {
    comes_to_rest(world, state, ALL, false)
}

/// An old owner has died for good: the move ends, as long as it has nothing to pull itself, and a
/// majority and enough of the old owners are left.
pub(crate) fn needs_no_giver(world: &World, state: &State) -> bool {
    has_silent(world, state) || comes_to_rest(world, state, ALL & !(1 << GIVER), false)
}

/// Who has forgotten its votes is missing too, and two may be too many.
fn has_silent(world: &World, state: &State) -> bool {
    let talks = world.tables().no_silence();
    state.nodes.iter().any(|it| it.silence != talks)
}

/// The new node has died for good: an operator cancels until it is done. What can only go forward,
/// because somebody was forgotten, does so without it.
pub(crate) fn can_go_back(world: &World, state: &State) -> bool {
    has_silent(world, state) || comes_to_rest(world, state, ALL & !(1 << NEW), true)
}

/// Whether those who live come to one ring at rest, or wait for somebody, as an operator is shown.
///
/// Many states become the same ones: what was found of one is remembered.
fn comes_to_rest(world: &World, state: &State, living: Bits, cancels: bool) -> bool {
    if state.broken.is_some() {
        return true;
    }
    let mut nodes = four(state);
    for dead in each(ALL & !living) {
        // Only what others know of it matters from now on.
        let place = usize::from(dead);
        let it = nodes[place];
        nodes[place] = Node {
            ring: it.ring,
            flips: it.flips,
            verified: it.verified,
            ..world.first.nodes[place]
        };
    }
    if let Some(known) = world.calmed().get(&(nodes, living)) {
        return *known;
    }
    // Without what does not matter here, and without what is on its way, which may never arrive.
    let mut state = State {
        nodes: nodes.to_vec(),
        crashes: 0,
        losses: 0,
        tries: 0,
        ..world.first.clone()
    };
    let mut passed = Vec::new();
    let mut rests = false;
    for _ in 0..STEPS {
        if state.attempts.is_empty() {
            let place = (four(&state), living);
            if let Some(known) = world.calmed().get(&place) {
                rests = *known;
                break;
            }
            passed.push(place);
        }
        let Some(action) = next(world, &state, living, cancels) else {
            let there: Vec<_> = each(living).map(|n| state.nodes[usize::from(n)]).collect();
            let same = there.iter().all(|it| it.ring == there[0].ring);
            let facts = world.facts(&there[0]);
            rests = same && (!facts.is_moving || waits(&facts, living));
            break;
        };
        state = world.step(&state, action);
        (state.tries, state.committed) = (0, world.first.committed);
    }
    let found = passed.into_iter().map(|place| (place, rests));
    world.calmed().extend(found);
    rests
}

fn four(state: &State) -> [Node; 4] {
    std::array::from_fn(|node| state.nodes[node])
}

/// For more than a living node can give: a vote, a pull of an old owner, or what W of the old owners
/// may hold alone.
fn waits(facts: &Facts, living: Bits) -> bool {
    let few = |row: &Row| !row.is_whole_with(living);
    let few = facts.rows.iter().any(|row| row.gained_by != 0 && few(row));
    facts.gainers & !living & !(1 << NEW) != 0 || few || !can_decide(facts, living)
}

fn can_decide(facts: &Facts, living: Bits) -> bool {
    (facts.voters & living).count_ones() * 2 > facts.voters.count_ones()
}

/// The next thing that happens, whatever is first in this order.
fn next(world: &World, state: &State, living: Bits, cancels: bool) -> Option<Action> {
    let is_there = |node: u8| living & 1 << node != 0;
    for (place, it) in state.attempts.iter().enumerate() {
        let answered = true;
        if let Some(at) = each(it.predict_left & living).next() {
            let attempt = place;
            return Some(Action::Predict {
                attempt,
                at,
                answered,
            });
        }
        if let Some(at) = each(it.accept_left & living).next() {
            let attempt = place;
            return Some(Action::Accept {
                attempt,
                at,
                answered,
            });
        }
    }
    let there = || numbered(&state.nodes).filter(|(node, _)| is_there(*node));
    let newest = there().max_by_key(|(_, it)| world.facts(it).epoch)?;
    let behind = there().find(|(_, it)| it.ring != newest.1.ring);
    if let Some((node, _)) = behind {
        let from = newest.0;
        return Some(Action::Learn { node, from });
    }
    if !world.facts(newest.1).is_moving {
        return None;
    }
    if !can_decide(&world.facts(newest.1), living) {
        return None;
    }
    if cancels {
        let mut tables = world.tables();
        let change = tables.change_number(Change::Cancel);
        let it = state.nodes[0];
        if tables.propose(it.ring, 0, it.seen, change).is_some() {
            return Some(Action::Propose { node: 0, change });
        }
    }
    let mut moves = Vec::new();
    world.transfers(state, living, &mut moves);
    if world.scenario.fault == Fault::KeepsItsEndToItself {
        let done = |node: &u8| state.nodes[usize::from(*node)].verified;
        moves.retain(|action| match action {
            Action::Bring { node } => !done(node),
            Action::Hear { .. } | Action::Flip { .. } => false,
            _ => true,
        });
    }
    moves.first().copied().or_else(|| {
        there().find_map(|(node, _)| {
            let change = *world.ends_of_move(state, node).first()?;
            Some(Action::Propose { node, change })
        })
    })
}
