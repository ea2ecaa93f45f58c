//! The balancer of `docker/lb` in front of real nodes, with the real Consul, consul-template and
//! nginx, under users that never pause.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::indexing_slicing, reason = "a failure here fails the test")]
#![allow(
    clippy::disallowed_methods,
    reason = "other processes live in real time"
)]

mod changes;
mod edges;
mod long;
mod render;
mod srv;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use serde_json::Value;
use support::balancer::Balancer;
use support::consul::Consul;
use support::load::Load;
use support::{Client, Cluster, eventually};

pub(crate) const SOON: Duration = Duration::from_secs(40);
const USERS: usize = 3;

/// The client addresses of the nodes that run.
pub(crate) fn running(cluster: &Cluster) -> Vec<String> {
    let nodes = cluster.running();
    let mut all: Vec<String> = nodes.map(|node| node.client.clone()).collect();
    all.sort();
    all
}

fn await_rotation(balancer: &Balancer, cluster: &Cluster) {
    eventually(SOON, "every running node is in rotation", || {
        balancer.rotation() == running(cluster)
    });
    let ready = balancer.url("/readyz");
    eventually(SOON, "nginx has loaded that", || {
        Client::new().get(&ready).status == 200
    });
}

/// Waits until the users have made so many more requests.
fn after_requests(load: &Load, more: usize) {
    let enough = load.done() + more;
    eventually(SOON, "the users go on", || load.done() >= enough);
}

/// Nothing may go wrong for anybody.
fn assert_unnoticed(load: &Load, what: &str) {
    let (done, wrong) = load.tally();
    eprintln!("{what}: {done} requests, {} failed", wrong.len());
    assert!(
        wrong.is_empty(),
        "{what}: {} of {done}: {wrong:#?}",
        wrong.len()
    );
    assert!(
        done > 50,
        "{what}: too little load to prove anything: {done}"
    );
}

/// A node that is killed takes with it what it was working on: less than one request in a thousand.
fn assert_nearly_unnoticed(load: &Load, what: &str) {
    after_requests(load, 2000);
    let (done, wrong) = load.tally();
    eprintln!("{what}: {done} requests, {} failed", wrong.len());
    assert!(
        wrong.len() * 1000 < done,
        "{what}: {} of {done}: {wrong:#?}",
        wrong.len()
    );
}

#[test]
fn a_cluster_behind_a_balancer_changes_under_load_and_no_acknowledged_write_is_lost() {
    let consul = Consul::start();
    let mut cluster = Cluster::start_in(&consul, 3);
    let balancer = Balancer::start("nginx-1.31", &consul);
    await_rotation(&balancer, &cluster);
    let load = Load::at(&balancer.address);
    load.during(USERS, || {
        after_requests(&load, 300);
        assert_unnoticed(&load, "three nodes");
        lose_and_regain_a_node(&mut cluster, &balancer, &load);

        cluster.add_in_consul().spawn();
        cluster.wait_ready();
        await_rotation(&balancer, &cluster);
        assert_unnoticed(&load, "a fourth node joins");

        restart_one_by_one(&mut cluster, &balancer, &load);

        reload_often(&balancer, &load);
        forget_a_registration(&consul, &cluster, &load);
    });
    load.check(&cluster.nodes[0].client);
}

/// Before 1.27.4 nginx closes idle connections at a reload, and a client may be about to use one.
/// If it repeats what it sent on it, as HTTP allows, it notices nothing.
#[test]
fn with_an_older_nginx_nothing_fails_for_those_who_repeat_what_a_closed_connection_swallowed() {
    let consul = Consul::start();
    let mut cluster = Cluster::start_in(&consul, 3);
    let balancer = Balancer::start("nginx-1.22", &consul);
    await_rotation(&balancer, &cluster);
    let load = Load::that_repeats(&balancer.address);
    load.during(USERS, || {
        restart_one_by_one(&mut cluster, &balancer, &load);
        reload_often(&balancer, &load);
    });
    eprintln!("{} requests were repeated", load.repeated());
    load.check(&cluster.nodes[0].client);
}

fn lose_and_regain_a_node(cluster: &mut Cluster, balancer: &Balancer, load: &Load) {
    let killed = Instant::now();
    cluster.nodes[1].kill();
    eventually(SOON, "the dead node is out of rotation", || {
        balancer.rotation() == running(cluster)
    });
    let took = killed.elapsed();
    eprintln!("out of rotation after {took:?}");
    assert!(
        took < Duration::from_secs(3),
        "out of rotation after {took:?}"
    );
    assert_nearly_unnoticed(load, "a node is killed");
    cluster.nodes[1].spawn();
    cluster.wait_ready();
    await_rotation(balancer, cluster);
    assert_unnoticed(load, "it comes back");
}

/// By SIGTERM each, the next one once the last is in rotation again.
fn restart_one_by_one(cluster: &mut Cluster, balancer: &Balancer, load: &Load) {
    for n in 0..cluster.nodes.len() {
        assert!(cluster.nodes[n].stop().success());
        cluster.nodes[n].spawn();
        cluster.wait_ready();
        await_rotation(balancer, cluster);
    }
    assert_unnoticed(load, "every node is restarted, one by one");
}

fn reload_often(balancer: &Balancer, load: &Load) {
    for _ in 0..5 {
        balancer.reload();
        after_requests(load, 50);
    }
    assert_unnoticed(load, "the balancer is reloaded five times");
}

fn forget_a_registration(consul: &Consul, cluster: &Cluster, load: &Load) {
    consul.put("/v1/agent/service/deregister/quorate-n1", &Value::Null);
    let gone = Instant::now();
    eventually(SOON, "the node is registered again", || {
        consul.passing() == running(cluster)
    });
    let took = gone.elapsed();
    eprintln!("registered again after {took:?}");
    assert!(
        took < Duration::from_secs(3),
        "registered again after {took:?}"
    );
    after_requests(load, 100);
    assert_unnoticed(load, "a registration is deleted");
}

/// Seed defect 20: an empty or reset Consul made every node remove its peers and exit. Here it is
/// stopped for a minute, while a node waits to join, and comes back empty.
#[test]
fn seed_defect_20_consul_stops_for_a_minute_and_comes_back_empty_unnoticed() {
    let mut consul = Consul::start();
    let mut cluster = Cluster::start_in(&consul, 3);
    let balancer = Balancer::start("nginx-1.31", &consul);
    await_rotation(&balancer, &cluster);
    let before = cluster.nodes[0].status()["ring"].clone();
    let load = Load::at(&balancer.address);
    load.during(USERS, || {
        consul.kill();
        let gone = Instant::now();
        let fourth = cluster.add();
        fourth.spawn();
        let waits = "waiting for the lock";
        eventually(SOON, "the fourth node waits", || {
            let url = format!("http://{}/status", fourth.admin);
            Client::new()
                .try_get(&url)
                .is_some_and(|a| a.body.contains(waits))
        });
        eventually(2 * SOON, "a minute passes", || {
            gone.elapsed().as_secs() >= 60
        });
        assert_unnoticed(&load, "Consul is gone for a minute");
        assert_eq!(balancer.rotation().len(), 3, "the last nodes stay");
        assert_eq!(cluster.nodes[0].status()["ring"], before);

        consul.spawn();
        cluster.wait_ready();
        await_rotation(&balancer, &cluster);
        after_requests(&load, 100);
        assert_unnoticed(&load, "Consul comes back empty, and the fourth node joins");
    });
    assert_eq!(
        cluster.nodes[0].status()["members"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    load.check(&cluster.nodes[3].client);
}
