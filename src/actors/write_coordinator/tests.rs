//! One write, step by step, against replicas that answer what each test says.

mod looks;
mod sloppy;

use actix::Addr;
use tokio::time::pause;

use super::*;
use crate::actors::fake::{Stage, a_write, has_stopped, in_time, minted, settle};
use crate::actors::ring_view::tests::ring;

type Outcome = oneshot::Receiver<Result<WriteAnswer, Failure>>;

fn start(stage: &Stage, write: Write) -> (Addr<WriteCoordinator>, Outcome) {
    let (reply, outcome) = oneshot::channel();
    let anonymous = RequestId {
        id: 77,
        fingerprint: 7,
    };
    let deadline = in_time(4000);
    let worker = stage.worker.clone();
    let coordinator = WriteCoordinator::new(worker, write, anonymous, deadline, reply);
    (coordinator.start(), outcome)
}

fn put() -> Write {
    a_write(WriteKind::Put)
}

#[track_caller]
fn failure(outcome: Result<WriteAnswer, Failure>) -> Failure {
    match outcome {
        Err(failure) => failure,
        Ok(answer) => panic!("not a failure: {answer:?}"),
    }
}

#[track_caller]
fn not_met(outcome: Result<WriteAnswer, Failure>) -> (usize, usize, Applied) {
    let Failure::QuorumNotMet(Shortfall { needed, got }, applied) = failure(outcome) else {
        panic!("another failure than a quorum not met")
    };
    (needed, got, applied)
}

#[actix::test]
async fn the_answer_leaves_at_the_quorum_and_the_coordinator_after_the_last_replica() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    let (coordinator, mut outcome) = start(&stage, put());
    let (node, mint, answer) = stage.mint().await;
    assert_eq!((node.as_str(), mint.terms.epoch), ("a", 5));
    let reply = minted(&State::default(), &mint);
    answer.send(Ok(reply.clone())).unwrap();
    let (b, to_b, from_b) = stage.write().await;
    let (c, to_c, from_c) = stage.write().await;
    assert_eq!((b.as_str(), c.as_str()), ("b", "c"));
    let MintReply::Minted(expected) = reply else {
        unreachable!("it was minted above")
    };
    assert_eq!(
        (&to_b.state, &to_c.state),
        (&expected.state, &expected.state)
    );
    settle().await;
    assert!(outcome.try_recv().is_err(), "one replica is no quorum");
    from_b.send(Ok(())).unwrap();
    let answer = outcome.await.unwrap().unwrap();
    assert_eq!(answer.clock, expected.answer);
    assert_eq!((answer.siblings, answer.acks.home), (1, 2));
    assert!(!has_stopped(&coordinator).await, "a replica is out");
    from_c.send(Err(Fault::Unreachable)).unwrap();
    assert!(has_stopped(&coordinator).await);
    stage.assert_quiet();
}

#[actix::test]
async fn a_late_replica_is_not_waited_for_beyond_the_deadline() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    let (coordinator, outcome) = start(&stage, put());
    let (_, mint, answer) = stage.mint().await;
    let began = Instant::now();
    answer.send(Ok(minted(&State::default(), &mint))).unwrap();
    let (_, _, from_b) = stage.write().await;
    let (_, _, _kept_back) = stage.write().await;
    from_b.send(Ok(())).unwrap();
    assert!(outcome.await.unwrap().is_ok());
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(!has_stopped(&coordinator).await);
    tokio::time::advance(Duration::from_millis(4001)).await;
    assert!(has_stopped(&coordinator).await);
}

#[actix::test]
async fn an_owner_that_does_not_mint_is_followed_by_the_next_under_the_same_request() {
    for fault in [Fault::Unreachable, Fault::Overloaded, Fault::RingBehind] {
        pause();
        let mut stage = Stage::new(&["a", "b", "c"], None);
        let (_coordinator, outcome) = start(&stage, put());
        let (a, first, answer) = stage.mint().await;
        answer.send(Err(fault)).unwrap();
        let (b, second, answer) = stage.mint().await;
        assert_eq!((a.as_str(), b.as_str()), ("a", "b"));
        assert_eq!(first.mint, second.mint, "{fault:?}");
        assert_eq!(first.mint.request.id, 77);
        answer.send(Ok(minted(&State::default(), &second))).unwrap();
        // The owner that could not mint may still take the state.
        for expected in ["a", "c"] {
            let (node, _, answer) = stage.write().await;
            assert_eq!(node, expected, "{fault:?}");
            answer.send(Ok(())).unwrap();
        }
        let answer = outcome.await.unwrap().unwrap();
        assert!(answer.acks.home >= 2, "{fault:?}");
        tokio::time::resume();
    }
}

