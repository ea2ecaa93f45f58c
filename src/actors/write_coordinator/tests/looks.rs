//! Writes that first look at what a quorum sees: creates, deletes, and those that may be retries.

use tokio::time::pause;

use super::{Outcome, failure, not_met, put, start};
use crate::actors::fake::{Stage, a_write, has_stopped, held, minted, state};
use crate::actors::replica::MintReply;
use crate::actors::request::{Applied, Failure};
use crate::actors::ring_view::tests::id;
use crate::dynamo::quorum::Fault;
use crate::dynamo::version::{Clock, Reason, RequestId, State, WriteKind, sync};
use crate::wire::state::encode_state;

/// Answers the look of a write: the two owners asked first hold these.
async fn look(stage: &mut Stage, a: &[u64], b: &[u64]) {
    for lives in [a, b] {
        let (_, _, answer) = stage.read().await;
        answer.send(Ok(held(lives))).unwrap();
    }
}

/// Answers a mint as a replica with this record would, and the merges after it.
async fn done(stage: &mut Stage, outcome: Outcome, record: &State) -> (State, usize) {
    let (_, mint, answer) = stage.mint().await;
    answer.send(Ok(minted(record, &mint))).unwrap();
    for _ in 0..2 {
        let (_, _, answer) = stage.write().await;
        answer.send(Ok(())).unwrap();
    }
    let answer = outcome.await.unwrap().unwrap();
    (*mint.mint.merged.unwrap_or_default(), answer.siblings)
}

#[actix::test]
async fn a_create_on_a_live_value_is_refused_without_a_mint() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    stage.past_the_tenth();
    let (coordinator, outcome) = start(&stage, a_write(WriteKind::Create));
    look(&mut stage, &[], &[7]).await;
    let Failure::AlreadyExists(seen, acks) = failure(outcome.await.unwrap()) else {
        panic!("not refused for the value")
    };
    assert_eq!((seen, acks.home), (state(&[7]), 2));
    assert!(has_stopped(&coordinator).await);
    // The owner that lagged is repaired by the look; nothing is minted.
    let (node, repair, _) = stage.write().await;
    assert_eq!(
        (node.as_str(), repair.state),
        ("a", encode_state(&state(&[7])))
    );
    stage.assert_quiet();
}

#[actix::test]
async fn a_create_takes_what_the_quorum_saw_to_its_minter_which_may_know_more() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    stage.past_the_tenth();
    let (_coordinator, outcome) = start(&stage, a_write(WriteKind::Create));
    look(&mut stage, &[], &[]).await;
    let (_, mint, answer) = stage.mint().await;
    assert_eq!(mint.mint.merged, Some(Box::default()));
    let other = encode_state(&state(&[8]));
    answer.send(Ok(MintReply::AlreadyExists(other))).unwrap();
    let refused = failure(outcome.await.unwrap());
    assert!(
        matches!(&refused, Failure::AlreadyExists(seen, acks)
            if *seen == state(&[8]) && acks.home == 2),
        "{refused:?}"
    );
}

/// Racing creates through different nodes meet at one minter, which lets one of them win.
#[actix::test]
async fn a_create_goes_to_the_first_reachable_owner_in_the_order_of_the_ring() {
    let rows: [(&[&str], &[&str], &str); 3] = [
        (&["b", "a", "c"], &[], "b"),
        (&["b", "a", "c"], &["b"], "a"),
        (&["c", "b", "a"], &["c"], "b"),
    ];
    for (owners, dead, expected) in rows {
        pause();
        let mut stage = Stage::new(owners, None);
        stage.past_the_tenth();
        for node in dead {
            stage.health.of(&id(node)).failed();
        }
        let (_create, _outcome) = start(&stage, a_write(WriteKind::Create));
        look(&mut stage, &[], &[]).await;
        assert_eq!(
            stage.mint().await.0,
            expected,
            "{owners:?} without {dead:?}"
        );
        let (_put, _outcome) = start(&stage, put());
        assert_eq!(stage.mint().await.0, "a", "a put is fastest here");
        tokio::time::resume();
    }
}

