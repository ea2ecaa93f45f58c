//! Correct histories pass, and each kind of fault, planted once, is found under its own name.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::history::{Action, Convergence, Fault, Operation, Outcome, Phase, Run};
use super::model::{self, Script};
use super::violation::Kind;
use super::*;

fn put(script: &mut Script, value: &str, clock: Option<u64>) -> u64 {
    put_as(script, value, clock, Outcome::Ok)
}

fn put_as(script: &mut Script, value: &str, clock: Option<u64>, result: Outcome) -> u64 {
    script.op(Action::Put, |o| {
        o.value = Some(value.to_owned());
        o.clock = clock;
        o.result = result;
    })
}

fn get(script: &mut Script, values: &[&str]) -> u64 {
    script.op(Action::Get, |o| {
        o.values = Some(values.iter().map(ToString::to_string).collect());
    })
}

fn delete(script: &mut Script, clock: Option<u64>, result: Outcome) -> u64 {
    script.op(Action::Delete, |o| {
        o.clock = clock;
        o.result = result;
    })
}

/// Changes the final reads of one node, or of all, in one round or both.
fn change_finals(history: &mut History, node: &str, phase: Option<Phase>, values: &[&str]) {
    let is_meant = |o: &&mut Operation| {
        o.is_final() && o.endpoint.contains(node) && phase.is_none_or(|p| p == o.phase)
    };
    for read in history.operations.iter_mut().filter(is_meant) {
        read.values = Some(values.iter().map(ToString::to_string).collect());
    }
}

/// Writes a history.
type Write = fn(&mut Script);

/// Histories in which everything is as promised.
const CORRECT: [(&str, Write); 13] = [
    (
        "a sloppy read may show what a write with fallbacks had replaced",
        |s| {
            let a = put(s, "a", None);
            s.op(Action::Put, |o| {
                o.value = Some("b".to_owned());
                o.clock = Some(a);
                o.strict = false;
                o.hinted = Some(1);
            });
            s.op(Action::Get, |o| {
                o.strict = false;
                o.values = Some(vec!["a".to_owned(), "b".to_owned()]);
            });
            s.finals(&["b"]);
        },
    ),
    ("two writes with one clock are siblings", |s| {
        let seen = get(s, &[]);
        put(s, "a", Some(seen));
        put(s, "b", Some(seen));
        s.finals(&["a", "b"]);
    }),
    ("a chain of writes leaves its last", |s| {
        let a = put(s, "a", None);
        let b = put(s, "b", Some(a));
        let seen = get(s, &["b"]);
        put(s, "c", Some(seen));
        assert_eq!(b, 1);
        s.finals(&["c"]);
    }),
    (
        "an unknown write that took effect covers what it saw",
        |s| {
            let a = put(s, "a", None);
            put_as(s, "b", Some(a), Outcome::Info);
            s.finals(&["b"]);
        },
    ),
    ("an unknown write that did not leaves it", |s| {
        let a = put(s, "a", None);
        put_as(s, "b", Some(a), Outcome::Info);
        s.finals(&["a"]);
    }),
    ("a chain through an unknown write that somebody read", |s| {
        let a = put(s, "a", None);
        put_as(s, "b", Some(a), Outcome::Info);
        let seen = get(s, &["b"]);
        put(s, "c", Some(seen));
        s.finals(&["c"]);
    }),
    ("a delete with a clock leaves concurrent writes", |s| {
        let a = put(s, "a", None);
        put(s, "b", None);
        delete(s, Some(a), Outcome::Ok);
        s.finals(&["b"]);
    }),
    ("a delete without a clock may take all before it", |s| {
        put(s, "a", None);
        put(s, "b", None);
        delete(s, None, Outcome::Ok);
        s.finals(&[]);
    }),
    ("an unknown delete may take what comes after it", |s| {
        delete(s, None, Outcome::Info);
        put(s, "a", None);
        s.finals(&[]);
    }),
    ("a delete that found nothing covers nothing", |s| {
        let nothing = get(s, &[]);
        s.op(Action::Delete, |o| {
            o.clock = Some(nothing);
            o.result = Outcome::Fail;
            o.values = Some(Vec::new());
        });
        put(s, "a", Some(1));
        s.finals(&["a"]);
    }),
    ("a refused create shows what there is", |s| {
        put(s, "a", None);
        let refused = s.op(Action::Post, |o| {
            o.value = Some("b".to_owned());
            o.result = Outcome::Fail;
            o.values = Some(vec!["a".to_owned()]);
        });
        put(s, "c", Some(refused));
        s.finals(&["c"]);
    }),
    (
        "what a stand-in acknowledged may be missing from a strict read",
        |s| {
            s.op(Action::Put, |o| {
                o.value = Some("a".to_owned());
                o.strict = false;
                o.hinted = Some(1);
            });
            get(s, &[]);
            s.finals(&["a"]);
        },
    ),
    (
        "a read that began before an acknowledgement may miss it",
        |s| {
            s.op(Action::Put, |o| {
                o.value = Some("a".to_owned());
                o.completed += 100;
            });
            get(s, &[]);
            s.finals(&["a"]);
        },
    ),
];

