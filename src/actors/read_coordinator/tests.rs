//! One read, step by step, against replicas that answer what each test says.

mod fallbacks;
mod hedging;
mod moves;
mod strict;

use actix::Addr;
use bytes::Bytes;
use tokio::time::pause;

use super::*;
use crate::actors::fake::{Answer, Stage, a_read, has_stopped, held, in_time, settle, state};
use crate::actors::ring_view::tests::{id, ring};
use crate::dynamo::version::sync;

type Outcome = oneshot::Receiver<Result<ReadAnswer, Failure>>;

fn start_with(stage: &Stage, quorum: Option<usize>) -> (Addr<ReadCoordinator>, Outcome) {
    let (reply, outcome) = oneshot::channel();
    let (worker, mut read) = (stage.worker.clone(), a_read());
    read.options.quorum = quorum;
    let coordinator = ReadCoordinator::new(worker, read, in_time(2000), reply);
    (coordinator.start(), outcome)
}

fn start(stage: &Stage) -> (Addr<ReadCoordinator>, Outcome) {
    start_with(stage, None)
}

/// Three owners, and a read that asks only as many as it needs.
fn three() -> Stage {
    let stage = Stage::new(&["a", "b", "c"], None);
    stage.past_the_tenth();
    stage
}

#[track_caller]
fn not_met(outcome: Result<ReadAnswer, Failure>) -> (usize, usize) {
    match outcome {
        Err(Failure::QuorumNotMet(Shortfall { needed, got }, Applied::No)) => (needed, got),
        other => panic!("another end: {other:?}"),
    }
}

#[actix::test]
async fn as_many_replies_as_the_quorum_needs_are_an_answer() {
    for (asked, needed) in [(Some(1), 1), (None, 2), (Some(3), 3), (Some(9), 3)] {
        pause();
        let mut stage = three();
        let (coordinator, mut outcome) = start_with(&stage, asked);
        for n in 0..needed {
            assert!(outcome.try_recv().is_err(), "{asked:?} after {n}");
            let (_, read, answer) = stage.read().await;
            assert_eq!((read.terms.epoch, read.terms.set), (5, OwnerSet::Current));
            answer.send(Ok(held(&[7]))).unwrap();
            settle().await;
        }
        let answer = outcome.await.unwrap().unwrap();
        assert_eq!((answer.state, answer.acks.home), (state(&[7]), needed));
        assert!(has_stopped(&coordinator).await, "{asked:?}");
        stage.assert_quiet();
        tokio::time::resume();
    }
}

#[actix::test]
async fn a_replica_that_fails_is_followed_by_the_next_at_once() {
    pause();
    let began = Instant::now();
    let mut stage = three();
    let (_coordinator, outcome) = start(&stage);
    let (a, _, from_a) = stage.read().await;
    let (b, _, from_b) = stage.read().await;
    settle().await;
    stage.assert_quiet();
    from_b.send(Err(Fault::Unreachable)).unwrap();
    let (c, _, from_c) = stage.read().await;
    assert_eq!([a, b, c], ["a", "b", "c"]);
    from_a.send(Ok(held(&[7]))).unwrap();
    from_c.send(Ok(held(&[]))).unwrap();
    let answer = outcome.await.unwrap().unwrap();
    assert_eq!((answer.state, answer.acks.home), (state(&[7]), 2));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[actix::test]
async fn an_unreachable_node_is_asked_last() {
    pause();
    let mut stage = three();
    stage.health.of(&id("b")).failed();
    let (_coordinator, _outcome) = start(&stage);
    let asked = [stage.read().await.0, stage.read().await.0];
    assert_eq!(asked, ["a", "c"]);
}

#[actix::test]
async fn a_quorum_out_of_reach_fails_before_the_deadline() {
    pause();
    let began = Instant::now();
    let mut stage = three();
    let (coordinator, outcome) = start(&stage);
    let (_, _, from_a) = stage.read().await;
    let (_, _, from_b) = stage.read().await;
    from_a.send(Err(Fault::Unreachable)).unwrap();
    let (_, _, _silent) = stage.read().await;
    from_b.send(Err(Fault::Broken)).unwrap();
    assert_eq!(not_met(outcome.await.unwrap()), (2, 0));
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(!has_stopped(&coordinator).await, "one is out");
    tokio::time::advance(Duration::from_millis(2001)).await;
    assert!(has_stopped(&coordinator).await);
    stage.assert_quiet();
}

#[actix::test]
async fn differing_replies_are_merged_and_the_stale_replicas_repaired_after_the_answer() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    let (coordinator, outcome) = start(&stage);
    let (_, _, from_a) = stage.read().await;
    let (_, _, from_b) = stage.read().await;
    let (_, _, from_c) = stage.read().await;
    from_a.send(Ok(held(&[7]))).unwrap();
    from_b.send(Ok(held(&[8]))).unwrap();
    let answer = outcome.await.unwrap().unwrap();
    let both = sync(&state(&[7]), &state(&[8]));
    assert_eq!((&answer.state, answer.acks.home), (&both, 2));
    settle().await;
    stage.assert_quiet();
    from_c.send(Ok(held(&[7, 8]))).unwrap();
    for expected in ["a", "b"] {
        let (node, repair, answer) = stage.write().await;
        assert_eq!((node.as_str(), repair.terms.epoch), (expected, 5));
        assert_eq!(decode_state(&repair.state).unwrap(), both);
        answer.send(Ok(())).unwrap();
    }
    assert!(has_stopped(&coordinator).await);
    stage.assert_quiet();
}

