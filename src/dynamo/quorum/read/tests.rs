//! Quorums of reads, at rest and while a partition moves.

use bytes::Bytes;

use super::*;
use crate::dynamo::node_id::Incarnation;
use crate::dynamo::version::{Actor, Body, Context, Dot, RequestId, Sibling};

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// A node for each letter.
fn ids(names: &str) -> Vec<NodeId> {
    names.chars().map(|name| id(&name.to_string())).collect()
}

fn placement(owners: &str, incoming: &str) -> Placement {
    Placement {
        owners: ids(owners),
        incoming: (!incoming.is_empty()).then(|| ids(incoming)),
    }
}

/// R of three owners.
fn of_three(r: usize) -> ReadQuorum {
    ReadQuorum::new(&placement("abc", ""), OwnerSet::Current, r)
}

fn acks(home: usize, incoming: Option<usize>, hinted: usize) -> Acks {
    Acks {
        home,
        incoming,
        hinted,
    }
}

fn written(by: u64) -> State {
    let dot = Dot {
        actor: Actor {
            incarnation: Incarnation(by),
            epoch: 1,
        },
        n: 1,
    };
    let request = RequestId {
        id: by.into(),
        fingerprint: 0,
    };
    let sibling = Sibling {
        dot,
        body: Body::Value(Bytes::from_static(b"1")),
        request,
    };
    let context = Context::from_parts(Vec::new(), vec![dot]);
    State {
        context,
        siblings: vec![sibling],
        remembered: Vec::new(),
    }
}

#[test]
fn a_fault_is_no_reply_and_an_absent_record_is_one() {
    let mut quorum = of_three(2);
    assert_eq!(
        quorum.record(&id("a"), Err(Fault::TimedOut)),
        Decision::Wait
    );
    assert_eq!(
        quorum.record(&id("b"), Ok(State::default())),
        Decision::Wait
    );
    assert_eq!(
        quorum.record(&id("c"), Ok(State::default())),
        Decision::Done
    );
}

#[test]
fn a_quorum_out_of_reach_fails_before_the_last_outcome() {
    let mut quorum = of_three(2);
    quorum.record(&id("a"), Err(Fault::Unreachable));
    let failed = Decision::Failed(Shortfall { needed: 2, got: 0 });
    assert_eq!(quorum.record(&id("b"), Err(Fault::NotReady)), failed);
}

/// Owners, incoming owners, R, W, who replied with the merged state; who misses it, and
/// whether these already are enough.
#[test]
fn a_write_back_reaches_every_later_quorum() {
    let rows = [
        ("abc", "", 2, 2, "a", "bc", 1),
        ("abc", "", 2, 2, "ab", "c", 0),
        ("abc", "", 2, 1, "a", "bc", 1),
        ("abc", "", 3, 1, "a", "bc", 0),
        ("abc", "", 1, 1, "a", "bc", 2),
        ("abc", "abd", 2, 2, "ab", "cd", 0),
        ("abc", "ade", 2, 2, "ab", "cde", 1),
    ];
    for (owners, incoming, r, w, held, missing, more) in rows {
        let placement = placement(owners, incoming);
        let mut read = ReadQuorum::new(&placement, OwnerSet::Current, r);
        for node in &ids(held) {
            read.record(node, Ok(written(1)));
        }
        for node in ids(owners).iter().filter(|n| !held.contains(n.as_str())) {
            read.record(node, Ok(State::default()));
        }
        let mut back = read.write_back(&placement, w);
        let row = format!("{owners}/{incoming} R={r} W={w}");
        assert_eq!(back.missing, ids(missing), "{row}");
        let mut needed = 0;
        for node in back.missing.iter().rev() {
            if back.quorum.decide() == Decision::Done {
                break;
            }
            needed += 1;
            back.quorum.record(node, Ok(()));
        }
        assert_eq!(needed, more, "{row}");
    }
}

