//! Reads of which some replica takes too long.

use super::*;
use crate::dynamo::health::Call;

const MILLI: Duration = Duration::from_millis(1);

/// Spends all hedges that were saved up.
fn without_budget(stage: &Stage) {
    while stage.worker.may_hedge() {}
}

/// A node that has left a light call unanswered for long enough.
async fn falls_silent(stage: &Stage, name: &str) {
    let silent = stage.health.of(&id(name)).attempt(Call::Light);
    for _ in 0..4 {
        tokio::time::advance(MILLI * 100).await;
        drop(stage.health.review());
    }
    assert!(!stage.worker.prefers(&id(name)));
    std::mem::forget(silent);
}

#[actix::test]
async fn a_replica_that_takes_too_long_is_joined_by_the_next() {
    pause();
    let mut stage = three();
    let (_coordinator, outcome) = start(&stage);
    let (_, _, from_a) = stage.read().await;
    let (b, _, _silent) = stage.read().await;
    from_a.send(Ok(held(&[7]))).unwrap();
    let delay = stage.worker.hedge_delay();
    tokio::time::advance(delay / 2).await;
    settle().await;
    stage.assert_quiet();
    tokio::time::advance(delay).await;
    let (c, read, from_c) = stage.read().await;
    assert_eq!((b.as_str(), c.as_str()), ("b", "c"));
    assert!(read.terms.deadline > Instant::now() + MILLI * 1500);
    from_c.send(Ok(held(&[7]))).unwrap();
    let answer = outcome.await.unwrap().unwrap();
    assert_eq!((answer.state, answer.acks.home), (state(&[7]), 2));
    assert_eq!(stage.worker.counts().totals().hedged, 1);
}

#[actix::test]
async fn the_delay_of_a_hedge_follows_the_replies() {
    pause();
    let mut stage = three();
    for _ in 0..64 {
        let (_coordinator, outcome) = start(&stage);
        let mut open = Vec::new();
        while let Ok(asked) = tokio::time::timeout(MILLI / 10, stage.read()).await {
            open.push(asked.2);
        }
        tokio::time::advance(MILLI * 10).await;
        for answer in open {
            answer.send(Ok(held(&[]))).unwrap();
        }
        assert!(outcome.await.unwrap().is_ok());
    }
    let delay = stage.worker.hedge_delay();
    assert!(delay >= MILLI * 10 && delay < MILLI * 20, "{delay:?}");
}

#[actix::test]
async fn without_budget_nobody_is_asked_for_a_replica_that_does_well() {
    pause();
    let mut stage = three();
    without_budget(&stage);
    let (_coordinator, outcome) = start(&stage);
    let (_, _, from_a) = stage.read().await;
    let (_, _, from_b) = stage.read().await;
    tokio::time::advance(MILLI * 1900).await;
    settle().await;
    stage.assert_quiet();
    from_a.send(Ok(held(&[]))).unwrap();
    from_b.send(Ok(held(&[]))).unwrap();
    assert!(outcome.await.unwrap().is_ok());
    assert_eq!(stage.worker.counts().totals().hedged, 0);
}

/// A read under way when its replica's process stops must not wait for the deadline.
#[actix::test]
async fn a_replica_that_is_found_silent_is_replaced_without_budget() {
    pause();
    let mut stage = three();
    without_budget(&stage);
    let (_coordinator, outcome) = start(&stage);
    let (_, _, from_a) = stage.read().await;
    let (_, _, _silent) = stage.read().await;
    from_a.send(Ok(held(&[7]))).unwrap();
    falls_silent(&stage, "b").await;
    tokio::time::advance(MILLI * 800).await;
    let (c, _, from_c) = stage.read().await;
    assert_eq!(c, "c");
    from_c.send(Ok(held(&[7]))).unwrap();
    assert_eq!(outcome.await.unwrap().unwrap().state, state(&[7]));
}

#[actix::test]
async fn a_silent_node_is_not_on_the_way_of_later_reads() {
    pause();
    let mut stage = three();
    falls_silent(&stage, "b").await;
    let (coordinator, outcome) = start(&stage);
    for expected in ["a", "c"] {
        let (node, _, answer) = stage.read().await;
        assert_eq!(node, expected);
        answer.send(Ok(held(&[7]))).unwrap();
    }
    assert!(outcome.await.unwrap().is_ok());
    assert!(has_stopped(&coordinator).await);
    stage.assert_quiet();
}

/// Where the others do badly as well, more load would help nobody.
#[actix::test]
async fn nobody_is_asked_without_budget_who_does_badly_too() {
    pause();
    let mut stage = three();
    without_budget(&stage);
    let (_coordinator, _outcome) = start(&stage);
    let (_, _, _a) = stage.read().await;
    let (_, _, _b) = stage.read().await;
    stage.health.of(&id("b")).failed();
    stage.health.of(&id("c")).failed();
    tokio::time::advance(MILLI * 1900).await;
    settle().await;
    stage.assert_quiet();
}
