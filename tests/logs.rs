//! The log lines of real nodes, every one of them.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use quorate::dynamo::key::KeyHash;
use rustix::process::Signal;
use serde_json::json;
use support::lines::Line;
use support::{Client, Cluster, Node, eventually, free_address};
use tempfile::TempDir;

/// What must never be found in a log.
const VALUE: &str = "a-value-that-nobody-may-see";
const KEY: &str = "a-key-that-nobody-may-see";
const TOKEN: &str = "a-token-that-nobody-may-see";
const WRONG_TOKEN: &str = "a-wrong-token-that-nobody-may-see";
const SECRET: &str = "a-secret-that-nobody-may-see";

const SOON: Duration = Duration::from_secs(30);

/// Three nodes, each with a log file of its own.
fn cluster(extra: &[&str]) -> (Cluster, Vec<PathBuf>) {
    let mut cluster = Cluster::prepare(3, extra);
    let dir = cluster.dir.path().to_owned();
    let file = |name: &str| dir.join(format!("{name}.jsonl"));
    let files: Vec<PathBuf> = cluster.nodes.iter().map(|n| file(&n.name)).collect();
    for (node, file) in cluster.nodes.iter_mut().zip(&files) {
        node.extra
            .extend(["--log-file".to_owned(), file.display().to_string()]);
    }
    cluster.spawn_all();
    cluster.wait_ready();
    (cluster, files)
}

fn actions<'a>(lines: &'a [Line], action: &str) -> Vec<&'a Line> {
    lines
        .iter()
        .filter(|line| line.is("event.action", action))
        .collect()
}

/// A secret as a node is given it.
fn secret_file(dir: &TempDir, secret: &str) -> String {
    let name = secret.len().to_string();
    let path = dir.path().join(name);
    std::fs::write(&path, secret).unwrap();
    path.display().to_string()
}

/// Asks for one of everything that the client API knows, and gives the clocks it was told.
fn one_of_everything(cluster: &Cluster) -> Vec<String> {
    let (client, url) = (Client::new(), cluster.nodes[0].url(KEY));
    let elsewhere = cluster.nodes[1].url(KEY);
    let made = client.post(&url, &json!(VALUE)).clock();
    let put = |value| client.put(&url, &json!(value), &made).clock();
    let (one, other) = (put(VALUE), put("a second value"));
    let read = client.get(&elsewhere);
    assert_eq!(read.values().len(), 2);
    assert_eq!(client.post(&elsewhere, &json!(VALUE)).status, 409);
    assert_eq!(
        client.put(&elsewhere, &json!(VALUE), "no-clock").status,
        400
    );
    assert_eq!(client.get(&format!("{elsewhere}?quorum=x")).status, 400);
    assert_eq!(client.delete(&elsewhere).status, 200);
    assert_eq!(client.get(&elsewhere).status, 404);
    assert_eq!(client.delete(&elsewhere).status, 404);
    vec![made, one, other, read.clock()]
}