#[test]
fn fallbacks_count_beside_owners_and_are_not_repaired() {
    let mut quorum = of_three(2);
    quorum.record(&id("a"), Ok(State::default()));
    quorum.record(&id("b"), Err(Fault::Unreachable));
    quorum.stand_by(&id("b"));
    let dead = Err(Fault::Unreachable);
    assert_eq!(quorum.record(&id("c"), dead), Decision::Wait);
    assert_eq!(quorum.record_hint(&id("b"), Ok(written(1))), Decision::Done);
    assert_eq!(quorum.acks(), acks(1, None, 1));
    let expected = ReadFollowUp::Repair {
        stale: vec![id("a")],
        merged: written(1),
    };
    assert_eq!(quorum.finish(), expected);

    let mut quorum = of_three(2);
    quorum.stand_by(&id("a"));
    quorum.stand_by(&id("b"));
    for name in ["a", "b", "c"] {
        quorum.record(&id(name), Err(Fault::TimedOut));
    }
    assert_eq!(
        quorum.record_hint(&id("a"), Ok(State::default())),
        Decision::Wait
    );
    let failed = Decision::Failed(Shortfall { needed: 2, got: 1 });
    assert_eq!(quorum.record_hint(&id("b"), Err(Fault::TimedOut)), failed);
}

#[test]
fn replies_are_merged_and_those_that_lack_something_are_repaired() {
    let mut quorum = of_three(9);
    quorum.record(&id("a"), Ok(written(1)));
    quorum.record(&id("b"), Ok(written(2)));
    let both = sync(&written(1), &written(2));
    assert_eq!(quorum.record(&id("c"), Ok(both.clone())), Decision::Done);
    assert_eq!(quorum.merged(), both);
    let expected = ReadFollowUp::Repair {
        stale: vec![id("a"), id("b")],
        merged: both,
    };
    assert_eq!(quorum.finish(), expected);
}

/// Owners, incoming owners, R, outcomes in order, decision when the incoming ones are read. `a+` is
/// a state, `a-` a failure, `af` that it has flipped; `ax+` is the fallback x in the place of a.
#[test]
fn incoming_owners_are_read_under_a_ring_that_a_quorum_of_the_owners_before_vouches_for() {
    use Decision::{Done, Wait};
    let failed = |needed, got| Decision::Failed(Shortfall { needed, got });
    let rows = [
        ("abc", "abd", 2, "a+", Wait),
        // Who is an owner before and after says both at once.
        ("abc", "abd", 2, "a+ b+", Done),
        ("abc", "abd", 2, "a+ d+", Wait),
        ("abc", "abd", 2, "a+ d+ cf", Done),
        // One that has not flipped says the same by its state.
        ("abc", "abd", 2, "a+ d+ c+", Done),
        ("abc", "abd", 2, "cf a+", Wait),
        ("abc", "abd", 2, "a+ d+ b-", Wait),
        ("abc", "abd", 2, "a+ d+ b- c-", failed(2, 1)),
        ("abc", "abd", 2, "a- b-", failed(2, 0)),
        // Who is to be read says nothing by having flipped.
        ("abc", "abd", 2, "af b+ d+", Wait),
        ("abc", "def", 2, "d+ e+", Wait),
        ("abc", "def", 2, "d+ e+ af bf", Done),
        ("abc", "def", 2, "d+ e- f- af bf", failed(2, 1)),
        ("abc", "def", 1, "d+ af", Done),
        ("abc", "def", 3, "d+ e+ f+ af bf", Wait),
        ("abc", "def", 3, "d+ e+ f+ af b-", failed(3, 1)),
        // An owner that was forgotten makes R of those that are left enough, as before the flip.
        ("ab", "abd", 2, "b+ d+", Wait),
        ("ab", "abd", 2, "b+ a+", Done),
        ("a", "abd", 2, "b+ d+", Wait),
        ("a", "abd", 2, "b+ a+", Done),
        // Owners become fewer.
        ("abc", "ab", 2, "a+ b+", Done),
        ("abc", "ab", 2, "a+ b-", failed(2, 1)),
        // A fallback counts wherever its owner does.
        ("abc", "abd", 2, "a+ bx- bx+", Done),
        ("abc", "abd", 2, "a+ d+ cx- cx+", Done),
        ("abc", "abd", 2, "a+ d+ b- cx- cx+", Done),
    ];
    for (owners, incoming, r, outcomes, expected) in rows {
        let placement = placement(owners, incoming);
        let mut quorum = ReadQuorum::new(&placement, OwnerSet::Incoming, r);
        for word in outcomes.split(' ') {
            let outcome = match &word[word.len() - 1..] {
                "+" => Ok(written(1)),
                "f" => Err(Fault::Flipped),
                _ => Err(Fault::TimedOut),
            };
            let owner = id(&word[..1]);
            match (word.len(), &outcome) {
                (2, _) => drop(quorum.record(&owner, outcome)),
                (_, Ok(_)) => drop(quorum.record_hint(&owner, outcome)),
                (_, Err(_)) => {
                    quorum.stand_by(&owner);
                    quorum.record(&owner, outcome);
                }
            }
        }
        let row = format!("{owners}/{incoming} R={r} {outcomes}");
        assert_eq!(quorum.decide(), expected, "{row}");
    }
}

