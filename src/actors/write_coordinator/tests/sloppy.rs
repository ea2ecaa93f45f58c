//! Writes while owners are away: fallbacks count, and nobody is left without a hint.

use tokio::time::pause;

use super::{failure, not_met, put, start};
use crate::actors::fake::{Answer, Stage, at_rest, has_stopped, minted, settle};
use crate::actors::replica::{MintReply, ReplicaWrite};
use crate::actors::request::{Applied, Failure, Write};
use crate::dynamo::quorum::Fault;
use crate::dynamo::ring::{MemberNumber, OwnerSet};
use crate::dynamo::version::State;

fn strict() -> Write {
    let mut write = put();
    write.options.strict = true;
    write
}

/// As a fallback for the member in this place: a is 0.
fn standing_for(place: u16) -> OwnerSet {
    OwnerSet::Fallback(MemberNumber(place))
}

async fn mint_at(stage: &mut Stage, node: &str, set: OwnerSet) {
    let (minter, mint, answer) = stage.mint().await;
    assert_eq!((minter.as_str(), mint.terms.set), (node, set));
    answer.send(Ok(minted(&State::default(), &mint))).unwrap();
}

async fn fail_mint(stage: &mut Stage, node: &str, set: OwnerSet, fault: Fault) {
    let (minter, mint, answer) = stage.mint().await;
    assert_eq!((minter.as_str(), mint.terms.set), (node, set));
    answer.send(Err(fault)).unwrap();
}

/// The next merge, which must be at this node in this role.
async fn write_at(stage: &mut Stage, node: &str, set: OwnerSet) -> (ReplicaWrite, Answer<()>) {
    let (asked, write, answer) = stage.write().await;
    assert_eq!((asked.as_str(), write.terms.set), (node, set));
    (write, answer)
}

const HOME: OwnerSet = OwnerSet::Current;

#[actix::test]
async fn p5_a_fallback_takes_the_place_of_an_owner_that_is_known_to_be_away() {
    pause();
    let mut stage = Stage::sloppy(&["a", "b", "c"], &["d", "e"]);
    stage.lose(&["b"]);
    let (coordinator, outcome) = start(&stage, put());
    mint_at(&mut stage, "a", HOME).await;
    let (_, from_d) = write_at(&mut stage, "d", standing_for(1)).await;
    let (_, from_c) = write_at(&mut stage, "c", HOME).await;
    from_d.send(Ok(())).unwrap();
    let (home, hinted) = (1, 1);
    let answer = outcome.await.unwrap().unwrap();
    assert_eq!(answer.acks, at_rest(home, hinted));
    from_c.send(Ok(())).unwrap();
    assert!(has_stopped(&coordinator).await);
    stage.assert_quiet();
}

#[actix::test]
async fn an_owner_that_fails_is_replaced_by_one_fallback_after_the_other_and_then_by_a_hint_here() {
    pause();
    let mut stage = Stage::sloppy(&["a", "b", "c"], &["d", "e"]);
    let (coordinator, mut outcome) = start(&stage, put());
    mint_at(&mut stage, "a", HOME).await;
    let (sent, from_b) = write_at(&mut stage, "b", HOME).await;
    let (_, from_c) = write_at(&mut stage, "c", HOME).await;
    from_b.send(Err(Fault::Unreachable)).unwrap();
    let (_, from_d) = write_at(&mut stage, "d", standing_for(1)).await;
    from_d.send(Err(Fault::HintsFull)).unwrap();
    let (_, from_e) = write_at(&mut stage, "e", standing_for(1)).await;
    from_e.send(Err(Fault::StorageFull)).unwrap();
    settle().await;
    assert!(outcome.try_recv().is_err(), "c may still make the quorum");
    from_c.send(Ok(())).unwrap();
    let (home, hinted) = (2, 0);
    let answer = outcome.await.unwrap().unwrap();
    assert_eq!(answer.acks, at_rest(home, hinted));
    assert!(has_stopped(&coordinator).await);
    // Who coordinated keeps the hint, and if it cannot, the other owner that has the write.
    let (hint, from_a) = write_at(&mut stage, "a", standing_for(1)).await;
    assert_eq!(hint.state, sent.state);
    from_a.send(Err(Fault::HintsFull)).unwrap();
    let (_, from_c) = write_at(&mut stage, "c", standing_for(1)).await;
    from_c.send(Ok(())).unwrap();
    settle().await;
    stage.assert_quiet();
}

#[actix::test]
async fn with_no_owner_reachable_fallbacks_mint_and_count() {
    pause();
    let mut stage = Stage::sloppy(&["b", "c", "d"], &["e", "a"]);
    stage.lose(&["b", "c", "d"]);
    let (coordinator, outcome) = start(&stage, put());
    mint_at(&mut stage, "e", standing_for(1)).await;
    let (_, from_a) = write_at(&mut stage, "a", standing_for(2)).await;
    // No fallback is left for the third, so it is tried itself.
    let (_, from_d) = write_at(&mut stage, "d", HOME).await;
    from_a.send(Ok(())).unwrap();
    let (home, hinted) = (0, 2);
    let answer = outcome.await.unwrap().unwrap();
    assert_eq!(answer.acks, at_rest(home, hinted));
    from_d.send(Err(Fault::Unreachable)).unwrap();
    assert!(has_stopped(&coordinator).await);
    write_at(&mut stage, "a", standing_for(3)).await;
}

