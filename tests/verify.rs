//! The history checker as a user runs it: on histories with a planted fault, and on real clusters
//! whose nodes are killed and stopped.

#![allow(clippy::indexing_slicing, reason = "a failure here fails the test")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/process.rs"]
mod process;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use process::wait_until_gone;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

fn quorate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("QUORATE_")) {
        command.env_remove(name);
    }
    command
}

/// A history of puts, a delete and reads of one key, as lines.
struct Written(Vec<Value>);

impl Written {
    fn op(&mut self, fields: &Value) -> &mut Self {
        let n = self.0.len() as u64;
        let mut line = json!({
            "line": "op", "id": n, "session": 1, "endpoint": "n1", "phase": "calm", "key": "cart",
            "strict": true, "invoked": n * 10, "completed": n * 10 + 5, "result": "ok",
            "answer": "200", "token": format!("clock-{n}"),
        });
        let more = fields.as_object().unwrap().clone();
        line.as_object_mut().unwrap().extend(more);
        self.0.push(line);
        self
    }

    fn put(&mut self, value: &str, result: &str, clock: Option<u64>) -> &mut Self {
        let mut fields = json!({"op": "PUT", "value": value, "result": result});
        if let Some(clock) = clock {
            fields["clock"] = clock.into();
        }
        self.op(&fields)
    }

    fn get(&mut self, values: &[&str]) -> &mut Self {
        self.op(&json!({"op": "GET", "values": values}))
    }

    fn finals(&mut self, nodes: [&[&str]; 2]) -> &mut Self {
        self.round("final1", nodes).round("final2", nodes)
    }

    fn round(&mut self, phase: &str, nodes: [&[&str]; 2]) -> &mut Self {
        for (node, values) in ["n1", "n2"].iter().zip(nodes) {
            let read = json!({
                "op": "GET", "values": values, "phase": phase, "endpoint": node, "strict": false
            });
            self.op(&read);
        }
        self
    }

    fn check(&self, dir: &Path) -> Output {
        let path = dir.join("history.jsonl");
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        let mut command = quorate();
        command.args(["verify", "--check"]).arg(&path);
        command.output().unwrap()
    }
}

type Plant = fn(&mut Written) -> &mut Written;

const PLANTED: [(&str, Plant); 11] = [
    ("LOST", |h| h.put("a", "ok", None).finals([&[], &[]])),
    ("PHANTOM", |h| {
        h.put("a", "ok", None).finals([&["a", "x"], &["a", "x"]])
    }),
    ("DIRTY", |h| {
        h.put("a", "ok", None).put("b", "fail", None);
        h.finals([&["a", "b"], &["a", "b"]])
    }),
    ("RESURRECTED", |h| {
        h.put("a", "ok", None)
            .op(&json!({"op": "DELETE", "clock": 0}));
        h.finals([&["a"], &["a"]])
    }),
    ("FALSE SIBLING", |h| {
        h.put("a", "ok", None).put("b", "ok", Some(0));
        h.finals([&["a", "b"], &["a", "b"]])
    }),
    ("DUPLICATE", |h| {
        h.put("a", "ok", None).finals([&["a", "a"], &["a", "a"]])
    }),
    ("DIVERGED", |h| {
        let unknown = h.put("a", "ok", None).put("b", "info", None);
        (0..20)
            .fold(unknown, |h, _| h.get(&["a"]))
            .finals([&["a"], &["a", "b"]])
    }),
    ("FLAPPING", |h| {
        let unknown = h.put("a", "ok", None).put("b", "info", None);
        let h = (0..20).fold(unknown, |h, _| h.get(&["a"]));
        h.round("final1", [&["a"], &["a"]])
            .round("final2", [&["a", "b"], &["a", "b"]])
    }),
    ("STALE", |h| {
        h.put("a", "ok", None).get(&[]).finals([&["a"], &["a"]])
    }),
    ("NON-MONOTONIC", |h| {
        h.put("a", "info", None).get(&["a"]).get(&[]);
        h.put("b", "ok", None).finals([&["b"], &["b"]])
    }),
    ("VOID", |h| {
        h.put("a", "ok", None)
            .put("b", "info", None)
            .finals([&["a"], &["a"]])
    }),
];

