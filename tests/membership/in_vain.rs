//! Members that are dead are forgotten or replaced, and come back in vain: they serve nothing and
//! delete nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use quorate::dynamo::key::Partition;
use quorate::storage::{Engine, FjallEngine};
use serde_json::json;

use super::support::keys::{are_there, store};
use super::support::{Client, Cluster, Node, copy_tree, eventually};
use super::{REFUSAL_TIME, change, members, operator, owned_by, try_operator, under_load};

/// What stands in a data directory, and every record of the store that is in it under this name, byte
/// for byte. The engine's own files may differ: it tidies up as it opens.
fn held(data: &Path, store: &str) -> (BTreeSet<String>, BTreeMap<Vec<u8>, Vec<u8>>) {
    let entries = std::fs::read_dir(data).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = names.filter(|name| name != "LOCK").collect();
    let copy = tempfile::tempdir().unwrap();
    copy_tree(&data.join(store), copy.path());
    let engine = FjallEngine::open(copy.path()).unwrap();
    let pages = Partition::all().map(|p| engine.page(p, None, 10_000).unwrap());
    let records = pages.flatten();
    let records = records.map(|(key, record)| (key.as_bytes().to_vec(), record.to_vec()));
    (names, records.collect())
}

/// A node that is no member any more is started, and asked for a key until it ends by itself.
fn comes_back_in_vain(node: &mut Node, code: i32, why: &str) {
    node.spawn();
    let (url, has_ended) = (node.url("key0"), AtomicBool::new(false));
    let (status, answers) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (client, mut answers) = (Client::new(), Vec::new());
            eventually(2 * REFUSAL_TIME, "it has ended", || {
                answers.extend(client.try_get(&url));
                has_ended.load(Ordering::Relaxed)
            });
            answers
        });
        let status = node.wait_exit(REFUSAL_TIME);
        has_ended.store(true, Ordering::Relaxed);
        (status, asking.join().unwrap())
    });
    let log = node.log_text();
    assert_eq!(status.code(), Some(code), "{log}");
    assert!(log.contains(why), "{log}");
    assert!(answers.iter().all(|a| a.status != 200), "{answers:?}");
}

#[test]
fn a_dead_node_is_forgotten_another_one_replaced_and_both_come_back_in_vain() {
    let mut cluster = Cluster::start(4);
    let told = store(&cluster, 300);
    cluster.nodes[2].kill();
    let (code, _, err) = try_operator(&cluster, &["forget", "n3"]);
    assert_eq!(code, 1);
    assert!(
        err.contains("partitions left with fewer replicas until they have moved: ")
            && err.contains("partitions would be left with fewer replicas"),
        "{err}"
    );
    let plan = operator(&cluster, &["forget", "n3", "--dry-run"]);
    assert!(
        plan["under_replicated"].as_array().map(Vec::len) > Some(100),
        "{plan}"
    );
    assert_eq!(
        (&plan["below_read_quorum"], &plan["lost"]),
        (&json!([]), &json!([]))
    );
    assert_eq!(
        operator(&cluster, &["plan"])["staged"],
        json!([]),
        "a dry run stages nothing"
    );
    under_load(&mut cluster, |cluster, _| {
        change(cluster, &["forget", "n3", "--accept-data-loss"]);
    });
    assert_eq!(members(&cluster), ["n1", "n2", "n4"]);
    are_there(&cluster, &told);
    let before = held(&cluster.nodes[2].data, "records");
    assert!(before.1.len() > 100);
    for _ in 0..2 {
        let why = "n3 was forgotten by the cluster in epoch";
        comes_back_in_vain(&mut cluster.nodes[2], 1, why);
        let now = held(&cluster.nodes[2].data, "records");
        assert_eq!(now, before, "it deletes nothing");
    }
    a_dead_node_is_replaced(&mut cluster);
    are_there(&cluster, &told);
}

/// Its partitions come from the others that hold them.
fn a_dead_node_is_replaced(cluster: &mut Cluster) {
    let owned = owned_by(cluster, "n4");
    cluster.nodes[3].kill();
    let new = cluster.add_staged();
    under_load(cluster, |cluster, _| {
        change(cluster, &["replace", "n4", &new]);
    });
    assert_eq!(members(cluster), ["n1", "n2", "n5"]);
    assert_eq!(owned_by(cluster, &new), owned);
    let node = &mut cluster.nodes[3];
    let (_, records) = held(&node.data, "records");
    let why = "n4 was replaced in the cluster in epoch";
    comes_back_in_vain(node, 0, why);
    let kept = held(&node.data, "records-kept-1");
    assert_eq!(kept.1, records, "its data is kept aside");
    comes_back_in_vain(node, 1, why);
    let now = held(&node.data, "records-kept-1");
    assert_eq!(now, kept, "it deletes nothing");
}
