//! What a replica decides about one write, case by case.

mod attempts;
mod clocks;

use bytes::Bytes;

use super::{
    Actor, Body, Clock, Context, Decided, Dot, Mint, Reason, Refused, RequestId, State, WriteKind,
    decide, is_amnesia, sync,
};
use crate::dynamo::node_id::Incarnation;

const MAX_SIBLINGS: usize = 3;

/// A node's record of one key.
#[derive(Clone)]
struct Node {
    name: u64,
    epochs: u64,
    state: State,
    minted: Option<Actor>,
}

fn node(name: u64) -> Node {
    Node {
        name,
        epochs: 0,
        state: State::default(),
        minted: None,
    }
}

fn put(value: &str, seen: &Clock) -> Mint {
    Mint {
        kind: WriteKind::Put,
        seen: seen.clone(),
        body: Body::Value(Bytes::copy_from_slice(value.as_bytes())),
        request: RequestId {
            id: value.bytes().fold(0, |id, b| id << 8 | u128::from(b)),
            fingerprint: 1,
        },
        remember: None,
        merged: None,
    }
}

fn delete(name: &str, seen: &Clock) -> Mint {
    Mint {
        kind: WriteKind::Delete,
        body: Body::Tombstone,
        ..put(name, seen)
    }
}

/// As a coordinator does it, after a quorum read.
fn create(value: &str, read: &State) -> Mint {
    Mint {
        kind: WriteKind::Create,
        merged: Some(Box::new(read.clone())),
        ..put(value, &Clock::of(read))
    }
}

fn keyed(mint: Mint) -> Mint {
    Mint {
        remember: Some(Reason::Keyed),
        ..mint
    }
}

/// As a coordinator asks a second owner, when it has not heard from the first.
fn doubtful(mint: Mint) -> Mint {
    Mint {
        remember: Some(Reason::Doubtful),
        ..mint
    }
}

impl Node {
    fn write(&mut self, mint: &Mint) -> Result<Decided, Refused> {
        self.write_beside(mint, MAX_SIBLINGS)
    }

    fn write_beside(&mut self, mint: &Mint, most: usize) -> Result<Decided, Refused> {
        let open = || {
            self.epochs += 1;
            actor(self.name, self.epochs)
        };
        let decided = decide(&self.state, self.minted, mint, most, open)?;
        self.state = decided.state.clone();
        self.minted = decided.minted;
        Ok(decided)
    }

    fn put(&mut self, value: &str, seen: &Clock) -> Clock {
        self.write(&put(value, seen)).unwrap().answer
    }

    fn receive(&mut self, from: &Self) {
        self.state = sync(&self.state, &from.state);
    }

    fn values(&self) -> Vec<&str> {
        let live = self.state.live().into_iter();
        live.map(|(_, value)| std::str::from_utf8(value).unwrap())
            .collect()
    }
}

fn actor(name: u64, epoch: u64) -> Actor {
    Actor {
        incarnation: Incarnation(name),
        epoch,
    }
}

fn knows(actor: Actor, n: u64) -> Context {
    Context::from_parts(vec![(actor, n)], Vec::new())
}

const NOTHING: fn() -> Clock = Clock::default;

/// Seed defect 4: two PUTs with one context through one node got the same clock.
#[test]
fn seed_defect_04_two_puts_with_one_clock_through_one_node_both_survive() {
    let mut a = node(1);
    let seen = a.put("first", &NOTHING());
    let left = a.write(&put("left", &seen)).unwrap();
    let right = a.write(&put("right", &seen)).unwrap();
    assert_ne!(left.dot, right.dot);
    assert_eq!(a.values(), ["left", "right"]);
    assert!(!left.answer.seen.covers(right.dot) && !right.answer.seen.covers(left.dot));
}

/// Seed defect 5: merging the clocks of disjoint nodes gave NaN, and the next write wiped all.
#[test]
fn seed_defect_05_disjoint_clocks_merge_without_loss() {
    let (mut a, mut b) = (node(1), node(2));
    let seen_a = a.put("a", &NOTHING());
    let seen_b = b.put("b", &NOTHING());
    a.receive(&b);
    assert_eq!(a.values(), ["a", "b"]);
    let mut both = seen_a.clone();
    both.seen.join(&seen_b.seen);
    assert_eq!(both.seen, a.state.context);
    let mut c = a.clone();
    c.put("c", &seen_a);
    assert_eq!(c.values(), ["c", "b"]);
    a.put("merged", &both);
    assert_eq!(a.values(), ["merged"]);
}

