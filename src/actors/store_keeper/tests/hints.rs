//! What is kept for other nodes: apart from the records, under dots of its own, and bounded.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::fixture::{FakeEngine, HINT_LIMIT, Run, key, minted, put, run, write, written};
use crate::actors::fake_node::member;
use crate::actors::ring_view::View;
use crate::actors::ring_view::tests::{id, ring};
use crate::actors::store_keeper::{DropHints, GetStatus, HintStatus};
use crate::dynamo::quorum::Fault;
use crate::dynamo::ring::{MemberNumber, OwnerSet};
use crate::dynamo::version::{Body, Clock, Dot, State, sync};
use crate::storage::{Change, Durability, Engine, Sync};
use crate::wire::state::{decode_state, encode_state};

/// n1, whose members are n1 to n4, and these own everything.
fn owned_by(owners: &[&str]) -> (Arc<FakeEngine>, Run) {
    let engine = Arc::new(FakeEngine::default());
    let run = run(engine.clone(), Durability::Always);
    publish(&run, owners);
    (engine, run)
}

fn publish(run: &Run, owners: &[&str]) {
    let mut ring = ring(owners, None);
    ring.members = ["n1", "n2", "n3", "n4"]
        .map(|name| member(name, "peer:1"))
        .into();
    let mut view = View::without_ring(id("n1"));
    view.ring = Some(Arc::new(ring));
    run.publisher.publish(view);
}

/// As a fallback for the node of this number.
fn for_node(number: u16) -> OwnerSet {
    OwnerSet::Fallback(MemberNumber(number - 1))
}

impl Run {
    async fn hint(&self, text: &str, number: u16, state: &State) -> Result<(), Fault> {
        let mut hint = write(text, state);
        hint.terms.set = for_node(number);
        self.keeper.send(hint).await.unwrap()
    }

    async fn mint_hint(&self, text: &str, number: u16) -> Dot {
        let mut mint = put(text, "1", Clock::default());
        mint.terms.set = for_node(number);
        let done = minted(self.mint(mint).await.unwrap());
        let dots: Vec<Dot> = done
            .answer
            .seen
            .actors()
            .map(|actor| Dot {
                actor,
                n: done.answer.seen.highest(actor),
            })
            .collect();
        assert_eq!(dots.len(), 1, "it saw nothing but itself");
        dots[0]
    }

    fn hinted(&self, text: &str) -> Option<State> {
        let merged = self.records.hinted(&key(text)).unwrap();
        merged.map(|bytes| decode_state(&bytes).unwrap())
    }

    async fn drop_hint(&self, number: u16, text: &str, state: Bytes) -> Result<(), Fault> {
        let drop = DropHints {
            target: id(&format!("n{number}")),
            acknowledged: vec![(key(text), state)],
        };
        self.keeper.send(drop).await.unwrap()
    }

    /// Counts and bytes by node.
    async fn sums(&self) -> Vec<(String, u64, u64)> {
        let status = self.keeper.send(GetStatus).await.unwrap();
        let sum = |(name, s): (String, HintStatus)| (name, s.count, s.bytes);
        status.hints.into_iter().map(sum).collect()
    }
}

#[actix::test]
async fn hints_are_merged_by_target_and_never_mixed_with_records() {
    let (engine, run) = owned_by(&["n2", "n3", "n4"]);
    let (a, b, c) = (written(7, 1, 1), written(8, 1, 1), written(9, 1, 1));
    run.hint("k", 2, &a).await.unwrap();
    run.hint("k", 2, &b).await.unwrap();
    run.hint("k", 3, &c).await.unwrap();
    let both = sync(&a, &b);
    assert_eq!(run.hinted("k"), Some(sync(&both, &c)));
    assert_eq!((run.state("k"), run.hinted("other")), (None, None));
    let sums = run.sums().await;
    let weighed: Vec<_> = sums
        .iter()
        .map(|(name, count, _)| (name.as_str(), *count))
        .collect();
    assert_eq!(weighed, [("n2", 1), ("n3", 1)]);
    let page = run.records.hints(&id("n2"), None, 9).unwrap();
    assert_eq!(page.entries, [(key("k"), encode_state(&both))]);
    let before = engine.counted();
    run.hint("k", 2, &a).await.unwrap();
    assert_eq!(engine.counted(), before, "a known state costs nothing");
    // The node becomes an owner: its record begins empty, whatever it keeps for others.
    publish(&run, &["n1", "n2", "n3"]);
    let (minted, _) = run.put("k", Clock::default()).await;
    assert_eq!(minted.siblings, 1);
    assert_eq!(run.sums().await, sums);
}

