//! Members leave, are replaced and forgotten, while clients go on: nothing is lost, and who comes
//! back is told.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failure here fails the test"
)]

mod gone;
mod in_vain;
mod old_copies;
mod operators;
mod steering;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use support::keys::{Told, are_there, are_there_at, store};
use support::{Answer, Client, Cluster, Node, eventually};

const TIME: Duration = Duration::from_mins(1);
const REFUSAL_TIME: Duration = Duration::from_secs(10);

/// What clients know: where to ask, and what has to be there.
struct Load {
    urls: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Load {
    fn on(cluster: &Cluster) -> Self {
        Self {
            urls: Mutex::new(
                cluster
                    .running()
                    .map(|n| format!("http://{}", n.client))
                    .collect(),
            ),
            stop: AtomicBool::new(false),
        }
    }

    fn leave_out(&self, client: &str) {
        self.urls
            .lock()
            .unwrap()
            .retain(|url| !url.ends_with(client));
    }

    fn take_in(&self, client: &str) {
        self.urls.lock().unwrap().push(format!("http://{client}"));
    }

    /// As a load balancer does: a node that is not ready or not there leaves it to the next.
    fn ask(&self, turn: usize, mut one: impl FnMut(&str) -> Option<Answer>) -> Option<Answer> {
        let urls = self.urls.lock().unwrap().clone();
        let mut last = None;
        for i in 0..urls.len() {
            last = one(&urls[(turn + i) % urls.len()]);
            let goes_on =
                |answer: &Answer| answer.status == 503 && answer.body.contains("not_applied");
            if last.as_ref().is_some_and(|answer| !goes_on(answer)) {
                break;
            }
        }
        last
    }

    /// Creates and reads until told to stop. Gives what was acknowledged, and how many requests
    /// there were and failed.
    fn run(&self, user: usize) -> (Told, usize, Vec<String>) {
        let client = Client::new();
        let (mut told, mut asked, mut failed): (Told, _, _) = (Vec::new(), 0, Vec::new());
        while !self.stop.load(Ordering::Relaxed) {
            let key = format!("load{user}-{}", told.len());
            let value = json!(format!("v{asked}"));
            asked += 1;
            let body = json!({ "value": value });
            let created = self.ask(asked, |url| {
                client.try_post(&format!("{url}/v1/{key}"), &body)
            });
            match created {
                // An attempt before it may have come through.
                Some(answer)
                    if answer.status == 201 || answer.body.contains(&value.to_string()) =>
                {
                    told.push((key, BTreeSet::from([value.to_string()])));
                }
                other => failed.push(format!("POST {key}: {other:?}")),
            }
            let Some((key, _)) = told.get(asked * 7 % told.len().max(1)) else {
                continue;
            };
            asked += 1;
            let read = self.ask(asked, |url| client.try_get(&format!("{url}/v1/{key}")));
            if read.as_ref().is_none_or(|answer| answer.status != 200) {
                failed.push(format!("GET {key}: {read:?}"));
            }
        }
        (told, asked, failed)
    }
}

/// Runs the clients beside something, and checks afterwards that they noticed nothing and that all
/// they were told is there.
fn under_load(cluster: &mut Cluster, act: impl FnOnce(&mut Cluster, &Load)) {
    let load = Load::on(cluster);
    let results = std::thread::scope(|scope| {
        let users: Vec<_> = (0..2)
            .map(|user| {
                let load = &load;
                scope.spawn(move || load.run(user))
            })
            .collect();
        let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(cluster, &load)));
        load.stop.store(true, Ordering::Relaxed);
        let results: Vec<_> = users.into_iter().map(|user| user.join().unwrap()).collect();
        if let Err(panic) = acted {
            std::panic::resume_unwind(panic);
        }
        results
    });
    let asked: usize = results.iter().map(|(_, asked, _)| asked).sum();
    let failed: Vec<&String> = results.iter().flat_map(|(_, _, failed)| failed).collect();
    assert!(asked > 200, "too little load to prove anything: {asked}");
    assert!(
        failed.len() * 1000 <= asked,
        "{} of {asked} failed: {failed:#?}",
        failed.len()
    );
    for (told, ..) in &results {
        are_there(cluster, told);
    }
}

