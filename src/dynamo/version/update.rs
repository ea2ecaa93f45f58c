//! What one replica, the minter, does with a client's write to one key.

use super::{
    Actor, Body, Clock, Context, Dot, Reason, Remembered, RequestId, Sibling, State, sync,
};
use crate::dynamo::node_id::Incarnation;
use crate::mutant::Mutant;

/// Which rule a write follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteKind {
    /// Refused when a live value is known.
    Create,
    /// Supersedes what its clock saw; else becomes a sibling.
    Put,
    /// Leaves a tombstone in place of what was seen.
    Delete,
}

/// A client's write on its way to the minter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mint {
    /// Which rule it follows.
    pub kind: WriteKind,
    /// Every write its client has seen: the clock it sent, or what a quorum read just saw.
    pub seen: Clock,
    /// The new value; [`Body::Tombstone`] for a delete.
    pub body: Body,
    /// The request that asks for it.
    pub request: RequestId,
    /// Why the request is to outlive its value, if it is.
    pub remember: Option<Reason>,
    /// What a quorum read saw, if the write's rule needs one: merged into the record first, so
    /// that a lagging minter decides as the quorum would.
    pub merged: Option<Box<State>>,
}

/// A write that is done, now or earlier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The record's new state, to be persisted before anything is sent or answered.
    pub state: State,
    /// The minter's actor for this record from now on; local, never sent.
    pub minted: Option<Actor>,
    /// The clock of the answer: what the client had seen, and this write.
    pub answer: Clock,
    /// The write's dot.
    pub dot: Dot,
}

/// Why nothing was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// A create found a live value.
    AlreadyExists(State),
    /// A delete found no live value and nothing new in its clock.
    NothingToDelete(State),
    /// One more sibling would be too many.
    TooManySiblings(State),
    /// The request's id was used for something else.
    RequestReused,
}

/// Applies a write to the minter's record. `minted` is the actor this node has for the record,
/// if it has one; otherwise `open_epoch` is called for a fresh one, at most once. So it is when
/// `mint.seen` knows writes of that actor that the record does not: they would swallow this one.
/// `max_siblings` bounds the live values that the write may leave.
///
/// # Errors
/// [`Refused`], and then nothing has changed.
pub fn decide(
    record: &State,
    minted: Option<Actor>,
    mint: &Mint,
    max_siblings: usize,
    open_epoch: impl FnOnce() -> Actor,
) -> Result<Decided, Refused> {
    let mut state = match &mint.merged {
        Some(merged) => sync(record, merged),
        None => record.clone(),
    };
    if let Some(earlier) = state.written_by(mint.request.id) {
        return replay(state, minted, mint, earlier);
    }
    let live_before = state.live().len();
    match mint.kind {
        WriteKind::Create if live_before > 0 => return Err(Refused::AlreadyExists(state)),
        WriteKind::Delete if live_before == 0 && state.context.covers_all(&mint.seen.seen) => {
            return Err(Refused::NothingToDelete(state));
        }
        WriteKind::Create | WriteKind::Put | WriteKind::Delete => {}
    }
    let mut answer = with_other_attempts(&state, &mint.seen);
    let seen = &answer.seen;
    // A tombstone says no more than its dot, which the context keeps; the new sibling stands in
    // for it, so that tombstones never pile up.
    let survives = |s: &Sibling| matches!(s.body, Body::Value(_)) && !seen.covers(s.dot);
    let live_after = state.live().iter().filter(|(s, _)| survives(s)).count() + 1;
    if mint.kind != WriteKind::Delete && live_after > max_siblings && live_after > live_before {
        return Err(Refused::TooManySiblings(state));
    }
    let in_order = |actor: &Actor| {
        seen.highest(*actor) <= state.context.highest(*actor)
            || Mutant::EpochNotReopened.is_chosen()
    };
    let actor = minted.filter(in_order).unwrap_or_else(open_epoch);
    let dot = Dot {
        actor,
        n: state.context.highest(actor) + 1,
    };
    state.siblings.retain(survives);
    state.siblings.push(Sibling {
        dot,
        body: mint.body.clone(),
        request: mint.request,
    });
    state.siblings.sort_unstable_by_key(|s| s.dot);
    state.context.join(seen);
    state.context.add(dot);
    state.learn(&answer.remembered);
    if let Some(reason) = mint.remember {
        state.remember(mint.request.id, reason);
    }
    answer.seen.add(dot);
    answer.name(own_in_doubt(mint, dot).as_slice());
    answer.forget_all_but_the_last();
    Ok(Decided {
        state,
        minted: Some(actor),
        answer,
        dot,
    })
}

