//! Two attempts of one write, minted by two nodes, of which one comes to light late.

use super::*;

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
type Since = (&'static str, fn(&mut Node, &Clock), &'static [&'static str]);

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
        let seen = Clock::of(&third.state);
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
        assert_eq!(
            (again.dot, &again.answer.seen),
            (once.dot, &once.answer.seen)
        );
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