/// Seed defect 7: a PUT with an old clock was answered 200 and thrown away.
#[test]
fn seed_defect_07_a_put_with_an_old_clock_becomes_a_sibling() {
    let mut a = node(1);
    let old = a.put("1", &NOTHING());
    a.put("2", &old);
    a.put("late", &old);
    assert_eq!(a.values(), ["2", "late"]);
}

/// Seed defect 8: a forged clock `{node: 2^53}` pinned a key for ever.
#[test]
fn seed_defect_08_a_clock_from_the_future_swallows_no_write() {
    let mut a = node(1);
    a.put("1", &NOTHING());
    let minted = a.minted;
    let forged = knows(minted.unwrap(), 1 << 53);
    assert!(is_amnesia(
        Incarnation(1),
        2,
        minted,
        &a.state.context,
        &forged
    ));
    let forged = Clock::from(forged);
    let next = a.write(&put("2", &forged)).unwrap();
    assert_ne!(Some(next.dot.actor), minted, "it would be covered already");
    a.put("3", &next.answer);
    assert_eq!(a.values(), ["3"]);
    a.put("4", &forged);
    assert_eq!(a.values(), ["3", "4"]);
}

/// Seed defect 14: a bulk copy replaced whole buckets without comparing clocks.
#[test]
fn seed_defect_14_a_bulk_load_never_overwrites_newer_data() {
    let (mut a, mut b) = (node(1), node(2));
    let seen = a.put("old", &NOTHING());
    b.receive(&a);
    let copy = b.clone();
    b.put("new", &seen);
    b.receive(&copy);
    assert_eq!(b.values(), ["new"]);
    a.put("beside", &seen);
    b.receive(&a);
    assert_eq!(b.values(), ["beside", "new"]);
}

#[test]
fn a_create_is_refused_by_what_any_of_the_quorum_holds() {
    let (mut a, mut b) = (node(1), node(2));
    a.put("live", &NOTHING());
    let refused = b.write(&create("new", &a.state));
    assert_eq!(refused, Err(Refused::AlreadyExists(a.state.clone())));
    assert_eq!(b.state, State::default(), "and nothing has changed");
}

#[test]
fn a_create_after_a_delete_passes_at_an_owner_that_missed_the_delete() {
    let (mut a, mut b) = (node(1), node(2));
    let seen = a.put("old", &NOTHING());
    b.receive(&a);
    a.write(&delete("gone", &seen)).unwrap();
    b.write(&create("new", &a.state)).unwrap();
    assert_eq!(b.values(), ["new"]);
    assert_eq!(b.state.siblings.len(), 1, "the tombstone makes room");
}

#[test]
fn a_delete_of_nothing_writes_nothing_unless_its_clock_knows_more() {
    let (mut a, mut b) = (node(1), node(2));
    let refused = a.write(&delete("gone", &NOTHING()));
    assert_eq!(refused, Err(Refused::NothingToDelete(State::default())));
    let seen = b.put("elsewhere", &NOTHING());
    a.write(&delete("gone", &seen)).unwrap();
    a.receive(&b);
    assert!(
        !a.state.is_live(),
        "the delete came before the value it covers"
    );
    assert!(matches!(
        a.write(&delete("again", &seen)),
        Err(Refused::NothingToDelete(_))
    ));
}

#[test]
fn a_delete_leaves_what_its_clock_did_not_see() {
    let mut a = node(1);
    let seen = a.put("seen", &NOTHING());
    a.put("unseen", &NOTHING());
    a.write(&delete("gone", &seen)).unwrap();
    assert_eq!(a.values(), ["unseen"]);
}

#[test]
fn one_sibling_too_many_is_refused_and_a_merge_or_a_delete_is_not() {
    let mut a = node(1);
    for value in ["1", "2", "3"] {
        a.put(value, &NOTHING());
    }
    let before = a.state.clone();
    let refused = a.write(&put("4", &NOTHING()));
    assert_eq!(refused, Err(Refused::TooManySiblings(before.clone())));
    assert_eq!(a.state, before);
    a.clone()
        .write(&delete("gone", &knows(a.minted.unwrap(), 1).into()))
        .unwrap();
    a.put("merged", &Clock::of(&before));
    assert_eq!(a.values(), ["merged"]);
}

/// Hand-over and repair may bring more than the limit; then a write that adds none still passes.
#[test]
fn above_the_limit_a_write_that_replaces_one_passes() {
    let (mut a, mut b) = (node(1), node(2));
    for value in ["1", "2", "3"] {
        a.put(value, &NOTHING());
        b.put(&format!("b{value}"), &NOTHING());
    }
    a.receive(&b);
    a.put("instead", &knows(a.minted.unwrap(), 1).into());
    assert_eq!(a.values().len(), 6);
}

