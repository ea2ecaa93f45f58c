//! Keys that a test has stored, and whether all of their values are there.

use std::collections::BTreeSet;
use std::ops::Range;
use std::thread;

use serde_json::json;

use super::{Client, Cluster, Node};

/// A key and the values that a client was told are in it.
pub type Told = Vec<(String, BTreeSet<String>)>;

/// Clients at once.
const CLIENTS: usize = 4;

/// Keys with one value and, every tenth, with two siblings.
pub fn store(cluster: &Cluster, keys: usize) -> Told {
    store_these(cluster, 0..keys)
}

/// The same of keys of these numbers, through whoever runs.
pub fn store_these(cluster: &Cluster, keys: Range<usize>) -> Told {
    let keys: Vec<usize> = keys.collect();
    let share = keys.len().div_ceil(CLIENTS).max(1);
    thread::scope(|scope| {
        let parts = keys.chunks(share);
        let clients: Vec<_> = parts
            .map(|keys| scope.spawn(|| store_some(cluster, keys)))
            .collect();
        let told = clients.into_iter().flat_map(|client| {
            let told = client.join();
            told.expect("a client that stored its keys")
        });
        told.collect()
    })
}

fn store_some(cluster: &Cluster, keys: &[usize]) -> Told {
    let client = Client::new();
    let running: Vec<&Node> = cluster.running().collect();
    let node = |i: usize| running[i % running.len()];
    let mut told = Told::new();
    for &i in keys {
        let (key, value) = (format!("key{i}"), json!(format!("first{i}")));
        let created = client.post(&node(i).url(&key), &value);
        assert_eq!(created.status, 201, "{created:?}");
        let mut values = BTreeSet::from([value.to_string()]);
        if i % 10 == 0 {
            for (name, n) in [("a", i), ("b", i + 1)] {
                let sibling = json!(format!("{name}{i}"));
                let put = client.put(&node(n).url(&key), &sibling, &created.clock());
                assert_eq!(put.status, 200, "{put:?}");
                values.insert(sibling.to_string());
            }
            values.remove(&value.to_string());
        }
        told.push((key, values));
    }
    told
}

/// Every value that was acknowledged, and no other, is read through some node, and strictly through
/// another one.
pub fn are_there(cluster: &Cluster, told: &[(String, BTreeSet<String>)]) {
    let running: Vec<&Node> = cluster.running().collect();
    let share = told.len().div_ceil(CLIENTS).max(1);
    thread::scope(|scope| {
        for part in told.chunks(share) {
            let running = &running;
            scope.spawn(move || {
                let client = Client::new();
                for (i, (key, values)) in part.iter().enumerate() {
                    for (turn, mode) in ["", "?mode=strict"].iter().enumerate() {
                        let node = running[(i + turn) % running.len()];
                        is_there(&client, node, (key, values), mode);
                    }
                }
            });
        }
    });
}

/// The same through one node.
pub fn are_there_at(node: &Node, told: &[(String, BTreeSet<String>)]) {
    let client = Client::new();
    for (key, values) in told {
        is_there(&client, node, (key, values), "");
    }
}

fn is_there(client: &Client, node: &Node, (key, values): (&str, &BTreeSet<String>), mode: &str) {
    let read = client.get(&format!("{}{mode}", node.url(key)));
    let found: BTreeSet<String> = read.values().iter().map(ToString::to_string).collect();
    let name = &node.name;
    assert_eq!(
        (read.status, &found),
        (200, values),
        "{key}{mode} at {name}"
    );
}
