//! What a replica decides about one write, case by case.

use bytes::Bytes;

use super::{
    Actor, Body, Context, Decided, Dot, Mint, Reason, Refused, RequestId, State, WriteKind, decide,
    is_amnesia, sync,
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

fn put(value: &str, seen: &Context) -> Mint {
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

fn delete(name: &str, seen: &Context) -> Mint {
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
        merged: Some(read.clone()),
        ..put(value, &read.context)
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
        let open = || {
            self.epochs += 1;
            actor(self.name, self.epochs)
        };
        let decided = decide(&self.state, self.minted, mint, MAX_SIBLINGS, open)?;
        self.state = decided.state.clone();
        self.minted = decided.minted;
        Ok(decided)
    }

    fn put(&mut self, value: &str, seen: &Context) -> Context {
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

const NOTHING: fn() -> Context = Context::empty;

/// Seed defect 4: two PUTs with one context through one node got the same clock.
#[test]
fn seed_defect_04_two_puts_with_one_clock_through_one_node_both_survive() {
    let mut a = node(1);
    let seen = a.put("first", &NOTHING());
    let left = a.write(&put("left", &seen)).unwrap();
    let right = a.write(&put("right", &seen)).unwrap();
    assert_ne!(left.dot, right.dot);
    assert_eq!(a.values(), ["left", "right"]);
    assert!(!left.answer.covers(right.dot) && !right.answer.covers(left.dot));
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
    both.join(&seen_b);
    assert_eq!(both, a.state.context);
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
        .write(&delete("gone", &knows(a.minted.unwrap(), 1)))
        .unwrap();
    a.put("merged", &before.context);
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
    a.put("instead", &knows(a.minted.unwrap(), 1));
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
        merged: Some(a.state.clone()),
        seen: a.state.context.clone(),
        ..request
    };
    let again = a.write(&retried).unwrap();
    assert!(!again.answer.covers(since.dot));
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
    assert!(again.answer.covers(one.dot) && again.answer.covers(two.dot));
    for value in ["x", "y"] {
        a.put(value, &NOTHING());
    }
    assert_eq!(
        a.values().len(),
        MAX_SIBLINGS,
        "they count once against the limit"
    );
    let after = a.write(&put("next", &one.answer)).unwrap();
    assert!(after.answer.covers(two.dot));
    assert_eq!(a.values(), ["x", "y", "next"]);
}

#[test]
fn a_node_knows_when_it_has_forgotten_its_own_writes() {
    let (me, other) = (Incarnation(1), Incarnation(2));
    let mine = actor(1, 3);
    let single = |n| Context::from_parts(Vec::new(), vec![Dot { actor: mine, n }]);
    let rows = [
        ("nothing", NOTHING(), false),
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
        !is_amnesia(me, 4, None, &NOTHING(), &knows(mine, 9)),
        "a forgotten record"
    );
}

/// The first minter kept silent, so a second one was asked; the value was then read and replaced.
#[test]
fn p6_a_first_attempt_that_comes_to_light_late_does_not_come_back_as_a_value() {
    let (mut silent, mut second, mut third) = (node(1), node(2), node(3));
    let request = put("value", &NOTHING());
    silent.write(&request).unwrap();
    let acked = second.write(&keyed(request)).unwrap();
    third.receive(&second);
    let next = third.put("next", &acked.answer);
    third.receive(&silent);
    assert_eq!(third.values(), ["next"]);
    third.write(&delete("all", &next)).unwrap();
    assert!(!third.state.is_live(), "{:?}", third.state);
}

/// What came of a value that was read before its second attempt came to light.
type Since = (
    &'static str,
    fn(&mut Node, &Context),
    &'static [&'static str],
);

const SINCE: [Since; 2] = [
    ("replaced", |n, seen| drop(n.put("next", seen)), &["next"]),
    (
        "deleted",
        |n, seen| drop(n.write(&delete("gone", seen))),
        &[],
    ),
];

/// The reply of the first minter got lost; its value was read and replaced or deleted while the
/// second one was asked.
#[test]
fn p3_a_second_attempt_that_comes_late_is_no_sibling_of_what_replaced_the_first() {
    for (what, since, expected) in SINCE {
        let (mut first, mut second, mut third) = (node(1), node(2), node(3));
        let request = keyed(put("value", &NOTHING()));
        first.write(&request).unwrap();
        third.receive(&first);
        let seen = third.state.context.clone();
        since(&mut third, &seen);
        let late = second.write(&request).unwrap();
        let alone = second.clone();
        second.receive(&third);
        third.receive(&alone);
        first.receive(&alone);
        assert_eq!(first.values(), ["value"], "{what}: has not heard");
        first.receive(&third);
        for node in [&first, &second, &third] {
            assert_eq!(node.values(), expected, "{what}, at {}", node.name);
        }
        let refused = second.write(&delete("again", &NOTHING())).is_err();
        assert_eq!(refused, expected.is_empty(), "{what}");
        assert!(second.state.context.covers(late.dot));
    }
}

/// Its minter found out only afterwards that nobody had heard of the first attempt.
#[test]
fn an_attempt_that_is_remembered_later_counts_as_one_remembered_at_once() {
    for (what, since, expected) in SINCE {
        let (mut first, mut second) = (node(1), node(2));
        let request = put("value", &NOTHING());
        let once = first.write(&request).unwrap();
        let again = first.write(&keyed(request.clone())).unwrap();
        assert_eq!((again.dot, &again.answer), (once.dot, &once.answer));
        assert_eq!(first.state.remembered.len(), 1, "{what}");
        let same = first.write(&keyed(request.clone())).unwrap();
        assert_eq!(same.state, again.state, "{what}: and that once");
        since(&mut first, &once.answer);
        second.write(&keyed(request)).unwrap();
        first.receive(&second);
        assert_eq!(first.values(), expected, "{what}");
    }
}

/// Else it would be a sibling again as soon as the first attempt is forgotten.
#[test]
fn an_attempt_that_came_too_late_goes_with_the_next_write() {
    let (mut first, mut second) = (node(1), node(2));
    let request = keyed(put("value", &NOTHING()));
    let once = first.write(&request).unwrap();
    second.write(&request).unwrap();
    let mut seen = first.put("next", &once.answer);
    first.receive(&second);
    for i in 0..=Reason::Keyed.most() {
        let more = keyed(put(&i.to_string(), &seen));
        seen = first.write(&more).unwrap().answer;
        assert_eq!(first.values(), [i.to_string()]);
    }
    let mut remembered = first.state.remembered.iter();
    assert!(remembered.all(|r| r.dot != once.dot));
    first.receive(&second);
    assert_eq!(first.values().len(), 1, "wherever it comes from");
}

/// The many writes that are remembered only for the sake of a reply, or of their key, must not push
/// out a second attempt: the first may come to light as late as its minter is paused.
#[test]
fn what_is_remembered_for_one_reason_does_not_push_out_another() {
    let (mut silent, mut second) = (node(1), node(2));
    let request = put("value", &NOTHING());
    silent.write(&request).unwrap();
    let mut seen = second.write(&doubtful(request)).unwrap().answer;
    for i in 0..3 * Reason::Afar.most() {
        let more = keyed(put(&i.to_string(), &seen));
        seen = second.write(&more).unwrap().answer;
        second.state.remember_afar(more.request.id, |_| false);
    }
    let expected = 1 + Reason::Afar.most() + Reason::Keyed.most();
    assert_eq!(second.state.remembered.len(), expected);
    second.receive(&silent);
    assert_eq!(second.values(), ["23"]);
}

/// A first attempt that only its minter's side knows was overwritten there, and more often than
/// mints for other nodes are remembered; the second lives on the other side of a partition. It is
/// recognised if the minter knew that its reply had not been heard.
#[test]
fn an_unheard_mint_is_remembered_however_many_follow() {
    for (is_heard, expected) in [(false, vec!["23"]), (true, vec!["23", "value"])] {
        let (mut first, mut second) = (node(1), node(2));
        let request = put("value", &NOTHING());
        let unheard = request.request.id;
        let mut seen = first.write(&request).unwrap().answer;
        first.state.remember_afar(unheard, |_| !is_heard);
        second.write(&doubtful(request)).unwrap();
        for i in 0..3 * Reason::Afar.most() {
            let more = put(&i.to_string(), &seen);
            seen = first.write(&more).unwrap().answer;
            let is_unheard = |id| !is_heard && id == unheard;
            first.state.remember_afar(more.request.id, is_unheard);
        }
        let kept = Reason::Afar.most() + usize::from(!is_heard);
        assert_eq!(first.state.remembered.len(), kept);
        first.receive(&second);
        assert_eq!(first.values(), expected, "heard: {is_heard}");
    }
}