/// Whether an incoming context knows a write of this node's own that the node itself does not:
/// the store has gone back in time, and its incarnation must not mint again.
#[must_use]
pub fn is_amnesia(
    me: Incarnation,
    next_epoch: u64,
    minted: Option<Actor>,
    known: &Context,
    incoming: &Context,
) -> bool {
    incoming
        .actors()
        .filter(|actor| actor.incarnation == me)
        .any(|actor| {
            let ahead = Some(actor) == minted && incoming.highest(actor) > known.highest(actor);
            actor.epoch >= next_epoch || ahead
        })
}

/// Answers a request that is done already. What a quorum read sees now may be newer than what the
/// first answer showed; the clock must not cover that, or the client's next put would wipe it.
fn replay(
    mut state: State,
    minted: Option<Actor>,
    mint: &Mint,
    earlier: Remembered,
) -> Result<Decided, Refused> {
    if earlier.request.fingerprint != mint.request.fingerprint {
        return Err(Refused::RequestReused);
    }
    if let Some(reason) = mint.remember {
        state.remember(mint.request.id, reason);
    }
    let (own, others): (Vec<&Sibling>, Vec<&Sibling>) =
        (state.siblings.iter()).partition(|s| s.request.id == mint.request.id);
    let newer: Vec<Dot> = others.iter().map(|s| s.dot).collect();
    let mut answer = Clock::from(mint.seen.seen.before(&newer));
    for dot in own.iter().map(|s| s.dot).chain([earlier.dot]) {
        answer.seen.add(dot);
        answer.name(own_in_doubt(mint, dot).as_slice());
    }
    let carried = mint.seen.remembered.iter();
    let carried: Vec<&Remembered> = carried.filter(|r| answer.seen.covers(r.dot)).collect();
    answer.name(carried);
    answer.forget_all_but_the_last();
    Ok(Decided {
        state,
        minted,
        answer,
        dot: earlier.dot,
    })
}

/// What the clock of the answer says of the write itself, if there may be another attempt of it.
fn own_in_doubt(mint: &Mint, dot: Dot) -> Option<Remembered> {
    mint.remember.map(|reason| Remembered {
        dot,
        reason,
        request: mint.request,
    })
}

/// A sibling of which there is another attempt.
fn in_doubt(sibling: &Sibling) -> Remembered {
    Remembered {
        dot: sibling.dot,
        reason: Reason::Doubtful,
        request: sibling.request,
    }
}

/// Two attempts of one request may have been minted by two nodes. A reader is shown one value, so
/// who has seen one of them has seen the other. What came to light too late for that is shown to
/// nobody: the next write takes it along, before what gives it away is forgotten.
fn with_other_attempts(state: &State, clock: &Clock) -> Clock {
    let mut out = clock.clone();
    let is_seen = |s: &&Sibling| clock.seen.covers(s.dot) || clock.knows(s.request);
    for sibling in state.siblings.iter().filter(is_seen) {
        let twins = state
            .siblings
            .iter()
            .filter(|s| s.request == sibling.request);
        twins.for_each(|s| out.seen.add(s.dot));
    }
    for sibling in state.siblings.iter().filter(|s| state.is_belated(s)) {
        out.seen.add(sibling.dot);
        out.name([&in_doubt(sibling)]);
    }
    out
}
