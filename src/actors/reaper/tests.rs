//! Reaping among the parts of real nodes in memory, over real sockets, sweep by sweep.

use tokio::task::yield_now;

use super::*;
use crate::actors::fake::{key, state};
use crate::actors::fake_node::{FakeNode, PATIENCE, ring_of, socket};
use crate::actors::store_keeper::GetRoots;
use crate::dynamo::version::{Body, State};
use crate::storage::{Change, Engine, Sync};
use crate::wire::record::encode_record;
use crate::wire::state::encode_state;

const GRACE: Duration = Duration::from_millis(40);
/// A node that nothing has happened to for as long as matters.
const STEADY: Duration = Duration::from_hours(1);

/// What is left of a write of life 1 that life 2 has deleted.
fn tombstone() -> State {
    let mut state = state(&[1, 2]);
    state.siblings.remove(0);
    state.siblings[0].body = Body::Tombstone;
    state
}

/// Two owners of everything and a member that owns nothing, all served but for the silent ones.
async fn three(silent: &[&str]) -> [FakeNode; 3] {
    members(&["a", "b"], silent).await
}

/// Three members, of which these own everything, and these are not served.
async fn members(owners: &[&str], silent: &[&str]) -> [FakeNode; 3] {
    let names = ["a", "b", "c"];
    let sockets = names.map(|_| socket());
    let at = |i: usize| {
        if silent.contains(&names[i]) {
            "127.0.0.1:1"
        } else {
            sockets[i].1.as_str()
        }
    };
    let at = [("a", at(0)), ("b", at(1)), ("c", at(2))];
    let nodes = names.map(FakeNode::new);
    for (node, (socket, _)) in nodes.iter().zip(&sockets) {
        node.install(ring_of(&at, owners, None)).await;
        node.serve_with_grace(socket.try_clone().unwrap(), GRACE);
        while node.store.send(GetRoots).await.unwrap().contains(&None) {
            yield_now().await;
        }
    }
    nodes
}

fn sweeps(node: &FakeNode) -> Sweeps {
    Sweeps::new(node.reaper(GRACE).parts)
}

/// Sweeps for several graces, or until something is reaped.
async fn sweep_on(node: &FakeNode) -> ReapingStatus {
    let (mut sweeps, began) = (sweeps(node), Instant::now());
    loop {
        let status = sweeps.sweep(STEADY).await;
        if status.reaped > 0 || began.elapsed() > 5 * GRACE {
            return status;
        }
        yield_now().await;
    }
}

fn blocked(status: &ReapingStatus) -> Vec<&str> {
    status.blocked.keys().map(String::as_str).collect()
}

#[actix::test]
async fn p7_a_delete_that_all_owners_hold_is_forgotten_after_the_grace() {
    let [a, b, _c] = three(&[]).await;
    for node in [&a, &b] {
        node.write(&key("gone"), &tombstone()).await;
        node.write(&key("kept"), &state(&[1])).await;
    }
    let first = sweeps(&a).sweep(STEADY).await;
    assert_eq!((first.candidates, first.reaped), (1, 0));
    assert_eq!(blocked(&first), ["waiting for the grace"]);
    let last = sweep_on(&a).await;
    assert_eq!((last.candidates, last.reaped), (0, 1));
    for node in [&a, &b] {
        assert_eq!(node.state(&key("gone")), None);
        assert_eq!(node.state(&key("kept")), Some(state(&[1])));
    }
}

#[actix::test]
async fn an_owner_that_has_not_heard_of_a_delete_hears_of_it_first() {
    let [a, b, _c] = three(&[]).await;
    a.write(&key("k"), &tombstone()).await;
    b.write(&key("k"), &state(&[1])).await;
    let first = sweeps(&a).sweep(STEADY).await;
    assert_eq!(first.reaped, 0);
    assert_eq!(b.state(&key("k")), Some(tombstone()));
    assert_eq!(sweep_on(&a).await.reaped, 1);
    assert_eq!((a.state(&key("k")), b.state(&key("k"))), (None, None));
}

/// At two of three the third would bring the value back.
#[actix::test]
async fn p7_the_last_of_three_owners_has_heard_of_a_delete_before_it_is_forgotten() {
    let nodes = members(&["a", "b", "c"], &[]).await;
    let [a, b, c] = &nodes;
    for node in [a, b] {
        node.write(&key("k"), &tombstone()).await;
    }
    c.write(&key("k"), &state(&[1])).await;
    assert_eq!(sweep_on(a).await.reaped, 1);
    for (node, name) in nodes.iter().zip(["a", "b", "c"]) {
        assert_eq!(node.state(&key("k")), None, "{name}");
    }
}

