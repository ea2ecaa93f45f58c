//! Comparisons between the parts of real nodes in memory, over real sockets, look by look.

use bytes::Bytes;
use tokio::task::yield_now;

use super::*;
use crate::actors::fake::{key, state};
use crate::actors::fake_node::{FakeNode, PATIENCE, Wire, ring_of, socket};
use crate::actors::store_keeper::GetRoots;
use crate::dynamo::entropy::HOT_LOOKS;
use crate::dynamo::key::Key;
use crate::dynamo::version::{Body, State};
use crate::storage::{Change, Engine, Sync};
use crate::wire::entropy::{RootsCall, RootsReply};
use crate::wire::record::encode_record;
use crate::wire::state::encode_state;

/// Looks until a difference that stands still is repaired: two at roots, the second with leaves,
/// the third with the same leaves and their keys.
const LOOKS: usize = 3;

/// Two owners of everything, each with its digests built.
async fn two() -> (FakeNode, FakeNode) {
    let sockets = [socket(), socket()];
    let at = [("a", sockets[0].1.as_str()), ("b", sockets[1].1.as_str())];
    let nodes = ["a", "b"].map(FakeNode::new);
    for (node, (socket, _)) in nodes.iter().zip(&sockets) {
        node.install(ring_of(&at, &["a", "b"], None)).await;
        node.serve(socket.try_clone().unwrap());
        built(node).await;
    }
    nodes.into()
}

async fn built(node: &FakeNode) {
    while node.store.send(GetRoots).await.unwrap().contains(&None) {
        yield_now().await;
    }
}

fn rounds(node: &FakeNode) -> Rounds {
    Rounds::new(node.entropy(PATIENCE).parts)
}

/// The state after everything in it was deleted by a later life.
fn deleted(lives: &[u64], by: u64) -> State {
    let mut all = lives.to_vec();
    all.push(by);
    let mut state = state(&all);
    state.siblings.retain(|s| s.dot.actor.incarnation.0 == by);
    state.siblings[0].body = Body::Tombstone;
    state
}

#[actix::test]
async fn owners_that_differ_agree_after_three_looks_and_then_are_silent() {
    let (a, b) = two().await;
    let rows = [
        ("only-a", Some(state(&[1])), None, state(&[1])),
        ("only-b", None, Some(state(&[2])), state(&[2])),
        ("equal", Some(state(&[3])), Some(state(&[3])), state(&[3])),
        (
            "siblings",
            Some(state(&[1])),
            Some(state(&[2])),
            state(&[1, 2]),
        ),
        (
            "deleted-on-b",
            Some(state(&[1])),
            Some(deleted(&[1], 5)),
            deleted(&[1], 5),
        ),
        (
            "deleted-on-a",
            Some(deleted(&[1], 5)),
            Some(state(&[1])),
            deleted(&[1], 5),
        ),
        (
            "delete-only-on-b",
            None,
            Some(deleted(&[1], 5)),
            deleted(&[1], 5),
        ),
    ];
    for (name, on_a, on_b, _) in &rows {
        for (node, held) in [(&a, on_a), (&b, on_b)] {
            if let Some(state) = held {
                node.write(&key(name), state).await;
            }
        }
    }
    let mut looks = rounds(&a);
    for look in 1..=LOOKS {
        let status = looks.round().await;
        assert_eq!(status.pairs[0].partitions_differing, 6, "look {look}");
        assert_eq!(status.pairs[0].seconds_since_agreement, None);
    }
    for (name, _, _, merged) in &rows {
        for node in [&a, &b] {
            assert_eq!(node.state(&key(name)).as_ref(), Some(merged), "{name}");
        }
    }
    let after = looks.round().await;
    let pair = &after.pairs[0];
    assert_eq!((pair.partitions_differing, pair.keys_repaired), (0, 6));
    assert_eq!(pair.seconds_since_agreement, Some(0));
    let later = looks.round().await;
    assert_eq!(later.exchanges, after.exchanges, "nothing differs any more");
}

#[actix::test]
async fn a_write_on_its_way_is_not_repaired() {
    let (a, b) = two().await;
    let mut looks = rounds(&a);
    for n in 1..5 {
        a.write(&key("k"), &state(&[n])).await;
        assert_eq!(looks.round().await.pairs[0].partitions_differing, 1);
        b.write(&key("k"), &state(&[n])).await;
        assert_eq!(looks.round().await.pairs[0].partitions_differing, 0);
    }
    assert_eq!(looks.round().await.exchanges, 0);
}

