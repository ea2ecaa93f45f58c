//! Lost stores among the parts of real nodes in memory, over real sockets.

use super::*;
use crate::actors::background::tests::background;
use crate::actors::fake::{key, quiet, state};
use crate::actors::fake_node::{FakeNode, proof, ring_of, socket};
use crate::actors::link::Link;
use crate::actors::local_reader::LocalRecords;
use crate::actors::replica::{ReplicaRead, ReplicaWrite, Terms};
use crate::actors::ring_keeper::BeginRecovery;
use crate::actors::ring_view::tests::id;
use crate::dynamo::key::PARTITIONS;
use crate::dynamo::quorum::Fault;
use crate::dynamo::ring::{MemberNumber, OwnerSet};
use crate::wire::state::encode_state;

const ALL: usize = PARTITIONS as usize;

fn parts(node: &FakeNode) -> RecoveryParts {
    RecoveryParts {
        view: node.view.clone(),
        pulling: Pulling {
            link: Link::new(proof()),
            records: node.records.clone(),
            store: node.store.clone(),
            background: background(),
        },
        ring_keeper: node.ring_keeper.clone(),
        quorums: Quorums { read: 2, write: 2 },
        pause: PAUSE,
        log: quiet(),
    }
}

/// Two owners that serve, of which the second may be silent; `a` is made by the test.
async fn two(silent: bool) -> (FakeNode, FakeNode, Ring) {
    let sockets = [socket(), socket()];
    let c = if silent { "127.0.0.1:1" } else { &sockets[1].1 };
    let at = [("a", "127.0.0.1:1"), ("b", sockets[0].1.as_str()), ("c", c)];
    let ring = ring_of(&at, &["a", "b", "c"], None);
    let nodes = ["b", "c"].map(FakeNode::new);
    for (node, (socket, _)) in nodes.iter().zip(&sockets) {
        node.install(ring.clone()).await;
        node.serve(socket.try_clone().unwrap());
    }
    let [b, c] = nodes;
    (b, c, ring)
}

/// A node that has lost its disk, from its claim to its return.
async fn wiped(ring: &Ring) -> FakeNode {
    let a = FakeNode::new("a");
    let mut before = ring.clone();
    before.epoch -= 1;
    before.members[0].data_id = 99;
    a.install(before).await;
    assert!(a.view.load().stranger, "another disk is the member");
    a.install(ring.clone()).await;
    a
}

fn reads(records: &LocalRecords, node: &FakeNode, name: &str) -> Result<bool, Fault> {
    let terms = Terms {
        epoch: node.view.load().epoch(),
        set: OwnerSet::Current,
        deadline: Instant::now() + PAUSE,
        trace: None,
    };
    let key = key(name);
    let read = records.read(&node.view.load(), &ReplicaRead { key, terms });
    read.map(|state| state.is_some())
}

#[actix::test]
async fn p4_a_wiped_node_serves_no_reads_until_it_has_everything_again() {
    let (b, c, ring) = two(false).await;
    for n in 0..100 {
        // Every write is on two of the three, of which one was lost.
        let holder = if n % 2 == 0 { &b } else { &c };
        holder.write(&key(&format!("k{n}")), &state(&[n])).await;
    }
    let a = wiped(&ring).await;
    assert_eq!(a.view.load().recovering.len(), ALL);
    assert_eq!(reads(&a.records, &a, "k1"), Err(Fault::NotReady));
    a.write(&key("k1"), &state(&[7])).await;
    parts(&a).recover_all().await;
    assert!(a.view.load().recovering.is_empty());
    for n in (0..100).filter(|n| *n != 1) {
        assert_eq!(a.state(&key(&format!("k{n}"))), Some(state(&[n])));
    }
    assert_eq!(
        a.state(&key("k1")),
        Some(state(&[1, 7])),
        "written meanwhile"
    );
    assert_eq!(reads(&a.records, &a, "k1"), Ok(true));
}

#[actix::test]
async fn p4_a_wiped_node_waits_for_as_many_others_as_a_write_may_be_on() {
    let (b, _c, ring) = two(true).await;
    b.write(&key("k"), &state(&[1])).await;
    let a = wiped(&ring).await;
    parts(&a).recover_all().await;
    assert_eq!(a.state(&key("k")), Some(state(&[1])), "pulled all the same");
    assert_eq!(a.view.load().recovering.len(), ALL);
    assert_eq!(reads(&a.records, &a, "k"), Err(Fault::NotReady));
}

#[actix::test]
async fn p1_a_recovery_that_was_cut_short_goes_on_after_a_restart() {
    let (_b, _c, ring) = two(false).await;
    let a = wiped(&ring).await;
    let first = Partition::new(0).unwrap();
    a.ring_keeper.send(Recovered(first)).await.unwrap().unwrap();
    let again = FakeNode::start("a", a.engine.clone());
    assert_eq!(again.view.load().recovering.len(), ALL - 1);
    parts(&again).recover_all().await;
    assert!(again.view.load().recovering.is_empty());
    let last = FakeNode::start("a", a.engine.clone());
    assert!(last.view.load().recovering.is_empty());
}

