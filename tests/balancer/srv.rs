//! nginx that looks the nodes up in Consul's DNS, with nothing beside it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::balancer::Balancer;
use crate::support::consul::Consul;
use crate::support::{Client, Cluster, Node, eventually};
use crate::{SOON, long, running};

/// Longer than nginx believes an answer of the DNS.
const STALE: Duration = Duration::from_secs(3);
/// Three rounds of four nodes.
const ROUNDS: usize = 12;

/// Seed defect 21: a hung process answered its health check for ever, or so it seemed, and never
/// left the rotation.
#[test]
fn seed_defect_21_a_hung_node_leaves_the_rotation_and_comes_back_by_itself() {
    let mut consul = Consul::start();
    let cluster = Cluster::start_in(&consul, 4);
    let balancer = Balancer::start_srv("nginx-1.31", &consul);
    let client = Client::new();
    let url = balancer.url("/v1/key");
    eventually(SOON, "the balancer has found nodes", || {
        client.try_get(&url).is_some_and(|a| a.status == 404)
    });
    assert_eq!(client.post(&url, &json!(1)).status, 201);
    all_nodes_serve(&balancer, &cluster, &client, &url);

    let ring = cluster.nodes[0].status()["ring"].clone();
    is_passed_by_while_it_hangs(&cluster.nodes[2], &consul, &client, &url);
    assert_eq!(cluster.nodes[0].status()["ring"], ring, "data has moved");
    without_a_ready_node_it_says_so(&cluster, &consul, &client, &url);

    consul.kill();
    let gone = Instant::now();
    while gone.elapsed() < STALE {
        let read = client.get(&url);
        assert_eq!(read.status, 200, "without Consul: {read:?}");
    }
    long::outlives_the_end(&balancer);
}

/// An answer of Consul's DNS by UDP has room for three.
fn all_nodes_serve(balancer: &Balancer, cluster: &Cluster, client: &Client, url: &str) {
    let nodes: BTreeSet<String> = running(cluster).into_iter().collect();
    let of_the_last = |requests| -> BTreeSet<String> {
        for _ in 0..requests {
            assert_eq!(client.get(url).status, 200);
        }
        balancer.answered(requests).into_iter().collect()
    };
    eventually(SOON, "all nodes are used", || of_the_last(ROUNDS) == nodes);
    let begun = Instant::now();
    while begun.elapsed() < STALE {
        assert_eq!(
            of_the_last(ROUNDS),
            nodes,
            "{:?}",
            balancer.answered(ROUNDS)
        );
    }
}

fn is_passed_by_while_it_hangs(hung: &Node, consul: &Consul, client: &Client, url: &str) {
    let nodes = consul.passing().len();
    hung.signal(rustix::process::Signal::STOP);
    eventually(SOON, "it passes no longer", || {
        consul.passing().len() == nodes - 1
    });
    eventually(SOON, "reads avoid it", || {
        let begun = Instant::now();
        let well = |_| client.try_get(url).is_some_and(|a| a.status == 200);
        (0..9).all(well) && begun.elapsed() < Duration::from_secs(2)
    });
    hung.signal(rustix::process::Signal::CONT);
    eventually(SOON, "it passes again", || consul.passing().len() == nodes);
}

fn without_a_ready_node_it_says_so(cluster: &Cluster, consul: &Consul, client: &Client, url: &str) {
    let maintain = |enable: bool| {
        for node in &cluster.nodes {
            let id = format!("quorate-{}", node.name);
            let path = format!("/v1/agent/service/maintenance/{id}?enable={enable}");
            consul.put(&path, &Value::Null);
        }
    };
    maintain(true);
    eventually(SOON, "no node is used", || {
        client.get(url).json()["reason"] == "no_node"
    });
    let refused = client.get(url);
    assert_eq!(refused.status, 503, "{refused:?}");
    let said = (
        refused.header("retry-after"),
        refused.json()["code"].clone(),
    );
    assert_eq!(said, ("1", json!("not_ready")), "{refused:?}");
    maintain(false);
    eventually(SOON, "nodes are used again", || {
        client.get(url).status == 200
    });
}
