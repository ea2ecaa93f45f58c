//! P1: what was acknowledged survives the death of every process.

#![allow(clippy::indexing_slicing, reason = "a failure here fails the test")]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use support::{Client, Cluster};

/// Writes to all nodes until told to stop; gives what was acknowledged, by key.
fn write_until(stop: &AtomicBool, urls: &[String], writer: usize, round: usize) -> Vec<String> {
    let client = Client::new();
    let mut acked = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("w{writer}-r{round}-{n}");
        let url = format!("{}/v1/{key}", urls[n % urls.len()]);
        if client
            .try_post(&url, &json!({ "value": n }))
            .is_some_and(|a| a.status == 201)
        {
            acked.push(key);
        }
    }
    acked
}

#[test]
fn p1_sigkill_of_all_nodes_under_load_loses_no_acknowledged_write() {
    let mut cluster = Cluster::start(3);
    let urls: Vec<String> = cluster
        .nodes
        .iter()
        .map(|n| format!("http://{}", n.client))
        .collect();
    let mut acked: BTreeMap<String, usize> = BTreeMap::new();
    for round in 0..3 {
        let stop = AtomicBool::new(false);
        let written = std::thread::scope(|scope| {
            let (stop, urls) = (&stop, &urls);
            let writers: Vec<_> = (0..4)
                .map(|w| scope.spawn(move || write_until(stop, urls, w, round)))
                .collect();
            let time = Duration::from_secs(30);
            let busy = || cluster.nodes[0].status()["keys"].as_u64().unwrap_or(0);
            let start = busy();
            support::eventually(time, "the load is on", || busy() > start + 300);
            cluster.kill_all();
            stop.store(true, Ordering::Relaxed);
            writers
                .into_iter()
                .flat_map(|w| w.join().unwrap())
                .collect::<Vec<_>>()
        });
        assert!(
            written.len() > 100,
            "too little load to prove anything: {}",
            written.len()
        );
        acked.extend(written.into_iter().map(|key| (key, round)));
        cluster.spawn_all();
        cluster.wait_ready();
        let client = Client::new();
        for (i, (key, round)) in acked.iter().enumerate() {
            let read = client.get(&format!("{}/v1/{key}", urls[i % urls.len()]));
            assert_eq!(
                read.status, 200,
                "{key}, acknowledged in round {round}: {read:?}"
            );
        }
    }
}

/// A backup of one node comes back under the running cluster: its next dots would be the ones that
/// it has minted before, and the writes under them would vanish without a word.
#[test]
fn p2_a_node_whose_store_went_back_in_time_loses_no_later_write() {
    let mut cluster = Cluster::start(3);
    let client = Client::new();
    let url = cluster.nodes[0].url("k");
    let first = client.post(&url, &json!(0)).clock();
    assert!(cluster.nodes[0].stop().success());
    let backup = cluster.dir.path().join("backup");
    support::copy_tree(&cluster.nodes[0].data, &backup);
    cluster.nodes[0].spawn();
    cluster.wait_ready();
    let mut clock = first.clone();
    for n in 1..=5 {
        clock = client.put(&url, &json!(n), &clock).clock();
    }
    let before = cluster.nodes[0].status()["incarnation"].clone();
    cluster.nodes[0].kill();
    std::fs::remove_dir_all(&cluster.nodes[0].data).unwrap();
    std::fs::rename(&backup, &cluster.nodes[0].data).unwrap();
    cluster.nodes[0].spawn();
    cluster.wait_ready();
    assert_ne!(cluster.nodes[0].status()["incarnation"], before);

    // With the first clock: the restored node knows no more itself, so nothing tells it but the
    // others' memory of its starts.
    let put = client.put(&url, &json!("after"), &first);
    assert_eq!(put.status, 200, "{put:?}");
    for node in &cluster.nodes {
        let read = client.get(&format!("{}?quorum=3", node.url("k")));
        assert_eq!(read.values(), [json!("after"), json!(5)], "{read:?}");
    }
}
