//! When what is acknowledged is on the disk, and what a restart finds.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use actix::{Actor, MailboxError};
use futures_util::FutureExt;
use futures_util::future::join_all;

use super::fixture::{self, FakeEngine, Gate, apply, key, put, run, terms, write, written};
use crate::actors::local_reader::LocalReader;
use crate::actors::replica::ReplicaRead;
use crate::actors::store_keeper::{
    COMMIT_OPERATIONS, Drain, GetStatus, SaveMeta, StoreKeeper, StoreOp,
};
use crate::dynamo::quorum::Fault;
use crate::dynamo::version::{Clock, Dot};
use crate::storage::{Change, Durability, Engine, FjallEngine, Found, MemoryEngine, Sync};

#[actix::test]
async fn concurrent_writes_share_one_sync_and_none_is_answered_before_it() {
    let (entered, mut commits) = tokio::sync::mpsc::unbounded_channel();
    let (let_on, go_on) = mpsc::channel();
    let_on.send(()).unwrap();
    let gate: Option<Gate> = Some((entered, Mutex::new(go_on)));
    let engine = Arc::new(FakeEngine {
        gate,
        ..FakeEngine::default()
    });
    let (parts, _run) = fixture::parts(engine.clone(), Durability::Always);
    assert_eq!(commits.recv().await, Some(0), "the start itself");
    let keeper = StoreKeeper::start(parts).unwrap();

    let send = |i: usize| keeper.send(write(&format!("k{i}"), &written(7, 1, 1)));
    let mut first = Box::pin(send(0));
    assert!(first.as_mut().now_or_never().is_none());
    assert_eq!(commits.recv().await, Some(1));
    let mut rest: Vec<_> = (1..=40).map(|i| Box::pin(send(i))).collect();
    for waiting in &mut rest {
        assert!(waiting.as_mut().now_or_never().is_none());
    }
    assert!(
        first.as_mut().now_or_never().is_none(),
        "its sync is still under way"
    );
    let_on.send(()).unwrap();
    assert_eq!(first.await.unwrap(), Ok(()));

    assert_eq!(commits.recv().await, Some(40), "all that had gathered");
    for waiting in &mut rest {
        assert!(
            waiting.as_mut().now_or_never().is_none(),
            "their sync is still under way"
        );
    }
    let_on.send(()).unwrap();
    for reply in join_all(rest).await {
        assert_eq!(reply.unwrap(), Ok(()));
    }
    assert_eq!(engine.counted(), (3, 0, 0));
}

#[actix::test]
async fn a_commit_is_bounded_and_a_peers_batch_is_not_torn() {
    let engine = Arc::new(FakeEngine::default());
    let run = run(engine.clone(), Durability::Always);
    let send = |i: usize| run.keeper.send(write(&format!("k{i}"), &written(7, 1, 1)));
    let replies = join_all((0..=COMMIT_OPERATIONS).map(send)).await;
    assert!(replies.into_iter().all(|reply| reply.unwrap() == Ok(())));
    assert_eq!(engine.counted().0, 1 + 2);
    let op = |i: usize| StoreOp::Write(write(&format!("b{i}"), &written(7, 1, 1)));
    let ops: Vec<StoreOp> = (0..COMMIT_OPERATIONS + 9).map(op).collect();
    let replies = run.keeper.send(apply(ops)).await.unwrap();
    assert_eq!(replies.len(), COMMIT_OPERATIONS + 9);
    assert_eq!(engine.counted().0, 1 + 3);
    let none = run.keeper.send(apply(Vec::new())).await.unwrap();
    assert!(none.is_empty());
}

#[actix::test]
async fn each_durability_syncs_as_often_as_it_says() {
    tokio::time::pause();
    let rows = [
        // synced commits (the start and the metadata among them), other commits, timed syncs
        (Durability::Always, (4, 0, 0)),
        (Durability::Interval, (2, 2, 1)),
        (Durability::Os, (2, 2, 0)),
    ];
    for (durability, expected) in rows {
        let engine = Arc::new(FakeEngine::default());
        let run = run(engine.clone(), durability);
        for name in ["a", "b"] {
            let merged = run.keeper.send(write(name, &written(7, 1, 1))).await;
            assert_eq!(merged.unwrap(), Ok(()));
        }
        let meta = SaveMeta {
            name: "ring",
            value: "r".into(),
        };
        assert_eq!(run.keeper.send(meta).await.unwrap(), Ok(()));
        tokio::time::advance(Duration::from_millis(201)).await;
        run.keeper.send(GetStatus).await.unwrap();
        assert_eq!(engine.counted(), expected, "{durability:?}");
        tokio::time::advance(Duration::from_millis(201)).await;
        run.keeper.send(GetStatus).await.unwrap();
        assert_eq!(engine.counted(), expected, "{durability:?}, idle");
    }
}

#[actix::test]
async fn no_dot_is_used_twice_whatever_is_forgotten_or_restarted() {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::default());
    let mut seen: BTreeSet<Dot> = BTreeSet::new();
    for round in 0..12 {
        if round % 3 == 2 {
            // Between two runs, since a run remembers what it wrote last.
            let forget = Change::Remove(key("a").hash().partition(), key("a"));
            engine.commit(vec![forget], Sync::Disk).unwrap();
        }
        let run = run(Arc::clone(&engine), Durability::Always);
        for name in ["a", "b", "a"] {
            let (_, dot) = run.put(name, Clock::default()).await;
            assert!(seen.insert(dot), "round {round}: {dot:?}");
        }
    }
}