#[test]
fn correct_histories_pass() {
    for (name, write) in CORRECT {
        let mut script = Script::default();
        write(&mut script);
        let report = check(&script.history).unwrap();
        assert_eq!(report.violations, [], "{name}");
        let known = script
            .history
            .operations
            .iter()
            .all(|o| o.result != Outcome::Info);
        assert_eq!(report.verdict == Verdict::Ok, known, "{name}: {report:#?}");
    }
}

/// Histories with one fault, the word for it, and the value it is about.
const PLANTED: [(Kind, &str, Write); 18] = [
    (Kind::FalseSibling, "a", |s| {
        let a = put(s, "a", None);
        put(s, "b", Some(a));
        s.op(Action::Get, |o| {
            o.strict = false;
            o.values = Some(vec!["a".to_owned(), "b".to_owned()]);
        });
        s.finals(&["b"]);
    }),
    (Kind::Lost, "a", |s| {
        put(s, "a", None);
        s.finals(&[]);
    }),
    (Kind::Lost, "b", |s| {
        put(s, "a", None);
        put(s, "b", None);
        let seen = s.op(Action::Get, |o| {
            o.strict = false;
            o.values = Some(vec!["a".to_owned()]);
        });
        put(s, "c", Some(seen));
        s.finals(&["c"]);
    }),
    (Kind::Lost, "a", |s| {
        let a = put(s, "a", None);
        put_as(s, "b", Some(a), Outcome::Fail);
        s.finals(&[]);
    }),
    (Kind::Lost, "a", |s| {
        let a = put(s, "a", None);
        delete(s, Some(a), Outcome::Fail);
        s.finals(&[]);
    }),
    (Kind::Lost, "a", |s| {
        delete(s, None, Outcome::Ok);
        put(s, "a", None);
        s.finals(&[]);
    }),
    (Kind::Lost, "b", |s| {
        let a = put(s, "a", None);
        put(s, "b", None);
        delete(s, Some(a), Outcome::Ok);
        s.finals(&[]);
    }),
    (Kind::Phantom, "x", |s| {
        put(s, "a", None);
        s.finals(&["a", "x"]);
    }),
    (Kind::Phantom, "a", |s| {
        get(s, &["a"]);
        put(s, "a", None);
        s.finals(&["a"]);
    }),
    (Kind::Dirty, "b", |s| {
        put(s, "a", None);
        put_as(s, "b", None, Outcome::Fail);
        s.finals(&["a", "b"]);
    }),
    (Kind::Resurrected, "a", |s| {
        let a = put(s, "a", None);
        delete(s, Some(a), Outcome::Ok);
        s.finals(&["a"]);
    }),
    (Kind::FalseSibling, "a", |s| {
        let a = put(s, "a", None);
        put(s, "b", Some(a));
        s.finals(&["a", "b"]);
    }),
    (Kind::FalseSibling, "a", |s| {
        let a = put(s, "a", None);
        put_as(s, "b", Some(a), Outcome::Info);
        get(s, &["a", "b"]);
        s.finals(&["b"]);
    }),
    (Kind::Duplicate, "a", |s| {
        put(s, "a", None);
        s.finals(&["a", "a"]);
    }),
    (Kind::Diverged, "", |s| {
        put(s, "a", None);
        put_as(s, "b", None, Outcome::Info);
        s.finals(&["a"]);
        change_finals(&mut s.history, "n2", None, &["a", "b"]);
    }),
    (Kind::Flapping, "", |s| {
        put(s, "a", None);
        put_as(s, "b", None, Outcome::Info);
        s.finals(&["a"]);
        change_finals(&mut s.history, "", Some(Phase::Final2), &["a", "b"]);
    }),
    (Kind::Stale, "a", |s| {
        put(s, "a", None);
        get(s, &[]);
        s.finals(&["a"]);
    }),
    (Kind::NonMonotonic, "a", |s| {
        put_as(s, "a", None, Outcome::Info);
        get(s, &["a"]);
        get(s, &[]);
        put(s, "b", None);
        s.finals(&["a", "b"]);
    }),
];

