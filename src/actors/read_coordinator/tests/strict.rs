//! Strict reads, and what reads leave for later.

use super::*;
use crate::actors::background::{CROWD, Kind};

fn start_strict(stage: &Stage) -> (Addr<ReadCoordinator>, Outcome) {
    let (reply, outcome) = oneshot::channel();
    let mut read = a_read();
    read.options.strict = true;
    let coordinator = ReadCoordinator::new(stage.worker.clone(), read, in_time(2000), reply);
    (coordinator.start(), outcome)
}

/// P4. An unfinished write is at one owner only: a reader who is shown it would miss it at the
/// other two the next time.
#[actix::test]
async fn p4_a_strict_read_of_differing_replies_is_answered_once_enough_owners_hold_the_answer() {
    pause();
    let mut stage = three();
    let (coordinator, mut outcome) = start_strict(&stage);
    let (_, _, from_a) = stage.read().await;
    let (_, _, from_b) = stage.read().await;
    from_a.send(Ok(held(&[7, 8]))).unwrap();
    from_b.send(Ok(held(&[7]))).unwrap();
    let (b, back, from_b) = stage.write().await;
    let (c, _, from_c) = stage.write().await;
    assert_eq!([b.as_str(), c.as_str()], ["b", "c"]);
    assert_eq!(decode_state(&back.state).unwrap(), state(&[7, 8]));
    settle().await;
    assert!(outcome.try_recv().is_err(), "one owner holds it");
    from_b.send(Ok(())).unwrap();
    let answer = outcome.await.unwrap().unwrap();
    assert_eq!((answer.state, answer.acks.home), (state(&[7, 8]), 2));
    assert!(!has_stopped(&coordinator).await, "c has yet to say");
    from_c.send(Ok(())).unwrap();
    assert!(has_stopped(&coordinator).await);
    stage.assert_quiet();
    assert_eq!(stage.worker.counts().totals().written_back, 1);
}

#[actix::test]
async fn a_strict_read_of_equal_replies_writes_nothing() {
    pause();
    let mut stage = three();
    let (coordinator, outcome) = start_strict(&stage);
    for _ in 0..2 {
        let (_, _, answer) = stage.read().await;
        answer.send(Ok(held(&[7]))).unwrap();
    }
    assert_eq!(outcome.await.unwrap().unwrap().state, state(&[7]));
    assert!(has_stopped(&coordinator).await);
    stage.assert_quiet();
}

/// While the partition moves, later reads may be of the incoming owners.
#[actix::test]
async fn p4_a_strict_read_is_written_back_to_the_incoming_owners_too() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], Some(&["a", "d", "e"]));
    stage.past_the_tenth();
    let (_coordinator, mut outcome) = start_strict(&stage);
    let (_, _, from_a) = stage.read().await;
    let (_, _, from_b) = stage.read().await;
    from_a.send(Ok(held(&[7]))).unwrap();
    from_b.send(Ok(held(&[]))).unwrap();
    let mut backs = Vec::new();
    for expected in ["b", "c", "d", "e"] {
        let (node, _, answer) = stage.write().await;
        assert_eq!(node, expected);
        backs.push(answer);
    }
    let from_d = backs.remove(2);
    backs.remove(0).send(Ok(())).unwrap();
    settle().await;
    assert!(outcome.try_recv().is_err(), "only a of the incoming");
    from_d.send(Ok(())).unwrap();
    assert_eq!(outcome.await.unwrap().unwrap().state, state(&[7]));
}

/// Where it is shown before the flip, it must be there to be shown after it.
#[actix::test]
async fn p4_a_strict_read_in_a_move_asks_those_who_stay_and_else_writes_what_all_agree_on() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], Some(&["b", "c", "d"]));
    stage.past_the_tenth();
    let (_coordinator, outcome) = start_strict(&stage);
    for expected in ["b", "c"] {
        let (node, _, answer) = stage.read().await;
        assert_eq!(node, expected);
        answer.send(Ok(held(&[7]))).unwrap();
    }
    assert_eq!(outcome.await.unwrap().unwrap().state, state(&[7]));
    stage.assert_quiet();
    stage.health.of(&id("c")).failed();
    let (_coordinator, mut outcome) = start_strict(&stage);
    for expected in ["b", "a"] {
        let (node, _, answer) = stage.read().await;
        assert_eq!(node, expected);
        answer.send(Ok(held(&[7]))).unwrap();
    }
    let (c, _, _silent) = stage.write().await;
    let (d, _, from_d) = stage.write().await;
    assert_eq!([c.as_str(), d.as_str()], ["c", "d"]);
    settle().await;
    assert!(outcome.try_recv().is_err(), "one owner to be holds it");
    from_d.send(Ok(())).unwrap();
    assert_eq!(outcome.await.unwrap().unwrap().state, state(&[7]));
}

#[actix::test]
async fn a_strict_read_that_cannot_be_written_back_fails_at_once() {
    pause();
    let began = Instant::now();
    let mut stage = three();
    let (coordinator, outcome) = start_strict(&stage);
    let (_, _, from_a) = stage.read().await;
    let (_, _, from_b) = stage.read().await;
    from_a.send(Ok(held(&[7]))).unwrap();
    from_b.send(Ok(held(&[8]))).unwrap();
    for _ in 0..2 {
        let (_, _, answer) = stage.write().await;
        answer.send(Err(Fault::Unreachable)).unwrap();
    }
    assert_eq!(not_met(outcome.await.unwrap()), (2, 0));
    assert_eq!(began.elapsed(), Duration::ZERO);
    let (_, _, _third) = stage.write().await;
    assert!(!has_stopped(&coordinator).await);
}

#[actix::test]
async fn a_strict_read_under_a_ring_that_has_moved_on_starts_over() {
    pause();
    let mut stage = three();
    let (_coordinator, outcome) = start_strict(&stage);
    let (_, _, from_a) = stage.read().await;
    let (_, _, from_b) = stage.read().await;
    from_a.send(Ok(held(&[7]))).unwrap();
    from_b.send(Ok(held(&[]))).unwrap();
    stage.move_on(&["d", "e", "f"], None);
    for _ in 0..2 {
        let (_, _, answer) = stage.write().await;
        answer.send(Err(Fault::StaleRing)).unwrap();
    }
    for _ in 0..2 {
        let (_, read, answer) = stage.read().await;
        assert_eq!(read.terms.epoch, 6);
        answer.send(Ok(held(&[7]))).unwrap();
    }
    assert_eq!(outcome.await.unwrap().unwrap().state, state(&[7]));
}

/// A storm of reads of stale replicas must not become a storm of writes.
#[actix::test]
async fn repairs_are_dropped_and_counted_while_too_many_wait_for_their_turn() {
    pause();
    let mut stage = Stage::new(&["a", "b"], None);
    let background = stage.worker.background();
    background.turn(Kind::Repair, u64::MAX).await;
    for _ in 0..CROWD {
        let background = background.clone();
        actix::spawn(async move { background.turn(Kind::Repair, 1).await });
    }
    settle().await;
    let (coordinator, outcome) = start(&stage);
    for lives in [[7].as_slice(), &[]] {
        let (_, _, answer) = stage.read().await;
        answer.send(Ok(held(lives))).unwrap();
    }
    assert_eq!(outcome.await.unwrap().unwrap().state, state(&[7]));
    assert!(has_stopped(&coordinator).await);
    stage.assert_quiet();
    let totals = stage.worker.counts().totals();
    assert_eq!((totals.repaired, totals.repairs_dropped), (0, 1));
}
