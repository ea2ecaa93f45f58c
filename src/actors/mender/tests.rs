//! Mending between the parts of real nodes in memory, over real sockets.

use bytes::Bytes;

use super::*;
use crate::actors::background::tests::background;
use crate::actors::fake::{key, quiet, state};
use crate::actors::fake_node::{FakeNode, PATIENCE, proof, ring_of, socket};
use crate::actors::store_keeper::GetStatus;
use crate::config::LogLevel;
use crate::logging::tests::Fixture;
use crate::storage::{Change, Engine, Sync};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Three owners of everything, of which those named serve.
async fn three(serving: &[&str]) -> Vec<FakeNode> {
    let sockets = NAMES.map(|_| socket());
    let at: Vec<(&str, &str)> = NAMES
        .into_iter()
        .zip(sockets.iter().map(|(_, address)| address.as_str()))
        .collect();
    let ring = ring_of(&at, &NAMES, None);
    let mut nodes = Vec::new();
    for (name, (socket, _)) in NAMES.into_iter().zip(sockets) {
        let node = FakeNode::new(name);
        node.install(ring.clone()).await;
        if serving.contains(&name) {
            node.serve(socket);
        }
        nodes.push(node);
    }
    nodes
}

fn rot(node: &FakeNode, name: &str) {
    let key = key(name);
    let rot = Change::Put(key.hash().partition(), key, Bytes::from_static(b"rot"));
    node.engine.commit(vec![rot], Sync::Disk).unwrap();
}

fn mender_parts(node: &FakeNode) -> MenderParts {
    MenderParts {
        view: node.view.clone(),
        link: Link::new(proof()),
        records: node.records.clone(),
        store: node.store.clone(),
        quorums: Quorums { read: 2, write: 2 },
        background: background(),
        log: quiet(),
    }
}

async fn until_mended(node: &FakeNode, records: u64) {
    let board = node.records.damage().clone();
    let mended = async {
        while board.mended() < records {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, mended).await.unwrap();
}

#[actix::test]
async fn p11_a_damaged_record_is_no_reply_and_is_mended_from_the_other_owners() {
    let nodes = three(&["b", "c"]).await;
    nodes[0].write(&key("k"), &state(&[1])).await;
    nodes[1].write(&key("k"), &state(&[1])).await;
    nodes[2].write(&key("k"), &state(&[2])).await;
    for name in ["k", "gone"] {
        rot(&nodes[0], name);
        assert_eq!(nodes[0].records.peek(&key(name)), Err(Fault::Damaged));
    }
    assert_eq!(nodes[0].records.peek(&key("k")), Err(Fault::Damaged));
    let (log, mut parts) = (Fixture::start(LogLevel::Info), mender_parts(&nodes[0]));
    parts.log = log.log.clone();
    let _mender = Mender::new(parts).start();
    until_mended(&nodes[0], 2).await;
    assert_eq!(log.told("mended"), 2);
    assert_eq!(nodes[0].state(&key("k")), Some(state(&[1, 2])));
    assert_eq!(nodes[0].state(&key("gone")), None, "nobody has any of it");
    assert_eq!(
        nodes[0]
            .engine
            .get(key("gone").hash().partition(), &key("gone"))
            .unwrap(),
        None
    );
    let status = nodes[0].store.send(GetStatus).await.unwrap();
    assert_eq!((status.damaged, status.mended), (2, 2), "found once each");
}

/// What the damaged record and the silent owner had in common may have been acknowledged.
#[actix::test]
async fn p11_too_few_other_owners_mend_nothing() {
    let nodes = three(&["b"]).await;
    nodes[1].write(&key("k"), &state(&[1])).await;
    rot(&nodes[0], "k");
    assert_eq!(nodes[0].records.peek(&key("k")), Err(Fault::Damaged));
    let parts = mender_parts(&nodes[0]);
    let outcome = parts.mend(&key("k")).await;
    assert!(matches!(
        outcome,
        Err(MendError::TooFew { got: 1, needed: 2 })
    ));
    assert_eq!(nodes[0].records.peek(&key("k")), Err(Fault::Damaged));
}

/// Two damaged replicas must not mend each other into nothing.
#[actix::test]
async fn p11_a_damaged_owner_helps_nobody() {
    let nodes = three(&["b", "c"]).await;
    nodes[2].write(&key("k"), &state(&[1])).await;
    for node in &nodes[..2] {
        rot(node, "k");
        assert_eq!(node.records.peek(&key("k")), Err(Fault::Damaged));
    }
    let outcome = mender_parts(&nodes[0]).mend(&key("k")).await;
    assert!(matches!(
        outcome,
        Err(MendError::TooFew { got: 1, needed: 2 })
    ));
}