#[actix::test]
async fn p7_a_write_that_the_delete_has_not_seen_survives_it() {
    let [a, b, _c] = three(&[]).await;
    a.write(&key("k"), &tombstone()).await;
    b.write(&key("k"), &state(&[3])).await;
    assert_eq!(sweep_on(&a).await.reaped, 0);
    for node in [&a, &b] {
        assert!(node.state(&key("k")).unwrap().is_live());
    }
}

#[actix::test]
async fn p7_nothing_is_forgotten_while_a_member_may_still_know_better() {
    let rows: [(&[&str], &str); 2] = [
        (&["c"], "c does not answer"),
        (&["b"], "an owner did not answer"),
    ];
    for (silent, why) in rows {
        let [a, b, _c] = three(silent).await;
        for node in [&a, &b] {
            node.write(&key("k"), &tombstone()).await;
        }
        let status = sweep_on(&a).await;
        assert_eq!((status.reaped, blocked(&status)), (0, vec![why]));
        assert_eq!(a.state(&key("k")), Some(tombstone()), "{why}");
    }
    let [a, b, c] = three(&[]).await;
    let record = encode_record(&encode_state(&state(&[1])), None);
    let partition = key("k").hash().partition();
    for node in [&a, &b] {
        node.write(&key("k"), &tombstone()).await;
    }
    // As after a move away from it.
    let left = Change::Put(partition, key("k"), record);
    c.engine.commit(vec![left], Sync::Disk).unwrap();
    c.store
        .send(crate::actors::store_keeper::RebuildDigests(partition))
        .await
        .unwrap();
    let status = sweep_on(&a).await;
    assert_eq!(blocked(&status), ["c has records that it does not own"]);
    let unsteady = sweeps(&a).sweep(Duration::ZERO).await;
    assert_eq!(unsteady.reaped, 0);
}

/// Each owner looks at itself, whoever asks.
#[actix::test]
async fn p7_an_owner_that_is_not_steady_removes_nothing() {
    let [a, b, _c] = three(&[]).await;
    for node in [&a, &b] {
        node.write(&key("k"), &tombstone()).await;
    }
    let hint = Change::PutHint(
        crate::actors::ring_view::tests::id("a"),
        key("other"),
        "x".into(),
    );
    b.engine.commit(vec![hint], Sync::Disk).unwrap();
    let steady = Reaper::new(b.reaper(GRACE).parts);
    assert!(!steady.parts.sight().clear, "it keeps a hint");
    let call = crate::wire::reaping::ReapCall {
        epoch: 5,
        partition: key("k").hash().partition().number(),
        records: Vec::new(),
    };
    let refused = b.reaper(STEADY).start().send(AnswerReap(call)).await;
    assert!(refused.unwrap().is_err());
}

#[actix::test]
async fn the_second_owner_waits_a_grace_longer_than_the_first() {
    let [a, b, _c] = three(&[]).await;
    for node in [&a, &b] {
        node.write(&key("k"), &tombstone()).await;
    }
    let (mut sweeps, began) = (sweeps(&b), Instant::now());
    while sweeps.sweep(STEADY).await.reaped == 0 {
        assert!(began.elapsed() < PATIENCE, "never");
        yield_now().await;
    }
    assert!(began.elapsed() >= 2 * GRACE);
    assert_eq!(a.state(&key("k")), None);
}

/// The owner to be may still be pulling what the delete is of, from an owner that missed it.
#[actix::test]
async fn p7_nothing_is_forgotten_while_the_partition_is_on_its_way_to_another_owner() {
    let nodes = three(&[]).await;
    let [a, b, c] = &nodes;
    for node in [a, b] {
        node.write(&key("k"), &tombstone()).await;
    }
    let at_rest = a.view.load().ring.as_deref().cloned().unwrap();
    let mut moving = at_rest.clone();
    let row = &mut moving.placements[key("k").hash().partition().index()];
    row.incoming = Some(["b", "c"].map(crate::actors::ring_view::tests::id).to_vec());
    moving.epoch = 6;
    for node in &nodes {
        node.install(moving.clone()).await;
    }
    let mut sweeps = sweeps(a);
    let status = sweeps.sweep(STEADY).await;
    assert_eq!(blocked(&status), ["partition is moving"]);
    assert_eq!((status.reaped, status.candidates), (0, 0));
    assert_eq!(sweep_on(a).await.reaped, 0);
    assert_eq!(a.state(&key("k")), Some(tombstone()));
    // Nor does an owner that has heard of the move remove what another one has decided before.
    let call = crate::wire::reaping::ReapCall {
        epoch: at_rest.epoch,
        partition: key("k").hash().partition().number(),
        records: vec![(key("k").as_bytes().clone(), encode_state(&tombstone()))],
    };
    let refused = b.reaper(GRACE).start().send(AnswerReap(call)).await;
    assert!(refused.unwrap().is_err());
    assert_eq!(b.state(&key("k")), Some(tombstone()));
    assert_eq!(c.state(&key("k")), None);
}