/// P6: fallbacks are asked after the owners that seem to be there, before those that do not; what
/// may have happened at one of them is not forgotten.
#[actix::test]
async fn p6_a_mint_that_a_fallback_may_have_done_makes_the_outcome_unknown() {
    for (last, applied) in [
        (Fault::HintsFull, Applied::No),
        (Fault::Broken, Applied::Unknown),
    ] {
        pause();
        let mut stage = Stage::sloppy(&["a", "b", "c"], &["d"]);
        stage.lose(&["b"]);
        let (coordinator, outcome) = start(&stage, put());
        fail_mint(&mut stage, "a", HOME, Fault::Unreachable).await;
        fail_mint(&mut stage, "c", HOME, Fault::Unreachable).await;
        fail_mint(&mut stage, "d", standing_for(0), last).await;
        assert_eq!(not_met(outcome.await.unwrap()), (2, 0, applied));
        assert!(has_stopped(&coordinator).await);
        stage.assert_quiet();
        tokio::time::resume();
    }
}

#[actix::test]
async fn a_strict_write_that_cannot_succeed_is_refused_at_once_and_not_applied() {
    pause();
    let mut stage = Stage::sloppy(&["a", "b", "c"], &["d", "e"]);
    stage.lose(&["b", "c"]);
    let (coordinator, outcome) = start(&stage, strict());
    assert_eq!(not_met(outcome.await.unwrap()), (2, 1, Applied::No));
    assert!(has_stopped(&coordinator).await);
    stage.assert_quiet();
}

#[actix::test]
async fn a_strict_write_counts_owners_only_and_what_it_began_is_kept_for_the_others() {
    pause();
    let mut stage = Stage::sloppy(&["a", "b", "c"], &["d", "e"]);
    let (coordinator, outcome) = start(&stage, strict());
    mint_at(&mut stage, "a", HOME).await;
    for node in ["b", "c"] {
        let (_, answer) = write_at(&mut stage, node, HOME).await;
        answer.send(Err(Fault::Unreachable)).unwrap();
    }
    assert_eq!(not_met(outcome.await.unwrap()), (2, 1, Applied::Unknown));
    assert!(has_stopped(&coordinator).await);
    for owner in [1, 2] {
        write_at(&mut stage, "a", standing_for(owner)).await;
    }
    settle().await;
    stage.assert_quiet();
}

#[actix::test]
async fn a_silent_owner_leaves_a_fallback_half_of_the_time() {
    pause();
    let began = tokio::time::Instant::now();
    let mut stage = Stage::sloppy(&["a", "b", "c"], &["d", "e"]);
    let (_coordinator, outcome) = start(&stage, put());
    mint_at(&mut stage, "a", HOME).await;
    let _from_b = write_at(&mut stage, "b", HOME).await;
    let _from_c = write_at(&mut stage, "c", HOME).await;
    let (_, from_d) = write_at(&mut stage, "d", standing_for(1)).await;
    assert_eq!(began.elapsed().as_secs(), 2);
    from_d.send(Ok(())).unwrap();
    let (home, hinted) = (1, 1);
    let answer = outcome.await.unwrap().unwrap();
    assert_eq!(answer.acks, at_rest(home, hinted));
}

#[actix::test]
async fn at_the_deadline_whoever_kept_silent_is_left_a_hint() {
    pause();
    let mut stage = Stage::sloppy(&["a", "b", "c"], &[]);
    let (coordinator, outcome) = start(&stage, put());
    mint_at(&mut stage, "a", HOME).await;
    let (_, from_b) = write_at(&mut stage, "b", HOME).await;
    let _silent = write_at(&mut stage, "c", HOME).await;
    from_b.send(Ok(())).unwrap();
    assert!(outcome.await.unwrap().is_ok());
    write_at(&mut stage, "a", standing_for(2)).await;
    assert!(has_stopped(&coordinator).await);
}

#[actix::test]
async fn full_disks_of_owners_do_not_fail_a_write_that_fallbacks_can_take() {
    pause();
    let mut stage = Stage::sloppy(&["a", "b", "c"], &["d", "e"]);
    let (_coordinator, outcome) = start(&stage, put());
    for node in ["a", "b", "c"] {
        fail_mint(&mut stage, node, HOME, Fault::StorageFull).await;
    }
    fail_mint(&mut stage, "d", standing_for(0), Fault::StorageFull).await;
    // One fallback cannot make two.
    let full = failure(outcome.await.unwrap());
    assert!(
        matches!(full, Failure::StorageFull(Applied::No)),
        "{full:?}"
    );

    let (_coordinator, outcome) = start(&stage, put());
    for node in ["a", "b", "c"] {
        fail_mint(&mut stage, node, HOME, Fault::StorageFull).await;
    }
    let (_, mint, answer) = stage.mint().await;
    let MintReply::Minted(done) = minted(&State::default(), &mint) else {
        unreachable!("nothing stands against it")
    };
    answer.send(Ok(MintReply::Minted(done))).unwrap();
    // Their disks may have space again: the other owners are asked first.
    for node in ["b", "c"] {
        let (_, answer) = write_at(&mut stage, node, HOME).await;
        answer.send(Err(Fault::StorageFull)).unwrap();
    }
    let (_, from_e) = write_at(&mut stage, "e", standing_for(1)).await;
    from_e.send(Ok(())).unwrap();
    let (home, hinted) = (0, 2);
    assert_eq!(outcome.await.unwrap().unwrap().acks, at_rest(home, hinted));
}
