//! Reads while owners are away: fallbacks answer with their hints.

use tokio::time::pause;

use super::{Stage, has_stopped, held, not_met, start, start_with, state, sync};
use crate::actors::fake::{a_read, at_rest, in_time};
use crate::actors::read_coordinator::ReadCoordinator;
use crate::dynamo::quorum::Fault;
use crate::dynamo::ring::{MemberNumber, OwnerSet};
use actix::Actor;
use tokio::sync::oneshot;

fn standing_for(place: u16) -> OwnerSet {
    OwnerSet::Fallback(MemberNumber(place))
}

/// The next read must be at this node in this role; it is answered.
async fn read_at(stage: &mut Stage, node: &str, set: OwnerSet, answer: Result<&[u64], Fault>) {
    let (asked, read, reply) = stage.read().await;
    assert_eq!((asked.as_str(), read.terms.set), (node, set));
    reply.send(answer.map(held)).unwrap();
}

const HOME: OwnerSet = OwnerSet::Current;

fn stage(owners: &[&str], fallbacks: &[&str]) -> Stage {
    let stage = Stage::sloppy(owners, fallbacks);
    stage.past_the_tenth();
    stage
}

#[actix::test]
async fn p5_fallbacks_are_asked_before_owners_that_are_known_to_be_away() {
    pause();
    let mut stage = stage(&["a", "b", "c"], &["d", "e"]);
    stage.lose(&["b", "c"]);
    let (coordinator, outcome) = start(&stage);
    read_at(&mut stage, "a", HOME, Ok(&[7])).await;
    read_at(&mut stage, "d", standing_for(1), Ok(&[8])).await;
    let answer = outcome.await.unwrap().unwrap();
    let (home, hinted) = (1, 1);
    assert_eq!(answer.acks, at_rest(home, hinted));
    let both = sync(&state(&[7]), &state(&[8]));
    assert_eq!(answer.state, both);
    assert!(has_stopped(&coordinator).await);
    // The owner that lacked the hint is repaired, the fallback is not.
    let (node, _, _answer) = stage.write().await;
    assert_eq!(node, "a");
    stage.assert_quiet();
}

/// Not even the tenth, which asks all: who stands in for it answers for it.
#[actix::test]
async fn an_owner_that_is_known_to_be_away_is_asked_by_no_read_that_does_without() {
    pause();
    let mut stage = Stage::sloppy(&["a", "b", "c"], &["d", "e"]);
    stage.lose(&["b"]);
    let (coordinator, outcome) = start(&stage);
    read_at(&mut stage, "a", HOME, Ok(&[7])).await;
    read_at(&mut stage, "c", HOME, Ok(&[7])).await;
    read_at(&mut stage, "d", standing_for(1), Ok(&[])).await;
    assert_eq!(outcome.await.unwrap().unwrap().state, state(&[7]));
    assert!(has_stopped(&coordinator).await);
    stage.assert_quiet();
}

#[actix::test]
async fn owners_that_fail_are_stood_in_for_when_no_other_owner_is_left() {
    pause();
    let mut stage = stage(&["a", "b", "c"], &["d", "e"]);
    let (_coordinator, outcome) = start(&stage);
    read_at(&mut stage, "a", HOME, Ok(&[7])).await;
    read_at(&mut stage, "b", HOME, Err(Fault::Unreachable)).await;
    read_at(&mut stage, "c", HOME, Err(Fault::Unreachable)).await;
    read_at(&mut stage, "d", standing_for(1), Err(Fault::Overloaded)).await;
    read_at(&mut stage, "e", standing_for(2), Ok(&[])).await;
    let answer = outcome.await.unwrap().unwrap();
    let (home, hinted) = (1, 1);
    assert_eq!(
        (answer.acks, answer.state),
        (at_rest(home, hinted), state(&[7]))
    );
}

#[actix::test]
async fn too_few_owners_and_fallbacks_are_no_quorum() {
    pause();
    let mut stage = stage(&["a", "b", "c"], &["d"]);
    stage.lose(&["b", "c"]);
    let (coordinator, outcome) = start_with(&stage, Some(3));
    read_at(&mut stage, "a", HOME, Ok(&[7])).await;
    read_at(&mut stage, "d", standing_for(1), Ok(&[7])).await;
    read_at(&mut stage, "b", HOME, Err(Fault::Unreachable)).await;
    read_at(&mut stage, "c", HOME, Err(Fault::Unreachable)).await;
    assert_eq!(not_met(outcome.await.unwrap()), (3, 2));
    assert!(has_stopped(&coordinator).await);
}

#[actix::test]
async fn a_strict_read_asks_no_fallback() {
    pause();
    let mut stage = stage(&["a", "b", "c"], &["d", "e"]);
    stage.lose(&["b", "c"]);
    let (reply, outcome) = oneshot::channel();
    let mut read = a_read();
    read.options.strict = true;
    let worker = stage.worker.clone();
    let strict = ReadCoordinator::new(worker, read, in_time(2000), reply).start();
    read_at(&mut stage, "a", HOME, Ok(&[7])).await;
    for node in ["b", "c"] {
        read_at(&mut stage, node, HOME, Err(Fault::Unreachable)).await;
    }
    assert_eq!(not_met(outcome.await.unwrap()), (2, 1));
    assert!(has_stopped(&strict).await);
    stage.assert_quiet();
}