/// A log store refuses what these assertions refuse: a field that is there twice, a number where a
/// text was. Seed defect 24: values and all keys were dumped to the log.
#[test]
fn seed_defect_24_every_line_of_three_nodes_is_strict_and_tells_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let [token, wrong, secret] = [TOKEN, WRONG_TOKEN, SECRET].map(|one| secret_file(&dir, one));
    let (mut cluster, files) = cluster(&[
        "--log-level",
        "debug",
        "--log-format",
        "json",
        "--admin-token-file",
        &token,
        "--cluster-secret-file",
        &secret,
    ]);
    let status = |node: &Node, token: &str| {
        let (code, said, _) = node.command_line(&["status", "-o", "json", "--token-file", token]);
        (code, serde_json::from_str(&said).unwrap_or(json!(null)))
    };
    let mut clocks = one_of_everything(&cluster);
    assert_ne!(status(&cluster.nodes[0], &wrong).0, 0);
    cluster.nodes[2].kill();
    let answer = Client::new().post(&cluster.nodes[0].url("second"), &json!(VALUE));
    assert_eq!(answer.status, 201);
    clocks.push(answer.clock());
    let told = |file: &PathBuf, action: &str| !actions(&Line::so_far(file), action).is_empty();
    eventually(SOON, "the silence is told", || told(&files[0], "peer-down"));
    eventually(SOON, "the hint is told", || told(&files[0], "hint"));
    cluster.nodes[2].spawn();
    cluster.wait_ready();
    eventually(SOON, "the return is told", || told(&files[0], "peer-up"));
    let is_there = || files.iter().any(|file| told(file, "hints-handed-over"));
    eventually(SOON, "the delivery is told", is_there);
    let beats = |n: usize| actions(&Line::so_far(&files[0]), "heartbeat").len() > n;
    eventually(SOON, "a further sign of life", || beats(2));
    for node in cluster.running() {
        let (code, said) = status(node, &token);
        let log = json!({"level": "debug", "lost": 0});
        assert_eq!((code, &said["log"]), (0, &log), "{}", node.name);
    }
    for node in &mut cluster.nodes {
        assert!(node.stop().success());
    }
    let others = [VALUE, KEY, "no-clock", TOKEN, WRONG_TOKEN, SECRET];
    let secrets: Vec<&str> = clocks.iter().map(String::as_str).chain(others).collect();
    for (node, file) in cluster.nodes.iter().zip(&files) {
        is_strict_and_silent(node, file, &secrets);
    }
    has_the_operations(&Line::all(&files[0]), &Line::all(&files[1]));
}

fn is_strict_and_silent(node: &Node, file: &Path, secrets: &[&str]) {
    let lines = Line::all(file);
    for line in &lines {
        assert_eq!(line.faults(), Vec::<String>::new(), "{line:?}");
        assert_eq!(line.text("service.node.name"), node.name);
    }
    let text = std::fs::read_to_string(file).unwrap();
    // A node that was killed may have had a line on its way to one of the two.
    let was_killed = node.name == "n3";
    assert!(
        was_killed || node.log_text() == text,
        "the console has the same lines"
    );
    for secret in secrets {
        assert!(!text.contains(secret), "{secret}");
    }
    // Another part may have had a word after it.
    let mut end = lines.iter().rev().take(5);
    assert!(
        end.any(|line| line.is("event.action", "stopped")),
        "{}",
        node.name
    );
    for action in [
        "started",
        "state-changed",
        "ring-changed",
        "heartbeat",
        "keys-stored",
    ] {
        assert!(
            !actions(&lines, action).is_empty(),
            "{action} of {}",
            node.name
        );
    }
}

/// Also while Consul does not answer, which is told.
#[test]
fn the_token_for_consul_is_in_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let (consul, token) = (free_address(), secret_file(&dir, TOKEN));
    let mut cluster = Cluster::prepare(1, &["--discovery", "consul", "--log-level", "trace"]);
    let node = &mut cluster.nodes[0];
    node.seeds.clear();
    let more = ["--consul", &consul, "--consul-token-file", &token];
    node.extra.extend(more.map(str::to_owned));
    node.spawn();
    let is_told = || node.log_text().contains("\"quorate.consul.step\"");
    eventually(SOON, "Consul's silence is told", is_told);
    node.kill();
    assert!(!node.log_text().contains(TOKEN), "{}", node.log_text());
}

/// What [`one_of_everything`] asked for, and the write after it, each once where it was asked.
fn has_the_operations(first: &[Line], second: &[Line]) {
    let hash = format!("{:016x}", KeyHash::of(KEY.as_bytes()).as_u64());
    let rows = |lines: &[Line]| -> Vec<[String; 3]> {
        let of_clients = lines
            .iter()
            .filter(|line| line.is("log.logger", "coordinator"));
        let of_clients = of_clients.filter(|line| line.get("event.duration").is_some());
        let names = ["event.action", "event.outcome", "quorate.result"];
        of_clients
            .map(|line| names.map(|name| line.text(name).to_owned()))
            .collect()
    };
    let expected = |rows: &[[&str; 3]]| -> Vec<[String; 3]> {
        rows.iter().map(|row| row.map(str::to_owned)).collect()
    };
    let ok = |action| [action, "success", "ok"];
    assert_eq!(
        rows(first),
        expected(&[ok("set"), ok("update"), ok("update"), ok("set")])
    );
    let there = [
        ok("get"),
        ["set", "failure", "already_exists"],
        ok("delete"),
        ["get", "success", "not_found"],
        ["delete", "failure", "not_found"],
    ];
    assert_eq!(rows(second), expected(&there));
    let siblings = actions(second, "get")[0].number("quorate.siblings");
    assert_eq!(siblings, Some(2));
    assert!(
        actions(second, "get")
            .iter()
            .all(|line| line.is("quorate.key.hash", &hash))
    );
    let refused: Vec<_> = actions(second, "refused");
    let codes: Vec<&str> = refused.iter().map(|line| line.text("error.code")).collect();
    assert_eq!(codes, ["clock_invalid", "parameter_invalid"]);
    let shown = (
        refused[0].text("http.request.method"),
        refused[0].number("http.response.status_code"),
    );
    assert_eq!(shown, ("PUT", Some(400)));
}

