//! Moves between the parts of real nodes in memory, over real sockets.

mod shown;

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::mpsc;

use super::*;
use crate::actors::background::tests::background;
use crate::actors::fake::{quiet, state};
use crate::actors::fake_node::{Call, FakeNode, PATIENCE, Wire, proof, ring_of, socket};
use crate::actors::giver::{GivePage, Giver};
use crate::actors::pulling::PAGE_RECORDS;
use crate::dynamo::key::Key;
use crate::dynamo::quorum::Fault;
use crate::dynamo::ring::Placement;
use crate::storage::{Change, Engine, MemoryEngine, Sync};
use crate::wire::state::encode_state;
use crate::wire::transfer::{DigestReply, PullCall, PullReply};

/// Keys of one partition, and of all others.
fn keys(partition: Partition, inside: bool) -> impl Iterator<Item = Key> {
    (0..)
        .map(|n: u32| Key::new(Bytes::from(format!("key{n}"))).unwrap())
        .filter(move |key| (key.hash().partition() == partition) == inside)
}

fn moving() -> Partition {
    Partition::new(7).unwrap()
}

/// Only one partition moves: from `a`, `b`, `c` to `b`, `c`, `d`.
fn ring(at: &[(&str, &str)]) -> Ring {
    let mut ring = ring_of(at, &["a", "b", "c"], None);
    let to = ["b", "c", "d"].map(crate::actors::ring_view::tests::id);
    let row = &mut ring.placements[moving().index()];
    *row = Placement {
        incoming: Some(to.to_vec()),
        ..row.clone()
    };
    ring
}

struct Told(mpsc::UnboundedSender<u64>);

impl Actor for Told {
    type Context = Context<Self>;
}

impl Handler<TransfersDone> for Told {
    type Result = ();

    fn handle(&mut self, done: TransfersDone, _: &mut Self::Context) {
        self.0.send(done.epoch).unwrap();
    }
}

/// Starts to bring what `d` gains; gives the end, once it comes.
fn bring(d: &FakeNode) -> mpsc::UnboundedReceiver<u64> {
    let (tell, done) = mpsc::unbounded_channel();
    let parts = HandoffParts {
        view: d.view.clone(),
        link: Link::new(proof()),
        records: d.records.clone(),
        store: d.store.clone(),
        ring_keeper: d.ring_keeper.clone(),
        quorums: Quorums { read: 2, write: 2 },
        background: background(),
        log: quiet(),
    };
    let handoff = Handoff::new(parts, Told(tell).start().recipient()).start();
    for _ in 0..2 {
        handoff.do_send(StartTransfers { epoch: 5 });
    }
    done
}

async fn end(done: &mut mpsc::UnboundedReceiver<u64>) -> Option<u64> {
    tokio::time::timeout(PATIENCE, done.recv()).await.unwrap()
}

/// Three old owners that serve, and `d`, which gains the partition.
async fn four() -> (Vec<FakeNode>, FakeNode) {
    let names = ["a", "b", "c"];
    let sockets = names.map(|_| socket());
    let mut at: Vec<(&str, &str)> = names
        .into_iter()
        .zip(sockets.iter().map(|(_, address)| address.as_str()))
        .collect();
    at.push(("d", "127.0.0.1:1"));
    let ring = ring(&at);
    let mut owners = Vec::new();
    for (name, (socket, _)) in names.into_iter().zip(sockets.iter()) {
        let node = FakeNode::new(name);
        node.install(ring.clone()).await;
        node.serve(socket.try_clone().unwrap());
        owners.push(node);
    }
    let d = FakeNode::new("d");
    d.install(ring.clone()).await;
    (owners, d)
}

#[actix::test]
async fn a_gained_partition_is_pulled_in_pages_verified_and_flipped() {
    let (owners, d) = four().await;
    let many: Vec<Key> = keys(moving(), true).take(PAGE_RECORDS + 40).collect();
    for (n, key) in many.iter().enumerate() {
        // Every record is on two of the three.
        for owner in owners.iter().enumerate().filter(|(i, _)| *i != n % 3) {
            owner.1.write(key, &state(&[n as u64])).await;
        }
    }
    let elsewhere = keys(moving(), false).next().unwrap();
    owners[0].write(&elsewhere, &state(&[1])).await;
    let mut done = bring(&d);
    assert_eq!(end(&mut done).await, Some(5));
    for (n, key) in many.iter().enumerate() {
        assert_eq!(d.state(key), Some(state(&[n as u64])), "{key:?}");
    }
    assert_eq!(d.state(&elsewhere), None);
    assert!(d.view.load().verified.contains(moving()));
    let flipped = owners.iter().filter(|o| o.view.load().is_flipped(moving()));
    assert!(flipped.count() >= 2);
    assert!(done.try_recv().is_err(), "told once");
}

