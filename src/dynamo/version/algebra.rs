//! The laws of contexts and of `sync`, over arbitrary values.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::{Actor, Body, Context, Dot, Reason, Remembered, RequestId, Sibling, State, sync};
use crate::dynamo::node_id::Incarnation;

type Dots = BTreeSet<Dot>;

fn actor() -> impl Strategy<Value = Actor> {
    (1_u64..3, 1_u64..3).prop_map(|(incarnation, epoch)| Actor {
        incarnation: Incarnation(incarnation),
        epoch,
    })
}

fn dot() -> impl Strategy<Value = Dot> {
    (actor(), 1_u64..6).prop_map(|(actor, n)| Dot { actor, n })
}

fn of(dots: &Dots) -> Context {
    Context::from_parts(Vec::new(), dots.iter().copied().collect())
}

/// What was written under a dot depends on nothing else.
fn request(dot: Dot) -> RequestId {
    RequestId {
        id: u128::from(dot.actor.incarnation.0 * 100 + dot.actor.epoch * 10 + dot.n),
        fingerprint: dot.n,
    }
}

fn sibling(dot: Dot) -> Sibling {
    Sibling {
        dot,
        body: match dot.n % 3 {
            0 => Body::Tombstone,
            _ => Body::Value(Bytes::from(format!("{dot:?}"))),
        },
        request: request(dot),
    }
}

/// Any state: known writes, of which some survive and some are remembered.
fn state() -> impl Strategy<Value = State> {
    let long = (actor(), 1_u64..200).prop_map(|(actor, n)| (1..=n).map(move |n| Dot { actor, n }));
    let known = (btree_set(dot(), 0..12), vec(long, 0..2)).prop_map(|(mut dots, long)| {
        dots.extend(long.into_iter().flatten());
        dots
    });
    known.prop_flat_map(|known| {
        let all: Vec<Dot> = known.iter().copied().collect();
        let count = all.len();
        (
            Just(known),
            subsequence(all.clone(), 0..=count),
            subsequence(all, 0..=count),
        )
            .prop_map(|(known, live, remembered)| {
                let remember = |dot| Remembered {
                    dot,
                    reason: Reason::ALL[usize::try_from(dot.n % 3).unwrap()],
                    request: request(dot),
                };
                let mut state = State {
                    context: of(&known),
                    siblings: live.into_iter().map(sibling).collect(),
                    remembered: remembered.into_iter().map(remember).collect(),
                };
                state.trim_remembered();
                state
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equal_sets_are_equal_contexts_however_they_are_split(
        vector in vec((actor(), 0_u64..5), 0..6),
        single in vec(dot(), 0..8),
        cut in 0_usize..8,
    ) {
        let below = |&(actor, n): &(Actor, u64)| (1..=n).map(move |n| Dot { actor, n });
        let mut model: Dots = vector.iter().flat_map(below).collect();
        model.extend(&single);
        let whole = Context::from_parts(vector.clone(), single.clone());
        prop_assert_eq!(&whole, &of(&model));

        let (early, late) = single.split_at(cut.min(single.len()));
        let mut grown = Context::from_parts(Vec::new(), late.to_vec());
        grown.join(&Context::from_parts(vector, Vec::new()));
        for dot in early {
            grown.add(*dot);
        }
        prop_assert_eq!(&whole, &grown);
        prop_assert!(whole.vector().is_sorted_by(|a, b| a.0 < b.0));
        prop_assert!(whole.cloud().is_sorted_by(|a, b| a < b));
        let entries = whole.vector().to_vec();
        prop_assert_eq!(&Context::from_parts(entries, whole.cloud().to_vec()), &grown);
    }

    #[test]
    fn a_context_is_the_set_of_its_dots(
        a in btree_set(dot(), 0..14),
        b in btree_set(dot(), 0..14),
        probe in dot(),
    ) {
        let (ca, cb) = (of(&a), of(&b));
        prop_assert_eq!(ca.covers(probe), a.contains(&probe));
        prop_assert_eq!(ca.covers_all(&cb), a.is_superset(&b));
        prop_assert_eq!(ca.is_empty(), a.is_empty());
        let highest = a.iter().filter(|d| d.actor == probe.actor).map(|d| d.n).max();
        prop_assert_eq!(ca.highest(probe.actor), highest.unwrap_or(0));
        let actors: BTreeSet<Actor> = a.iter().map(|d| d.actor).collect();
        prop_assert_eq!(ca.actors().collect::<BTreeSet<Actor>>(), actors);
        let mut joined = ca.clone();
        joined.join(&cb);
        prop_assert_eq!(joined, of(&(&a | &b)));
        let ends = [probe, *b.first().unwrap_or(&probe)];
        let is_before = |d: &&Dot| ends.iter().all(|e| e.actor != d.actor || d.n < e.n);
        let before: Dots = a.iter().filter(is_before).copied().collect();
        prop_assert_eq!(ca.before(&ends), of(&before));
    }

    #[test]
    fn sync_is_commutative_associative_and_idempotent(a in state(), b in state(), c in state()) {
        let ab = sync(&a, &b);
        prop_assert_eq!(&ab, &sync(&b, &a));
        prop_assert_eq!(sync(&ab, &c), sync(&a, &sync(&b, &c)));
        prop_assert_eq!(&sync(&a, &a), &a);
        prop_assert_eq!(&sync(&ab, &b), &ab);
        prop_assert_eq!(&sync(&a, &State::default()), &a);
    }

    /// Dot by dot: dead if either side knows it and does not hold it.
    #[test]
    fn sync_keeps_what_nobody_has_seen_covered(a in state(), b in state()) {
        let merged = sync(&a, &b);
        for dot in a.siblings.iter().chain(&b.siblings).map(|s| s.dot) {
            let fine = |s: &State| s.holds(dot) || !s.context.covers(dot);
            prop_assert_eq!(merged.holds(dot), fine(&a) && fine(&b), "{:?}", dot);
        }
        let few = |run: &[Remembered]| Reason::ALL.into_iter().all(|reason| {
            let kind = run.iter().filter(|r| r.reason == reason);
            kind.count() <= reason.most()
        });
        let mut by_actor = merged.remembered.chunk_by(|x, y| x.dot.actor == y.dot.actor);
        prop_assert!(by_actor.all(few));
    }
}

#[test]
fn the_highest_numbers_do_not_overflow() {
    let actor = Actor {
        incarnation: Incarnation(1),
        epoch: 1,
    };
    let last = Dot { actor, n: u64::MAX };
    let full = Context::from_parts(vec![(actor, u64::MAX)], vec![last]);
    assert_eq!(full.cloud(), []);
    let mut almost = Context::from_parts(vec![(actor, u64::MAX - 1)], vec![last]);
    assert_eq!(almost, full);
    almost.join(&Context::from_parts(Vec::new(), vec![last]));
    assert_eq!(almost, full);
}
