//! The only merge there is: reads, repair, hints, handoff and anti-entropy all use it.

use super::State;
use crate::mutant::Mutant;

/// Merges two states of one key: a sibling stays if both have it, or if one has it and the other
/// never saw its dot. Commutative, associative, idempotent.
#[must_use]
pub fn sync(a: &State, b: &State) -> State {
    let mut out = State {
        context: a.context.clone(),
        ..State::default()
    };
    out.context.join(&b.context);
    // A sibling that both have is taken from `a`: its dot is in the context of `a`.
    let from_a = a
        .siblings
        .iter()
        .filter(|s| b.holds(s.dot) || !b.context.covers(s.dot));
    let from_b = b.siblings.iter().filter(|s| !a.context.covers(s.dot));
    out.siblings.extend(from_a.chain(from_b).cloned());
    out.siblings.sort_unstable_by_key(|s| s.dot);
    if Mutant::LastWriteWins.is_chosen() {
        out.siblings = out.siblings.pop().into_iter().collect();
    }
    out.remembered
        .extend(a.remembered.iter().chain(&b.remembered));
    out.trim_remembered();
    out
}