#[actix::test]
async fn a_delete_with_nothing_to_delete_is_not_found_and_writes_nothing() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    stage.past_the_tenth();
    let (coordinator, outcome) = start(&stage, a_write(WriteKind::Delete));
    look(&mut stage, &[], &[]).await;
    let failed = failure(outcome.await.unwrap());
    assert!(
        matches!(&failed, Failure::NotFound(seen, acks) if *seen == Clock::default() && acks.home == 2),
        "{failed:?}"
    );
    assert!(has_stopped(&coordinator).await);
    stage.assert_quiet();
}

#[actix::test]
async fn a_delete_with_news_in_its_clock_is_minted_although_nothing_lives() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    stage.past_the_tenth();
    let mut delete = a_write(WriteKind::Delete);
    delete.clock = Some(state(&[7]).context.into());
    let (_coordinator, outcome) = start(&stage, delete);
    look(&mut stage, &[], &[]).await;
    assert_eq!(done(&mut stage, outcome, &State::default()).await.1, 0);
}

#[actix::test]
async fn a_delete_without_a_clock_covers_what_the_quorum_sees_and_no_more() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    stage.past_the_tenth();
    let (_coordinator, outcome) = start(&stage, a_write(WriteKind::Delete));
    look(&mut stage, &[7], &[7]).await;
    // The minter knows a second value, which the look did not see.
    let (merged, left) = done(&mut stage, outcome, &state(&[7, 8])).await;
    assert_eq!((merged, left), (state(&[7]), 1));
}

#[actix::test]
async fn a_look_without_a_quorum_ends_the_write_unapplied() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    stage.past_the_tenth();
    let (coordinator, outcome) = start(&stage, a_write(WriteKind::Create));
    for _ in 0..3 {
        let (_, _, answer) = stage.read().await;
        drop(answer.send(Err(Fault::Broken)));
    }
    assert_eq!(not_met(outcome.await.unwrap()), (2, 0, Applied::No));
    assert!(has_stopped(&coordinator).await);
}

#[actix::test]
async fn a_look_that_takes_all_the_time_ends_the_write_unapplied() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    let (coordinator, outcome) = start(&stage, a_write(WriteKind::Create));
    let _kept_back = [stage.read().await, stage.read().await, stage.read().await];
    let failed = failure(outcome.await.unwrap());
    assert!(
        matches!(
            failed,
            Failure::DeadlineExceeded(Applied::No) | Failure::QuorumNotMet(_, Applied::No)
        ),
        "{failed:?}"
    );
    assert!(has_stopped(&coordinator).await);
    assert_eq!(stage.worker.view().epoch(), 5);
}

#[actix::test]
async fn a_retry_with_the_same_idempotency_key_answers_as_the_first_did() {
    let kinds = [WriteKind::Create, WriteKind::Put, WriteKind::Delete];
    for kind in kinds {
        pause();
        let mut stage = Stage::new(&["a", "b", "c"], None);
        let mut write = a_write(kind);
        write.request = Some(RequestId {
            id: 5,
            fingerprint: 50,
        });
        if kind == WriteKind::Delete {
            write.clock = Some(state(&[7]).context.into());
        }
        let mut record = State::default();
        let mut clocks = Vec::new();
        for attempt in 0..2 {
            let (_coordinator, outcome) = start(&stage, write.clone());
            let readers = if attempt == 0 { 3 } else { 2 };
            for _ in 0..readers {
                let (_, _, answer) = stage.read().await;
                answer.send(Ok(Some(encode_state(&record)))).unwrap();
            }
            let (_, mint, answer) = stage.mint().await;
            assert!(mint.mint.remember == Some(Reason::Keyed) && mint.mint.request.id == 5);
            answer.send(Ok(minted(&record, &mint))).unwrap();
            for _ in 0..2 {
                let (_, merge, answer) = stage.write().await;
                let sent = crate::wire::state::decode_state(&merge.state).unwrap();
                record = sync(&record, &sent);
                answer.send(Ok(())).unwrap();
            }
            clocks.push(outcome.await.unwrap().unwrap().clock);
        }
        assert_eq!(clocks[0], clocks[1], "{kind:?}");
        assert_eq!(record.siblings.len(), 1, "{kind:?} added nothing");
        tokio::time::resume();
    }
}

