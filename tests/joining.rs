//! How a cluster comes about and grows: founding, joining, refusals; nothing lost meanwhile.

#![allow(clippy::indexing_slicing, reason = "a failure here fails the test")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use support::{Client, Cluster, Node};

const REFUSAL_TIME: Duration = Duration::from_secs(8);

/// Seed defect 17: nodes started together all ended CRASHED.
#[test]
fn seed_defect_17_five_nodes_started_together_are_one_ring() {
    let cluster = Cluster::start(5);
    let clusters: Vec<_> = cluster
        .nodes
        .iter()
        .map(|n| n.status()["cluster"].clone())
        .collect();
    assert!(
        clusters.windows(2).all(|pair| pair[0] == pair[1]),
        "{clusters:?}"
    );
    for node in &cluster.nodes {
        assert_eq!(node.status()["members"].as_array().map(Vec::len), Some(5));
    }
}

#[test]
fn bootstrap_expect_founds_one_cluster_from_one_seed() {
    let mut cluster = Cluster::prepare(3, &["--bootstrap-expect", "3"]);
    let seed = vec![cluster.nodes[2].peer.clone()];
    for node in &mut cluster.nodes {
        node.seeds.clone_from(&seed);
    }
    cluster.nodes[2].spawn();
    cluster.nodes[0].spawn();
    let status = format!("http://{}/status", cluster.nodes[2].admin);
    support::eventually(Duration::from_secs(10), "two of three have met", || {
        Client::new()
            .try_get(&status)
            .is_some_and(|answer| answer.body.contains("2 of 3"))
    });
    assert!(
        !cluster.nodes[2].is_ready(),
        "two nodes founded what takes three"
    );
    cluster.nodes[1].spawn();
    cluster.wait_ready();
    assert_eq!(
        cluster.nodes[0].status()["members"]
            .as_array()
            .map(Vec::len),
        Some(3)
    );
}

fn load(cluster: &Cluster, keys: usize) {
    let client = Client::new();
    for i in 0..keys {
        let node = &cluster.nodes[i % cluster.nodes.len()];
        assert_eq!(
            client.post(&node.url(&format!("key{i}")), &json!(i)).status,
            201
        );
    }
}

/// Reads and updates stored keys until told to stop; gives every answer that should not be.
fn use_keys(stop: &AtomicBool, urls: &[String], keys: usize, user: usize) -> (usize, Vec<String>) {
    let client = Client::new();
    let (mut done, mut wrong) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let i = (done * 7 + user * 13) % keys;
        let url = format!("{}/v1/key{i}", urls[done % urls.len()]);
        let read = client.get(&url);
        done += 1;
        if read.status != 200 {
            wrong.push(format!("GET key{i}: {read:?}"));
        } else if done % 3 == 0 {
            let put = client.put(&url, &json!(i), &read.clock());
            if put.status != 200 {
                wrong.push(format!("PUT key{i}: {put:?}"));
            }
        }
    }
    (done, wrong)
}

/// Seed defects 13, 14 and 15: a joiner copied the wrong ranges, over newer data, and 128 of 2000
/// keys read 404 afterwards.
#[test]
fn seed_defect_15_a_fourth_node_joins_under_load_and_no_stored_key_reads_404() {
    const KEYS: usize = 2000;
    let mut cluster = Cluster::start(3);
    load(&cluster, KEYS);
    let urls: Vec<String> = cluster
        .nodes
        .iter()
        .map(|n| format!("http://{}", n.client))
        .collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (stop, urls) = (&stop, &urls);
        let users: Vec<_> = (0..2)
            .map(|user| scope.spawn(move || use_keys(stop, urls, KEYS, user)))
            .collect();
        cluster.add().spawn();
        cluster.wait_ready();
        stop.store(true, Ordering::Relaxed);
        for user in users {
            let (done, wrong) = user.join().unwrap();
            assert!(
                wrong.is_empty(),
                "{} of {done} went wrong: {wrong:#?}",
                wrong.len()
            );
            assert!(done > 50, "too little load to prove anything: {done}");
        }
    });
    let client = Client::new();
    for i in 0..KEYS {
        let read = client.get(&cluster.nodes[3].url(&format!("key{i}")));
        assert_eq!(
            (read.status, read.values()),
            (200, vec![json!(i)]),
            "key{i}"
        );
    }
    let held = cluster.nodes[3].status()["keys"].as_u64().unwrap();
    assert!(held > 0, "the new node holds nothing");
}

