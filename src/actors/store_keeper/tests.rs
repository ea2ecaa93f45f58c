//! What the store keeper promises, with an engine that can be held up and made to fail.

mod digests;
mod durability;
mod fixture;
mod hints;
mod unheard;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::actors::replica::Terms;
use crate::actors::ring_view::View;
use crate::actors::ring_view::tests::{id, ring};
use crate::dynamo::key::Key;
use crate::dynamo::ring::ClusterId;
use crate::dynamo::version::{Clock, Reason, Remembered, State, WriteKind};
use crate::limits::SIBLINGS_MAX;
use crate::storage::{Change, Sync};
use crate::wire::record::encode_record;
use crate::wire::state::{decode_state, encode_state};
use fixture::{FakeEngine, apply, delete, key, minted, put, run, terms, write, written};

fn always() -> (Arc<FakeEngine>, fixture::Run) {
    let engine = Arc::new(FakeEngine::default());
    let run = run(engine.clone(), Durability::Always);
    (engine, run)
}

#[actix::test]
async fn what_a_full_disk_refused_is_not_remembered_as_written() {
    let (engine, run) = always();
    let (minted, _) = run.put("k", Clock::default()).await;
    engine.failure.store(1, Ordering::SeqCst);
    let refused = run.mint(put("k", "2", minted.answer.clone())).await;
    assert_eq!(refused, Err(Fault::StorageFull));
    engine.failure.store(0, Ordering::SeqCst);
    let (second, _) = run.put("k", minted.answer).await;
    assert_eq!(second.siblings, 1, "replaces the only value there is");
}