#[test]
fn each_planted_fault_is_found_under_its_own_name() {
    for (row, (kind, value, write)) in PLANTED.into_iter().enumerate() {
        let mut script = Script::default();
        write(&mut script);
        let report = check(&script.history).unwrap();
        let found: Vec<_> = report
            .violations
            .iter()
            .map(|v| (v.kind, v.value.as_str()))
            .collect();
        assert_eq!(found, [(kind, value)], "row {row}: {report:#?}");
        assert_eq!(report.verdict, Verdict::Violated, "row {row}");
    }
}

#[test]
fn a_strict_read_that_shows_what_was_replaced_is_stale() {
    let mut script = Script::default();
    let a = put(&mut script, "a", None);
    let b = put(&mut script, "b", Some(a));
    get(&mut script, &["a"]);
    script.finals(&["b"]);
    let report = check(&script.history).unwrap();
    let found: Vec<_> = report
        .violations
        .iter()
        .map(|v| (v.kind, v.value.as_str()))
        .collect();
    assert_eq!(
        found,
        [(Kind::Stale, "a"), (Kind::Stale, "b")],
        "{report:#?}"
    );
    assert_eq!(report.violations[0].operations, [2, b]);
}

#[test]
fn owners_that_still_differ_have_diverged() {
    let mut script = Script::default();
    put(&mut script, "a", None);
    script.finals(&["a"]);
    script.history.convergence = Some(Convergence {
        after: 60_000_000,
        differing: vec!["k".to_owned()],
    });
    let report = check(&script.history).unwrap();
    let text = report.violations[0].to_string();
    assert!(
        text.starts_with("DIVERGED (P8), key k: ") && text.contains(" 60 s"),
        "{text}"
    );
}

