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

/// Votes about the ring after this one, with ballots that were not used before.
async fn votes(node: &FakeNode, ring: &Ring, round: u64) -> [Result<bool, KeeperError>; 2] {
    let promised = node.ring_keeper.send(predict(ring, round)).await.unwrap();
    let accepted = node.ring_keeper.send(accept(ring, round)).await.unwrap();
    [
        promised.map(|reply| matches!(reply, PredictReply::Promised { .. })),
        accepted.map(|reply| reply == AcceptReply::Accepted),
    ]
}

fn at(epoch: u64) -> Ring {
    Ring { epoch, ..still() }
}

const YES: [Result<bool, KeeperError>; 2] = [Ok(true), Ok(true)];
const NO_VOTE: [Result<bool, KeeperError>; 2] =
    [Err(KeeperError::NoVote), Err(KeeperError::NoVote)];

#[actix::test]
async fn a_node_whose_start_has_yet_to_be_judged_gives_no_vote() {
    let first = View {
        doubtful: true,
        ..View::without_ring(id("a"))
    };
    let node = FakeNode::start_as(first, Arc::default());
    node.install(still()).await;
    assert_eq!(votes(&node, &still(), 1).await, NO_VOTE);
    node.ring_keeper.send(Vouched).await.unwrap();
    assert_eq!(votes(&node, &still(), 2).await, YES);
}

/// Ring 7 may be decided with promises that it has forgotten, and so may ring 8, if ring 7 was in
/// force already where the others had not heard of it.
#[actix::test]
async fn a_restored_backup_gives_no_vote_until_nothing_forgotten_can_matter() {
    let node = node_with(still()).await;
    assert_eq!(votes(&node, &still(), 1).await, YES);
    let begun = node.ring_keeper.send(BeginRecovery).await.unwrap();
    assert_eq!(begun, Ok(()));
    assert_eq!(votes(&node, &still(), 2).await, NO_VOTE);
    let mut node = FakeNode::start("a", node.engine.clone());
    assert_eq!(votes(&node, &still(), 3).await, NO_VOTE, "after a restart");
    for (from, epoch) in [("b", 6), ("c", 6), ("b", 8), ("c", 8)] {
        let from = id(from);
        let heard = EpochHeard { from, epoch };
        assert_eq!(node.ring_keeper.send(heard).await.unwrap(), Ok(()));
    }
    for epoch in [6, 7] {
        node.install(at(epoch)).await;
        assert_eq!(votes(&node, &at(epoch), epoch).await, NO_VOTE, "{epoch}");
        node = FakeNode::start("a", node.engine.clone());
        assert!(node.view.load().forgetful, "{epoch}");
        assert_eq!(votes(&node, &at(epoch), epoch).await, NO_VOTE, "{epoch}");
    }
    // Of four members it takes two others to tell; ring 7 was the first that they had not had.
    node.install(at(8)).await;
    assert_eq!(votes(&node, &at(8), 9).await, YES);
    assert!(!node.view.load().forgetful);
    let again = FakeNode::start("a", node.engine.clone());
    assert_eq!(votes(&again, &at(8), 10).await, YES);
}

/// A cluster of three with one of them restored: the other two make two rings, and then each of them
/// may be away.
#[actix::test]
async fn a_member_that_was_restored_is_needed_again_after_two_rings() {
    let three = |epoch| Ring {
        members: MEMBERS[..3].iter().map(|(n, p)| member(n, p)).collect(),
        ..at(epoch)
    };
    let node = node_with(three(5)).await;
    let begun = node.ring_keeper.send(BeginRecovery).await.unwrap();
    assert_eq!(begun, Ok(()));
    for from in ["b", "c"].map(id) {
        let heard = EpochHeard { from, epoch: 5 };
        assert_eq!(node.ring_keeper.send(heard).await.unwrap(), Ok(()));
    }
    for (epoch, expected) in [(5, NO_VOTE), (6, NO_VOTE), (7, YES)] {
        let ring = three(epoch);
        node.install(ring.clone()).await;
        assert_eq!(votes(&node, &ring, epoch).await, expected, "{epoch}");
    }
}

