//! What a node keeps of partitions that others own now: for how long, and what never comes of it.

use std::path::Path;

use serde_json::{Value, json};

use super::support::keys::{are_there, store};
use super::support::{Client, Cluster, Node, copy_tree, eventually};
use super::{REFUSAL_TIME, TIME, change, operator};

/// Of each node, a number of its status.
fn counts(cluster: &Cluster, pointer: &str) -> Vec<u64> {
    let of = |node: &Node| node.status().pointer(pointer).and_then(Value::as_u64);
    cluster
        .running()
        .map(|n| of(n).unwrap_or(u64::MAX))
        .collect()
}

#[test]
fn old_copies_are_kept_for_their_quarantine_and_then_removed() {
    let mut cluster = Cluster::start_with(4, &["--quarantine", "8"]);
    let told = store(&cluster, 300);
    cluster.add().spawn();
    cluster.wait_ready();
    eventually(TIME, "the move has ended", || {
        counts(&cluster, "/ring/moving").iter().all(|n| *n == 0)
    });
    eventually(TIME, "the operator is shown the old copies", || {
        let shown = operator(&cluster, &["transfers"]);
        let kept = shown["kept"].as_array().cloned().unwrap_or_default();
        kept.iter().filter_map(|k| k["keys"].as_u64()).sum::<u64>() > 0
    });
    assert!(counts(&cluster, "/keys").iter().sum::<u64>() > 900);
    eventually(TIME, "every old copy is gone", || {
        counts(&cluster, "/quarantine/partitions")
            .iter()
            .all(|n| *n == 0)
    });
    assert_eq!(counts(&cluster, "/keys").iter().sum::<u64>(), 900);
    are_there(&cluster, &told);
}

/// A backup takes the place of a node's data directory.
fn restore(node: &mut Node, backup: &Path) {
    std::fs::remove_dir_all(&node.data).unwrap_or_default();
    copy_tree(backup, &node.data);
    node.spawn();
}

/// Owners forget the deletes while an old owner still has the values; it must not bring them back.
/// Nor must the backup of a member from before another one joined, which knows neither the deletes
/// nor the ring, or that of one that has left since, which is refused.
#[test]
fn p7_what_was_deleted_stays_so_when_an_old_owner_owns_it_again() {
    let mut cluster = Cluster::start_with(4, &["--tombstone-grace", "1"]);
    let client = Client::new();
    let told = store(&cluster, 200);
    let [of_n2, of_n5] = ["of-n2", "of-n5"].map(|name| cluster.dir.path().join(name));
    cluster.nodes[1].stop();
    copy_tree(&cluster.nodes[1].data, &of_n2);
    cluster.nodes[1].spawn();
    cluster.wait_ready();
    cluster.add().spawn();
    cluster.wait_ready();
    let kept = |cluster: &Cluster| counts(cluster, "/quarantine/keys").iter().sum::<u64>();
    eventually(TIME, "old owners keep copies", || {
        let at_rest = counts(&cluster, "/ring/moving").iter().all(|n| *n == 0);
        at_rest && kept(&cluster) > 0
    });
    for (i, (key, _)) in told.iter().enumerate() {
        let url = cluster.nodes[i % 5].url(key);
        let deleted = client.delete(&url);
        assert!(deleted.status < 300, "{deleted:?}");
    }
    eventually(TIME, "every delete is forgotten", || {
        let mut held = counts(&cluster, "/tombstones");
        held.extend(counts(&cluster, "/reaping/candidates"));
        held.iter().all(|n| *n == 0)
    });
    assert!(kept(&cluster) > 0, "the values are still with old owners");
    // Nothing is written meanwhile.
    copy_tree(&cluster.nodes[4].data, &of_n5);
    let written: Vec<String> = (0..50).map(|i| format!("later{i}")).collect();
    for (i, key) in written.iter().enumerate() {
        let created = client.post(&cluster.nodes[i % 5].url(key), &json!(i));
        assert_eq!(created.status, 201, "{created:?}");
    }
    cluster.nodes[1].kill();
    restore(&mut cluster.nodes[1], &of_n2);
    cluster.wait_ready();
    for (i, key) in written.iter().enumerate() {
        let read = client.get(&cluster.nodes[1].url(key));
        assert_eq!(read.values(), [json!(i)], "{key} through n2: {read:?}");
    }
    for (key, _) in &told {
        let read = client.get(&cluster.nodes[1].url(key));
        assert_eq!(read.status, 404, "{key} came back with n2: {read:?}");
    }
    change(&cluster, &["leave", "n5"]);
    assert!(cluster.nodes[4].wait_exit(TIME).success());
    for (i, (key, _)) in told.iter().enumerate() {
        let read = client.get(&cluster.nodes[i % 4].url(key));
        assert_eq!(read.status, 404, "{key} came back: {read:?}");
    }
    let told_before = cluster.nodes[4].log_text().len();
    restore(&mut cluster.nodes[4], &of_n5);
    let status = cluster.nodes[4].wait_exit(REFUSAL_TIME);
    let log = cluster.nodes[4].log_text().split_off(told_before);
    assert!(
        log.contains("n5 left the cluster in epoch"),
        "{status}: {log}"
    );
    for (i, key) in written.iter().enumerate() {
        let read = client.get(&cluster.nodes[i % 4].url(key));
        assert_eq!(read.values(), [json!(i)], "{key}: {read:?}");
    }
    // Three owners have each of the later ones.
    eventually(TIME, "no deleted value is left but in old copies", || {
        let kept = kept(&cluster);
        counts(&cluster, "/keys").iter().sum::<u64>() == kept + 3 * written.len() as u64
    });
}