/// Seed defect 14: a bulk load overwrote what was newer.
#[actix::test]
async fn seed_defect_14_what_is_newer_here_survives_what_is_pulled() {
    let (owners, d) = four().await;
    let mut some = keys(moving(), true);
    let (newer, both) = (some.next().unwrap(), some.next().unwrap());
    let mut covered = state(&[1, 2]);
    covered.siblings.remove(0);
    for owner in &owners {
        owner.write(&newer, &state(&[1])).await;
        owner.write(&both, &state(&[1])).await;
    }
    d.write(&newer, &covered).await;
    d.write(&both, &state(&[2])).await;
    assert_eq!(end(&mut bring(&d)).await, Some(5));
    assert_eq!(d.state(&newer), Some(covered));
    assert_eq!(d.state(&both), Some(state(&[1, 2])));
}

/// Seed defect 13: a pull gave keys of other ranges and left out some of its own.
#[actix::test]
async fn seed_defect_13_a_pull_gives_exactly_one_partition() {
    let a = FakeNode::new("a");
    a.install(ring(&[
        ("a", "a:1"),
        ("b", "b:1"),
        ("c", "c:1"),
        ("d", "d:1"),
    ]))
    .await;
    let mut mine: Vec<Key> = keys(moving(), true).take(20).collect();
    for key in mine
        .iter()
        .chain(&keys(moving(), false).take(50).collect::<Vec<_>>())
    {
        a.write(key, &state(&[1])).await;
    }
    let giver = Giver::new(a.records.clone(), a.view.clone(), background()).start();
    let (mut given, mut after) = (Vec::new(), None);
    loop {
        let page = giver.send(GivePage(pull(5, after))).await.unwrap().unwrap();
        assert!(page.is_intact() && page.records.len() <= 7);
        after = page.records.last().map(|(key, _)| key.clone());
        given.extend(page.records.into_iter().map(|(key, _)| key.to_vec()));
        if page.last {
            break;
        }
    }
    mine.sort();
    let mine: Vec<Vec<u8>> = mine.iter().map(|key| key.as_bytes().to_vec()).collect();
    assert_eq!(given, mine);
    for (epoch, refusal) in [(4, Fault::StaleRing), (6, Fault::RingBehind)] {
        let refused = giver.send(GivePage(pull(epoch, None))).await.unwrap();
        assert_eq!(refused, Err(refusal));
    }
}

fn pull(epoch: u64, after: Option<Bytes>) -> PullCall {
    PullCall {
        epoch,
        partition: moving().number(),
        after,
        limit: 7,
    }
}

/// A page of nothing but damage would look like the last one, and hide what comes after it.
#[actix::test]
async fn damaged_records_do_not_hide_the_sound_ones_behind_them() {
    let engine = Arc::new(MemoryEngine::default());
    let a = FakeNode::start("a", engine.clone());
    a.install(ring(&[
        ("a", "a:1"),
        ("b", "b:1"),
        ("c", "c:1"),
        ("d", "d:1"),
    ]))
    .await;
    let mut mine: Vec<Key> = keys(moving(), true).take(20).collect();
    mine.sort();
    let sound = mine.pop().unwrap();
    a.write(&sound, &state(&[1])).await;
    let damaged = |key: &Key| Change::Put(moving(), key.clone(), Bytes::from_static(b"rot"));
    let damage = mine.iter().map(damaged).collect();
    engine.commit(damage, Sync::Disk).unwrap();
    let giver = Giver::new(a.records.clone(), a.view.clone(), background()).start();
    let page = giver.send(GivePage(pull(5, None))).await.unwrap().unwrap();
    let given: Vec<&[u8]> = page.records.iter().map(|(key, _)| key.as_ref()).collect();
    assert_eq!(given, [&sound.as_bytes()[..]]);
    assert_eq!(page.damaged, 19, "the owner says what it could not give");
}

/// Three old owners that are one listener of the test, and `d`.
async fn scripted() -> (Wire, FakeNode) {
    let (wire, d) = (Wire::new().await, FakeNode::new("d"));
    let at = wire.address.as_str();
    let ring = ring(&[("a", at), ("b", at), ("c", at), ("d", "127.0.0.1:1")]);
    d.install(ring).await;
    (wire, d)
}

fn encoded(reply: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec_named(reply).unwrap()
}