#[actix::test]
async fn a_replica_that_never_answered_is_not_repaired_and_holds_up_no_repair() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    let (_coordinator, outcome) = start(&stage);
    let (_, _, from_a) = stage.read().await;
    let (_, _, from_b) = stage.read().await;
    let (_, _, _silent) = stage.read().await;
    from_a.send(Ok(held(&[7]))).unwrap();
    from_b.send(Ok(held(&[]))).unwrap();
    assert!(outcome.await.unwrap().is_ok());
    let (node, _, _) = stage.write().await;
    assert_eq!(node, "b");
    settle().await;
    stage.assert_quiet();
}

#[actix::test]
async fn equal_replies_leave_nothing_to_repair() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    let (coordinator, _outcome) = start(&stage);
    for _ in 0..3 {
        let (_, _, answer) = stage.read().await;
        answer.send(Ok(held(&[7]))).unwrap();
    }
    assert!(has_stopped(&coordinator).await);
    stage.assert_quiet();
}

#[actix::test]
async fn every_tenth_read_asks_all_owners() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    for n in 0..21 {
        let (_coordinator, outcome) = start(&stage);
        let expected = if n % 10 == 0 { 3 } else { 2 };
        for _ in 0..expected {
            let (_, _, answer) = stage.read().await;
            answer.send(Ok(held(&[]))).unwrap();
        }
        assert!(outcome.await.unwrap().is_ok());
        settle().await;
        stage.assert_quiet();
    }
}

#[actix::test]
async fn a_partition_that_has_flipped_is_read_from_its_incoming_owners() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], Some(&["a", "b", "d"]));
    stage.past_the_tenth();
    let (_coordinator, outcome) = start(&stage);
    let (_, _, from_a) = stage.read().await;
    let (_, _, from_b) = stage.read().await;
    from_a.send(Err(Fault::Flipped)).unwrap();
    let (c, _, _late) = stage.read().await;
    assert_eq!(c, "c");
    from_b.send(Err(Fault::Flipped)).unwrap();
    for _ in 0..2 {
        let (node, read, answer) = stage.read().await;
        assert_eq!(read.terms.set, OwnerSet::Incoming, "{node}");
        answer.send(Ok(held(&[7]))).unwrap();
    }
    let answer = outcome.await.unwrap().unwrap();
    assert_eq!((answer.state, answer.acks.home), (state(&[7]), 2));
}

/// What an owner said under the older question is no word about the newer one.
#[actix::test]
async fn a_late_reply_of_the_old_owners_counts_for_nothing_among_the_incoming() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], Some(&["a", "b", "d"]));
    let (coordinator, mut outcome) = start(&stage);
    let mut old = Vec::new();
    for _ in 0..3 {
        old.push(stage.read().await.2);
    }
    let late = old.pop().unwrap();
    for answer in old {
        answer.send(Err(Fault::Flipped)).unwrap();
    }
    let (_, _, first) = stage.read().await;
    let (_, _, second) = stage.read().await;
    late.send(Ok(held(&[1]))).unwrap();
    first.send(Ok(held(&[7]))).unwrap();
    settle().await;
    assert!(
        outcome.try_recv().is_err(),
        "one incoming owner is no quorum"
    );
    second.send(Ok(held(&[7]))).unwrap();
    assert_eq!(outcome.await.unwrap().unwrap().state, state(&[7]));
    assert!(has_stopped(&coordinator).await);
}

