//! How a cluster comes about and grows: founding, joining, refusals; nothing lost meanwhile.

#![allow(clippy::indexing_slicing, reason = "a failure here fails the test")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::keys::{Told, are_there, are_there_at, store};
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

/// Reads and updates stored keys until told to stop; gives every answer that should not be.
fn use_keys(stop: &AtomicBool, urls: &[String], told: &Told, user: usize) -> (usize, Vec<String>) {
    let client = Client::new();
    let (mut done, mut wrong) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let (key, values) = &told[(done * 7 + user * 13) % told.len()];
        let url = format!("{}/v1/{key}", urls[done % urls.len()]);
        let read = client.get(&url);
        done += 1;
        let found = read.values();
        let is_same = found
            .iter()
            .all(|value| values.contains(&value.to_string()));
        if read.status != 200 || !is_same || found.len() < values.len() {
            wrong.push(format!("GET {key}: {read:?}"));
        } else if let (0, [value]) = (done % 3, &found[..]) {
            let put = client.put(&url, value, &read.clock());
            if put.status != 200 {
                wrong.push(format!("PUT {key}: {put:?}"));
            }
        }
    }
    (done, wrong)
}

/// Seed defects 13, 14 and 15: a joiner copied the wrong ranges, over newer data, and 128 of 2000
/// keys read 404 afterwards.
#[test]
fn seed_defect_15_a_fourth_node_joins_under_load_and_no_stored_key_reads_404() {
    let mut cluster = Cluster::start(3);
    let told = store(&cluster, 2000);
    let urls: Vec<String> = cluster
        .nodes
        .iter()
        .map(|n| format!("http://{}", n.client))
        .collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (stop, urls, told) = (&stop, &urls, &told);
        let users: Vec<_> = (0..2)
            .map(|user| scope.spawn(move || use_keys(stop, urls, told, user)))
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
    are_there_at(&cluster.nodes[3], &told);
    are_there(&cluster, &told);
    let held = cluster.nodes[3].status()["keys"].as_u64().unwrap();
    assert!(held > 0, "the new node holds nothing");
}

/// A fourth node has begun to join, and gets on so slowly that it cannot end.
fn begin_to_join(cluster: &mut Cluster) {
    cluster.add_staged();
    cluster.nodes[3].limit_transfers("1", "1");
    let (code, out, err) = cluster.nodes[0].command_line(&["cluster", "commit"]);
    assert_eq!(code, 0, "{out}{err}");
}

#[test]
fn a_joiner_killed_half_way_and_started_again_finishes() {
    let mut cluster = Cluster::start(3);
    let told = store(&cluster, 300);
    begin_to_join(&mut cluster);
    cluster.nodes[3].kill();
    are_there(&cluster, &told);
    assert!(cluster.nodes[0].moving() > 0, "it was over before the kill");
    cluster.nodes[0].limit_transfers("4", "none");
    cluster.nodes[3].spawn();
    cluster.wait_ready();
    assert_eq!(cluster.nodes[0].moving(), 0);
    are_there_at(&cluster.nodes[3], &told);
}

#[test]
fn a_giver_killed_half_way_does_not_stop_a_join() {
    let mut cluster = Cluster::start(3);
    let told = store(&cluster, 300);
    begin_to_join(&mut cluster);
    cluster.nodes[1].kill();
    assert!(cluster.nodes[0].moving() > 0, "it was over before the kill");
    cluster.nodes[0].limit_transfers("4", "none");
    cluster.wait_ready();
    let is_over = || cluster.nodes[0].moving() == 0;
    support::eventually(Duration::from_mins(1), "the join is over", is_over);
    are_there(&cluster, &told);
    cluster.nodes[1].spawn();
    cluster.wait_ready();
    are_there_at(&cluster.nodes[3], &told);
}

#[test]
fn two_nodes_that_join_at_once_are_put_in_order() {
    let mut cluster = Cluster::start(3);
    let told = store(&cluster, 100);
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
    are_there(&cluster, &told);
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
