//! That the digests follow what is stored.

use tokio::task::yield_now;

use super::*;
use crate::actors::store_keeper::{
    GetLeaves, GetRoots, GetValues, Reap, RebuildDigests, Recover, record_mark,
};
use crate::dynamo::key::Partition;
use crate::dynamo::merkle::{Digest, LeafDigests};

/// Waits until all partitions are built, and gives their roots.
async fn built(run: &fixture::Run) -> Vec<Digest> {
    loop {
        let roots = run.keeper.send(GetRoots).await.unwrap();
        if let Some(roots) = roots.into_iter().collect() {
            return roots;
        }
        yield_now().await;
    }
}

/// The roots of what the engine holds.
fn from_scratch(run: &fixture::Run) -> Vec<Digest> {
    let of = |partition| {
        let page = run.records.scan(partition, None, 1000).unwrap();
        let mut root = Digest::default();
        for (key, state) in page.entries {
            root.toggle(record_mark(&key, &state).digest);
        }
        root
    };
    Partition::all().map(of).collect()
}

#[actix::test]
async fn digests_follow_writes_before_during_and_after_their_build() {
    let (_engine, run) = always();
    for round in 0..6_u64 {
        for n in 0..40 {
            let name = format!("key{n}");
            let seen = run
                .state(&name)
                .map_or_else(Clock::default, |s| Clock::of(&s));
            match (n + round) % 4 {
                0 => drop(run.put(&name, seen).await),
                1 => drop(run.put(&name, Clock::default()).await),
                2 => drop(run.mint(delete(&name, seen)).await.unwrap()),
                _ => {
                    let state = written(round + 50, n, 1);
                    let merged = run.keeper.send(write(&name, &state)).await.unwrap();
                    assert_eq!(merged, Ok(()));
                }
            }
        }
        if round == 3 {
            assert_eq!(
                built(&run).await,
                from_scratch(&run),
                "built between writes"
            );
        }
    }
    assert_eq!(built(&run).await, from_scratch(&run));
    let partition = key("key3").hash().partition();
    let leaves = run.keeper.send(GetLeaves(partition)).await.unwrap();
    let root = leaves.as_ref().map(LeafDigests::root);
    assert_eq!(root, built(&run).await.get(partition.index()).copied());
}

#[actix::test]
async fn a_commit_that_was_refused_changes_no_digest() {
    let (engine, run) = always();
    run.put("k", Clock::default()).await;
    let before = built(&run).await;
    engine.failure.store(1, Ordering::SeqCst);
    let refused = run.mint(put("k", "2", Clock::default())).await;
    assert_eq!(refused, Err(Fault::StorageFull));
    assert_eq!(built(&run).await, before);
}

/// The digests must say that something is missing, so that the other owners repair it.
#[actix::test]
async fn p11_a_damaged_record_leaves_the_digests() {
    let (engine, run) = always();
    run.put("k", Clock::default()).await;
    let (sound, partition) = (built(&run).await, key("k").hash().partition());
    let garbage = Change::Put(partition, key("k"), "garbage".into());
    engine.inner.commit(vec![garbage], Sync::Disk).unwrap();
    assert_eq!(built(&run).await, sound, "nobody has read it yet");
    run.keeper.send(RebuildDigests(partition)).await.unwrap();
    assert_eq!(built(&run).await[partition.index()], Digest::default());
    // What the digest of a damaged record was is not known, so its partition is built anew.
    let recover = Recover {
        key: key("k"),
        state: written(7, 1, 1),
        terms: fixture::terms(),
    };
    assert_eq!(run.keeper.send(recover).await.unwrap(), Ok(()));
    assert_eq!(built(&run).await, from_scratch(&run));
    assert_ne!(built(&run).await[partition.index()], Digest::default());
}

#[actix::test]
async fn p7_a_delete_is_forgotten_only_in_exactly_the_state_that_was_agreed_on() {
    let (_engine, run) = always();
    let mut left = Vec::new();
    for name in ["same", "newer", "live"] {
        let (minted, _) = run.put(name, Clock::default()).await;
        if name != "live" {
            let deleted = minted_of(run.mint(delete(name, minted.answer)).await);
            left.push((key(name), deleted));
        }
    }
    let alive = encode_state(&run.state("live").unwrap());
    left.push((key("live"), alive));
    left.push((key("absent"), encode_state(&written(7, 1, 1))));
    let seen = run.state("newer").unwrap().context;
    let (again, _) = run.put("newer", seen.into()).await;
    run.mint(delete("newer", again.answer)).await.unwrap();
    built(&run).await;
    assert_eq!(run.keeper.send(Reap(left)).await.unwrap(), Ok(2));
    assert_eq!(run.state("same"), None);
    for name in ["newer", "live"] {
        assert!(run.state(name).is_some(), "{name}");
    }
    let status = run.keeper.send(GetStatus).await.unwrap();
    assert_eq!((status.keys, status.tombstones), (1, 1));
    assert_eq!(built(&run).await, from_scratch(&run));
    let values = run.keeper.send(GetValues).await.unwrap();
    assert_eq!(values.into_iter().flatten().sum::<u64>(), 1);
    let (_, dot) = run.put("same", Clock::default()).await;
    assert_eq!(dot.n, 1, "a forgotten record begins a new epoch");
}

fn minted_of(reply: Result<MintReply, Fault>) -> bytes::Bytes {
    minted(reply.unwrap()).state
}
