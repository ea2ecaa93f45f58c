//! What becomes of a state once nothing fails any more, or nothing but that the new node stays away:
//! everything arrives, and nobody is interrupted.

use quorate::dynamo::ring::Change;

use super::Fault;
use super::tables::{Bits, each};
use super::world::{Action, State, World, numbered};

/// More steps than any change takes.
const STEPS: usize = 400;

/// The node that comes.
const NEW: u8 = 3;

/// Everybody is there: the lifecycles bring the move to its end.
pub(crate) fn ends(world: &World, state: &State) -> bool {
    comes_to_rest(world, state, 0b1111, false)
}

/// The new node has died for good: an operator cancels until it is done.
pub(crate) fn can_go_back(world: &World, state: &State) -> bool {
    let needed = world.facts(&state.nodes[0]).voters & 1 << NEW != 0;
    let talks = world.tables().no_silence();
    // Who has forgotten its votes is missing too, and two may be too many.
    let is_missing = state.nodes.iter().any(|it| it.silence != talks);
    // Whoever is a voter by now is no new node any more.
    needed || is_missing || comes_to_rest(world, state, 0b0111, true)
}

/// Many states become the same ones: what was found of one is remembered.
fn comes_to_rest(world: &World, state: &State, living: Bits, cancels: bool) -> bool {
    if state.broken.is_some() {
        return true;
    }
    let mut state = plain(world, state);
    let mut passed = Vec::new();
    let mut rests = false;
    for _ in 0..STEPS {
        if state.attempts.is_empty() {
            let place = (state.clone(), living);
            if let Some(known) = world.calmed().get(&place) {
                rests = *known;
                break;
            }
            passed.push(place);
        }
        let Some(action) = next(world, &state, living, cancels) else {
            let there: Vec<_> = each(living).map(|n| state.nodes[usize::from(n)]).collect();
            let same = there.iter().all(|it| it.ring == there[0].ring);
            rests = same && !world.facts(&there[0]).is_moving;
            break;
        };
        state = world.step(&state, action);
        (state.tries, state.committed) = (0, world.first.committed);
    }
    let found = passed.into_iter().map(|place| (place, rests));
    world.calmed().extend(found);
    rests
}

/// Without what does not matter here.
fn plain(world: &World, state: &State) -> State {
    State {
        nodes: state.nodes.clone(),
        crashes: 0,
        losses: 0,
        tries: 0,
        ..world.first.clone()
    }
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
    if cancels {
        let change = world.tables().change_number(Change::Cancel);
        return Some(Action::Propose { node: 0, change });
    }
    let mut moves = Vec::new();
    world.transfers(state, &mut moves);
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
