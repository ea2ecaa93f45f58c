//! What the ring keeper stores before it answers, over a real store keeper in memory.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::moves::{META_MOVES, Moves};
use super::*;
use crate::actors::fake_node::{FakeNode, PATIENCE, member, ring_of};
use crate::actors::ring_view::tests::id;
use crate::actors::store_keeper;
use crate::dynamo::key::Partition;
use crate::dynamo::membership::promise::{Ballot, Proposal};
use crate::dynamo::ring::{Change, ClusterId, plan};
use crate::wire::transfer::FlipReply;

const MEMBERS: [(&str, &str); 4] = [("a", "a:1"), ("b", "b:1"), ("c", "c:1"), ("d", "d:1")];

fn still() -> Ring {
    ring_of(&MEMBERS, &["a", "b", "c"], None)
}

/// The partitions move from `a` to `d`.
fn moving() -> Ring {
    ring_of(&MEMBERS, &["a", "b", "c"], Some(&["b", "c", "d"]))
}

fn partition(n: u16) -> Partition {
    Partition::new(n).unwrap()
}

fn predict(ring: &Ring, round: u64) -> Predict {
    let change = Change::Join(member("e", "e:1"));
    let hash = plan(Some(ring), &change).unwrap().hash();
    Predict(PredictCall {
        epoch: ring.epoch + 1,
        ballot: Ballot {
            round,
            proposer: id("b"),
        },
        proposal: Proposal { change, hash },
    })
}

fn accept(ring: &Ring, round: u64) -> Accept {
    let PredictCall {
        epoch,
        ballot,
        proposal,
    } = predict(ring, round).0;
    Accept(AcceptCall {
        epoch,
        ballot,
        proposal,
    })
}

async fn node_with(ring: Ring) -> FakeNode {
    let node = FakeNode::new("a");
    node.install(ring).await;
    node
}

fn stored_acceptor(node: &FakeNode) -> Option<Acceptor> {
    let bytes = node.meta(META_ACCEPTOR);
    bytes.map(|bytes| rmp_serde::from_slice(&bytes).unwrap())
}

#[actix::test]
async fn a_promise_and_an_acceptance_are_on_the_disk_when_they_are_answered() {
    let ring = still();
    let node = node_with(ring.clone()).await;
    let promised = node.ring_keeper.send(predict(&ring, 3)).await.unwrap();
    assert!(matches!(promised, Ok(PredictReply::Promised { .. })));
    let stored = stored_acceptor(&node).unwrap();
    assert_eq!(stored.promised().map(|ballot| ballot.round), Some(3));
    assert_eq!(stored.accepted(), None);
    let accepted = node.ring_keeper.send(accept(&ring, 3)).await.unwrap();
    assert_eq!(accepted, Ok(AcceptReply::Accepted));
    assert!(stored_acceptor(&node).unwrap().accepted().is_some());
}

#[actix::test]
async fn a_node_that_starts_again_keeps_its_ring_and_its_moves() {
    let ring = moving();
    let node = node_with(ring.clone()).await;
    let (p, q) = (partition(3), partition(200));
    let flip = Flip {
        epoch: 5,
        partition: p,
    };
    let flipped = node.ring_keeper.send(flip).await.unwrap();
    assert_eq!(flipped, Ok(FlipReply::Flipped));
    let verified = Verified {
        epoch: 5,
        partition: q,
    };
    assert_eq!(node.ring_keeper.send(verified).await.unwrap(), Ok(()));

    let again = FakeNode::start("a", node.engine.clone());
    let view = again.view.load();
    assert_eq!(view.ring.as_deref(), Some(&ring));
    assert!(view.is_flipped(p) && !view.is_flipped(q));
    assert!(view.verified.contains(q) && view.verified.len() == 1);
}

#[actix::test]
async fn a_node_that_starts_again_keeps_its_promise() {
    let node = node_with(still()).await;
    let promised = node.ring_keeper.send(predict(&still(), 4)).await.unwrap();
    assert!(matches!(promised, Ok(PredictReply::Promised { .. })));
    let again = FakeNode::start("a", node.engine.clone());
    let lower = again.ring_keeper.send(predict(&still(), 3)).await.unwrap();
    let outbid = predict(&still(), 4).0.ballot;
    assert_eq!(lower, Ok(PredictReply::Outbid(outbid)));
}

#[actix::test]
async fn moves_of_another_epoch_are_forgotten_at_a_start() {
    let node = node_with(moving()).await;
    let moves = Moves {
        epoch: 4,
        flipped: vec![3],
        verified: vec![4],
    };
    let stored = rmp_serde::to_vec_named(&moves).unwrap();
    save(node.store.clone(), META_MOVES, Some(stored))
        .await
        .unwrap();
    let view = FakeNode::start("a", node.engine.clone()).view.load();
    assert!(view.flipped.is_empty() && view.verified.is_empty());
}

#[actix::test]
async fn what_cannot_be_stored_is_neither_promised_nor_shown() {
    let node = node_with(moving()).await;
    assert_eq!(node.store.send(store_keeper::Drain).await.unwrap(), Ok(()));
    let keeper = &node.ring_keeper;
    for round in [9, 2] {
        // Had the first been kept, the second would be told that it is outbid.
        let promised = keeper.send(predict(&still(), round)).await.unwrap();
        assert_eq!(promised, Err(KeeperError::NotStored), "round {round}");
    }
    let p = partition(1);
    let flip = Flip {
        epoch: 5,
        partition: p,
    };
    let flipped = keeper.send(flip).await.unwrap();
    assert_eq!(flipped, Err(KeeperError::NotStored));
    let newer = Ring {
        epoch: 6,
        ..still()
    };
    let installed = keeper.send(InstallRing(newer)).await.unwrap();
    assert_eq!(installed, Err(KeeperError::NotStored));
    keeper.send(moved("c", "elsewhere:1")).await.unwrap();
    let view = node.view.load();
    assert_eq!(view.ring.as_deref(), Some(&moving()));
    assert!(!view.is_flipped(p));
}

