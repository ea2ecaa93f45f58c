//! Do the tests notice? For each fault of logic that the feature `mutants` can make, the tests that
//! are named for it here pass without it and fail with it. `make mutants` runs this.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a failure here fails the test"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Write, stdout};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use quorate::mutant::{Mutant, VARIABLE};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use support::process::pause;
use tempfile::TempDir;

/// What this was built with, and what it looks at therefore has to be built with.
const FEATURES: &str = "components,mutants";
/// Looks at a test that runs, of which there are fifty in a second.
const LOOKS: usize = 50 * 120;
/// The program with the library's own tests.
const LIB: &str = "lib";

/// A test: the program that it is in, and its name there.
type Test = (&'static str, &'static str);

/// What became of one test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Passed,
    Failed,
    /// It is not there, or it was killed in the end.
    Otherwise,
}

/// Each mutant, the rule that it breaks, and the tests that are there to notice.
const RULES: [(Mutant, &str, &[Test]); 15] = [
    (
        Mutant::NoSyncBeforeAck,
        "P1: W nodes have synced before the 2xx",
        &[
            lib(
                "actors::store_keeper::tests::durability::each_durability_syncs_as_often_as_it_says",
            ),
            SYNCED,
        ],
    ),
    (
        Mutant::EngineIgnoresSync,
        "P1: a sync reaches the disk",
        &[SYNCED],
    ),
    (
        Mutant::LastWriteWins,
        "P3: concurrent writes all stay",
        &[
            lib("dynamo::version::algebra::sync_keeps_what_nobody_has_seen_covered"),
            lib("dynamo::version::tests::seed_defect_05_disjoint_clocks_merge_without_loss"),
            (
                "cluster",
                "seed_defect_04_two_puts_with_one_clock_both_stay",
            ),
            CHECKED,
        ],
    ),
    (
        Mutant::LeaseNotDurable,
        "P2: a dot names one write",
        &[NO_DOT_TWICE],
    ),
    (
        Mutant::LeaseResumedInside,
        "P2: a dot names one write",
        &[
            NO_DOT_TWICE,
            lib("storage::identity::tests::epochs_are_leased_before_use_and_never_given_twice"),
        ],
    ),
    (
        Mutant::EpochNotReopened,
        "P2: a clock swallows no later write",
        &[lib(
            "dynamo::version::tests::seed_defect_08_a_clock_from_the_future_swallows_no_write",
        )],
    ),
    (
        Mutant::FaultCountsAsAck,
        "P1: W nodes have the write",
        &[
            NO_FAULT,
            lib(
                "actors::write_coordinator::tests::a_write_that_was_minted_and_found_no_quorum_is_unknown",
            ),
        ],
    ),
    (
        Mutant::HintFaultCountsAsAck,
        "P5: a hint counts once it is durable",
        &[NO_FAULT],
    ),
    (
        Mutant::AnyStatusIsAnAnswer,
        "P6: a 404 is no acknowledgement",
        &[lib(
            "actors::peer::tests::a_status_tells_whether_the_operation_may_have_been_applied",
        )],
    ),
    (
        Mutant::HintsDroppedOnRestart,
        "P5: hints survive a restart",
        &[
            lib("storage::conformance::fjall::hints_are_kept_by_target_apart_from_records"),
            (
                "faults",
                "p5_with_all_owners_dead_fallbacks_mint_and_their_hints_survive_their_own_death",
            ),
        ],
    ),
    (
        Mutant::HintDroppedUnacknowledged,
        "P5: a hint goes only as acknowledged",
        &[
            lib(
                "actors::store_keeper::tests::hints::a_hint_goes_only_when_exactly_its_state_was_acknowledged",
            ),
            lib(
                "actors::hint_keeper::tests::a_hint_that_is_refused_or_changes_meanwhile_is_sent_again",
            ),
        ],
    ),
    (
        Mutant::ReapAtTwoOfThree,
        "P7: all owners hold what is forgotten",
        &[lib(
            "actors::reaper::tests::p7_the_last_of_three_owners_has_heard_of_a_delete_before_it_is_forgotten",
        )],
    ),
    (
        Mutant::SilenceAllowsReaping,
        "P7: every member allows forgetting",
        &[
            lib("dynamo::reaping::tests::every_member_must_allow_it"),
            lib(
                "actors::reaper::tests::p7_nothing_is_forgotten_while_a_member_may_still_know_better",
            ),
        ],
    ),
    (
        Mutant::FirstReplyAnswersRead,
        "P4: R owners stand behind a read",
        &[
            lib("dynamo::quorum::read::tests::a_fault_is_no_reply_and_an_absent_record_is_one"),
            lib(
                "actors::read_coordinator::tests::as_many_replies_as_the_quorum_needs_are_an_answer",
            ),
        ],
    ),
    (
        Mutant::IncomingOwnersVouch,
        "P4: R owners before a move vouch too",
        &[
            lib(
                "dynamo::quorum::read::tests::p4_no_write_is_acknowledged_under_the_next_ring_that_a_read_under_this_one_could_miss",
            ),
            lib(
                "actors::read_coordinator::tests::moves::p4_a_read_that_has_not_heard_of_a_cancel_is_told_by_the_owners_before",
            ),
        ],
    ),
];

