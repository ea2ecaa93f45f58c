//! Changes of members, model-checked: every order of everything that can happen to a cluster of
//! three and a fourth node, to the bounds below. The model drives the product's own functions:
//! `plan`, `Acceptor`, `Proposer`, `Lifecycle`, the thresholds of `Placement`, whom a `View` admits,
//! and when a `ReadQuorum` is met; only what is a message, and when it arrives, is the model's.
//!
//! Four nodes, N = 3, W = R = 2. Two proposers: an operator at one node, and another operator or the
//! joining node's own lifecycle, beside the lifecycles that end a move. A question may arrive at any
//! time, also after its proposer has crashed or given up, or never. Its answer arrives at once or is
//! lost: that it comes later adds nothing, since whatever happens in between can happen before the
//! question arrives, or before the next one does. A crash takes a node's memory and leaves its disk;
//! that a node is down for a while is that nothing reaches it for a while. Of a move, a node pulls
//! from one old owner, or flips at one, in one step for all partitions at once.
//!
//! Bounds, exhaustive within: so many attempts to change the ring in all, so many crashes, so many
//! lost answers, as each scenario says; one write of one key in a partition that moves.

#![allow(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    reason = "a failure here fails the test"
)]

mod calm;
mod numbers;
mod reads;
mod steps;
mod tables;
mod world;

use quorate::dynamo::ring::{Change, MemberChange, Ring};
use stateright::{Checker, HasDiscoveries, Model};

use tables::{id, member, ring_after};
use world::World;

pub(crate) const TWO_RINGS: &str = "an epoch has one ring";
pub(crate) const UNVERIFIED: &str = "owners go when the new ones are verified";
pub(crate) const STALE_READ: &str = "no quorum misses what was acknowledged";
pub(crate) const NEVER_ENDS: &str = "once failures stop a change ends";
pub(crate) const NO_WAY_BACK: &str = "without its new node a change can be cancelled";
pub(crate) const NEEDS_GIVER: &str = "a dead giver blocks nothing";
pub(crate) const MOVE_ENDS: &str = "a move ends";

/// What an operator wants.
#[derive(Clone, Copy)]
pub(crate) enum Wish {
    /// That this is staged, and then committed.
    Change(fn() -> MemberChange),
    /// That whatever moves goes back; without force only while nobody has flipped, as far as the
    /// operator sees when that is proposed.
    Cancel { force: bool },
    /// That nothing is staged.
    Revert,
}

const CANCEL: Wish = Wish::Cancel { force: true };

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Accepts whatever it is asked to, whatever it has promised.
    AcceptsWithoutPromise,
    /// Starts again without what it had promised and accepted.
    ForgetsPromises,
    /// No fault: the same, and it gives no vote for as long as the product gives none.
    ForgetsAndFallsSilent,
    /// Ends a move although nobody has said that it has pulled.
    RetiresUnverified,
    /// Says that it has flipped, and serves reads all the same.
    GoesOnServing,
    /// Reads what has flipped from the owners to be, whatever those before say.
    AsksNobodyBefore,
    /// Says that it holds all after it has pulled from one owner.
    PullsFromTooFew,
    /// Never says that its transfers are done.
    KeepsItsEndToItself,
    /// Answers nobody who wants to take back what it has flipped for.
    HoldsToItsFlips,
    /// Wants to have pulled from every old owner.
    PullsFromAll,
}

#[derive(Clone)]
pub(crate) struct Scenario {
    pub(crate) first: fn() -> Ring,
    /// The key is in the first partition that moves by this.
    pub(crate) key_moves_by: fn() -> MemberChange,
    /// Who wants what; a joining node wants to join by itself.
    pub(crate) operators: Vec<(u8, Wish)>,
    pub(crate) tries: u8,
    pub(crate) crashes: u8,
    pub(crate) losses: u8,
    pub(crate) writes: bool,
    /// Whether a node pulls from all owners in one step, and has all flip in one.
    pub(crate) coarse: bool,
    /// Whether a move can end within so many tries.
    pub(crate) ends: bool,
    pub(crate) fault: Fault,
}

fn join() -> MemberChange {
    MemberChange::Join(member(3))
}

fn leave() -> MemberChange {
    MemberChange::Leave(id(2))
}

fn replace() -> MemberChange {
    let new = member(3);
    MemberChange::Replace { old: id(2), new }
}

/// An operator commits that the third node leaves, while the fourth one joins by itself.
fn a_leave_and_a_join() -> Scenario {
    Scenario {
        first: || ring_after(&[Change::Stage(leave())]),
        key_moves_by: leave,
        operators: vec![(0, Wish::Change(leave))],
        tries: 3,
        crashes: 0,
        losses: 0,
        writes: false,
        coarse: true,
        ends: true,
        fault: Fault::None,
    }
}

