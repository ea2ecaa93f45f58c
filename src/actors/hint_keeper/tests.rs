//! What is handed over, to whom, and when it is forgotten.

use actix::Addr;
use tokio::time::timeout;

use super::*;
use crate::actors::background::tests::background;
use crate::actors::fake::{Stage, key, quiet, state};
use crate::actors::fake_node::{FakeNode, PATIENCE, member};
use crate::actors::ring_view::tests::{id, ring};
use crate::dynamo::ring::{MemberNumber, Ring};
use crate::dynamo::version::{State, sync};
use crate::storage::{Change, Engine, Sync};
use crate::wire::state::encode_state;

const MEMBERS: [&str; 5] = ["a", "b", "c", "d", "e"];

fn owned_by(owners: &[&str], incoming: Option<&[&str]>) -> Ring {
    let mut ring = ring(owners, incoming);
    ring.members = MEMBERS.map(|name| member(name, "peer:1")).into();
    ring
}

/// Node a, a member that owns nothing, with a store of its own; the others are fakes.
struct Scene {
    stage: Stage,
    node: FakeNode,
    _keeper: Addr<HintKeeper>,
}

impl Scene {
    /// The owners as the hints are made, and as they are handed over.
    async fn new(owners: &[&str], away: &[&str]) -> Self {
        let stage = Stage::new(owners, None);
        stage.publish(owned_by(owners, None));
        stage.lose(away);
        let node = FakeNode::new("a");
        node.install(owned_by(owners, None)).await;
        let keeper = HintKeeper::new(HintKeeperParts {
            worker: stage.worker.clone(),
            records: node.records.clone(),
            store: node.store.clone().recipient(),
            background: background(),
            log: quiet(),
        });
        Self {
            stage,
            node,
            _keeper: keeper.start(),
        }
    }

    async fn keep(&self, target: &str, state: &State) {
        let number = MEMBERS.iter().position(|name| *name == target).unwrap();
        let terms = Terms {
            epoch: 5,
            set: OwnerSet::Fallback(MemberNumber(number.try_into().unwrap())),
            deadline: Instant::now() + PATIENCE,
            trace: None,
        };
        let (key, state) = (key("k"), encode_state(state));
        let kept = self
            .node
            .store
            .send(ReplicaWrite { key, state, terms })
            .await;
        assert_eq!(kept.unwrap(), Ok(()));
    }

    /// The next merge that a node is asked for, and its answer.
    async fn told(&mut self, answer: Result<(), Fault>) -> (String, ReplicaWrite) {
        let (node, write, reply) = timeout(PATIENCE, self.stage.write()).await.unwrap();
        reply.send(answer).unwrap();
        (node, write)
    }

    async fn wait_forgotten(&self) {
        let forgotten = async {
            while !self.node.records.hint_targets().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, forgotten).await.unwrap();
    }
}

#[actix::test]
async fn a_hint_waits_for_its_target_and_is_forgotten_when_it_was_acknowledged() {
    let mut scene = Scene::new(&["b", "c", "d"], &["b"]).await;
    scene.keep("b", &state(&[7])).await;
    scene.keep("c", &state(&[7])).await;
    let (node, write) = scene.told(Ok(())).await;
    assert_eq!(node, "c", "b is away");
    assert_eq!((write.terms.epoch, write.terms.set), (5, OwnerSet::Current));
    scene
        .stage
        .health
        .of(&id("b"))
        .answered(Duration::from_millis(1));
    let (node, write) = scene.told(Ok(())).await;
    assert_eq!(
        (node.as_str(), write.state),
        ("b", encode_state(&state(&[7])))
    );
    scene.wait_forgotten().await;
    scene.stage.assert_quiet();
}

#[actix::test]
async fn a_hint_that_is_refused_or_changes_meanwhile_is_sent_again() {
    let mut scene = Scene::new(&["b", "c", "d"], &[]).await;
    scene.keep("b", &state(&[7])).await;
    for fault in [Fault::TimedOut, Fault::StorageFull] {
        let (_, write) = scene.told(Err(fault)).await;
        assert_eq!(write.state, encode_state(&state(&[7])), "{fault:?}");
    }
    let (_, _, reply) = scene.stage.write().await;
    scene.keep("b", &state(&[8])).await;
    reply.send(Ok(())).unwrap();
    let both = sync(&state(&[7]), &state(&[8]));
    assert_eq!(scene.told(Ok(())).await.1.state, encode_state(&both));
    scene.wait_forgotten().await;
}

/// Whether the target lost the partition or left the ring: the owners of now must all have it.
#[actix::test]
async fn a_hint_for_a_node_that_is_no_owner_any_more_goes_to_all_that_are() {
    for gone in [false, true] {
        let mut scene = Scene::new(&["b", "c", "d"], &["b"]).await;
        scene.keep("b", &state(&[7])).await;
        let mut next = owned_by(&["c", "d"], None);
        next.epoch = 6;
        if gone {
            next.members.retain(|member| member.id != id("b"));
        }
        scene.stage.publish(next);
        let mut asked = Vec::new();
        for answer in [Ok(()), Err(Fault::Unreachable), Ok(()), Ok(())] {
            asked.push(scene.told(answer).await.0);
        }
        assert_eq!(asked, ["c", "d", "c", "d"], "gone: {gone}");
        scene.wait_forgotten().await;
    }
}

#[actix::test]
async fn while_a_partition_moves_its_new_owners_get_the_hint_as_well() {
    let mut scene = Scene::new(&["b", "c", "d"], &[]).await;
    let moving = owned_by(&["b", "c", "d"], Some(&["c", "d", "e"]));
    scene.stage.publish(moving);
    scene.keep("b", &state(&[7])).await;
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.push(scene.told(Ok(())).await.0);
    }
    assert_eq!(asked, ["b", "c", "d", "e"]);
    scene.wait_forgotten().await;
}

#[actix::test]
async fn an_unreadable_hint_is_dropped_and_sent_to_nobody() {
    let mut scene = Scene::new(&["b", "c", "d"], &[]).await;
    let damage = Change::PutHint(id("b"), key("k"), "noise".into());
    scene.node.engine.commit(vec![damage], Sync::Disk).unwrap();
    scene.wait_forgotten().await;
    scene.stage.assert_quiet();
}

#[test]
fn a_page_is_cut_by_its_bytes_and_the_rest_begins_after_it() {
    let hint = |name: &str, bytes: usize| (key(name), Bytes::from(vec![0; bytes]));
    let end = Some(key("z"));
    let rows = [
        (vec![], 0, end.clone()),
        (vec![hint("a", 9), hint("b", 9)], 2, end.clone()),
        (
            vec![hint("a", PAGE_BYTES + 1), hint("b", 9)],
            1,
            Some(key("a")),
        ),
        (vec![hint("a", PAGE_BYTES), hint("b", 1)], 1, Some(key("a"))),
        (
            vec![hint("a", PAGE_BYTES - 1), hint("b", 1)],
            2,
            end.clone(),
        ),
    ];
    for (row, (hints, count, after)) in rows.into_iter().enumerate() {
        let (first, rest) = first_bytes(hints, end.clone());
        assert_eq!((first.len(), rest), (count, after), "row {row}");
    }
}