const SYNCED: Test = (
    "syncs",
    "p1_two_nodes_have_synced_a_write_before_it_is_acknowledged",
);
const CHECKED: Test = (
    "verify",
    "p1_p2_p3_p4_p6_p7_hold_while_nodes_are_killed_and_paused",
);
const NO_DOT_TWICE: Test = lib(
    "actors::store_keeper::tests::durability::no_dot_is_used_twice_whatever_is_forgotten_or_restarted",
);
const NO_FAULT: Test =
    lib("dynamo::quorum::write::tests::seed_defect_02_no_fault_counts_as_an_acknowledgement");

/// A test of the library itself.
const fn lib(name: &'static str) -> Test {
    (LIB, name)
}

/// The programs with the tests, as they have been built.
struct Bench {
    programs: BTreeMap<String, PathBuf>,
    /// Where they write what they have to say.
    dir: TempDir,
}

impl Bench {
    /// Asks cargo, which has built them by now.
    fn new() -> Self {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        cargo.args(["test", "--no-run", "--message-format=json", "--lib"]);
        let named = RULES.iter().flat_map(|(_, _, tests)| *tests);
        let others: BTreeSet<&str> = named.map(|(program, _)| *program).collect();
        for program in others.into_iter().filter(|program| *program != LIB) {
            cargo.args(["--test", program]);
        }
        let built = cargo.args(["--features", FEATURES]).output().unwrap();
        assert!(built.status.success(), "{built:?}");
        let messages = String::from_utf8(built.stdout).unwrap();
        Self {
            programs: messages.lines().filter_map(program).collect(),
            dir: TempDir::new().unwrap(),
        }
    }

    /// Runs one test, as the mutant if one is given.
    fn run(&self, (program, name): Test, mutant: Option<Mutant>) -> Ended {
        let program = self.programs.get(program).expect("a program with tests");
        let told = self.dir.path().join("told");
        let file = File::create(&told).unwrap();
        let mut test = Command::new(program);
        test.args([name, "--exact", "--include-ignored"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .process_group(0)
            .env_remove(VARIABLE)
            .envs(mutant.map(|mutant| (VARIABLE, mutant.name())))
            .stdout(file)
            .stderr(Stdio::null());
        let mut child = test.spawn().unwrap();
        for _ in 0..LOOKS {
            if child.try_wait().unwrap().is_some() {
                return ended(&std::fs::read_to_string(told).unwrap());
            }
            pause();
        }
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process_group(group, Signal::KILL).unwrap();
        child.wait().unwrap();
        Ended::Otherwise
    }
}

/// A program with tests, from a line of what cargo says.
fn program(line: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let path = message["executable"].as_str()?;
    let (target, is_test) = (&message["target"], &message["profile"]["test"]);
    let name = match target["kind"][0].as_str()? {
        "lib" => LIB,
        "test" => target["name"].as_str()?,
        _ => return None,
    };
    (is_test == true).then(|| (name.to_owned(), path.into()))
}

/// What a program that was asked for one test says of it.
fn ended(told: &str) -> Ended {
    if told.contains("1 passed; 0 failed") {
        Ended::Passed
    } else if told.contains("0 passed; 1 failed") {
        Ended::Failed
    } else {
        Ended::Otherwise
    }
}

/// A line of the table, at once.
fn tell(mutant: &str, rule: &str, test: &str) {
    let mut out = stdout().lock();
    writeln!(out, "{mutant:<28}  {rule:<38}  {test}").unwrap();
    out.flush().unwrap();
}

#[test]
fn every_mutant_is_caught() {
    assert_eq!(RULES.map(|(mutant, ..)| mutant), Mutant::ALL);
    let bench = Bench::new();
    let mut sound: BTreeMap<Test, Ended> = BTreeMap::new();
    let mut survivors = Vec::new();
    tell("\nmutant", "rule it breaks", "test that caught it");
    for (mutant, rule, tests) in RULES {
        for test in tests {
            let sound = *sound.entry(*test).or_insert_with(|| bench.run(*test, None));
            let ended = bench.run(*test, Some(mutant));
            let caught = (sound, ended) == (Ended::Passed, Ended::Failed);
            let said = format!("{}: {}", test.0, test.1);
            if caught {
                tell(mutant.name(), rule, &said);
            } else {
                survivors.push(format!("{mutant:?}: {said}: {sound:?}, then {ended:?}"));
                tell(mutant.name(), rule, &format!("NOT caught by {said}"));
            }
        }
    }
    assert!(survivors.is_empty(), "\n{}", survivors.join("\n"));
}

#[test]
fn a_test_that_does_not_notice_or_is_not_there_catches_nothing() {
    let bench = Bench::new();
    let blind = (LIB, "dynamo::node_id::tests::names_are_short_and_plain");
    let mutant = Some(Mutant::LastWriteWins);
    assert_eq!(bench.run(blind, None), Ended::Passed);
    assert_eq!(bench.run(blind, mutant), Ended::Passed);
    assert_eq!(bench.run((LIB, "no::such::test"), mutant), Ended::Otherwise);
}