/// An operator commits that the fourth node takes the third one's place, and another one cancels.
fn a_replacement_and_a_cancel() -> Scenario {
    Scenario {
        first: || ring_after(&[Change::Stage(join()), Change::Stage(replace())]),
        key_moves_by: replace,
        operators: vec![(0, Wish::Change(replace)), (1, CANCEL)],
        ..a_leave_and_a_join()
    }
}

/// The fourth node has begun to pull what the third one owns, and an operator cancels.
fn a_replacement_under_way() -> Scenario {
    Scenario {
        first: || {
            let commit = Change::Commit(vec![replace()]);
            ring_after(&[Change::Stage(join()), Change::Stage(replace()), commit])
        },
        key_moves_by: replace,
        operators: vec![(0, CANCEL)],
        tries: 2,
        ..a_leave_and_a_join()
    }
}

/// A replacement that nobody cancels, message by message, and a write.
fn a_replacement_and_a_write() -> Scenario {
    Scenario {
        operators: Vec::new(),
        tries: 1,
        crashes: 1,
        writes: true,
        coarse: false,
        ..a_replacement_under_way()
    }
}

/// An operator has yet to stage that the fourth node takes the third one's place; another one
/// reverts whatever is staged, and the fourth node itself commits that it joins.
fn a_stage_and_a_revert() -> Scenario {
    Scenario {
        first: || ring_after(&[Change::Stage(join())]),
        key_moves_by: replace,
        operators: vec![(0, Wish::Change(replace)), (1, Wish::Revert)],
        tries: 2,
        ..a_leave_and_a_join()
    }
}

/// The fourth node has begun to pull what the third one owns, and an operator forgets it.
fn a_forgotten_receiver() -> Scenario {
    fn forget() -> MemberChange {
        MemberChange::Forget(id(3))
    }
    Scenario {
        first: || {
            let commit = Change::Commit(vec![replace()]);
            let staged = [Change::Stage(join()), Change::Stage(replace())];
            ring_after(&[&staged[..], &[commit, Change::Stage(forget())]].concat())
        },
        operators: vec![(0, Wish::Change(forget))],
        tries: 1,
        ..a_replacement_under_way()
    }
}

/// The third node has begun to leave, and an operator commits that the fourth one takes the place of
/// the second, who is to keep what the third one owned.
fn a_replaced_receiver() -> Scenario {
    fn instead() -> MemberChange {
        let new = member(3);
        MemberChange::Replace { old: id(1), new }
    }
    Scenario {
        first: || {
            let commit = Change::Commit(vec![leave()]);
            ring_after(&[Change::Stage(leave()), commit, Change::Stage(instead())])
        },
        key_moves_by: instead,
        operators: vec![(0, Wish::Change(instead))],
        ..a_replacement_under_way()
    }
}

/// The broken rules, if there are any. Looks at all there is, and stops at the first.
fn broken(scenario: Scenario) -> Vec<&'static str> {
    let ends = scenario.ends;
    let told = format!(
        "{:?}, {} tries, {} crashes, {} losses",
        scenario.fault, scenario.tries, scenario.crashes, scenario.losses
    );
    let checker = World::new(scenario).checker();
    let checker = checker.finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs().join();
    println!(
        "{told}: {} states, {} deep",
        checker.unique_state_count(),
        checker.max_depth()
    );
    let mut found: Vec<&str> = checker.discoveries().into_keys().collect();
    let has_ended = found.contains(&MOVE_ENDS);
    found.retain(|found| *found != MOVE_ENDS);
    found.sort_unstable();
    if found.is_empty() {
        // So that what holds of an end was seen to hold of one.
        assert_eq!(has_ended, ends, "{told}: whether a move has ended");
    }
    found
}

#[test]
fn a_leave_and_a_join_at_once_make_one_ring_after_the_other() {
    let scenario = Scenario {
        tries: 2,
        losses: 1,
        ..a_leave_and_a_join()
    };
    assert_eq!(broken(scenario), [""; 0]);
}

#[test]
fn what_is_staged_is_committed_or_reverted() {
    assert_eq!(broken(a_stage_and_a_revert()), [""; 0]);
}

#[test]
fn a_receiver_forgotten_or_replaced_in_the_middle_leaves_a_move_that_ends() {
    for scenario in [a_forgotten_receiver(), a_replaced_receiver()] {
        assert_eq!(broken(scenario), [""; 0]);
    }
}

#[test]
fn a_replacement_is_agreed_or_cancelled_whoever_crashes() {
    let scenario = Scenario {
        tries: 2,
        crashes: 1,
        ..a_replacement_and_a_cancel()
    };
    assert_eq!(broken(scenario), [""; 0]);
}