/// Without room for hints only a comparison of the owners finds what one of them missed.
#[test]
fn what_owners_find_to_differ_is_told_when_it_is_repaired() {
    let (mut cluster, files) = cluster(&["--hint-bytes", "1"]);
    cluster.nodes[2].kill();
    let answer = Client::new().post(&cluster.nodes[0].url("missed"), &json!(1));
    assert_eq!(answer.status, 201);
    cluster.nodes[2].spawn();
    let repairs = || -> Vec<Line> {
        let lines = files.iter().flat_map(|file| Line::so_far(file));
        let repairs = lines.filter(|line| line.is("event.action", "repair"));
        repairs.collect()
    };
    eventually(SOON, "the repair is told", || !repairs().is_empty());
    let partition = u64::from(KeyHash::of(b"missed").partition().number());
    for line in repairs() {
        assert_eq!(line.number("quorate.partition"), Some(partition));
        assert_eq!(line.number("quorate.keys.count"), Some(1));
    }
}

/// The id that a client gives its request, or that its answer shows, is in the lines of every node
/// that had to do with it.
#[test]
fn a_correlation_id_follows_its_request_through_all_nodes() {
    let (cluster, files) = cluster(&["--log-level", "debug", "--log-format", "off"]);
    let client = Client::new();
    let clock = client.post(&cluster.nodes[0].url("k"), &json!(1)).clock();
    let named = [("x-correlation-id", "order-66.a_b")];
    let answer = client.put_with(&cluster.nodes[0].url("k"), &json!(2), &clock, &named);
    assert_eq!(answer.header("x-correlation-id"), "order-66.a_b");
    let made = client.get(&cluster.nodes[1].url("k"));
    let made = made.header("x-correlation-id");
    for (id, nodes, actions) in [
        ("order-66.a_b", 3, &["update", "replica-write"][..]),
        (made, 2, &["get", "replica-read"][..]),
    ] {
        let seen = || {
            let of_id = |file: &PathBuf| -> Vec<Line> {
                let lines = Line::so_far(file).into_iter();
                lines.filter(|line| line.is("trace.id", id)).collect()
            };
            let per_node: Vec<Vec<Line>> = files.iter().map(of_id).collect();
            let told: BTreeSet<String> = per_node
                .iter()
                .flatten()
                .map(|line| line.text("event.action").to_owned())
                .collect();
            let all = actions.iter().all(|action| told.contains(*action));
            all && per_node.iter().filter(|lines| !lines.is_empty()).count() >= nodes
        };
        eventually(SOON, &format!("{id} on {nodes} nodes"), seen);
    }
}