/// Answers with how much there is to pull, and then the call for a page.
async fn pulls(wire: &mut Wire) -> Call {
    tells(wire).await;
    wire.call("/peer/v1/pull").await
}

async fn tells(wire: &mut Wire) {
    let digest = DigestReply {
        root: 1,
        records: 1,
        recovering: false,
    };
    let call = wire.call("/peer/v1/digest").await;
    call.answer(200, encoded(&digest));
}

/// Answers one owner's pull and digests with nothing to give.
async fn nothing_to_give(wire: &mut Wire) {
    let empty = PullReply::new(Vec::new(), true);
    pulls(wire).await.answer(200, encoded(&empty));
    tells(wire).await;
}

#[actix::test]
async fn with_too_few_old_owners_nothing_is_verified_and_it_is_tried_again() {
    let (mut wire, d) = scripted().await;
    let mut done = bring(&d);
    nothing_to_give(&mut wire).await;
    for _ in 0..2 {
        wire.call("/peer/v1/digest").await.answer(503, Vec::new());
    }
    // The next attempt starts from the beginning, and nobody was asked to flip.
    nothing_to_give(&mut wire).await;
    assert!(!d.view.load().verified.contains(moving()));
    nothing_to_give(&mut wire).await;
    wire.call("/peer/v1/digest").await.answer(503, Vec::new());
    for reply in [
        FlipReply::Flipped,
        FlipReply::WrongEpoch,
        FlipReply::NotMoving,
    ] {
        let call = wire.call("/peer/v1/flip").await;
        assert!(d.view.load().verified.contains(moving()));
        call.answer(200, encoded(&reply));
    }
    // One flip is too few: that alone is tried again.
    for _ in 0..3 {
        assert!(done.try_recv().is_err());
        let call = wire.call("/peer/v1/flip").await;
        call.answer(200, encoded(&FlipReply::Flipped));
    }
    assert_eq!(end(&mut done).await, Some(5));
}

/// As when the connection breaks in the middle of a large partition.
#[actix::test]
async fn a_pull_that_was_cut_short_goes_on_behind_the_last_page_that_came() {
    let (mut wire, d) = scripted().await;
    let _done = bring(&d);
    let mut some: Vec<Key> = keys(moving(), true).take(3).collect();
    some.sort();
    let record = |key: &Key, life| (key.as_bytes().clone(), encode_state(&state(&[life])));
    let after = |call: &Call| -> Option<Bytes> {
        let asked: PullCall = rmp_serde::from_slice(&call.body).unwrap();
        asked.after
    };
    let first = pulls(&mut wire).await;
    assert_eq!(after(&first), None);
    let page = PullReply::new(vec![record(&some[0], 1), record(&some[1], 2)], false);
    first.answer(200, encoded(&page));
    wire.call("/peer/v1/pull").await.answer(503, Vec::new());
    for _others in 0..2 {
        wire.call("/peer/v1/digest").await.answer(503, Vec::new());
    }
    // The next attempt.
    let second = pulls(&mut wire).await;
    assert_eq!(after(&second).as_ref(), Some(some[1].as_bytes()));
    let page = PullReply::new(vec![record(&some[2], 3)], true);
    second.answer(200, encoded(&page));
    tells(&mut wire).await;
    // The digests differ, and it brought something new: only a pass that does not is the last, and
    // that begins at the beginning.
    let third = wire.call("/peer/v1/pull").await;
    assert_eq!(after(&third), None);
    for (key, life) in some.iter().zip(1..) {
        assert_eq!(d.state(key), Some(state(&[life])), "{key:?}");
    }
    assert!(!d.view.load().verified.contains(moving()));
}

/// What the first part has found missing, the second one does not forget.
#[actix::test]
async fn a_pull_that_was_cut_short_is_no_pass_that_found_everything_here() {
    let (mut wire, d) = scripted().await;
    let _done = bring(&d);
    let key = keys(moving(), true).next().unwrap();
    let record = (key.as_bytes().clone(), encode_state(&state(&[1])));
    let page = PullReply::new(vec![record], false);
    pulls(&mut wire).await.answer(200, encoded(&page));
    wire.call("/peer/v1/pull").await.answer(503, Vec::new());
    for _others in 0..2 {
        wire.call("/peer/v1/digest").await.answer(503, Vec::new());
    }
    nothing_to_give(&mut wire).await;
    // Else it would turn to the next owner, with a digest.
    wire.call("/peer/v1/pull").await;
}

