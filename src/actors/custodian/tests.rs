//! Old copies among the parts of real nodes in memory, over real sockets, look by look.

use super::*;
use crate::actors::fake::{key, state};
use crate::actors::fake_node::{FakeNode, ring_of, socket};
use crate::actors::replica::{ReplicaWrite, Terms};
use crate::dynamo::quorum::Fault;
use crate::dynamo::ring::OwnerSet;
use crate::wire::state::encode_state;

type At<'a> = [(&'a str, &'a str); 3];

/// The first ring, in which `a` owns everything with `b`, one in which it goes to `b` and `c`, one
/// in which it is there, and one in which it comes back to `a`.
fn rings(at: &At<'_>) -> [Ring; 4] {
    let rows: [(&[&str], Option<&[&str]>); 4] = [
        (&["a", "b"], None),
        (&["a", "b"], Some(&["b", "c"])),
        (&["b", "c"], None),
        (&["b", "c"], Some(&["a", "b"])),
    ];
    let mut epoch = 4;
    rows.map(|(owners, incoming)| {
        epoch += 1;
        Ring {
            epoch,
            ..ring_of(at, owners, incoming)
        }
    })
}

/// `a` has records of what `b` and `c` own now; these two are served if they are not silent.
async fn given_away(silent: &[&str]) -> ([FakeNode; 3], [Ring; 4]) {
    let names = ["a", "b", "c"];
    let sockets = names.map(|_| socket());
    let at = [0, 1, 2].map(|i| {
        let address = sockets[i].1.as_str();
        let address = Some(address).filter(|_| !silent.contains(&names[i]));
        (names[i], address.unwrap_or("127.0.0.1:1"))
    });
    let (nodes, rings) = (names.map(FakeNode::new), rings(&at));
    for (node, (socket, _)) in nodes.iter().zip(&sockets) {
        node.install(rings[0].clone()).await;
        node.serve(socket.try_clone().unwrap());
    }
    for n in 0..600 {
        nodes[0].write(&key(&format!("k{n}")), &state(&[1])).await;
    }
    for node in &nodes {
        node.install(rings[2].clone()).await;
    }
    (nodes, rings)
}

fn rounds(node: &FakeNode, time: Duration) -> Rounds {
    let past = Past::restore(&*node.engine).unwrap();
    Rounds::new(node.custodian(time), past)
}

async fn try_write(node: &FakeNode, set: OwnerSet) -> Result<(), Fault> {
    let terms = Terms {
        epoch: node.view.load().epoch(),
        set,
        deadline: Instant::now() + Duration::from_secs(5),
        trace: None,
    };
    let (key, state) = (key("new"), encode_state(&state(&[9])));
    let write = ReplicaWrite { key, state, terms };
    node.store.send(write).await.unwrap()
}

#[actix::test]
async fn old_copies_are_removed_once_all_members_and_owners_answer() {
    let (nodes, _) = given_away(&[]).await;
    let mut rounds = rounds(&nodes[0], Duration::ZERO);
    let status = rounds.look().await;
    assert_eq!((status.removed, status.waiting_for), (600, None));
    assert_eq!(nodes[0].state(&key("k0")), None);
    assert_eq!(nodes[0].view.load().leftovers.len(), 0);
    let status = nodes[0]
        .store
        .send(crate::actors::store_keeper::GetStatus)
        .await;
    assert_eq!(status.unwrap().keys, 0);
    assert_eq!(rounds.look().await.removed, 600);
}

#[actix::test]
async fn a_member_that_does_not_answer_keeps_them() {
    let (nodes, _) = given_away(&["c"]).await;
    let status = rounds(&nodes[0], Duration::ZERO).look().await;
    assert_eq!(status.removed, 0);
    let why = "c to acknowledge epoch 7";
    assert_eq!(status.waiting_for.as_deref(), Some(why));
    assert!(status.partitions > 200, "{status:?}");
    assert_eq!(nodes[0].state(&key("k0")), Some(state(&[1])));
}

#[actix::test]
async fn an_owner_that_has_lost_records_keeps_them() {
    let (nodes, _) = given_away(&[]).await;
    let begun = nodes[1]
        .ring_keeper
        .send(crate::actors::ring_keeper::BeginRecovery);
    assert_eq!(begun.await.unwrap(), Ok(()));
    let status = rounds(&nodes[0], Duration::ZERO).look().await;
    assert_eq!(status.removed, 0);
    assert_eq!(
        status.waiting_for.as_deref(),
        Some("b to answer"),
        "it is to discard its own"
    );
}

#[actix::test]
async fn what_has_been_waited_for_survives_a_restart() {
    let (nodes, _) = given_away(&[]).await;
    let time = Duration::from_secs(50);
    let mut first = rounds(&nodes[0], time);
    first.look().await;
    first.looked -= Duration::from_secs(30);
    let status = first.look().await;
    assert_eq!((status.seconds_left, status.removed), (19, 0));
    let mut second = rounds(&nodes[0], time);
    second.looked -= Duration::from_secs(21);
    assert_eq!(second.look().await.removed, 600);
}

/// What the owners have deleted and forgotten since must not come back with it.
#[actix::test]
async fn p7_an_old_copy_is_discarded_before_its_partition_is_owned_again() {
    let (nodes, [.., back]) = given_away(&[]).await;
    let [a, ..] = &nodes;
    assert_eq!(try_write(a, OwnerSet::Incoming).await, Err(Fault::NotOwner));
    a.install(back.clone()).await;
    assert!(a.view.load().leftovers.is_empty());
    assert_eq!(try_write(a, OwnerSet::Incoming).await, Err(Fault::NotReady));
    let partition = key("k0").hash().partition();
    let noted = crate::actors::ring_keeper::Verified {
        epoch: back.epoch,
        partition,
    };
    assert!(a.ring_keeper.send(noted).await.unwrap().is_err());
    // A crash forgets nothing of it.
    let again = FakeNode::start("a", a.engine.clone());
    let stale = again.view.load().stale;
    assert!(stale.contains(partition) && stale == a.view.load().stale);
    for p in stale.iter() {
        while !a.store.send(Clear(p)).await.unwrap().unwrap().is_empty {}
        assert_eq!(a.ring_keeper.send(Cleared(p)).await.unwrap(), Ok(()));
    }
    assert_eq!(a.state(&key("k0")), None);
    assert_eq!(try_write(a, OwnerSet::Incoming).await, Ok(()));
    let p = key("new").hash().partition();
    let refused = a.store.send(Clear(p)).await.unwrap();
    assert_eq!(
        refused,
        Err(Fault::NotReady),
        "what is owned is not cleared"
    );
    let again = FakeNode::start("a", a.engine.clone());
    assert!(again.view.load().stale.is_empty() && again.state(&key("new")).is_some());
}

#[actix::test]
async fn a_node_that_starts_finds_its_old_copies() {
    let (nodes, _) = given_away(&[]).await;
    let again = FakeNode::start("a", nodes[0].engine.clone());
    let found = again.view.load().leftovers;
    assert!(found.contains(key("k0").hash().partition()));
    assert!(found.len() > 200 && found.len() <= 256);
}