#[test]
fn a_replacement_under_way_ends_or_goes_back_whoever_crashes() {
    let scenario = Scenario {
        crashes: 1,
        ..a_replacement_under_way()
    };
    assert_eq!(broken(scenario), [""; 0]);
}

#[test]
fn a_replacement_under_way_ends_or_goes_back_whatever_answer_is_lost() {
    let scenario = Scenario {
        losses: 1,
        ..a_replacement_under_way()
    };
    assert_eq!(broken(scenario), [""; 0]);
}

#[test]
fn no_read_misses_a_write_while_a_replacement_goes_its_way() {
    let from_the_start = Scenario {
        tries: 1,
        crashes: 1,
        losses: 1,
        writes: true,
        coarse: false,
        ends: false,
        ..a_replacement_and_a_cancel()
    };
    assert_eq!(broken(from_the_start), [""; 0]);
    for (crashes, losses) in [(1, 0), (0, 1)] {
        let under_way = Scenario {
            crashes,
            losses,
            ..a_replacement_and_a_write()
        };
        assert_eq!(broken(under_way), [""; 0]);
    }
}

/// The fourth node may have flipped all, as an operator cancels; and then there is a write.
fn a_cancel_of_what_has_flipped(force: bool) -> Scenario {
    Scenario {
        operators: vec![(0, Wish::Cancel { force })],
        crashes: 0,
        ..a_replacement_and_a_write()
    }
}

/// Without force too, for a partition may flip between the operator's look and the new ring.
#[test]
fn no_read_misses_a_write_after_a_cancel_of_what_has_flipped() {
    for (force, losses) in [(true, 1), (false, 0)] {
        let scenario = Scenario {
            losses,
            ..a_cancel_of_what_has_flipped(force)
        };
        assert_eq!(broken(scenario), [""; 0]);
    }
}

/// As a node does whose backup was restored; see `ForgetsPromises` for what becomes of it otherwise.
/// Looks at so many states that it runs with `make soak`.
#[test]
#[cfg_attr(not(feature = "extra"), ignore = "a minute and a half: make soak")]
fn a_node_that_forgets_its_promises_and_falls_silent_makes_no_second_ring() {
    let scenario = Scenario {
        tries: 2,
        crashes: 1,
        fault: Fault::ForgetsAndFallsSilent,
        ..a_leave_and_a_join()
    };
    assert_eq!(broken(scenario), [""; 0]);
}

#[test]
fn a_rule_that_is_broken_is_caught() {
    let coarse = |scenario: Scenario, tries, crashes, fault| Scenario {
        tries,
        crashes,
        fault,
        ..scenario
    };
    let fine = |fault| Scenario {
        fault,
        ..a_replacement_and_a_write()
    };
    let before_the_move = |fault| Scenario {
        tries: 1,
        writes: true,
        coarse: false,
        fault,
        ..a_replacement_and_a_cancel()
    };
    let cancelled = |force| Scenario {
        fault: Fault::AsksNobodyBefore,
        ..a_cancel_of_what_has_flipped(force)
    };
    let (at_rest, moving) = (a_leave_and_a_join, a_replacement_under_way);
    let uncancelled = Scenario {
        operators: Vec::new(),
        ..coarse(moving(), 1, 0, Fault::HoldsToItsFlips)
    };
    let rows: [(Scenario, &[&str]); 10] = [
        (
            coarse(at_rest(), 2, 0, Fault::AcceptsWithoutPromise),
            &[TWO_RINGS],
        ),
        (
            coarse(at_rest(), 2, 1, Fault::ForgetsPromises),
            &[TWO_RINGS],
        ),
        (
            coarse(moving(), 1, 0, Fault::RetiresUnverified),
            &[UNVERIFIED],
        ),
        (
            coarse(moving(), 1, 0, Fault::KeepsItsEndToItself),
            &[NEEDS_GIVER, NEVER_ENDS],
        ),
        (uncancelled, &[NO_WAY_BACK]),
        (coarse(moving(), 1, 0, Fault::PullsFromAll), &[NEEDS_GIVER]),
        (fine(Fault::GoesOnServing), &[UNVERIFIED]),
        // What was acknowledged before may be on the other owners alone.
        (before_the_move(Fault::PullsFromTooFew), &[STALE_READ]),
        (cancelled(true), &[STALE_READ]),
        (cancelled(false), &[STALE_READ]),
    ];
    for (scenario, wanted) in rows {
        let fault = scenario.fault;
        assert_eq!(broken(scenario), wanted, "{fault:?}");
    }
}