/// As when the node is found to have gone back in time in the middle of a move.
#[actix::test]
async fn p1_a_pull_begins_anew_when_what_it_brought_was_discarded() {
    let (mut wire, d) = scripted().await;
    let _done = bring(&d);
    let key = keys(moving(), true).next().unwrap();
    let record = (key.as_bytes().clone(), encode_state(&state(&[1])));
    let first = pulls(&mut wire).await;
    first.answer(200, encoded(&PullReply::new(vec![record], false)));
    let second = wire.call("/peer/v1/pull").await;
    let begun = d
        .ring_keeper
        .send(crate::actors::ring_keeper::BeginRecovery);
    assert_eq!(begun.await.unwrap(), Ok(()));
    second.answer(503, Vec::new());
    for _others in 0..2 {
        wire.call("/peer/v1/digest").await.answer(503, Vec::new());
    }
    let third = pulls(&mut wire).await;
    let asked: PullCall = rmp_serde::from_slice(&third.body).unwrap();
    assert_eq!((asked.after, d.state(&key)), (None, None));
}

#[actix::test]
async fn a_damaged_page_is_not_taken_in() {
    let (mut wire, d) = scripted().await;
    let _done = bring(&d);
    let key = keys(moving(), true).next().unwrap();
    let record = |body: Vec<u8>| PullReply::new(vec![(key.as_bytes().clone(), body.into())], true);
    let mut torn = record(encode_state(&state(&[1])).to_vec());
    torn.checksum ^= 1;
    for page in [torn, record(b"\xc1".to_vec())] {
        let call = pulls(&mut wire).await;
        call.answer(200, encoded(&page));
    }
    wire.call("/peer/v1/digest").await;
    assert_eq!(d.state(&key), None);
    assert!(!d.view.load().verified.contains(moving()));
}

/// What it cannot give may be the only copy of an acknowledged write among those that answer.
#[actix::test]
async fn p11_an_old_owner_with_damaged_records_does_not_count_as_pulled_from() {
    let (mut wire, d) = scripted().await;
    let _done = bring(&d);
    let key = keys(moving(), true).next().unwrap();
    let record = (key.as_bytes().clone(), encode_state(&state(&[1])));
    let page = PullReply {
        damaged: 1,
        ..PullReply::new(vec![record], true)
    };
    nothing_to_give(&mut wire).await;
    for _ in 0..2 {
        let call = pulls(&mut wire).await;
        call.answer(200, encoded(&page));
    }
    // From the beginning: one whole owner is one too few.
    wire.call("/peer/v1/digest").await;
    assert_eq!(d.state(&key), Some(state(&[1])), "what it gave is taken");
    assert!(!d.view.load().verified.contains(moving()));
}

#[actix::test]
async fn a_ring_that_moves_on_ends_the_transfers_without_a_word() {
    let (mut wire, d) = scripted().await;
    let mut done = bring(&d);
    let call = pulls(&mut wire).await;
    let mut next = d.view.load().ring.as_deref().cloned().unwrap();
    next.epoch = 6;
    d.install(next).await;
    call.answer(200, encoded(&PullReply::new(Vec::new(), true)));
    // Whoever would be told has gone with the handoff, once that has nothing left to do.
    let ended = async {
        loop {
            tokio::select! {
                told = done.recv() => return told,
                call = wire.any() => call.answer(409, Vec::new()),
            }
        }
    };
    let told = tokio::time::timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(told, None);
    assert!(d.view.load().verified.is_empty());
}

/// Deleted and forgotten by the owners while `d` kept an old copy.
#[actix::test]
async fn p7_an_old_copy_is_gone_before_anything_is_pulled() {
    let (owners, d) = four().await;
    let all: Vec<Key> = keys(moving(), true).take(3).collect();
    let [deleted, kept, _] = all.as_slice() else {
        panic!("three keys");
    };
    let old = FakeNode::new("d");
    let moving_ring = d.view.load().ring.as_deref().cloned().unwrap();
    let mut before = moving_ring.clone();
    before.epoch = 3;
    before.placements[moving().index()] = Placement {
        owners: vec![crate::actors::ring_view::tests::id("d")],
        incoming: None,
    };
    old.install(before.clone()).await;
    for key in [deleted, kept] {
        old.write(key, &state(&[1])).await;
    }
    before.epoch = 4;
    before.placements[moving().index()] = moving_ring.placements[0].clone();
    old.install(before).await;
    owners[0].write(kept, &state(&[1, 2])).await;
    owners[1].write(kept, &state(&[1, 2])).await;
    old.install(moving_ring).await;
    let mut done = bring(&old);
    assert_eq!(end(&mut done).await, Some(5));
    assert_eq!(old.state(kept), Some(state(&[1, 2])));
    assert_eq!(old.state(deleted), None, "it came back");
}