/// Which partitions it had flipped is forgotten, of a move that it knows and of one that it does not.
#[actix::test]
async fn a_restored_backup_serves_no_reads_of_what_it_may_have_flipped() {
    let p = partition(9);
    let flip = Flip {
        epoch: 5,
        partition: p,
    };
    let node = node_with(moving()).await;
    assert_eq!(node.ring_keeper.send(BeginRecovery).await.unwrap(), Ok(()));
    assert!(node.view.load().is_flipped(p), "a move that it knows");
    let again = FakeNode::start("a", node.engine.clone());
    assert!(again.view.load().is_flipped(p), "after a restart");

    let before = |epoch| Ring { epoch, ..still() };
    let after = |epoch| Ring { epoch, ..moving() };
    let node = node_with(before(4)).await;
    assert_eq!(node.ring_keeper.send(BeginRecovery).await.unwrap(), Ok(()));
    assert!(!node.view.load().is_flipped(p), "nothing moves yet");
    node.install(after(5)).await;
    assert!(
        node.view.load().is_flipped(p),
        "a move that it has forgotten"
    );
    let again = FakeNode::start("a", node.engine.clone());
    assert!(again.view.load().is_flipped(p), "after a restart");

    // One that never had to be restored has flipped nothing.
    let node = node_with(before(4)).await;
    node.install(after(5)).await;
    assert!(!node.view.load().is_flipped(p));
    let flipped = node.ring_keeper.send(flip).await.unwrap();
    assert_eq!(flipped, Ok(FlipReply::Flipped));
}

/// What a newer ring gives to a restored node it had once, and has no more.
#[actix::test]
async fn a_restored_backup_recovers_what_a_newer_ring_says_is_its_own() {
    let p = partition(9);
    let others = ring_of(&MEMBERS, &["b", "c", "d"], None);
    let before = Ring {
        epoch: 4,
        ..others.clone()
    };
    let gains = |epoch| Ring {
        epoch,
        ..ring_of(&MEMBERS, &["b", "c", "d"], Some(&["a", "b", "c"]))
    };
    for restored in [false, true] {
        let node = node_with(before.clone()).await;
        if restored {
            let begun = node.ring_keeper.send(BeginRecovery).await.unwrap();
            assert_eq!(begun, Ok(()));
        }
        node.install(still()).await;
        let view = FakeNode::start("a", node.engine.clone()).view.load();
        for view in [node.view.load(), view] {
            assert_eq!(view.recovering.contains(p), restored);
            assert_eq!(view.tainted.contains(p), restored);
        }
    }
    // What it pulls itself from then on is its own.
    let node = node_with(before).await;
    let begun = node.ring_keeper.send(BeginRecovery).await.unwrap();
    assert_eq!(begun, Ok(()));
    node.install(gains(5)).await;
    let verified = Verified {
        epoch: 5,
        partition: p,
    };
    assert_eq!(node.ring_keeper.send(verified).await.unwrap(), Ok(()));
    node.install(at(6)).await;
    let view = node.view.load();
    assert!(!view.recovering.contains(p) && view.recovering.contains(partition(10)));
}

/// The old copy of a partition that went elsewhere and comes back is none to begin with.
#[actix::test]
async fn a_restored_backup_has_an_old_copy_of_what_it_gains_anew() {
    let p = partition(9);
    let node = node_with(still()).await;
    let begun = node.ring_keeper.send(BeginRecovery).await.unwrap();
    assert_eq!(begun, Ok(()));
    node.install(Ring {
        epoch: 6,
        ..ring_of(&MEMBERS, &["b", "c", "d"], Some(&["a", "b", "c"]))
    })
    .await;
    let view = FakeNode::start("a", node.engine.clone()).view.load();
    for view in [node.view.load(), view] {
        assert!(view.stale.contains(p) && !view.recovering.contains(p));
    }
}