#[actix::test]
async fn a_broken_engine_ends_the_node_and_nothing_is_acknowledged() {
    let engine = Arc::new(FakeEngine::default());
    let run = run(engine.clone(), Durability::Always);
    engine.failure.store(2, Ordering::SeqCst);
    let writes = ["a", "b"].map(|name| run.keeper.send(write(name, &written(7, 1, 1))));
    for reply in join_all(writes).await {
        assert_eq!(reply, Err(MailboxError::Closed));
    }
    engine.failure.store(0, Ordering::SeqCst);
    let later = run.keeper.send(put("c", "1", Clock::default())).await;
    assert_eq!(later, Err(MailboxError::Closed));
    assert_eq!(run.keeper.send(Drain).await.unwrap(), Err(Fault::Broken));
    let told = run.fatal.lock().unwrap().clone();
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("a torn sector"), "{told:?}");
    assert_eq!(engine.counted().0, 1, "nothing is tried again");
}

#[actix::test]
async fn a_timed_sync_that_fails_ends_the_node() {
    tokio::time::pause();
    let engine = Arc::new(FakeEngine::default());
    let run = run(engine.clone(), Durability::Interval);
    let merged = run.keeper.send(write("a", &written(7, 1, 1))).await;
    assert_eq!(merged.unwrap(), Ok(()));
    engine.failure.store(2, Ordering::SeqCst);
    for _ in 0..2 {
        tokio::time::advance(Duration::from_millis(201)).await;
        run.keeper.send(GetStatus).await.unwrap();
    }
    assert_eq!(run.fatal.lock().unwrap().len(), 1);
}

#[actix::test]
async fn draining_finishes_what_waits_and_leaves_a_whole_store() {
    let engine = Arc::new(FakeEngine::default());
    let first = run(engine.clone(), Durability::Interval);
    assert_eq!(first.found, Found::New);
    let last = first.keeper.send(write("a", &written(7, 1, 1)));
    let drained = first.keeper.send(Drain);
    let (last, drained) = tokio::join!(last, drained);
    assert_eq!((last.unwrap(), drained.unwrap()), (Ok(()), Ok(())));
    let late = first.keeper.send(write("b", &written(7, 1, 1))).await;
    assert_eq!(late.unwrap(), Err(Fault::Overloaded));
    let late = first.mint(put("b", "1", Clock::default())).await;
    assert_eq!(late, Err(Fault::Overloaded));
    assert_eq!(first.keeper.send(Drain).await.unwrap(), Ok(()));

    let second = run(engine.clone(), Durability::Interval);
    assert_eq!(second.found, Found::Whole);
    assert_eq!(second.identity.incarnation, first.identity.incarnation);
    let third = run(engine, Durability::Interval);
    assert_eq!(third.found, Found::MayHaveLost);
    assert_ne!(third.identity.incarnation, first.identity.incarnation);
}

/// Seed defect 24: no durability. What is acknowledged is in the files at that moment: a copy of
/// them, taken while the node still runs, has it.
#[actix::test]
async fn seed_defect_24_an_acknowledged_write_is_in_the_files() {
    let dir = tempfile::TempDir::new().unwrap();
    let engine = Arc::new(FjallEngine::open(&dir.path().join("live")).unwrap());
    let live = run(engine, Durability::Always);
    for i in 0..20 {
        live.put(&format!("k{i}"), Clock::default()).await;
    }
    let copy = dir.path().join("copy");
    copy_tree(&dir.path().join("live"), &copy);
    let again = run(
        Arc::new(FjallEngine::open(&copy).unwrap()),
        Durability::Always,
    );
    assert_eq!((again.found, again.identity.boot), (Found::Whole, 2));
    for i in 0..20 {
        let name = format!("k{i}");
        assert!(again.state(&name).is_some(), "{name}");
        assert_eq!(again.state(&name), live.state(&name));
    }
}

fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[actix::test]
async fn the_local_reader_sees_what_was_acknowledged_and_refuses_as_the_ring_says() {
    let run = run(Arc::new(MemoryEngine::default()), Durability::Always);
    let reader = LocalReader::new(run.records.clone(), run.publisher.view()).start();
    let read = |name| ReplicaRead {
        key: key(name),
        terms: terms(),
    };
    let (minted, _) = run.put("k", Clock::default()).await;
    assert_eq!(
        reader.send(read("k")).await.unwrap(),
        Ok(Some(minted.state))
    );
    assert_eq!(reader.send(read("absent")).await.unwrap(), Ok(None));
    let mut stale = read("k");
    stale.terms.epoch = 4;
    assert_eq!(reader.send(stale).await.unwrap(), Err(Fault::StaleRing));
    let mut late = read("k");
    late.terms.deadline -= Duration::from_secs(9);
    assert_eq!(reader.send(late).await.unwrap(), Err(Fault::Overloaded));
}