/// Asks the first running node's operators' side; gives the JSON.
fn operator(cluster: &Cluster, args: &[&str]) -> Value {
    let (code, out, err) = try_operator(cluster, args);
    assert_eq!(code, 0, "{args:?}: {out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|_| panic!("{args:?}: {out}"))
}

fn try_operator(cluster: &Cluster, args: &[&str]) -> (i32, String, String) {
    // Not the newest, which may be no member yet, nor the oldest, which go first.
    let running: Vec<_> = cluster.running().collect();
    let node = running[running.len() - 2];
    node.command_line(&[&["cluster"], args, &["-o", "json", "--timeout", "20"]].concat())
}

/// Stages what was asked for, commits it as it was shown, and waits until nothing moves.
fn change(cluster: &Cluster, args: &[&str]) {
    let plan = operator(cluster, args);
    assert_eq!(plan["error"], Value::Null, "{plan}");
    let done = commit(cluster, &plan, &["--wait"]);
    assert!(done.is_object(), "{done}");
}

/// Commits a plan as it was shown.
fn commit(cluster: &Cluster, plan: &Value, more: &[&str]) -> Value {
    let spared = plan["spared"].as_array().cloned().unwrap_or_default();
    let spared: Vec<&str> = spared.iter().filter_map(Value::as_str).collect();
    let without = if spared.is_empty() {
        "none".to_owned()
    } else {
        spared.join(",")
    };
    let epoch = plan["epoch"].to_string();
    let words = ["commit", "--epoch", &epoch, "--without", &without];
    operator(cluster, &[&words, more].concat())
}

fn members(cluster: &Cluster) -> Vec<String> {
    let status = cluster.running().last().expect("a running node").status();
    let members = status["members"].as_array().cloned().unwrap_or_default();
    members
        .iter()
        .map(|m| m["name"].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// Seed defect 16: 12 % of the keys read 404 after an orderly leave.
#[test]
fn seed_defect_16_a_node_leaves_under_load_and_every_key_and_sibling_stays() {
    let mut cluster = Cluster::start(4);
    let mut told = store(&cluster, 2000);
    under_load(&mut cluster, |cluster, load| {
        std::thread::scope(|scope| {
            let leaving = scope.spawn(|| try_operator(cluster, &["leave", "n2", "--wait"]));
            eventually(TIME, "the leave is staged", || {
                operator(cluster, &["plan"])["staged"] == json!(["leave n2"])
            });
            let plan = operator(cluster, &["plan"]);
            assert!(plan["moving"].as_u64() > Some(100), "{plan}");
            cluster.nodes[0].limit_transfers("1", "1");
            commit(cluster, &plan, &[]);
            serves_while_it_leaves(&cluster.nodes[1], &mut told);
            load.leave_out(&cluster.nodes[1].client.clone());
            cluster.nodes[0].limit_transfers("4", "none");
            let waited = try_operator(cluster, &["transfers", "--wait"]);
            let (code, out, err) = leaving.join().expect("an operator");
            assert!(err.contains("waiting for somebody to commit it"), "{err}");
            let (_, _, progress) = &waited;
            assert!(progress.contains(" transfers done, "), "{progress}");
            for (code, out, err) in [(code, out, err), waited] {
                let end: Option<Value> = serde_json::from_str(&out).ok();
                let moving = end.as_ref().map(|end| &end["moving"]);
                assert_eq!((code, moving), (0, Some(&json!(0))), "{out}{err}");
            }
            let again = operator(cluster, &["leave", "n2"]);
            assert_eq!(again["changed"], false, "it has left");
        });
        let status = cluster.nodes[1].wait_exit(TIME);
        assert!(status.success(), "{}", cluster.nodes[1].log_text());
    });
    assert_eq!(members(&cluster), ["n1", "n3", "n4"]);
    are_there(&cluster, &told);
    // Its data is kept, and it is not used again until somebody says so.
    let node = &mut cluster.nodes[1];
    assert!(node.data.join("records-kept-1").exists());
    node.spawn();
    assert_eq!(node.wait_exit(REFUSAL_TIME).code(), Some(1));
    assert!(
        node.log_text().contains("n2 left the cluster in epoch"),
        "{}",
        node.log_text()
    );
    let data = node.data.to_str().unwrap().to_owned();
    let rejoin = |more: &[&str]| {
        let words = ["cluster", "rejoin", "--data-dir", &data];
        let (code, out, err) = node.command_line(&[&words, more].concat());
        assert_eq!(code, 0, "{out}{err}");
        serde_json::from_str::<Value>(&out).unwrap()
    };
    let expected =
        |dry_run| json!({"node": "n2", "data_dir": data, "kept": null, "dry_run": dry_run});
    assert_eq!(rejoin(&["--dry-run", "-o", "json"]), expected(true));
    assert!(node.data.join("left").exists(), "nothing is done by that");
    assert_eq!(rejoin(&["-o", "json"]), expected(false));
    node.spawn();
    cluster.wait_ready();
    assert_eq!(members(&cluster), ["n1", "n2", "n3", "n4"]);
    are_there(&cluster, &told);
}

/// Through the leaver itself, keys are read, and others created and written again.
fn serves_while_it_leaves(node: &Node, told: &mut Told) {
    let client = Client::new();
    let leaves = || {
        eventually(TIME, "it is leaving", || {
            node.status()["state"] == "LEAVING"
        });
        assert!(node.moving() > 0);
    };
    leaves();
    are_there_at(node, &told[..100]);
    for i in 0..20 {
        let (key, value) = (format!("late{i}"), json!(format!("second{i}")));
        let created = client.post(&node.url(&key), &json!("first"));
        assert_eq!(created.status, 201, "{created:?}");
        let put = client.put(&node.url(&key), &value, &created.clock());
        assert_eq!(put.status, 200, "{put:?}");
        told.push((key, BTreeSet::from([value.to_string()])));
    }
    leaves();
}

/// Of all five, one after the other.
#[test]
fn five_nodes_are_replaced_one_by_one_under_load_and_nothing_is_lost() {
    let mut cluster = Cluster::start(5);
    let told = store(&cluster, 2000);
    under_load(&mut cluster, |cluster, load| {
        for old in 0..5 {
            let new = cluster.add_staged();
            let name = cluster.nodes[old].name.clone();
            let owned = owned_by(cluster, &name);
            change(cluster, &["replace", &name, &new]);
            assert_eq!(
                owned_by(cluster, &new),
                owned,
                "{new} owns what {name} owned"
            );
            load.leave_out(&cluster.nodes[old].client.clone());
            load.take_in(&cluster.nodes[old + 5].client.clone());
            let status = cluster.nodes[old].wait_exit(TIME);
            assert!(status.success(), "{}", cluster.nodes[old].log_text());
        }
    });
    assert_eq!(members(&cluster), ["n10", "n6", "n7", "n8", "n9"]);
    are_there(&cluster, &told);
}

/// The partitions that a node owns.
fn owned_by(cluster: &Cluster, name: &str) -> Vec<usize> {
    let node = cluster.running().last().expect("a running node");
    let ring = Client::new()
        .get(&format!("http://{}/ring", node.admin))
        .json();
    let rows = ring["partitions"].as_array().cloned().unwrap_or_default();
    let has = |row: &Value| {
        row.as_array()
            .is_some_and(|row| row.iter().any(|o| o == name))
    };
    rows.iter()
        .enumerate()
        .filter(|(_, row)| has(row))
        .map(|(p, _)| p)
        .collect()
}

#[test]
fn a_plan_that_has_changed_since_it_was_shown_is_not_committed() {
    let cluster = Cluster::start(4);
    let shown = operator(&cluster, &["leave", "n2"]);
    let other = operator(&cluster, &["weight", "n3", "2"]);
    assert_eq!(other["staged"], json!(["leave n2", "weight n3 2"]));
    let again = operator(&cluster, &["weight", "n3", "2"]);
    assert_eq!(
        (&again["changed"], &again["epoch"]),
        (&json!(false), &other["epoch"])
    );
    let (code, _, err) = try_operator(
        &cluster,
        &["commit", "--epoch", &shown["epoch"].to_string()],
    );
    assert_eq!(code, 1);
    let told = ["look at the plan again", "weight n3 2"];
    assert!(told.iter().all(|part| err.contains(part)), "{err}");
    let epoch = shown["epoch"].to_string();
    let (code, _, err) = try_operator(&cluster, &["commit", "--epoch", &epoch, "--dry-run"]);
    assert_eq!(code, 1, "a dry run is refused as the commit is: {err}");
    for dry_run in [true, false] {
        let more: &[&str] = if dry_run { &["--dry-run"] } else { &[] };
        let reverted = operator(&cluster, &[&["revert", "n2"], more].concat());
        assert_eq!(reverted["staged"], json!(["weight n3 2"]), "{dry_run}");
    }
    for node in &cluster.nodes {
        assert_eq!(
            node.status()["ring"]["staged"],
            json!(["weight n3 2"]),
            "{}",
            node.name
        );
    }
    operator(&cluster, &["commit", "--wait"]);
    let weights: Vec<Value> = cluster.nodes[0].status()["members"]
        .as_array()
        .map(|members| members.iter().map(|m| m["weight"].clone()).collect())
        .unwrap_or_default();
    assert_eq!(weights, [1, 1, 2, 1]);
    operators::a_member_is_given_a_zone_of_its_own(&cluster);
}

#[test]
fn a_change_whose_new_node_has_died_goes_back() {
    let mut cluster = Cluster::start(3);
    let told = store(&cluster, 300);
    let new = cluster.add_staged();
    // It is dead before it begins, so nothing can have new owners when it goes back.
    cluster.nodes[3].kill();
    let plan = operator(&cluster, &["plan"]);
    assert!(commit(&cluster, &plan, &[])["moving"].as_u64() > Some(0));
    let back = operator(&cluster, &["cancel", "--wait"]);
    assert_eq!((&back["moving"], &back["silent"]), (&json!(0), &json!([])));
    assert_eq!(operator(&cluster, &["cancel"])["changed"], false);
    cluster.nodes[3].spawn();
    eventually(TIME, "the new node is staged again", || {
        operator(&cluster, &["plan"])["staged"] == json!([format!("join {new}")])
    });
    // So that it dies in the middle, however small the move is.
    cluster.nodes[3].limit_transfers("1", "1");
    let plan = operator(&cluster, &["plan"]);
    assert_eq!(plan["staged"], json!([format!("join {new}")]));
    operator(&cluster, &["commit", "--epoch", &plan["epoch"].to_string()]);
    cluster.nodes[3].kill();
    let moving = operator(&cluster, &["transfers"]);
    assert!(moving["moving"].as_u64() > Some(0), "{moving}");
    assert_eq!(moving["silent"], json!(["n4"]));
    operator(&cluster, &["cancel", "--force", "--wait"]);
    assert_eq!(members(&cluster), ["n1", "n2", "n3"]);
    are_there(&cluster, &told);
}

/// A node of version 0.1.0, with ten keys, made before rings knew of staging and leaving.
#[test]
fn a_data_directory_of_version_0_1_0_goes_on_and_its_node_grows_a_cluster() {
    let mut cluster = Cluster::prepare(1, &[]);
    let archive = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/data-directory-0.1.0.tgz"
    );
    let mut tar = std::process::Command::new("tar");
    tar.args(["-xzSf", archive, "-C"]).arg(cluster.dir.path());
    assert!(tar.status().expect("tar, which every Debian has").success());
    cluster.nodes[0].spawn();
    cluster.wait_ready();
    cluster.add().spawn();
    cluster.wait_ready();
    assert_eq!(members(&cluster), ["n1", "n2"]);
    let client = Client::new();
    for i in 1..=10 {
        let read = client.get(&cluster.nodes[1].url(&format!("key{i}")));
        assert_eq!(read.values(), [json!(format!("value {i}"))], "{read:?}");
    }
}