/// A dot names one write for ever: not two hints, nor a hint and a record, nor a hint and the one
/// that comes after it, may share an actor.
#[actix::test]
async fn p2_no_two_writes_of_a_node_share_a_dot_in_hints_and_records() {
    let (_, run) = owned_by(&["n2", "n3", "n4"]);
    let mut dots = Vec::new();
    for number in [2, 2, 3] {
        dots.push(run.mint_hint("k", number).await);
    }
    assert_eq!((dots[0].actor, dots[0].n, dots[1].n), (dots[1].actor, 1, 2));
    let state = run
        .records
        .hints(&id("n2"), None, 1)
        .unwrap()
        .entries
        .remove(0)
        .1;
    run.drop_hint(2, "k", state).await.unwrap();
    dots.push(run.mint_hint("k", 2).await);
    run.hint("l", 2, &written(7, 1, 1)).await.unwrap();
    dots.push(run.mint_hint("l", 2).await);
    publish(&run, &["n1", "n2", "n3"]);
    for _ in 0..2 {
        dots.push(run.put("k", Clock::default()).await.1);
    }
    let distinct: BTreeSet<Dot> = dots.iter().copied().collect();
    assert_eq!(distinct.len(), dots.len(), "{dots:?}");
    let actors: BTreeSet<_> = dots.iter().map(|dot| dot.actor).collect();
    assert_eq!(actors.len(), 5, "{dots:?}");
}

#[actix::test]
async fn a_hint_goes_only_when_exactly_its_state_was_acknowledged() {
    let (engine, run) = owned_by(&["n2", "n3", "n4"]);
    let (old, new) = (written(7, 1, 1), sync(&written(7, 1, 1), &written(8, 1, 1)));
    run.hint("k", 2, &old).await.unwrap();
    run.hint("k", 3, &old).await.unwrap();
    run.hint("k", 2, &new).await.unwrap();
    run.drop_hint(2, "k", encode_state(&old)).await.unwrap();
    assert_eq!(run.hinted("k"), Some(new.clone()));
    run.drop_hint(2, "k", encode_state(&new)).await.unwrap();
    assert_eq!(
        run.hinted("k"),
        Some(old.clone()),
        "that of the other target"
    );
    run.drop_hint(3, "k", encode_state(&old)).await.unwrap();
    assert_eq!((run.hinted("k"), run.sums().await), (None, vec![]));
    assert_eq!(run.records.hint_targets().unwrap(), []);
    // One that cannot be read is of no use to anybody.
    run.hint("k", 2, &old).await.unwrap();
    let damage = Change::PutHint(id("n2"), key("k"), "noise".into());
    engine.inner.commit(vec![damage], Sync::Disk).unwrap();
    let page = run.records.hints(&id("n2"), None, 9).unwrap();
    assert_eq!(page.entries, [(key("k"), Bytes::new())]);
    run.drop_hint(2, "k", Bytes::new()).await.unwrap();
    assert_eq!(run.records.hint_targets().unwrap(), []);
}

#[actix::test]
async fn hints_beyond_their_bound_are_refused_and_records_are_not() {
    let (_, run) = owned_by(&["n1", "n2", "n3"]);
    let long = |n: u64| {
        let mut state = written(7, n, 1);
        state.siblings[0].body = Body::Value(vec![b'1'; 300].into());
        state
    };
    run.hint("a", 2, &long(1)).await.unwrap();
    run.hint("b", 3, &long(2)).await.unwrap();
    assert_eq!(run.hint("c", 2, &long(3)).await, Err(Fault::HintsFull));
    assert_eq!(run.hint("a", 2, &long(3)).await, Err(Fault::HintsFull));
    let mut mint = put("c", "1", Clock::default());
    mint.mint.body = Body::Value(vec![b'1'; 400].into());
    publish(&run, &["n2", "n3", "n4"]);
    mint.terms.set = for_node(2);
    assert_eq!(run.mint(mint).await, Err(Fault::HintsFull));
    publish(&run, &["n1", "n2", "n3"]);
    assert_eq!((run.hinted("a"), run.hinted("c")), (Some(long(1)), None));
    let bytes: u64 = run.sums().await.iter().map(|(_, _, bytes)| bytes).sum();
    assert!((600..=HINT_LIMIT).contains(&bytes), "{bytes}");
    assert_eq!(run.keeper.send(write("c", &long(3))).await.unwrap(), Ok(()));
    run.drop_hint(3, "b", encode_state(&long(2))).await.unwrap();
    run.hint("c", 2, &long(3)).await.unwrap();
}

#[actix::test]
async fn hints_and_their_sums_survive_a_restart_and_a_full_disk() {
    let (engine, first) = owned_by(&["n2", "n3", "n4"]);
    for text in ["a", "b"] {
        first.hint(text, 2, &written(7, 1, 1)).await.unwrap();
    }
    let before = first.sums().await;
    let minted_first = first.mint_hint("c", 3).await;
    let again = run(engine.clone(), Durability::Always);
    publish(&again, &["n2", "n3", "n4"]);
    assert_eq!(again.hinted("a"), Some(written(7, 1, 1)));
    let sums = again.sums().await;
    assert_eq!((&sums[..1], sums.len()), (&before[..], 2));
    let next = again.mint_hint("c", 3).await;
    assert_eq!(
        (next.actor, next.n),
        (minted_first.actor, 2),
        "it knows its own hint"
    );
    engine.failure.store(1, Ordering::SeqCst);
    let full = again.hint("a", 2, &written(8, 1, 1)).await;
    assert_eq!(full, Err(Fault::StorageFull));
    let state = encode_state(&written(7, 1, 1));
    again.drop_hint(2, "a", state).await.unwrap();
    assert_eq!((again.sums().await[0].1, again.hinted("a")), (1, None));
}
