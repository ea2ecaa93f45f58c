//! What a node keeps of partitions that others own now: for how long, and what never comes of it.

use serde_json::Value;

use super::support::keys::{are_there, store};
use super::support::{Client, Cluster, Node, eventually};
use super::{TIME, change, operator};

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

/// Owners forget the deletes while an old owner still has the values; it must not bring them back.
#[test]
fn p7_what_was_deleted_stays_so_when_an_old_owner_owns_it_again() {
    let mut cluster = Cluster::start_with(4, &["--tombstone-grace", "1"]);
    let client = Client::new();
    let told = store(&cluster, 200);
    cluster.add().spawn();
    cluster.wait_ready();
    let kept = || counts(&cluster, "/quarantine/keys").iter().sum::<u64>();
    eventually(TIME, "old owners keep copies", || {
        let at_rest = counts(&cluster, "/ring/moving").iter().all(|n| *n == 0);
        at_rest && kept() > 0
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
    assert!(kept() > 0, "the values are still with old owners");
    change(&cluster, &["leave", "n5"]);
    assert!(cluster.nodes[4].wait_exit(TIME).success());
    for (i, (key, _)) in told.iter().enumerate() {
        let read = client.get(&cluster.nodes[i % 4].url(key));
        assert_eq!(read.status, 404, "{key} came back: {read:?}");
    }
    eventually(TIME, "no value is left but in old copies", || {
        counts(&cluster, "/keys") == counts(&cluster, "/quarantine/keys")
    });
}