/// As many are asked as both quorums need, and one more for each that fails. An owner, incoming
/// owners, who is asked in order, and then after which failures who else.
#[test]
fn nobody_is_asked_whose_outcome_no_quorum_needs() {
    let rows = [
        ("abc", "abd", "abcd", "ab", "a", "cd"),
        ("abc", "abd", "cdab", "cda", "c", "b"),
        ("abc", "abd", "cdab", "cda", "d", "b"),
        ("abc", "abd", "cdab", "cda", "a", "b"),
        ("abc", "def", "dabefc", "dabe", "a", "c"),
        ("abc", "def", "dabefc", "dabe", "d", "f"),
        ("abc", "def", "dabefc", "dabe", "da", "fc"),
    ];
    for (owners, incoming, order, first, failed, then) in rows {
        let mut quorum = ReadQuorum::new(&placement(owners, incoming), OwnerSet::Incoming, 2);
        let mut all = quorum.owners().into_owned();
        all.sort_unstable();
        assert_eq!(all.len(), order.len());
        let mut unasked = ids(order);
        let mut ask = |quorum: &mut ReadQuorum| -> Vec<NodeId> {
            let mut asked = Vec::new();
            unasked.retain(|owner| {
                let wanted = quorum.wants(owner);
                if wanted {
                    quorum.ask(owner);
                    asked.push(owner.clone());
                }
                !wanted
            });
            asked
        };
        let row = format!("{owners}/{incoming} {order}");
        assert_eq!(ask(&mut quorum), ids(first), "{row}");
        for node in ids(failed) {
            quorum.record(&node, Err(Fault::TimedOut));
        }
        assert_eq!(ask(&mut quorum), ids(then), "{row} without {failed}");
    }
}

/// Owners, incoming owners, which of them are read, who replied that they hold the same; whether it
/// is to be brought to more of them before a strict reader is shown it.
#[test]
fn what_a_strict_reader_is_shown_in_a_move_is_held_by_enough_owners_of_both_sets() {
    use OwnerSet::{Current, Incoming};
    let rows = [
        ("abc", "", Current, "ab", false),
        ("abc", "abd", Current, "ab", false),
        ("abc", "abd", Current, "ac", true),
        ("abc", "def", Current, "ab", true),
        ("abc", "abd", Incoming, "ab", false),
        ("abc", "abd", Incoming, "ad", true),
        ("abc", "ab", Incoming, "ab", false),
    ];
    for (owners, incoming, set, held, owed) in rows {
        let placement = placement(owners, incoming);
        for (state, owed) in [(written(1), owed), (State::default(), false)] {
            let mut read = ReadQuorum::new(&placement, set, 2);
            for node in ids(held) {
                read.record(&node, Ok(state.clone()));
            }
            let row = format!("{owners}/{incoming} {set:?} {held}");
            assert_eq!(read.write_back(&placement, 2).is_owed, owed, "{row}");
        }
    }
}

/// What an owner of before holds beside the others is shown too, and repairs nothing there.
#[test]
fn an_owner_of_before_that_has_not_flipped_adds_what_it_holds() {
    let mut quorum = ReadQuorum::new(&placement("abc", "abd"), OwnerSet::Incoming, 2);
    quorum.record(&id("c"), Ok(written(2)));
    quorum.record(&id("a"), Ok(written(1)));
    assert_eq!(quorum.record(&id("d"), Ok(written(1))), Decision::Done);
    assert_eq!(quorum.merged(), sync(&written(1), &written(2)));
    assert!(quorum.write_back(&placement("abc", "abd"), 2).is_owed);
    assert_eq!(quorum.acks(), acks(2, Some(2), 0));
    let expected = ReadFollowUp::Repair {
        stale: ids("ad"),
        merged: sync(&written(1), &written(2)),
    };
    assert_eq!(quorum.finish(), expected);
}