#[test]
fn a_request_again_answers_as_it_did_and_adds_no_sibling() {
    let (mut a, mut b) = (node(1), node(2));
    let seen = a.put("old", &NOTHING());
    let request = keyed(put("value", &seen));
    let first = a.write(&request).unwrap();
    let again = a.write(&request).unwrap();
    assert_eq!((&again.answer, again.dot), (&first.answer, first.dot));
    assert_eq!(again.state, first.state);

    a.put("later", &first.answer);
    b.receive(&a);
    let elsewhere = b.write(&request).unwrap();
    assert_eq!((elsewhere.answer, elsewhere.dot), (first.answer, first.dot));
    assert_eq!(b.values(), ["later"], "remembered after its value is gone");
}

/// The retry of a create or a delete reads a quorum anew; its clock must not cover what that saw.
#[test]
fn a_request_again_does_not_cover_what_was_written_since() {
    let mut a = node(1);
    let request = keyed(create("value", &a.state));
    a.write(&request).unwrap();
    let since = a.write(&put("since", &NOTHING())).unwrap();
    let retried = Mint {
        merged: Some(Box::new(a.state.clone())),
        seen: Clock::of(&a.state),
        ..request
    };
    let again = a.write(&retried).unwrap();
    assert!(!again.answer.seen.covers(since.dot));
    a.put("next", &again.answer);
    assert_eq!(a.values(), ["since", "next"]);
}

#[test]
fn a_request_id_used_for_something_else_is_refused() {
    let mut a = node(1);
    let request = keyed(put("value", &NOTHING()));
    a.write(&request).unwrap();
    let mut other = request;
    other.request.fingerprint += 1;
    assert_eq!(a.write(&other), Err(Refused::RequestReused));
}

#[test]
fn the_last_eight_keyed_requests_of_an_actor_are_remembered() {
    let mut a = node(1);
    let mut seen = NOTHING();
    let requests: Vec<Mint> = (0..=Reason::Keyed.most())
        .map(|i| {
            let request = keyed(put(&i.to_string(), &seen));
            seen = a.write(&request).unwrap().answer;
            request
        })
        .collect();
    let known = |r: &Mint| a.state.written_by(r.request.id).is_some();
    assert!(!known(&requests[0]));
    assert!(requests[1..].iter().all(known));
}

#[test]
fn two_attempts_minted_by_two_nodes_are_shown_once_and_covered_together() {
    let (mut a, mut b) = (node(1), node(2));
    let request = put("value", &NOTHING());
    let (one, two) = (a.write(&request).unwrap(), b.write(&request).unwrap());
    a.receive(&b);
    assert_eq!((a.state.siblings.len(), a.values()), (2, vec!["value"]));
    let again = a.clone().write(&request).unwrap();
    assert!(again.answer.seen.covers(one.dot) && again.answer.seen.covers(two.dot));
    for value in ["x", "y"] {
        a.put(value, &NOTHING());
    }
    assert_eq!(
        a.values().len(),
        MAX_SIBLINGS,
        "they count once against the limit"
    );
    let after = a.write(&put("next", &one.answer)).unwrap();
    assert!(after.answer.seen.covers(two.dot));
    assert_eq!(a.values(), ["x", "y", "next"]);
}

#[test]
fn a_node_knows_when_it_has_forgotten_its_own_writes() {
    let (me, other) = (Incarnation(1), Incarnation(2));
    let mine = actor(1, 3);
    let single = |n| Context::from_parts(Vec::new(), vec![Dot { actor: mine, n }]);
    let rows = [
        ("nothing", Context::empty(), false),
        ("as much as I know", knows(mine, 5), false),
        ("less than I know", knows(mine, 4), false),
        ("more of my actor", knows(mine, 6), true),
        ("a single write beyond", single(7), true),
        (
            "an earlier epoch, which I may have forgotten",
            knows(actor(1, 2), 9),
            false,
        ),
        ("an epoch I have not opened", knows(actor(1, 4), 1), true),
        ("another node", knows(actor(other.0, 9), 9), false),
    ];
    for (what, incoming, expected) in rows {
        let known = knows(mine, 5);
        assert_eq!(
            is_amnesia(me, 4, Some(mine), &known, &incoming),
            expected,
            "{what}"
        );
    }
    assert!(
        !is_amnesia(me, 4, None, &Context::empty(), &knows(mine, 9)),
        "a forgotten record"
    );
}