/// Whoever rotates logs moves the file and sends SIGHUP: no line is lost between the two.
#[test]
fn a_hang_up_goes_on_in_a_new_file_and_without_a_file_ends_the_node() {
    let mut cluster = Cluster::prepare(1, &["--log-keys", "yes"]);
    let path = cluster.dir.path().join("n1.jsonl");
    let file = ["--log-file".to_owned(), path.display().to_string()];
    cluster.nodes[0].extra.extend(file);
    cluster.spawn_all();
    cluster.wait_ready();
    let (client, moved) = (Client::new(), cluster.dir.path().join("moved.jsonl"));
    client.post(&cluster.nodes[0].url("caf%C3%A9"), &json!(1));
    std::fs::rename(&path, &moved).unwrap();
    client.post(&cluster.nodes[0].url("second"), &json!(1));
    cluster.nodes[0].signal(Signal::HUP);
    eventually(SOON, "a new file", || path.exists());
    client.post(&cluster.nodes[0].url("third"), &json!(1));
    assert!(cluster.nodes[0].stop().success());
    let (old, new) = (Line::all(&moved), Line::all(&path));
    let all: Vec<Line> = old.iter().chain(&new).cloned().collect();
    let sets = actions(&all, "set");
    let keys: Vec<&str> = sets
        .iter()
        .map(|line| line.text("quorate.key.name"))
        .collect();
    assert_eq!(keys, ["caf\u{e9}", "second", "third"]);
    assert!(
        actions(&new, "set")
            .iter()
            .any(|line| line.is("quorate.key.name", "third"))
    );
    assert_eq!(actions(&all, "log-reopened").len(), 1);

    cluster.nodes[0].extra.clear();
    cluster.spawn_all();
    cluster.wait_ready();
    cluster.nodes[0].signal(Signal::HUP);
    assert!(cluster.nodes[0].wait_exit(SOON).success());
}

#[test]
fn operations_are_lines_unless_that_is_turned_off_and_the_level_changes_at_run_time() {
    // A full disk takes no line.
    let full = ["--log-file", "/dev/full"];
    let cluster = Cluster::start_with(
        1,
        &[&["--log-actions", "no", "--log-level", "error"], &full[..]].concat(),
    );
    let node = &cluster.nodes[0];
    let ask = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        let output =
            command
                .arg("log-level")
                .args(words)
                .args(["--admin", &node.admin, "-o", "table"]);
        let output = output.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(ask(&[]), "error\n");
    assert_eq!(ask(&["info"]), "info\n");
    assert_eq!(Client::new().post(&node.url("k"), &json!(1)).status, 201);
    let is_told = || node.log_text().contains("\"event.action\":\"heartbeat\"");
    eventually(SOON, "a line of the level info", is_told);
    assert_eq!(node.status()["log"]["level"], "info");
    let lines: Vec<Line> = node
        .log_text()
        .lines()
        .map(|l| Line::parse(l).unwrap())
        .collect();
    assert_eq!(actions(&lines, "set").len(), 0);
    assert_eq!(actions(&lines, "log-level-set").len(), 1);
    lost_lines_are_counted(node);
}

/// By the node's status, its metrics, and the lines that are still written elsewhere.
fn lost_lines_are_counted(node: &Node) {
    eventually(SOON, "a sign of life tells of lost lines", || {
        let text = node.log_text();
        let lines = text.lines().filter_map(|line| Line::parse(line).ok());
        let mut lost = lines.filter_map(|line| line.number("quorate.log.lost"));
        lost.any(|lost| lost > 0)
    });
    assert!(node.status()["log"]["lost"].as_u64() > Some(0));
    let metrics = Client::new().get(&format!("http://{}/metrics", node.admin));
    let lost = metrics
        .body
        .lines()
        .find_map(|line| line.strip_prefix("quorate_log_lines_lost_total "));
    let lost: f64 = lost.unwrap().parse().unwrap();
    assert!(lost > 0.0, "{lost}");
}

/// A node that cannot start says the same in either form.
#[test]
fn lines_are_text_on_a_terminal_and_json_elsewhere() {
    let node = format!(
        "{} server --name n1 --data-dir /proc/no/such/place",
        env!("CARGO_BIN_EXE_quorate")
    );
    let said = |program: &str, words: &[&str]| {
        let mut command = Command::new(program);
        let output = command.args(words).stdin(Stdio::null()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8(said).unwrap()
    };
    let plain = said("sh", &["-c", &node]);
    let json = plain.lines().filter_map(|line| Line::parse(line).ok());
    assert!(json.filter(|l| l.is("message", "the node ends")).count() == 1);
    let terminal = said("script", &["-qec", &node, "/dev/null"]);
    assert!(terminal.contains(" the node ends"), "{terminal}");
    assert!(!terminal.contains('{'), "{terminal}");
}