/// An owner that seems to be away answers all the same, and who stands in for it does too: W of the
/// others may have a write that neither has heard of.
#[test]
fn p4_an_owner_and_who_stands_in_for_it_count_once() {
    let mut quorum = of_three(2);
    quorum.ask(&id("a"));
    quorum.stand_by(&id("a"));
    quorum.ask(&id("a"));
    assert_eq!(
        quorum.record(&id("a"), Ok(State::default())),
        Decision::Wait
    );
    assert_eq!(
        quorum.record_hint(&id("a"), Ok(State::default())),
        Decision::Wait
    );
    assert!(quorum.wants(&id("b")), "another owner is asked instead");
    assert_eq!(quorum.record(&id("b"), Ok(written(1))), Decision::Done);
    assert_eq!(quorum.merged(), written(1));

    let mut quorum = of_three(2);
    quorum.stand_by(&id("a"));
    quorum.record(&id("a"), Ok(State::default()));
    quorum.record_hint(&id("a"), Ok(State::default()));
    quorum.record(&id("b"), Err(Fault::Unreachable));
    let end = quorum.record(&id("c"), Err(Fault::Unreachable));
    let (needed, got) = (2, 1);
    assert_eq!(end, Decision::Failed(Shortfall { needed, got }));
}

/// Owners, incoming owners, the set that is read, outcomes (`+` a state, `!` flipped, `-` silence, `h` a
/// fallback's), (home, incoming, hinted).
#[test]
fn a_read_of_incoming_owners_names_both_sets() {
    use OwnerSet::{Current, Incoming};
    let rows = [
        ("abc", "abd", Current, "a+b+", (2, None, 0)),
        ("abc", "abd", Incoming, "a+b+", (2, Some(2), 0)),
        ("abc", "abd", Incoming, "a+d+", (1, Some(2), 0)),
        ("abc", "def", Incoming, "d+e+a!", (1, Some(2), 0)),
        ("abc", "def", Incoming, "d+e+a!b!", (2, Some(2), 0)),
        ("abc", "def", Incoming, "d+e+a!b+", (2, Some(2), 0)),
        ("abc", "def", Incoming, "d+e+a!b-bh", (1, Some(2), 1)),
        // An incoming owner that has flipped vouches for nothing.
        ("abc", "abd", Incoming, "a!b+", (1, Some(1), 0)),
    ];
    for (owners, incoming, set, outcomes, (home, new, hinted)) in rows {
        let mut quorum = ReadQuorum::new(&placement(owners, incoming), set, 2);
        for outcome in outcomes.as_bytes().chunks(2) {
            let node = id(&char::from(outcome[0]).to_string());
            match outcome[1] {
                b'+' => quorum.record(&node, Ok(written(1))),
                b'!' => quorum.record(&node, Err(Fault::Flipped)),
                b'-' => quorum.record(&node, Err(Fault::Unreachable)),
                _ => quorum.record_hint(&node, Ok(written(1))),
            };
        }
        let row = format!("{owners}/{incoming} {set:?} {outcomes}");
        assert_eq!(quorum.acks(), acks(home, new, hinted), "{row}");
    }
}

/// P4. Whatever the next ring is (the move goes back, or ends), W acknowledged a write under it, and
/// say so; whoever has not heard of it finds no quorum any more.
#[test]
fn p4_no_write_is_acknowledged_under_the_next_ring_that_a_read_under_this_one_could_miss() {
    let cases = [
        ("abc", "abd"),
        ("abc", "def"),
        ("abc", "ade"),
        ("abc", "ab"),
        ("ab", "abd"),
    ];
    for (owners, incoming) in cases {
        let placement = placement(owners, incoming);
        for next in [owners, incoming] {
            for (r, w) in [(2, 2), (1, 3), (3, 1), (2, 3)] {
                let of = ids(next);
                let acked = w.min(of.len());
                for moved_on in (0..1_u32 << of.len()).filter(|s| s.count_ones() as usize == acked)
                {
                    let is_past = |id: &NodeId| {
                        let place = of.iter().position(|other| other == id);
                        place.is_some_and(|place| moved_on & 1 << place != 0)
                    };
                    let mut quorum = ReadQuorum::new(&placement, OwnerSet::Incoming, r);
                    for node in quorum.owners().into_owned() {
                        let outcome = match (is_past(&node), quorum.reads(&node)) {
                            (true, _) => Err(Fault::StaleRing),
                            (false, true) => Ok(State::default()),
                            (false, false) => Err(Fault::Flipped),
                        };
                        quorum.record(&node, outcome);
                    }
                    let row = format!("{owners}/{incoming}, then {next}, R={r} W={w}");
                    assert!(matches!(quorum.decide(), Decision::Failed(_)), "{row}");
                }
            }
        }
    }
}
