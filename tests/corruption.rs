//! P11: a flipped bit or a truncation in any file of a stopped node is detected, never returned and
//! never replicated: the replica is mended, or the node refuses to start and says what to do.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a failure here fails the test"
)]

mod support;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Client, Cluster, copy_tree, eventually};

/// Records in the cluster, of some 4 KB each: more than one memtable's worth with their versions.
const RECORDS: usize = 300;
const EXIT_TIME: Duration = Duration::from_secs(30);
const MEND_TIME: Duration = Duration::from_secs(30);

/// What is done to a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// One bit, at this many thousandths of what is in the file.
    Flip(u64),
    /// Everything from there on is gone.
    Cut(u64),
    /// The file is gone.
    Remove,
}

/// What must come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// The node refuses, and says so in these words.
    Refuses(&'static str),
    /// The node serves, and every answer is right.
    Serves,
    /// Either.
    RefusesOrServes,
}

/// Up to the last byte that is not zero: a journal is mostly room for what is to come.
fn used(path: &Path) -> u64 {
    let bytes = std::fs::read(path).unwrap();
    bytes
        .iter()
        .rposition(|b| *b != 0)
        .map_or(0, |at| at as u64 + 1)
}

fn spoil(path: &Path, damage: Damage) {
    let open = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap()
    };
    let place = |thousandths| used(path) * thousandths / 1000;
    match damage {
        Damage::Flip(at) => flip(&open(), place(at)),
        Damage::Cut(at) => open().set_len(place(at)).unwrap(),
        Damage::Remove => std::fs::remove_file(path).unwrap(),
    }
}

fn flip(file: &File, at: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// The largest file below a directory whose path holds this text.
fn file(root: &Path, like: &str) -> PathBuf {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.path().to_str().unwrap().contains(like) {
                found.push((used(&entry.path()), entry.path()));
            }
        }
    }
    let (_, largest) = found
        .into_iter()
        .max()
        .unwrap_or_else(|| panic!("no file like {like}"));
    largest
}

fn key(n: usize) -> String {
    format!("key{n}")
}

fn value(n: usize) -> Value {
    json!(format!("{n} {}", "x".repeat(4000)))
}

fn fill(cluster: &Cluster) {
    let client = Client::new();
    for n in 0..RECORDS {
        let created = client.post(&cluster.nodes[n % 3].url(&key(n)), &value(n));
        assert_eq!(created.status, 201, "{created:?}");
    }
}

/// Every record from every node, with as many replicas as agree by default.
fn assert_right(cluster: &Cluster, row: &str) {
    let client = Client::new();
    for n in 0..RECORDS {
        for node in &cluster.nodes {
            let mut read = client.get(&node.url(&key(n)));
            if read.status == 503 {
                // One owner answers nothing until the record is mended, and another is one too few
                // while a third starts.
                eventually(MEND_TIME, row, || {
                    read = client.get(&node.url(&key(n)));
                    read.status != 503
                });
            }
            assert_eq!(
                read.values(),
                [value(n)],
                "{row}: {} from {}",
                key(n),
                node.name
            );
        }
    }
}

/// What the spoiled node itself holds is right, or is nothing.
fn assert_replica(cluster: &Cluster, row: &str) -> BTreeMap<&'static str, usize> {
    let (client, mut seen) = (Client::new(), BTreeMap::new());
    for n in 0..RECORDS {
        let url = format!("http://{}/replica/{}", cluster.nodes[0].admin, key(n));
        let answer = client.get(&url);
        let kind = match (
            answer.status,
            answer.json()["siblings"].as_array().map(Vec::len),
        ) {
            (200, Some(1)) => {
                assert_eq!(answer.json()["siblings"][0]["value"], value(n), "{row}");
                "right"
            }
            (200, Some(0)) => "absent",
            (503, _) => "damaged",
            other => panic!("{row}: {other:?}"),
        };
        *seen.entry(kind).or_insert(0) += 1;
    }
    seen
}

#[test]
fn p11_damage_in_any_file_is_detected_and_never_returned() {
    use Damage::{Cut, Flip, Remove};
    use Expect::{Refuses, RefusesOrServes, Serves};
    let mut cluster = Cluster::start(3);
    fill(&cluster);
    // Killed, so that the journal has everything.
    cluster.nodes[0].kill();
    let whole = cluster.dir.path().join("whole");
    copy_tree(&cluster.nodes[0].data, &whole);
    let rows = [
        ("/format", Flip(0), Refuses("is damaged")),
        ("/format", Cut(500), Refuses("is damaged")),
        ("/format", Flip(990), Refuses("format")),
        ("/node", Flip(0), Refuses("node")),
        ("/node", Remove, Refuses("is damaged")),
        ("/LOCK", Flip(0), Serves),
        (".jnl", Flip(0), Refuses("remove its data directory")),
        // Some bits of what is compressed may be either way without a difference.
        (".jnl", Flip(300), RefusesOrServes),
        (".jnl", Flip(700), RefusesOrServes),
        (".jnl", Flip(999), Refuses("remove its data directory")),
        (".jnl", Cut(999), Serves),
        ("keyspaces/0/", Flip(500), RefusesOrServes),
        ("records/version", Flip(0), RefusesOrServes),
        ("current", Flip(0), RefusesOrServes),
    ];
    for (like, damage, expected) in rows {
        let row = format!("{like} {damage:?}");
        std::fs::remove_dir_all(&cluster.nodes[0].data).unwrap();
        copy_tree(&whole, &cluster.nodes[0].data);
        spoil(&file(&cluster.nodes[0].data, like), damage);
        let before = cluster.nodes[0].log_text().len();
        cluster.nodes[0].spawn();
        let node = &mut cluster.nodes[0];
        let mut ready = false;
        eventually(EXIT_TIME, &row, || {
            ready = node.is_ready();
            ready || !node.is_running()
        });
        let said = cluster.nodes[0].log_text().split_off(before);
        match (expected, ready) {
            (Refuses(words), false) => assert!(said.contains(words), "{row}: {said}"),
            (RefusesOrServes, false) => {
                assert!(said.contains("data directory"), "{row}: {said}");
            }
            (Serves | RefusesOrServes, true) => {
                assert_replica(&cluster, &row);
                assert_right(&cluster, &row);
            }
            (Serves, false) => panic!("{row}: it refuses: {said}"),
            (Refuses(_), true) => panic!("{row}: it serves"),
        }
        cluster.nodes[0].kill();
    }
    come_back_as_told(&mut cluster, &whole);
}

/// A node that refused comes back, if that is done which its message asks for, as the member with a
/// lost disk, and gets everything from the others before it serves.
fn come_back_as_told(cluster: &mut Cluster, whole: &Path) {
    std::fs::remove_dir_all(&cluster.nodes[0].data).unwrap();
    copy_tree(whole, &cluster.nodes[0].data);
    spoil(&file(&cluster.nodes[0].data, ".jnl"), Damage::Flip(999));
    cluster.nodes[0].spawn();
    assert_eq!(cluster.nodes[0].wait_exit(EXIT_TIME).code(), Some(1));
    std::fs::remove_dir_all(&cluster.nodes[0].data).unwrap();
    cluster.nodes[0].spawn();
    cluster.wait_ready();
    let held = assert_replica(cluster, "a new disk");
    assert_eq!(held.into_iter().collect::<Vec<_>>(), [("right", RECORDS)]);
}