#[actix::test]
async fn an_idempotency_key_of_another_request_is_refused() {
    pause();
    let mut stage = Stage::new(&["a", "b", "c"], None);
    let mut write = put();
    write.request = Some(RequestId {
        id: 5,
        fingerprint: 50,
    });
    let (coordinator, outcome) = start(&stage, write);
    for _ in 0..3 {
        let (_, _, answer) = stage.read().await;
        drop(answer.send(Ok(held(&[]))));
    }
    let (_, mint, answer) = stage.mint().await;
    assert_eq!(mint.mint.seen, Clock::default());
    answer.send(Ok(MintReply::RequestReused)).unwrap();
    let failed = failure(outcome.await.unwrap());
    assert!(matches!(failed, Failure::RequestReused), "{failed:?}");
    assert!(has_stopped(&coordinator).await);
}

/// What is shown to be merged is what a quorum has, and the acknowledgements say so.
#[actix::test]
async fn one_sibling_too_many_is_told_with_what_a_quorum_has_to_merge() {
    pause();
    let noise = bytes::Bytes::from_static(b"\xc1");
    for (again, readable) in [(encode_state(&state(&[1, 2, 3])), true), (noise, false)] {
        let mut stage = Stage::new(&["a", "b", "c"], None);
        stage.past_the_tenth();
        let (coordinator, mut outcome) = start(&stage, put());
        let (_, _, answer) = stage.mint().await;
        let full = encode_state(&state(&[1, 2]));
        answer.send(Ok(MintReply::TooManySiblings(full))).unwrap();
        look(&mut stage, &[1, 2, 3], &[1, 2, 3]).await;
        let (_, mint, answer) = stage.mint().await;
        assert_eq!(mint.mint.merged, Some(Box::new(state(&[1, 2, 3]))));
        assert!(outcome.try_recv().is_err(), "no quorum has answered");
        answer.send(Ok(MintReply::TooManySiblings(again))).unwrap();
        let outcome = outcome.await.unwrap();
        if readable {
            let failed = failure(outcome);
            assert!(
                matches!(&failed, Failure::TooManySiblings(seen, acks)
                    if seen.live().len() == 3 && acks.home == 2),
                "{failed:?}"
            );
        } else {
            assert_eq!(not_met(outcome).2, Applied::No);
        }
        assert!(has_stopped(&coordinator).await);
        stage.assert_quiet();
    }
}

/// Before: a create whose first minter fell silent was answered 409 when the second one knew of
/// another value; its own came to light later all the same.
#[actix::test]
async fn p6_a_refusal_after_a_mint_that_may_have_happened_leaves_the_outcome_unknown() {
    let held = || encode_state(&state(&[8]));
    let rows = [
        (WriteKind::Create, MintReply::AlreadyExists(held())),
        (WriteKind::Delete, MintReply::NothingToDelete(held())),
        (WriteKind::Create, MintReply::TooManySiblings(held())),
        (WriteKind::Create, MintReply::RequestReused),
    ];
    for (kind, refusal) in rows {
        for (fault, expected) in [(Fault::TimedOut, true), (Fault::Unreachable, false)] {
            pause();
            let mut stage = Stage::new(&["a", "b", "c"], None);
            stage.past_the_tenth();
            let (_coordinator, outcome) = start(&stage, a_write(kind));
            let lives: &[u64] = if kind == WriteKind::Delete { &[7] } else { &[] };
            look(&mut stage, lives, lives).await;
            let (_, _, answer) = stage.mint().await;
            answer.send(Err(fault)).unwrap();
            let (_, _, answer) = stage.mint().await;
            answer.send(Ok(refusal.clone())).unwrap();
            let failed = failure(outcome.await.unwrap());
            let unknown = matches!(failed, Failure::QuorumNotMet(_, Applied::Unknown));
            assert_eq!(unknown, expected, "{refusal:?} after {fault:?}: {failed:?}");
            tokio::time::resume();
        }
    }
}