#[test]
fn a_planted_fault_is_named_and_the_exit_code_is_1() {
    let dir = tempfile::tempdir().unwrap();
    for (word, plant) in PLANTED {
        let mut written = Written(Vec::new());
        let output = plant(&mut written).check(dir.path());
        assert_eq!(output.status.code(), Some(1), "{word}: {output:?}");
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        if word == "VOID" {
            assert_eq!(said["verdict"], "void", "{said}");
            continue;
        }
        let violations = said["violations"].as_array().unwrap();
        let kinds: Vec<&Value> = violations.iter().map(|v| &v["kind"]).collect();
        assert_eq!(kinds, [word], "{said}");
        assert_eq!(violations[0]["key"], "cart", "{said}");
    }
}

#[test]
fn a_correct_history_is_ok_and_the_exit_code_is_0() {
    let dir = tempfile::tempdir().unwrap();
    let mut written = Written(Vec::new());
    written
        .put("a", "ok", None)
        .put("b", "ok", Some(0))
        .get(&["b"]);
    let output = written.finals([&["b"], &["b"]]).check(dir.path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["verdict"], "ok", "{said}");
}

#[test]
fn a_file_that_is_no_history_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.jsonl");
    std::fs::write(&path, "{}\n").unwrap();
    let output = quorate()
        .args(["verify", "--check"])
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("line 1 is not of a history"), "{said}");
}

/// Runs five nodes under these faults, keeps the history in this directory, and gives what was
/// found.
fn run(words: &str, dir: &Path) -> Value {
    let mut command = quorate();
    command.arg("verify").args(words.split_whitespace());
    command.args(["-o", "json", "--dir"]).arg(dir);
    let output = command.output().unwrap();
    let (data, chatter) = (output.stdout, String::from_utf8(output.stderr).unwrap());
    let data = String::from_utf8(data).unwrap();
    assert!(output.status.success(), "{words}: {data}\n{chatter}");
    serde_json::from_str(&data).unwrap()
}

/// Takes one acknowledged value of W5 away from all final reads of a recorded run.
fn plant_a_loss(history: &Path) -> String {
    let text = std::fs::read_to_string(history).unwrap();
    let mut lines: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let is_bulk = |l: &&Value| {
        l["op"] == "POST" && l["result"] == "ok" && l["key"].as_str().unwrap().contains("-w5-")
    };
    let lost = lines.iter().find(is_bulk).unwrap()["key"]
        .as_str()
        .unwrap()
        .to_owned();
    let finals = |l: &&mut Value| {
        l["key"] == *lost && l["phase"].as_str().is_some_and(|p| p.starts_with("final"))
    };
    for read in lines.iter_mut().filter(finals) {
        read["values"] = json!([]);
    }
    let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    std::fs::write(history, lines.join("\n")).unwrap();
    lost
}

/// Under kill and pause: writes survive (P1), none is overwritten silently (P2), siblings are
/// exact (P3), strict reads are fresh (P4), errors honest (P6), deletes final (P7). That it could
/// have been found otherwise shows a loss that is planted in the record afterwards.
#[test]
fn p1_p2_p3_p4_p6_p7_hold_while_nodes_are_killed_and_paused() {
    let dir = tempfile::tempdir().unwrap();
    let words = "--nemesis kill,pause --seconds 20 --converge 0 --settle 2 --seed 7";
    let said = run(words, dir.path());
    assert_eq!(said["verdict"], "ok", "{said}");
    let faults = &said["counts"]["faults"];
    assert!(
        faults["kill"].as_u64() > Some(0) && faults["pause"].as_u64() > Some(0),
        "{said}"
    );
    assert!(
        said["counts"]["acked_writes"].as_u64() > Some(500),
        "{said}"
    );

    let history = dir.path().join("history-7.jsonl");
    let key = plant_a_loss(&history);
    let output = quorate()
        .args(["verify", "-o", "json", "--check"])
        .arg(&history)
        .output()
        .unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["violations"][0]["kind"], "LOST", "{said}");
    assert_eq!(said["violations"][0]["key"], *key, "{said}");
}

/// Replicas must be equal within a minute of the last fault, what is left of deletes included, and
/// the final reads 20 s apart.
#[test]
fn p1_p2_p3_p4_p6_p7_p8_hold_while_the_network_splits_and_disks_are_lost() {
    let dir = tempfile::tempdir().unwrap();
    let words = "--nemesis partition,wipe,restart-storm --seconds 45 --seed 5";
    let said = run(words, dir.path());
    assert_eq!(said["verdict"], "ok", "{said}");
    for fault in ["partition", "wipe", "restart-storm"] {
        let bit = said["counts"]["faults"][fault].as_u64();
        assert!(bit > Some(0), "{fault}: {said}");
    }
}