#[actix::test]
async fn a_mint_is_seen_by_the_next_mint_of_the_same_batch() {
    let (engine, run) = always();
    let before = engine.counted().0;
    let ops = ["1", "2"].map(|value| StoreOp::Mint(put("k", value, Clock::default())));
    let batch = apply(ops.into());
    let replies = run.keeper.send(batch).await.unwrap();
    let counts: Vec<usize> = replies
        .into_iter()
        .map(|reply| match reply {
            Ok(StoreReply::Minted(reply)) => minted(reply).siblings,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(counts, [1, 2]);
    let state = run.state("k").unwrap();
    assert_eq!(state.context.vector().len(), 1, "one actor minted both");
    assert_eq!(state.context.vector()[0].1, 2);
    let afar = |r: &Remembered| r.reason == Reason::Afar;
    assert!(
        state.remembered.len() == 2 && state.remembered.iter().all(afar),
        "from afar"
    );
    assert_eq!(
        engine.counted().0 - before,
        2,
        "the epoch lease, and the batch"
    );
}

/// P3. The first of many mints for other nodes stays known as long as its coordinator may not have
/// heard of it.
#[actix::test]
async fn p3_a_mint_for_another_node_is_remembered_until_its_coordinator_has_heard() {
    let (_, run) = always();
    let (mut seen, mut ids) = (Clock::default(), Vec::new());
    for _ in 0..3 * Reason::Afar.most() {
        let mint = put("k", "1", seen.clone());
        ids.push(mint.mint.request.id);
        let heard = ids.iter().rev().skip(1).copied().filter(|id| *id != ids[0]);
        let batch = Apply {
            heard: heard.take(1).collect(),
            ..apply(vec![StoreOp::Mint(mint)])
        };
        let reply = run.keeper.send(batch).await.unwrap().remove(0);
        let Ok(StoreReply::Minted(reply)) = reply else {
            panic!("{reply:?}")
        };
        seen = minted(reply).answer;
    }
    let known = |state: &State, reason| -> Vec<u128> {
        let own = state.remembered.iter().filter(|r| r.reason == reason);
        own.map(|r| r.request.id).collect()
    };
    let state = run.state("k").unwrap();
    assert_eq!(known(&state, Reason::Doubtful), ids[..1]);
    let last = ids.len() - Reason::Afar.most();
    assert_eq!(known(&state, Reason::Afar), ids[last..]);
}

#[actix::test]
async fn a_state_is_merged_and_a_known_one_costs_nothing() {
    let (engine, run) = always();
    let (a, b) = (written(7, 1, 1), written(8, 1, 1));
    assert_eq!(run.keeper.send(write("k", &a)).await.unwrap(), Ok(()));
    assert_eq!(run.keeper.send(write("k", &b)).await.unwrap(), Ok(()));
    let both = run.state("k").unwrap();
    assert_eq!(both.siblings.len(), 2);
    let before = engine.counted();
    for known in [&a, &b, &both, &State::default()] {
        assert_eq!(run.keeper.send(write("k", known)).await.unwrap(), Ok(()));
    }
    assert_eq!(engine.counted(), before);
}

#[actix::test]
async fn what_was_not_minted_is_told_with_the_state() {
    let (_, run) = always();
    let (first, _) = run.put("k", Clock::default()).await;
    let mut create = put("k", "2", Clock::default());
    create.mint.kind = WriteKind::Create;
    let reply = run.mint(create.clone()).await;
    assert_eq!(reply, Ok(MintReply::AlreadyExists(first.state.clone())));
    let reply = run.mint(delete("absent", Clock::default())).await;
    let nothing = encode_state(&State::default());
    assert_eq!(reply, Ok(MintReply::NothingToDelete(nothing)));
    for _ in 1..SIBLINGS_MAX {
        run.put("k", Clock::default()).await;
    }
    let reply = run.mint(put("k", "101", Clock::default())).await;
    let full = encode_state(&run.state("k").unwrap());
    assert_eq!(reply, Ok(MintReply::TooManySiblings(full)));
    let mut kept = put("r", "1", Clock::default());
    kept.mint.remember = Some(Reason::Keyed);
    let first = run.mint(kept.clone()).await.unwrap();
    assert_eq!(run.mint(kept.clone()).await, Ok(first));
    kept.mint.request.fingerprint += 1;
    assert_eq!(run.mint(kept).await, Ok(MintReply::RequestReused));
}

type Spoil = fn(&mut Terms);

#[actix::test]
async fn requests_under_another_ring_or_too_late_are_refused_and_change_nothing() {
    let (engine, run) = always();
    let rows: [(&str, Spoil, Fault); 3] = [
        ("older ring", |t| t.epoch = 4, Fault::StaleRing),
        ("newer ring", |t| t.epoch = 6, Fault::RingBehind),
        (
            "too late",
            |t| t.deadline -= Duration::from_secs(9),
            Fault::Overloaded,
        ),
    ];
    let before = engine.counted();
    for (name, spoil, fault) in rows {
        let mut merge = write("k", &written(7, 1, 1));
        let mut mint = put("k", "1", Clock::default());
        spoil(&mut merge.terms);
        spoil(&mut mint.terms);
        assert_eq!(run.keeper.send(merge).await.unwrap(), Err(fault), "{name}");
        assert_eq!(run.mint(mint).await, Err(fault), "{name}");
    }
    let mut view = View::without_ring(id("n1"));
    view.ring = Some(Arc::new(ring(&["n2", "n3"], None)));
    run.publisher.publish(view);
    let merge = write("k", &written(7, 1, 1));
    assert_eq!(run.keeper.send(merge).await.unwrap(), Err(Fault::NotOwner));
    let mint = run.mint(put("k", "1", Clock::default())).await;
    assert_eq!(mint, Err(Fault::NotOwner));
    assert_eq!((engine.counted(), run.state("k")), (before, None));
}

#[actix::test]
async fn a_state_that_cannot_be_read_is_refused_alone() {
    let (_, run) = always();
    let mut bad = write("k", &written(7, 1, 1));
    bad.state = Bytes::from_static(b"\xc1");
    let good = write("k", &written(7, 1, 1));
    let ops = [bad, good].map(StoreOp::Write).into();
    let replies = run.keeper.send(apply(ops)).await.unwrap();
    assert_eq!(replies, [Err(Fault::Unreachable), Ok(StoreReply::Written)]);
}

#[actix::test]
async fn p11_a_damaged_record_takes_nothing_until_it_is_recovered_and_then_a_new_epoch() {
    let (engine, run) = always();
    let (_, before) = run.put("k", Clock::default()).await;
    let partition = key("k").hash().partition();
    let record = engine.get(partition, &key("k")).unwrap().unwrap().to_vec();
    let flipped = |at: usize| {
        let mut record = record.clone();
        record[at] ^= 1;
        record
    };
    let not_a_state = encode_record(b"\x93 not a state", None).to_vec();
    let known = written(7, 1, 1);
    for (n, rot) in [flipped(30), flipped(2), not_a_state]
        .into_iter()
        .enumerate()
    {
        let change = Change::Put(partition, key("k"), rot.into());
        engine.inner.commit(vec![change], Sync::Disk).unwrap();
        // What was written lately is not read again: damage shows when the node starts anew.
        let run = fixture::run(engine.clone(), Durability::Always);
        let mint = run.mint(put("k", "1", Clock::default())).await;
        assert_eq!(mint, Err(Fault::Damaged), "{n}");
        let merge = run.keeper.send(write("k", &known)).await.unwrap();
        assert_eq!(merge, Err(Fault::Damaged), "{n}");
        let recover = Recover {
            key: key("k"),
            state: known.clone(),
            terms: terms(),
        };
        assert_eq!(run.keeper.send(recover).await.unwrap(), Ok(()), "{n}");
        run.records.damage().done(&key("k"), true);
        assert_eq!(run.state("k"), Some(known.clone()), "{n}");
        let (minted, after) = run.put("k", Clock::default()).await;
        assert_ne!(before.actor, after.actor, "{n}");
        assert_eq!(minted.siblings, 2, "{n}");
        let status = run.keeper.send(GetStatus).await.unwrap();
        assert_eq!((status.damaged, status.mended, status.keys), (1, 1, 1));
    }
}

#[actix::test]
async fn a_state_with_unknown_writes_of_this_node_begins_a_new_incarnation() {
    let (engine, run) = always();
    let me = run.identity.incarnation;
    let (_, own) = run.put("k", Clock::default()).await;
    let later = written(me.0, own.actor.epoch, own.n + 1);
    assert_eq!(run.keeper.send(write("k", &later)).await.unwrap(), Ok(()));
    let (_, next) = run.put("k", Clock::default()).await;
    assert_ne!(next.actor.incarnation, me);
    let status = run.keeper.send(GetStatus).await.unwrap();
    assert_eq!(status.incarnation, next.actor.incarnation.to_string());
    let again = fixture::run(engine, Durability::Always);
    assert_eq!(again.identity.incarnation, next.actor.incarnation);
    let future = written(next.actor.incarnation.0, 1 << 40, 1);
    let (_, last) = again.put("other", future.context.into()).await;
    assert_ne!(last.actor.incarnation, next.actor.incarnation);
}

#[actix::test]
async fn status_counts_keys_and_tombstones_across_restarts() {
    let (engine, run) = always();
    for name in ["a", "b", "c"] {
        run.put(name, Clock::default()).await;
    }
    let (seen, _) = run.put("b", Clock::default()).await;
    let all = decode_state(&seen.state).unwrap();
    minted(run.mint(delete("b", Clock::of(&all))).await.unwrap());
    let now = run.keeper.send(GetStatus).await.unwrap();
    assert_eq!((now.keys, now.tombstones, now.operations), (2, 1, 5));
    assert_eq!((now.depth, now.boot, now.durability), (0, 1, "always"));
    assert!(now.bytes > 0 && now.commits == now.syncs);
    let again = fixture::run(engine, Durability::Always);
    let then = again.keeper.send(GetStatus).await.unwrap();
    assert_eq!((then.keys, then.tombstones, then.boot), (2, 1, 2));
}

#[actix::test]
async fn the_cluster_is_noted_once_and_for_good() {
    let (engine, run) = always();
    let note = |cluster| {
        run.keeper.send(NoteCluster {
            cluster: ClusterId(cluster),
        })
    };
    assert_eq!(note(7).await.unwrap(), Ok(()));
    assert_eq!(note(7).await.unwrap(), Ok(()));
    let other = Err(NoteClusterError::Other(ClusterId(7)));
    assert_eq!(note(8).await.unwrap(), other);
    assert_eq!(run.keeper.send(Drain).await.unwrap(), Ok(()));
    assert_eq!(note(7).await.unwrap(), Err(NoteClusterError::Ended));
    let again = fixture::run(engine, Durability::Always);
    assert_eq!(again.identity.cluster, Some(ClusterId(7)));
}

#[actix::test]
async fn a_full_disk_refuses_what_needs_space_and_nothing_else() {
    let (engine, run) = always();
    let known = written(7, 1, 1);
    run.keeper.send(write("k", &known)).await.unwrap().unwrap();
    run.put("k", Clock::default()).await;
    let held = run.state("k");
    engine.failure.store(1, Ordering::SeqCst);
    let ops = vec![
        StoreOp::Write(write("k", &known)),
        StoreOp::Mint(put("k", "2", Clock::default())),
        StoreOp::Write(write("k", &known)),
        StoreOp::Write(write("new", &known)),
    ];
    let meta = SaveMeta {
        name: "ring",
        value: "r".into(),
    };
    let (saved, replies) = tokio::join!(run.keeper.send(meta), run.keeper.send(apply(ops)));
    let full = || Err(Fault::StorageFull);
    assert_eq!(
        replies.unwrap(),
        [Ok(StoreReply::Written), full(), full(), full()]
    );
    assert_eq!(saved.unwrap(), Ok(()));
    assert_eq!(engine.meta("ring").unwrap(), Some("r".into()));
    assert_eq!((run.state("k"), run.state("new")), (held, None));
    engine.failure.store(0, Ordering::SeqCst);
    let (minted, _) = run.put("k", Clock::default()).await;
    assert_eq!(minted.siblings, 3);
}

fn names(entries: &[(Key, Bytes)]) -> Vec<Key> {
    entries.iter().map(|(key, _)| key.clone()).collect()
}

#[actix::test]
async fn a_scan_pages_through_a_partition_and_leaves_damage_out() {
    let (engine, run) = always();
    let partition = key("k").hash().partition();
    let here = (0..).map(|i| key(&format!("key-{i:05}")));
    let here = here.filter(|key| key.hash().partition() == partition);
    let keys: Vec<Key> = here.take(5).collect();
    let record = encode_record(&encode_state(&written(7, 1, 1)), None);
    let put = |(i, key): (usize, &Key)| {
        let cut = record.slice(..record.len() - usize::from(i == 1));
        Change::Put(partition, key.clone(), cut)
    };
    let changes = keys.iter().enumerate().map(put).collect();
    engine.inner.commit(changes, Sync::Disk).unwrap();
    let first = run.records.scan(partition, None, 3).unwrap();
    assert_eq!(names(&first.entries), [keys[0].clone(), keys[2].clone()]);
    assert_eq!(first.damaged, 1);
    let second = run
        .records
        .scan(partition, first.next_after.as_ref(), 3)
        .unwrap();
    assert_eq!(names(&second.entries), keys[3..]);
    assert_eq!((second.next_after, run.records.damage().found()), (None, 1));
}