/// Under steady writes a partition differs at every look; its leaves do not stand still, and only
/// once in a while their keys are looked into.
#[actix::test]
async fn a_busy_key_costs_little_and_is_repaired_at_last() {
    let (a, b) = two().await;
    let mut looks = rounds(&a);
    let mut repaired_after = None;
    for n in 1..=u64::from(HOT_LOOKS) + 1 {
        a.write(&key("k"), &state(&(1..=n).collect::<Vec<_>>()))
            .await;
        let status = looks.round().await;
        if status.pairs[0].keys_repaired > 0 {
            repaired_after.get_or_insert(n);
        }
    }
    assert_eq!(repaired_after, Some(u64::from(HOT_LOOKS) + 1));
    assert_eq!(b.state(&key("k")), a.state(&key("k")));
}

#[actix::test]
async fn digests_that_say_something_else_than_the_records_are_built_anew() {
    let (a, b) = two().await;
    a.write(&key("k"), &state(&[1])).await;
    let record = encode_record(&encode_state(&state(&[1])), None);
    let behind = Change::Put(key("k").hash().partition(), key("k"), record);
    b.engine.commit(vec![behind], Sync::Disk).unwrap();
    let mut looks = rounds(&b);
    for _ in 0..=LOOKS {
        assert_eq!(looks.round().await.pairs[0].partitions_differing, 1);
    }
    built(&b).await;
    assert_eq!(looks.round().await.pairs[0].partitions_differing, 0);
}

#[actix::test]
async fn many_keys_are_exchanged_in_several_messages() {
    let (a, b) = two().await;
    let partition = key("k").hash().partition();
    let inside = |key: &Key| key.hash().partition() == partition;
    let name = |n: u32| Key::new(Bytes::from(format!("key{n}"))).unwrap();
    let many: Vec<Key> = (0..).map(name).filter(inside).take(300).collect();
    for key in &many {
        b.write(key, &state(&[1])).await;
    }
    let mut looks = rounds(&a);
    for _ in 0..LOOKS {
        looks.round().await;
    }
    let status = looks.round().await;
    assert_eq!(status.pairs[0].keys_repaired, 300);
    assert_eq!(status.exchanges, 2 + 1 + 3, "leaves twice, keys, states");
    assert!(many.iter().all(|key| a.state(key) == b.state(key)));
}

#[actix::test]
async fn nothing_but_the_roots_is_sent_while_nothing_differs() {
    let (mut wire, node) = (Wire::new().await, FakeNode::new("a"));
    let members = [("a", "127.0.0.1:1"), ("b", wire.address.as_str())];
    node.install(ring_of(&members, &["a", "b"], None)).await;
    built(&node).await;
    let mut looks = rounds(&node);
    for _ in 0..5 {
        let answering = async {
            let call = wire.call("/peer/v1/merkle/roots").await;
            let asked: RootsCall = rmp_serde::from_slice(&call.body).unwrap();
            assert_eq!(asked.roots.len(), 256);
            let agreed = rmp_serde::to_vec_named(&RootsReply::default()).unwrap();
            call.answer(200, agreed);
        };
        tokio::join!(looks.round(), answering);
    }
    wire.assert_quiet();
}

#[actix::test]
async fn a_partition_that_moves_is_not_compared() {
    let (wire, node) = (Wire::new().await, FakeNode::new("a"));
    let members = [("a", "127.0.0.1:1"), ("b", wire.address.as_str())];
    node.install(ring_of(&members, &["a", "b"], Some(&["b"])))
        .await;
    built(&node).await;
    let status = rounds(&node).round().await;
    assert_eq!(status.pairs[0].seconds_since_agreement, None);
    let mut wire = wire;
    wire.assert_quiet();
}

#[actix::test]
async fn the_status_follows_the_looks() {
    let (a, _b) = two().await;
    let entropy = a.entropy(Duration::from_millis(1)).start();
    loop {
        let status = entropy.send(GetStatus).await.unwrap();
        if status.rounds > 1 {
            assert_eq!(status.pairs.len(), 1);
            assert_eq!(status.pairs[0].peer, "b");
            return;
        }
        yield_now().await;
    }
}
