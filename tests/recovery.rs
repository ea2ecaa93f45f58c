//! Nodes that miss writes, lose their disks, or come back with an older one: what they get back, and
//! what must not come back.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a failure here fails the test"
)]

mod support;

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Client, Cluster, Node};

/// How many clients load a cluster at once.
const CLIENTS: usize = 4;

fn create(nodes: &[&Node], keys: Range<usize>, value: &Value) {
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let keys = keys.clone().skip(client).step_by(CLIENTS);
            scope.spawn(move || {
                let client = Client::new();
                for i in keys {
                    let node = nodes[i % nodes.len()];
                    let answer = client.post(&node.url(&format!("key{i}")), value);
                    assert_eq!(answer.status, 201, "key{i}: {answer:?}");
                }
            });
        }
    });
}

fn merkle(node: &Node) -> Value {
    Client::new()
        .get(&format!("http://{}/merkle", node.admin))
        .json()["roots"]
        .clone()
}

/// Waits until all owners show the same digests; in a ring of as many nodes as a key has replicas
/// every node owns everything.
fn converge(cluster: &Cluster, time: Duration) {
    support::eventually(time, "all digests are equal", || {
        let roots: Vec<Value> = cluster.running().map(merkle).collect();
        let built = |roots: &Value| roots.as_object().unwrap().values().all(Value::is_string);
        roots.iter().all(built) && roots.windows(2).all(|pair| pair[0] == pair[1])
    });
}

/// What the node itself holds of a key.
fn replica(node: &Node, key: &str) -> Value {
    let url = format!("http://{}/replica/{key}", node.admin);
    Client::new().get(&url).json()["siblings"].clone()
}

/// Messages of anti-entropy beyond the roots, of all nodes.
fn exchanges(cluster: &Cluster) -> u64 {
    let of = |node: &Node| node.status()["anti_entropy"]["exchanges"].as_u64().unwrap();
    cluster.running().map(of).sum()
}

/// While nothing differs, nothing is sent but the roots.
fn assert_silent(cluster: &Cluster) {
    let rounds = |node: &Node| node.status()["anti_entropy"]["rounds"].as_u64().unwrap();
    let (silent, looks) = (exchanges(cluster), rounds(&cluster.nodes[0]));
    support::eventually(Duration::from_secs(20), "three more looks", || {
        rounds(&cluster.nodes[0]) > looks + 3
    });
    assert_eq!(exchanges(cluster), silent, "nothing differs any more");
}

#[test]
fn p8_what_a_node_missed_while_it_was_down_it_gets_by_anti_entropy_alone() {
    const BEFORE: usize = 5000;
    const AFTER: usize = 5500;
    let mut cluster = Cluster::start(3);
    let all: Vec<&Node> = cluster.nodes.iter().collect();
    create(&all, 0..BEFORE, &json!(1));
    cluster.nodes[2].kill();
    // With every other node an owner, there is nobody who could keep hints.
    let two: Vec<&Node> = cluster.nodes[..2].iter().collect();
    create(&two, BEFORE..AFTER, &json!(2));
    cluster.nodes[2].spawn();
    cluster.wait_ready();
    converge(&cluster, Duration::from_mins(1));
    for i in BEFORE..AFTER {
        let held = replica(&cluster.nodes[2], &format!("key{i}"));
        assert_eq!(held[0]["value"], 2, "key{i}: {held}");
    }
    assert_silent(&cluster);
}

/// Writes keys of its own through the nodes until told to stop; gives how many were acknowledged.
fn keep_writing(stop: &AtomicBool, urls: &[String], user: usize) -> usize {
    let (client, mut written) = (Client::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let url = format!("{}/v1/load{user}-{written}", urls[written % urls.len()]);
        let answer = client.post(&url, &json!(written));
        assert_eq!(answer.status, 201, "{answer:?}");
        written += 1;
    }
    written
}

#[test]
fn p8_p1_a_node_that_lost_its_disk_comes_back_whole_under_load() {
    const KEYS: usize = 1500;
    let mut cluster = Cluster::start(3);
    let all: Vec<&Node> = cluster.nodes.iter().collect();
    create(&all, 0..KEYS, &json!("x".repeat(1000)));
    let before = cluster.nodes[1].status();
    let urls: Vec<String> = [0, 2]
        .iter()
        .map(|i: &usize| format!("http://{}", cluster.nodes[*i].client))
        .collect();
    let stop = AtomicBool::new(false);
    let written: Vec<usize> = std::thread::scope(|scope| {
        let (stop, urls) = (&stop, &urls);
        let users: Vec<_> = (0..2)
            .map(|user| scope.spawn(move || keep_writing(stop, urls, user)))
            .collect();
        cluster.nodes[1].kill();
        std::fs::remove_dir_all(&cluster.nodes[1].data).unwrap();
        cluster.nodes[1].spawn();
        cluster.wait_ready();
        stop.store(true, Ordering::Relaxed);
        users.into_iter().map(|user| user.join().unwrap()).collect()
    });
    assert!(
        written.iter().sum::<usize>() > 50,
        "too little load: {written:?}"
    );
    let after = cluster.nodes[1].status();
    assert_ne!(before["incarnation"], after["incarnation"]);
    assert_eq!(after["ring"]["epoch"], 2, "the ring says whose disk it is");
    converge(&cluster, Duration::from_mins(1));
    // The other two may now be lost, one at a time: every key is on this node again.
    for i in 0..KEYS {
        assert_ne!(
            replica(&cluster.nodes[1], &format!("key{i}")),
            json!([]),
            "key{i}"
        );
    }
    cluster.nodes[0].kill();
    let client = Client::new();
    for (user, written) in written.into_iter().enumerate() {
        for n in 0..written {
            let key = format!("load{user}-{n}");
            let read = client.get(&cluster.nodes[1].url(&key));
            assert_eq!(read.values(), [json!(n)], "{key}: {read:?}");
        }
    }
}