#[actix::test]
async fn only_a_newer_ring_of_the_same_cluster_is_put_in_force() {
    let node = node_with(moving()).await;
    let other = Ring {
        cluster: ClusterId(2),
        epoch: 9,
        ..still()
    };
    let older = Ring {
        epoch: 4,
        ..still()
    };
    let rows = [
        ("another cluster's", other, Err(KeeperError::OtherCluster)),
        ("older", older, Ok(5)),
        ("the same", moving(), Ok(5)),
        (
            "another of this epoch",
            still(),
            Err(KeeperError::OtherRing { epoch: 5 }),
        ),
    ];
    for (name, ring, expected) in rows {
        let answer = node.ring_keeper.send(InstallRing(ring)).await.unwrap();
        assert_eq!(answer, expected, "{name}");
        assert_eq!(node.view.load().ring.as_deref(), Some(&moving()), "{name}");
    }
}

/// The ring may be lost where the identity is not; whatever ring comes first must not be taken.
#[actix::test]
async fn a_node_without_a_ring_takes_none_of_a_cluster_that_its_store_is_not_of() {
    let node = FakeNode::new("a");
    let cluster = still().cluster;
    let noted = node.store.send(store_keeper::NoteCluster { cluster }).await;
    assert_eq!(noted.unwrap(), Ok(()));
    let fresh = FakeNode::start("a", node.engine.clone());
    let other = Ring {
        cluster: ClusterId(2),
        ..moving()
    };
    let answer = fresh.ring_keeper.send(InstallRing(other)).await.unwrap();
    assert_eq!(answer, Err(KeeperError::OtherCluster));
    assert!(fresh.view.load().ring.is_none());
    fresh.install(still()).await;
}

#[actix::test]
async fn a_flip_is_of_a_moving_partition_that_this_node_owns_and_ends_with_the_next_ring() {
    let p = partition(9);
    let rows = [
        ("a", moving(), 5, FlipReply::Flipped),
        ("d", moving(), 5, FlipReply::NotMoving),
        ("a", still(), 5, FlipReply::NotMoving),
        ("a", moving(), 4, FlipReply::WrongEpoch),
        ("a", moving(), 6, FlipReply::WrongEpoch),
    ];
    for (row, (name, ring, epoch, expected)) in rows.into_iter().enumerate() {
        let node = FakeNode::new(name);
        let early = Flip {
            epoch,
            partition: p,
        };
        let answer = node.ring_keeper.send(early).await.unwrap();
        assert_eq!(answer, Err(KeeperError::NoRing), "row {row}");
        node.install(ring).await;
        let answer = node.ring_keeper.send(early).await.unwrap();
        assert_eq!(answer, Ok(expected), "row {row}");
        let flipped = expected == FlipReply::Flipped;
        assert_eq!(node.view.load().is_flipped(p), flipped, "row {row}");
        assert_eq!(node.meta(META_MOVES).is_some(), flipped, "row {row}");
        node.install(Ring {
            epoch: 6,
            ..still()
        })
        .await;
        assert!(!node.view.load().is_flipped(p), "row {row}");
    }
}

#[actix::test]
async fn what_was_verified_for_another_epoch_is_refused() {
    let node = node_with(moving()).await;
    let verified = Verified {
        epoch: 4,
        partition: partition(0),
    };
    let answer = node.ring_keeper.send(verified).await.unwrap();
    assert_eq!(answer, Err(KeeperError::OtherEpoch { current: 5 }));
    assert!(node.view.load().verified.is_empty());
}

/// Hands on what it is told.
struct Listener(mpsc::UnboundedSender<Arc<Ring>>);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<RingChanged> for Listener {
    type Result = ();

    fn handle(&mut self, RingChanged(ring): RingChanged, _: &mut Self::Context) {
        self.0.send(ring).unwrap();
    }
}

fn moved(name: &str, peer: &str) -> Announced {
    let addresses = member(name, peer).addresses;
    Announced {
        id: id(name),
        addresses,
    }
}

async fn told(rings: &mut mpsc::UnboundedReceiver<Arc<Ring>>) -> Arc<Ring> {
    let next = tokio::time::timeout(PATIENCE, rings.recv()).await;
    next.unwrap().unwrap()
}

/// Who proposes the next ring must not put the old addresses back.
#[actix::test]
async fn a_member_that_moved_is_reached_elsewhere_in_the_same_ring_by_everybody() {
    let node = node_with(still()).await;
    let (tell, mut rings) = mpsc::unbounded_channel();
    let listener = Listener(tell).start().recipient();
    node.ring_keeper.send(Subscribe(listener)).await.unwrap();
    assert_eq!(*told(&mut rings).await, still());
    let hash = still().hash();
    for (name, peer) in [("c", "c:1"), ("nobody", "x:1"), ("c", "elsewhere:1")] {
        node.ring_keeper.send(moved(name, peer)).await.unwrap();
    }
    let now = node.view.load().ring.clone().unwrap();
    let at = |ring: &Ring| ring.member(&id("c")).unwrap().addresses.peer.clone();
    assert_eq!(
        (at(&now), now.hash(), now.epoch),
        ("elsewhere:1".into(), hash, 5)
    );
    assert_eq!(told(&mut rings).await, now, "only the change is news");
    let stored: Bytes = node.meta(META_RING).unwrap();
    assert_eq!(at(&decode_ring(&stored).unwrap()), "elsewhere:1");
}