#[actix::test]
async fn p7_what_only_an_older_store_still_holds_is_discarded() {
    let (b, c, ring) = two(false).await;
    let a = FakeNode::new("a");
    a.install(ring).await;
    a.write(&key("reaped"), &state(&[1])).await;
    a.write(&key("kept"), &state(&[2])).await;
    let hint = ReplicaWrite {
        key: key("reaped"),
        state: encode_state(&state(&[1])),
        terms: Terms {
            epoch: a.view.load().epoch(),
            set: OwnerSet::Fallback(MemberNumber(2)),
            deadline: Instant::now() + Duration::from_secs(1),
            trace: None,
        },
    };
    a.store.send(hint.clone()).await.unwrap().unwrap();
    assert_eq!(a.records.hint_targets().unwrap(), [id("c")]);
    for node in [&b, &c] {
        node.write(&key("kept"), &state(&[2, 3])).await;
    }
    a.ring_keeper.send(BeginRecovery).await.unwrap().unwrap();
    assert_eq!(a.view.load().tainted.len(), ALL);
    let refused = a.store.send(hint).await.unwrap();
    assert_eq!(refused, Err(Fault::NotReady), "it would be discarded too");
    parts(&a).recover_all().await;
    assert!(a.view.load().recovering.is_empty());
    assert_eq!(a.state(&key("reaped")), None);
    assert!(a.records.hint_targets().unwrap().is_empty());
    assert_eq!(a.state(&key("kept")), Some(state(&[2, 3])));
}

#[actix::test]
async fn p1_nothing_is_discarded_while_one_of_the_others_is_silent() {
    let (b, _c, ring) = two(true).await;
    let a = FakeNode::new("a");
    a.install(ring).await;
    b.write(&key("k"), &state(&[1])).await;
    a.write(&key("only"), &state(&[2])).await;
    a.ring_keeper.send(BeginRecovery).await.unwrap().unwrap();
    parts(&a).recover_all().await;
    assert_eq!(a.state(&key("only")), Some(state(&[2])));
    assert_eq!(a.view.load().tainted.len(), ALL);
    assert_eq!(reads(&a.records, &a, "only"), Err(Fault::NotReady));
}

/// Nobody knows more than all others together, even if each of them has lost something.
#[actix::test]
async fn two_that_recover_at_once_end_each_other_s_wait() {
    let (b, c, ring) = two(false).await;
    b.write(&key("k"), &state(&[1])).await;
    let a = wiped(&ring).await;
    // What the other has lost is not known to it as discarded: it only recovers.
    let p = key("k").hash().partition();
    c.ring_keeper.send(BeginRecovery).await.unwrap().unwrap();
    for partition in Partition::all() {
        c.ring_keeper
            .send(Discarded(partition))
            .await
            .unwrap()
            .unwrap();
    }
    parts(&a).recover_all().await;
    assert!(!a.view.load().recovering.contains(p));
    assert_eq!(a.state(&key("k")), Some(state(&[1])));
}

/// A member that is alone in its ring, and was found older by one that waits to join.
#[actix::test]
async fn p1_an_old_copy_that_nobody_else_owns_is_kept() {
    let a = FakeNode::new("a");
    a.install(ring_of(&[("a", "127.0.0.1:1")], &["a"], None))
        .await;
    a.write(&key("only"), &state(&[1])).await;
    a.ring_keeper.send(BeginRecovery).await.unwrap().unwrap();
    assert_eq!(a.view.load().tainted.len(), ALL);
    parts(&a).recover_all().await;
    assert!(a.view.load().recovering.is_empty());
    assert_eq!(reads(&a.records, &a, "only"), Ok(true));
}

/// A backup from the middle of a move, or from before it: what it may have flipped it serves no more,
/// also when it has recovered, for newer writes may be with the new owners alone.
#[actix::test]
async fn p4_what_a_restored_backup_may_have_flipped_stays_so_when_it_is_recovered() {
    let (_b, _c, ring) = two(false).await;
    let mut moving = ring.clone();
    let p = key("k").hash().partition();
    moving.placements[p.index()].incoming = Some(["b", "c"].map(id).to_vec());
    for knows_the_move in [true, false] {
        let a = FakeNode::new("a");
        let mut before = if knows_the_move { &moving } else { &ring }.clone();
        before.epoch -= u64::from(!knows_the_move);
        a.install(before).await;
        a.ring_keeper.send(BeginRecovery).await.unwrap().unwrap();
        a.install(moving.clone()).await;
        parts(&a).recover_all().await;
        assert!(a.view.load().recovering.is_empty());
        assert_eq!(reads(&a.records, &a, "k"), Err(Fault::Flipped));
        assert_eq!(reads(&a.records, &a, "kept"), Ok(false), "it moves not");
    }
}
