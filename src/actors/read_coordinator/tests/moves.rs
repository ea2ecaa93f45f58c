//! Reads of a partition that has flipped: from the incoming owners, while those before vouch for the
//! ring.

use super::*;
use crate::dynamo::ring::MemberNumber;

type AskedRead = (String, ReplicaRead, Answer<ReadReply>);
type Asked<'a> = &'a [(&'a str, OwnerSet)];

/// What is asked until everybody is silent.
async fn all_asked(stage: &mut Stage) -> Vec<AskedRead> {
    let mut asked = Vec::new();
    while let Ok(one) = tokio::time::timeout(Duration::from_micros(1), stage.read()).await {
        asked.push(one);
    }
    asked
}

/// Whom it was that was asked, and as which owners.
fn roles(asked: &[AskedRead]) -> Vec<(&str, OwnerSet)> {
    let roles = asked.iter();
    roles
        .map(|(node, read, _)| (node.as_str(), read.terms.set))
        .collect()
}

const BEFORE: OwnerSet = OwnerSet::Current;
const TO_BE: OwnerSet = OwnerSet::Incoming;

/// This node, `a`, has flipped what moves from a, b and c to these.
fn flipped(incoming: &[&str]) -> Stage {
    let stage = Stage::new(&["a", "b", "c"], Some(incoming));
    stage.flip();
    stage.past_the_tenth();
    stage
}

/// The answers that these nodes give now.
fn answer(asked: &mut Vec<AskedRead>, nodes: &[&str], with: &Result<ReadReply, Fault>) {
    for node in nodes {
        let place = asked.iter().position(|(name, ..)| name == node).unwrap();
        asked.remove(place).2.send(with.clone()).unwrap();
    }
}

#[actix::test]
async fn owners_before_and_to_be_are_asked_together_and_those_that_are_both_once() {
    pause();
    let rows: [(&[&str], Asked<'_>); 2] = [
        (&["a", "b", "d"], &[("a", TO_BE), ("b", TO_BE)]),
        (
            &["d", "e", "f"],
            &[("a", BEFORE), ("d", TO_BE), ("e", TO_BE), ("b", BEFORE)],
        ),
    ];
    for (incoming, expected) in rows {
        let mut stage = flipped(incoming);
        let (coordinator, mut outcome) = start(&stage);
        let mut asked = all_asked(&mut stage).await;
        assert_eq!(roles(&asked), expected);
        let has_new = |name: &&str| incoming.contains(name);
        let (new, old): (Vec<&str>, Vec<&str>) =
            expected.iter().map(|(name, _)| *name).partition(has_new);
        answer(&mut asked, &new, &Ok(held(&[7])));
        settle().await;
        assert_eq!(outcome.try_recv().is_err(), !old.is_empty());
        if !old.is_empty() {
            answer(&mut asked, &old, &Err(Fault::Flipped));
            let answer = outcome.await.unwrap().unwrap();
            let acks = (answer.acks.home, answer.acks.incoming);
            assert_eq!((answer.state, acks), (state(&[7]), (2, Some(2))));
        }
        assert!(has_stopped(&coordinator).await);
        stage.assert_quiet();
    }
}

/// P4. The move went back after its flip, and a write was acknowledged by the owners before alone:
/// the incoming owners, which have not heard of either, are no answer.
#[actix::test]
async fn p4_a_read_that_has_not_heard_of_a_cancel_is_told_by_the_owners_before() {
    pause();
    let mut stage = flipped(&["d", "e", "f"]);
    let (_coordinator, mut outcome) = start(&stage);
    let mut asked = all_asked(&mut stage).await;
    answer(&mut asked, &["d", "e"], &Ok(held(&[7])));
    answer(&mut asked, &["a"], &Err(Fault::Flipped));
    settle().await;
    assert!(outcome.try_recv().is_err(), "one of the owners before");
    answer(&mut asked, &["b"], &Err(Fault::StaleRing));
    let (c, read, from_c) = stage.read().await;
    assert_eq!((c.as_str(), read.terms.set), ("c", BEFORE));
    stage.move_on(&["a", "b", "c"], None);
    from_c.send(Err(Fault::StaleRing)).unwrap();
    for _ in 0..2 {
        let (_, read, answer) = stage.read().await;
        assert_eq!((read.terms.epoch, read.terms.set), (6, BEFORE));
        answer.send(Ok(held(&[7, 8]))).unwrap();
    }
    assert_eq!(outcome.await.unwrap().unwrap().state, state(&[7, 8]));
}

#[actix::test]
async fn an_owner_of_before_that_is_dead_fails_no_read_that_the_others_vouch_for() {
    pause();
    let mut stage = flipped(&["a", "d", "e"]);
    let (_coordinator, outcome) = start(&stage);
    let mut asked = all_asked(&mut stage).await;
    let expected = [("a", TO_BE), ("d", TO_BE), ("b", BEFORE)];
    assert_eq!(roles(&asked), expected);
    answer(&mut asked, &["a", "d"], &Ok(held(&[7])));
    answer(&mut asked, &["b"], &Err(Fault::Unreachable));
    let (c, _, from_c) = stage.read().await;
    assert_eq!(c, "c");
    from_c.send(Err(Fault::Flipped)).unwrap();
    assert_eq!(outcome.await.unwrap().unwrap().state, state(&[7]));
    stage.assert_quiet();
}

#[actix::test]
async fn too_few_owners_before_are_no_quorum_in_strict_mode_and_are_stood_in_for_otherwise() {
    pause();
    for strict in [true, false] {
        let mut stage = Stage::sloppy_move(&["a", "b", "c"], Some(&["a", "b", "d"]), &["e"]);
        stage.flip();
        stage.past_the_tenth();
        let (reply, outcome) = oneshot::channel();
        let mut read = a_read();
        read.options.strict = strict;
        let worker = stage.worker.clone();
        let coordinator = ReadCoordinator::new(worker, read, in_time(2000), reply);
        let _coordinator = coordinator.start();
        let mut asked = all_asked(&mut stage).await;
        assert_eq!(roles(&asked), [("a", TO_BE), ("b", TO_BE)]);
        answer(&mut asked, &["a"], &Ok(held(&[7])));
        answer(&mut asked, &["b"], &Err(Fault::Unreachable));
        let mut asked = all_asked(&mut stage).await;
        assert_eq!(roles(&asked), [("d", TO_BE), ("c", BEFORE)]);
        answer(&mut asked, &["d"], &Ok(held(&[7])));
        answer(&mut asked, &["c"], &Err(Fault::Unreachable));
        if strict {
            assert_eq!(not_met(outcome.await.unwrap()), (2, 1));
            continue;
        }
        let (e, read, from_e) = stage.read().await;
        let for_one = [1, 2].map(|n| OwnerSet::Fallback(MemberNumber(n)));
        assert!(e == "e" && for_one.contains(&read.terms.set), "{read:?}");
        from_e.send(Ok(held(&[]))).unwrap();
        assert_eq!(outcome.await.unwrap().unwrap().state, state(&[7]));
    }
}

/// What the owners before have missed, the one to be may have missed too: it pulls from some of them.
#[actix::test]
async fn a_read_before_the_flip_repairs_the_owner_to_be_beside_those_that_were_behind() {
    pause();
    let rows: [(&[u64], &[&str]); 2] = [(&[], &["b", "d"]), (&[7], &[])];
    for (of_b, repaired) in rows {
        let mut stage = Stage::new(&["a", "b", "c"], Some(&["b", "c", "d"]));
        stage.past_the_tenth();
        let (coordinator, outcome) = start(&stage);
        let mut asked = all_asked(&mut stage).await;
        assert_eq!(roles(&asked), [("a", BEFORE), ("b", BEFORE)]);
        answer(&mut asked, &["a"], &Ok(held(&[7])));
        answer(&mut asked, &["b"], &Ok(held(of_b)));
        assert_eq!(outcome.await.unwrap().unwrap().state, state(&[7]));
        for expected in repaired {
            let (node, repair, answer) = stage.write().await;
            assert_eq!((node.as_str(), repair.terms.epoch), (*expected, 5));
            assert_eq!(decode_state(&repair.state).unwrap(), state(&[7]));
            answer.send(Ok(())).unwrap();
        }
        assert!(has_stopped(&coordinator).await);
        stage.assert_quiet();
    }
}