#[test]
fn a_wiped_directory_elsewhere_is_refused_while_the_node_answers() {
    let cluster = Cluster::start(3);
    let mut double = Node::new("n2", &cluster.dir.path().join("elsewhere"), &[]);
    std::fs::create_dir_all(cluster.dir.path().join("elsewhere")).unwrap();
    double.seeds = cluster.nodes.iter().map(|n| n.peer.clone()).collect();
    double.spawn();
    let status = double.wait_exit(Duration::from_secs(8));
    assert_eq!(status.code(), Some(1));
    let log = double.log_text();
    assert!(log.contains(&cluster.nodes[1].peer), "{log}");
    assert_eq!(cluster.nodes[0].status()["ring"]["epoch"], 1);
}

/// Deletes that every owner has are forgotten; a copy of one node's directory from before must not
/// bring the values back, though nobody remembers that they were deleted.
#[test]
fn p7_a_restored_backup_does_not_bring_back_what_was_deleted_and_reaped() {
    restored_backup_brings_nothing_back("2", |cluster, backup| {
        cluster.nodes[2].stop();
        support::copy_tree(&cluster.nodes[2].data, backup);
        cluster.nodes[2].spawn();
        cluster.wait_ready();
    });
}

/// The node has not been started again since the copy was made, so the number of its starts does not
/// tell. Nothing is written while it is copied: else the engine may take the copy for damaged.
#[test]
fn p7_nor_does_a_copy_of_a_running_nodes_directory() {
    restored_backup_brings_nothing_back("6", |cluster, backup| {
        support::copy_tree(&cluster.nodes[2].data, backup);
    });
}

fn restored_backup_brings_nothing_back(grace: &str, take_copy: impl Fn(&mut Cluster, &Path)) {
    const KEYS: usize = 40;
    let mut cluster = Cluster::start_with(3, &["--tombstone-grace", grace]);
    let all: Vec<&Node> = cluster.nodes.iter().collect();
    create(&all, 0..KEYS, &json!(1));
    converge(&cluster, Duration::from_secs(30));
    let (data, backup) = (
        cluster.nodes[2].data.clone(),
        cluster.dir.path().join("copy"),
    );
    take_copy(&mut cluster, &backup);
    let client = Client::new();
    for i in 0..KEYS {
        let deleted = client.delete(&cluster.nodes[0].url(&format!("key{i}")));
        assert_eq!(deleted.status, 200, "key{i}: {deleted:?}");
    }
    let forgotten = |node: &Node| node.status()["tombstones"] == 0 && node.status()["keys"] == 0;
    support::eventually(Duration::from_mins(1), "all deletes are forgotten", || {
        cluster.running().all(forgotten)
    });
    let before = cluster.nodes[2].status()["incarnation"].clone();
    cluster.nodes[2].stop();
    std::fs::remove_dir_all(&data).unwrap();
    support::copy_tree(&backup, &data);
    cluster.nodes[2].spawn();
    cluster.wait_ready();
    converge(&cluster, Duration::from_mins(1));
    assert_ne!(cluster.nodes[2].status()["incarnation"], before);
    for i in 0..KEYS {
        let key = format!("key{i}");
        for node in &cluster.nodes {
            assert_eq!(replica(node, &key), json!([]), "{key} on {}", node.name);
        }
        assert_eq!(client.get(&cluster.nodes[2].url(&key)).status, 404, "{key}");
        let anew = client.post(&cluster.nodes[1].url(&key), &json!(2));
        assert_eq!(anew.status, 201, "{key}: {anew:?}");
        let read = client.get(&cluster.nodes[2].url(&key));
        assert_eq!(read.values(), [json!(2)], "{key}: {read:?}");
    }
}

/// A value that a node still has, because it was down while the key was deleted, must meet the
/// delete: nothing is forgotten before.
#[test]
fn p7_deletes_are_not_forgotten_while_a_node_is_down() {
    let mut cluster = Cluster::start_with(3, &["--tombstone-grace", "1"]);
    let all: Vec<&Node> = cluster.nodes.iter().collect();
    create(&all, 0..10, &json!(1));
    converge(&cluster, Duration::from_secs(30));
    cluster.nodes[2].kill();
    let client = Client::new();
    for i in 0..10 {
        let deleted = client.delete(&cluster.nodes[0].url(&format!("key{i}")));
        assert_eq!(deleted.status, 200, "key{i}: {deleted:?}");
    }
    let blocked = |node: &Node| node.status()["reaping"]["blocked"].to_string();
    support::eventually(Duration::from_secs(20), "reaping is blocked", || {
        ["n3 ", "owner"]
            .iter()
            .any(|why| blocked(&cluster.nodes[0]).contains(why))
    });
    assert_eq!(cluster.nodes[0].status()["tombstones"], 10);
    cluster.nodes[2].spawn();
    cluster.wait_ready();
    support::eventually(Duration::from_mins(1), "all deletes are forgotten", || {
        cluster
            .running()
            .all(|node| node.status()["tombstones"] == 0)
    });
    for i in 0..10 {
        for node in &cluster.nodes {
            assert_eq!(replica(node, &format!("key{i}")), json!([]), "key{i}");
        }
    }
    // What was forgotten makes no difference, and no owner brings it back to another.
    assert_silent(&cluster);
    assert!(cluster.running().all(|n| n.status()["tombstones"] == 0));
}