#[actix::test]
async fn a_silent_minter_leaves_the_next_owner_its_share_and_nobody_is_answered_twice() {
    pause();
    let began = Instant::now();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    let (coordinator, outcome) = start(&stage, put());
    let (_, first, late) = stage.mint().await;
    assert_eq!(first.terms.deadline - began, Duration::from_secs(4) / 3);
    let (b, second, answer) = stage.mint().await;
    assert_eq!(began.elapsed().as_millis(), 4000 / 3 + 1, "rounded up");
    let remembered = Mint {
        remember: Some(Reason::Doubtful),
        ..first.mint.clone()
    };
    assert_eq!((b.as_str(), &second.mint), ("b", &remembered));
    assert!(second.terms.deadline - began <= Duration::from_millis(2670));
    drop(late.send(Ok(minted(&State::default(), &first))));
    answer.send(Ok(minted(&State::default(), &second))).unwrap();
    for _ in 0..2 {
        let (_, _, answer) = stage.write().await;
        answer.send(Ok(())).unwrap();
    }
    assert!(outcome.await.unwrap().is_ok());
    assert!(has_stopped(&coordinator).await);
    stage.assert_quiet();
}

#[actix::test]
async fn with_all_owners_dead_nothing_was_applied_and_the_answer_does_not_wait() {
    pause();
    let began = Instant::now();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    let (coordinator, outcome) = start(&stage, put());
    for _ in 0..2 {
        let (_, _, answer) = stage.mint().await;
        answer.send(Err(Fault::Unreachable)).unwrap();
    }
    assert_eq!(not_met(outcome.await.unwrap()), (2, 0, Applied::No));
    assert!(has_stopped(&coordinator).await);
    stage.assert_quiet();
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[actix::test]
async fn a_mint_that_may_have_happened_makes_the_outcome_unknown() {
    for doubtful in [Fault::Broken, Fault::TimedOut] {
        pause();
        let mut stage = Stage::new(&["a", "b", "c"], None);
        let (_coordinator, outcome) = start(&stage, put());
        for fault in [doubtful, Fault::Unreachable] {
            let (_, _, answer) = stage.mint().await;
            answer.send(Err(fault)).unwrap();
        }
        let (_, _, applied) = not_met(outcome.await.unwrap());
        assert_eq!(applied, Applied::Unknown, "{doubtful:?}");
        tokio::time::resume();
    }
}

#[actix::test]
async fn a_write_that_was_minted_and_found_no_quorum_is_unknown() {
    pause();
    let began = Instant::now();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    let (coordinator, outcome) = start(&stage, put());
    let (_, mint, answer) = stage.mint().await;
    answer.send(Ok(minted(&State::default(), &mint))).unwrap();
    for _ in 0..2 {
        let (_, _, answer) = stage.write().await;
        answer.send(Err(Fault::Unreachable)).unwrap();
    }
    assert_eq!(not_met(outcome.await.unwrap()), (2, 1, Applied::Unknown));
    assert!(has_stopped(&coordinator).await);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[actix::test]
async fn at_the_deadline_the_outcome_is_unknown_and_nothing_is_left_running() {
    pause();
    let began = Instant::now();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    let (coordinator, outcome) = start(&stage, put());
    let (_, mint, answer) = stage.mint().await;
    answer.send(Ok(minted(&State::default(), &mint))).unwrap();
    let (_, _, _b) = stage.write().await;
    let (_, _, _c) = stage.write().await;
    // The replicas' deadlines are the write's: both end it, either may be first.
    let (Failure::DeadlineExceeded(applied) | Failure::QuorumNotMet(_, applied)) =
        failure(outcome.await.unwrap())
    else {
        panic!("another failure than too little time")
    };
    assert_eq!(applied, Applied::Unknown);
    assert_eq!(began.elapsed().as_secs(), 4);
    assert!(has_stopped(&coordinator).await);
}

#[actix::test]
async fn a_ring_that_moves_on_after_the_mint_has_the_state_replicated_to_old_and_new_owners() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    let (coordinator, mut outcome) = start(&stage, put());
    let (_, mint, answer) = stage.mint().await;
    answer.send(Ok(minted(&State::default(), &mint))).unwrap();
    let (_, _, from_b) = stage.write().await;
    let (_, _, _from_c) = stage.write().await;
    stage.move_on(&["a", "b", "c"], Some(&["b", "d", "e"]));
    from_b.send(Err(Fault::StaleRing)).unwrap();
    let mut answers = std::collections::BTreeMap::new();
    for expected in ["a", "b", "c", "d", "e"] {
        let (node, write, answer) = stage.write().await;
        assert_eq!((node.as_str(), write.terms.epoch), (expected, 6));
        answers.insert(node, answer);
    }
    for node in ["a", "c", "d"] {
        answers.remove(node).unwrap().send(Ok(())).unwrap();
        settle().await;
        assert!(outcome.try_recv().is_err(), "{node} completes no quorum");
    }
    answers.remove("e").unwrap().send(Ok(())).unwrap();
    let acks = outcome.await.unwrap().unwrap().acks;
    assert_eq!((acks.home, acks.incoming), (2, Some(2)));
    assert!(!has_stopped(&coordinator).await, "two are out");
}

/// The refusals of the older ring are about what was asked under it.
#[actix::test]
async fn a_late_refusal_of_the_older_ring_does_not_count_against_the_newer() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    let mut all = put();
    all.options.quorum = Some(3);
    let (coordinator, outcome) = start(&stage, all);
    let (_, mint, answer) = stage.mint().await;
    answer.send(Ok(minted(&State::default(), &mint))).unwrap();
    let (_, _, from_b) = stage.write().await;
    let (_, _, from_c) = stage.write().await;
    stage.move_on(&["a", "b", "c"], None);
    from_b.send(Err(Fault::StaleRing)).unwrap();
    let mut anew = Vec::new();
    for _ in 0..3 {
        let (_, write, answer) = stage.write().await;
        assert_eq!(write.terms.epoch, 6);
        anew.push(answer);
    }
    from_c.send(Err(Fault::StaleRing)).unwrap();
    settle().await;
    for answer in anew {
        answer.send(Ok(())).unwrap();
    }
    assert_eq!(outcome.await.unwrap().unwrap().acks.home, 3);
    assert!(has_stopped(&coordinator).await);
}