#[test]
fn a_violation_names_operation_value_clock_and_key() {
    let mut script = Script::default();
    let a = put(&mut script, "a", None);
    put(&mut script, "b", Some(a));
    script.finals(&[]);
    let report = check(&script.history).unwrap();
    let text = report.violations[1].to_string();
    for part in [
        "LOST (P1, P2), key k: b, written by operation 1 (PUT at n1 by session 1, ",
        "with the clock of operation 0), is gone: operation 2 (final GET at n1",
        "so in 6 answers",
        "clock: token-1",
    ] {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

/// What makes a run show nothing, and a part of what is said about it.
const VOID: [(&str, Write); 6] = [
    ("no write was acknowledged", |s| {
        get(s, &[]);
    }),
    ("the fault pause did not bite", |s| {
        put(s, "a", None);
        s.finals(&["a"]);
        s.history.run = Some(Run {
            faults: vec!["kill".to_owned(), "pause".to_owned()],
            ..Run::default()
        });
        for (fault, bit) in [("kill", true), ("pause", false)] {
            s.history.faults.push(Fault {
                kind: fault.to_owned(),
                target: "n1".to_owned(),
                from: 0,
                until: 1,
                bit,
                role: None,
                moment: None,
            });
        }
    }),
    ("only 8 of 10 operations have a known result", |s| {
        put(s, "a", None);
        for n in 0..9 {
            let result = if n < 7 { Outcome::Fail } else { Outcome::Info };
            put_as(s, &format!("b{n}"), None, result);
        }
        s.finals(&["a"]);
    }),
    ("only 1 of 4 operations during faults", |s| {
        for n in 0..40 {
            put_as(s, &format!("x{n}"), None, Outcome::Fail);
        }
        put(s, "a", None);
        for n in 0..3 {
            put_as(s, &format!("b{n}"), None, Outcome::Info);
        }
        for operation in &mut s.history.operations[40..] {
            operation.phase = Phase::Faults;
        }
        s.finals(&["a"]);
    }),
    (
        "2 final reads are missing, the first of key k at any node",
        |s| {
            put(s, "a", None);
        },
    ),
    ("1 final reads are missing, the first of key k at n3", |s| {
        put(s, "a", None);
        s.finals(&["a"]);
        if let Some(last) = s.history.operations.last_mut() {
            last.result = Outcome::Info;
        }
    }),
];

#[test]
fn a_run_that_could_show_nothing_is_void() {
    for (reason, write) in VOID {
        let mut script = Script::default();
        write(&mut script);
        let report = check(&script.history).unwrap();
        assert_eq!(report.verdict, Verdict::Void, "{reason}: {report:#?}");
        let said = report.void.join("\n");
        assert!(said.contains(reason), "{reason:?} is not in {said:?}");
    }
}

#[test]
fn a_history_that_contradicts_itself_is_refused() {
    let rows: [(&str, Write); 3] = [
        ("writes the value a to k a second time", |s| {
            put(s, "a", None);
            put(s, "a", None);
        }),
        ("uses the clock of operation 7, which is none", |s| {
            put(s, "a", Some(7));
        }),
        ("is a write without a value", |s| {
            s.op(Action::Put, |_| {});
        }),
    ];
    for (reason, write) in rows {
        let mut script = Script::default();
        write(&mut script);
        let refused = check(&script.history).unwrap_err().to_string();
        assert!(refused.contains(reason), "{refused}");
    }
}

fn rolls() -> impl Strategy<Value = Vec<model::Roll>> {
    vec((0_u8..16, any::<u8>(), any::<u8>()), 1..80)
}

/// Without deletes of which nobody knows whether they were done: they would excuse a loss.
fn known_deletes() -> impl Strategy<Value = Vec<model::Roll>> {
    let known = |(what, at, how)| match what {
        9..12 => (what, at, how | 4),
        _ => (what, at, how),
    };
    rolls().prop_map(move |rolls| rolls.into_iter().map(known).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_rules_of_causality_produce_breaks_no_promise(rolls in rolls()) {
        let report = check(&model::run(&rolls)).unwrap();
        prop_assert!(report.violations.is_empty(), "{:#?}", report.violations);
    }

    #[test]
    fn a_loss_planted_in_a_correct_history_is_found(rolls in known_deletes()) {
        let history = model::run(&rolls);
        let last = history.operations.last().and_then(|o| o.values.clone()).unwrap_or_default();
        let is_acked = |v: &&String| {
            history.operations.iter().any(|o| o.value.as_ref() == Some(*v) && o.is_acked())
        };
        for lost in last.iter().filter(is_acked) {
            let mut planted = history.clone();
            let rest: Vec<&str> = last.iter().filter(|v| *v != lost).map(String::as_str).collect();
            change_finals(&mut planted, "", None, &rest);
            let report = check(&planted).unwrap();
            let found = report.violations.iter().any(|v| v.kind == Kind::Lost && v.value == *lost);
            prop_assert!(found, "{lost} was taken away: {:#?}", report.violations);
        }
    }
}