#[actix::test]
async fn owners_to_be_that_hold_nothing_yet_end_a_read_that_no_set_can_answer() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], Some(&["d", "e", "f"]));
    let (coordinator, outcome) = start(&stage);
    let (moment, mut asked) = (Duration::from_millis(1), 0);
    while let Ok((_, read, answer)) = tokio::time::timeout(moment, stage.read()).await {
        asked += 1;
        let refusal = match read.terms.set {
            OwnerSet::Current => Fault::Flipped,
            OwnerSet::Incoming | OwnerSet::Fallback(_) => Fault::NotReady,
        };
        answer.send(Err(refusal)).unwrap();
    }
    assert!(asked > 6 && asked <= 6 * (MAX_RESTARTS + 1), "{asked}");
    assert_eq!(not_met(outcome.await.unwrap()), (2, 0));
    assert!(has_stopped(&coordinator).await);
}

#[actix::test]
async fn a_newer_ring_is_followed() {
    pause();
    let mut stage = three();
    let (_coordinator, outcome) = start(&stage);
    let (_, _, from_a) = stage.read().await;
    let (_, _, from_b) = stage.read().await;
    stage.move_on(&["d", "e", "f"], None);
    from_a.send(Err(Fault::StaleRing)).unwrap();
    let (_, _, _c) = stage.read().await;
    from_b.send(Err(Fault::StaleRing)).unwrap();
    for expected in ["d", "e"] {
        let (node, read, answer) = stage.read().await;
        assert_eq!((node.as_str(), read.terms.epoch), (expected, 6));
        answer.send(Ok(held(&[7]))).unwrap();
    }
    assert_eq!(outcome.await.unwrap().unwrap().state, state(&[7]));
}

#[actix::test]
async fn a_refusal_without_a_newer_ring_ends_the_read() {
    pause();
    let mut stage = three();
    let (coordinator, outcome) = start(&stage);
    for _ in 0..3 {
        let (_, _, answer) = stage.read().await;
        drop(answer.send(Err(Fault::NotOwner)));
    }
    assert_eq!(not_met(outcome.await.unwrap()), (2, 0));
    assert!(has_stopped(&coordinator).await);
    stage.assert_quiet();
}

#[actix::test]
async fn at_the_deadline_a_read_ends_and_nothing_is_left_running() {
    pause();
    let began = Instant::now();
    let mut stage = three();
    let (coordinator, outcome) = start(&stage);
    let (_, _, from_a) = stage.read().await;
    let (_, _, _silent) = stage.read().await;
    from_a.send(Ok(held(&[7]))).unwrap();
    let end = outcome.await.unwrap();
    assert!(
        matches!(
            end,
            Err(Failure::DeadlineExceeded(Applied::No) | Failure::QuorumNotMet(_, Applied::No))
        ),
        "{end:?}"
    );
    assert_eq!(began.elapsed().as_secs(), 2);
    assert!(has_stopped(&coordinator).await);
}

#[actix::test]
async fn a_state_that_does_not_decode_is_a_fault_of_its_replica() {
    pause();
    let mut stage = three();
    let (_coordinator, outcome) = start(&stage);
    let (_, _, from_a) = stage.read().await;
    let (_, _, from_b) = stage.read().await;
    from_a.send(Ok(Some(Bytes::from_static(b"\xc1")))).unwrap();
    from_b.send(Ok(held(&[7]))).unwrap();
    let (c, _, from_c) = stage.read().await;
    from_c.send(Ok(held(&[7]))).unwrap();
    let answer = outcome.await.unwrap().unwrap();
    assert_eq!((c.as_str(), answer.acks.home), ("c", 2));
    settle().await;
    stage.assert_quiet();
}

#[actix::test]
async fn a_client_that_goes_away_leaves_the_repair_to_be_done() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    let (_coordinator, outcome) = start(&stage);
    drop(outcome);
    for lives in [[7].as_slice(), &[7], &[]] {
        let (_, _, answer) = stage.read().await;
        answer.send(Ok(held(lives))).unwrap();
    }
    assert_eq!(stage.write().await.0, "c");
}

#[actix::test]
async fn without_owners_a_read_ends_at_once() {
    pause();
    let stage = Stage::new(&[], None);
    let (coordinator, outcome) = start(&stage);
    assert_eq!(not_met(outcome.await.unwrap()), (1, 0));
    assert!(has_stopped(&coordinator).await);
    stage.publish(ring(&["a"], None));
}