#[actix::test]
async fn a_mint_refused_for_its_ring_is_planned_anew_under_the_newer() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    let (_coordinator, _outcome) = start(&stage, put());
    let (_, first, answer) = stage.mint().await;
    stage.move_on(&["d", "e", "f"], None);
    answer.send(Err(Fault::StaleRing)).unwrap();
    let (node, second, _answer) = stage.mint().await;
    assert_eq!((node.as_str(), second.terms.epoch), ("d", 6));
    assert_eq!(second.mint.request, first.mint.request);
}

#[actix::test]
async fn a_ring_that_never_settles_is_followed_only_so_often() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    let (coordinator, outcome) = start(&stage, put());
    let mut mints = 0;
    while let Ok((_, _, answer)) =
        tokio::time::timeout(Duration::from_millis(1), stage.mint()).await
    {
        mints += 1;
        stage.move_on(&["a", "b", "c"], None);
        answer.send(Err(Fault::StaleRing)).unwrap();
    }
    assert_eq!(mints, MAX_RING_CHANGES + 2);
    assert_eq!(not_met(outcome.await.unwrap()), (2, 0, Applied::No));
    assert!(has_stopped(&coordinator).await);
}

#[actix::test]
async fn a_client_that_goes_away_does_not_cancel_its_write() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    let (coordinator, outcome) = start(&stage, put());
    let (_, mint, answer) = stage.mint().await;
    drop(outcome);
    answer.send(Ok(minted(&State::default(), &mint))).unwrap();
    for _ in 0..2 {
        let (_, _, answer) = stage.write().await;
        assert!(!has_stopped(&coordinator).await);
        answer.send(Ok(())).unwrap();
    }
    assert!(has_stopped(&coordinator).await);
}

#[actix::test]
async fn a_quorum_is_clamped_to_the_owners_there_are() {
    let rows = [
        (Some(1), 1),
        (None, 2),
        (Some(2), 2),
        (Some(3), 3),
        (Some(99), 3),
    ];
    for (asked, needed) in rows {
        pause();
        let mut stage = Stage::new(&["a", "b", "c"], None);
        let mut write = put();
        write.options.quorum = asked;
        let (_coordinator, mut outcome) = start(&stage, write);
        let (_, mint, answer) = stage.mint().await;
        answer.send(Ok(minted(&State::default(), &mint))).unwrap();
        let (_, _, from_b) = stage.write().await;
        let (_, _, from_c) = stage.write().await;
        let mut acks = 1;
        for answer in [from_b, from_c] {
            settle().await;
            assert_eq!(
                outcome.try_recv().is_ok(),
                acks == needed,
                "{asked:?}, {acks}"
            );
            answer.send(Ok(())).unwrap();
            acks += 1;
        }
        settle().await;
        assert_eq!(
            outcome.try_recv().is_ok(),
            acks == needed,
            "{asked:?}, {acks}"
        );
        tokio::time::resume();
    }
}

#[actix::test]
async fn full_disks_are_told_as_such_and_whether_anything_was_applied() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    let (_coordinator, outcome) = start(&stage, put());
    for _ in 0..2 {
        let (_, _, answer) = stage.mint().await;
        answer.send(Err(Fault::StorageFull)).unwrap();
    }
    let full = failure(outcome.await.unwrap());
    assert!(
        matches!(full, Failure::StorageFull(Applied::No)),
        "{full:?}"
    );

    let (_coordinator, outcome) = start(&stage, put());
    let (_, mint, answer) = stage.mint().await;
    answer.send(Ok(minted(&State::default(), &mint))).unwrap();
    for _ in 0..2 {
        let (_, _, answer) = stage.write().await;
        answer.send(Err(Fault::StorageFull)).unwrap();
    }
    let full = failure(outcome.await.unwrap());
    assert!(
        matches!(full, Failure::StorageFull(Applied::Unknown)),
        "{full:?}"
    );
}

#[actix::test]
async fn without_a_ring_nothing_is_sent() {
    pause();
    let mut stage = Stage::new(&[], None);
    let (coordinator, outcome) = start(&stage, put());
    assert_eq!(not_met(outcome.await.unwrap()).2, Applied::No);
    assert!(has_stopped(&coordinator).await);
    stage.publish(ring(&["a"], None));
    stage.assert_quiet();
}