#[test]
fn a_joiner_killed_half_way_and_started_again_finishes() {
    let mut cluster = Cluster::start(3);
    load(&cluster, 300);
    cluster.add().spawn();
    let time = Duration::from_secs(30);
    let pending = |cluster: &Cluster| {
        let status = cluster.nodes[0].status();
        status["members"]
            .as_array()
            .is_some_and(|members| members.len() == 4)
    };
    support::eventually(time, "the joiner is a member", || pending(&cluster));
    cluster.nodes[3].kill();
    let client = Client::new();
    for i in 0..300 {
        let read = client.get(&cluster.nodes[i % 3].url(&format!("key{i}")));
        assert_eq!(
            read.status, 200,
            "key{i} while the joiner is dead: {read:?}"
        );
    }
    cluster.nodes[3].spawn();
    cluster.wait_ready();
    for i in 0..300 {
        assert_eq!(
            client
                .get(&cluster.nodes[3].url(&format!("key{i}")))
                .values(),
            [json!(i)]
        );
    }
}

#[test]
fn a_giver_killed_half_way_does_not_stop_a_join() {
    let mut cluster = Cluster::start(3);
    load(&cluster, 300);
    cluster.add().spawn();
    let time = Duration::from_secs(30);
    support::eventually(time, "the joiner is a member", || {
        cluster.nodes[0].status()["members"]
            .as_array()
            .is_some_and(|m| m.len() == 4)
    });
    cluster.nodes[1].kill();
    cluster.wait_ready();
    cluster.nodes[1].spawn();
    cluster.wait_ready();
    let client = Client::new();
    for i in 0..300 {
        let read = client.get(&cluster.nodes[3].url(&format!("key{i}")));
        assert_eq!(read.values(), [json!(i)], "{read:?}");
    }
}

#[test]
fn two_nodes_that_join_at_once_are_put_in_order() {
    let mut cluster = Cluster::start(3);
    load(&cluster, 100);
    cluster.add();
    cluster.add();
    cluster.nodes[4].spawn();
    cluster.nodes[3].spawn();
    cluster.wait_ready();
    assert_eq!(
        cluster.nodes[0].status()["members"]
            .as_array()
            .map(Vec::len),
        Some(5)
    );
}

/// Starts a node that must end by itself with exit code 1 within the time allowed.
fn is_refused(node: &mut Node) -> String {
    node.spawn();
    let status = node.wait_exit(REFUSAL_TIME);
    assert_eq!(status.code(), Some(1), "{}", node.log_text());
    node.log_text()
}

#[test]
fn a_second_node_of_the_same_name_ends_and_names_the_holder() {
    let mut cluster = Cluster::start(3);
    let mut double = Node::new("n2", &cluster.dir.path().join("elsewhere"), &[]);
    std::fs::create_dir_all(cluster.dir.path().join("elsewhere")).unwrap();
    double.seeds = cluster.nodes.iter().map(|n| n.peer.clone()).collect();
    let log = is_refused(&mut double);
    assert!(
        log.contains("n2") && log.contains(&cluster.nodes[1].peer),
        "{log}"
    );
    cluster.kill_all();
}

#[test]
fn a_data_directory_in_use_is_refused_with_its_holder() {
    let cluster = Cluster::start(1);
    let mut second = Node::new("n1", cluster.dir.path(), &[]);
    second.data.clone_from(&cluster.nodes[0].data);
    let log = is_refused(&mut second);
    let pid = cluster.nodes[0].pid().to_string();
    assert!(log.contains(&pid), "no {pid} in {log}");
}

#[test]
fn a_data_directory_of_another_node_is_refused_with_its_name() {
    let mut cluster = Cluster::start(1);
    cluster.nodes[0].kill();
    let mut other = Node::new("other", cluster.dir.path(), &[]);
    other.data.clone_from(&cluster.nodes[0].data);
    let log = is_refused(&mut other);
    assert!(log.contains("n1"), "{log}");
}

#[test]
fn a_node_of_another_cluster_does_not_join_this_one() {
    let here = Cluster::start(1);
    let mut there = Cluster::start(1);
    there.nodes[0].kill();
    there.nodes[0].seeds = vec![here.nodes[0].peer.clone()];
    let log = is_refused(&mut there.nodes[0]);
    assert!(log.contains("cluster"), "{log}");
}