/// Of the faults of this kind that bit, what the history says in this field.
fn bitten(history: &Path, kind: &str, field: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(history).unwrap();
    let lines = text.lines().map(|l| serde_json::from_str(l).unwrap());
    let bit = |l: &Value| l["line"] == "fault" && l["kind"] == kind && l["bit"] == true;
    let said = lines
        .filter(bit)
        .map(|l| l[field].as_str().map(str::to_owned));
    said.map(Option::unwrap_or_default).collect()
}

/// Changes of members under load end, and break no promise (P9).
#[test]
fn p9_p1_p2_p3_p4_p6_p7_p8_hold_while_nodes_join_leave_are_replaced_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let words = "--nemesis join,leave,replace,forget --seconds 36 --settle 2 --seed 1";
    let said = run(words, dir.path());
    assert_eq!(said["verdict"], "ok", "{said}");
    for change in ["join", "leave", "replace", "forget"] {
        let bit = said["counts"]["faults"][change].as_u64();
        assert!(bit > Some(0), "{change}: {said}");
    }
}

/// The mix that lost writes elsewhere: membership, crashes and partitions. Whoever gives, receives
/// or proposed is killed in the middle of a change, and links are cut in the middle of others.
#[test]
fn p9_p1_p2_p3_p4_p6_p7_p8_hold_while_changes_of_members_are_struck_in_their_middle() {
    let dir = tempfile::tempdir().unwrap();
    let words = "--nemesis kill-during-move,partition-during-move --seconds 40 --settle 2 --seed 2";
    let said = run(words, dir.path());
    assert_eq!(said["verdict"], "ok", "{said}");
    let history = dir.path().join("history-2.jsonl");
    let roles = bitten(&history, "kill-during-move", "role");
    assert!(
        roles.iter().eq(["giver", "proposer", "receiver"]),
        "{roles:?}"
    );
    // All of them, of every role, over a long run: see the tests of the schedule.
    let moments = bitten(&history, "kill-during-move", "moment");
    assert!(moments.len() > 1 && !moments.contains(""), "{moments:?}");
    let cut = bitten(&history, "partition-during-move", "moment");
    assert!(!cut.is_empty(), "{said}");
}

/// A day more or less on a node's wall clock changes nothing but its log (P12), and links that are
/// slow or lose their connections no more than that. Needs libfaketime.
#[cfg(feature = "components")]
#[test]
fn p12_p1_p2_p3_p4_p6_p7_hold_while_clocks_jump_and_links_are_slow_or_lossy() {
    let dir = tempfile::tempdir().unwrap();
    let said = run(
        "--nemesis clock,slow,lossy --seconds 40 --settle 5 --seed 3",
        dir.path(),
    );
    assert_eq!(said["verdict"], "ok", "{said}");
    for fault in ["clock", "slow", "lossy"] {
        let bit = said["counts"]["faults"][fault].as_u64();
        assert!(bit > Some(0), "{fault}: {said}");
    }
}

/// From the lock of the node's directory, which says who holds it.
fn pid_of(dir: &Path) -> u32 {
    let holder = std::fs::read_to_string(dir.join("LOCK")).unwrap();
    holder.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A run that is ended early leaves no process behind, not even a stopped one.
#[test]
fn an_interrupted_run_stops_every_node_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = quorate();
    command.args([
        "verify",
        "--nodes",
        "3",
        "--nemesis",
        "pause",
        "--seconds",
        "60",
        "--dir",
    ]);
    command
        .arg(dir.path())
        .stderr(Stdio::piped())
        .stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut chatter = BufReader::new(child.stderr.take().unwrap()).lines();
    // The first fault begins: from now on a node is stopped.
    assert!(chatter.any(|line| line.unwrap().contains(" s: pause n")));
    let pids: Vec<u32> = (1..=3)
        .map(|n| pid_of(&dir.path().join(format!("n{n}"))))
        .collect();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(1));
    for pid in pids {
        wait_until_gone(pid, 10);
    }
}
