//! Networks that drop packets: five nodes in network namespaces of their own.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failure here fails the test"
)]

mod support;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use support::netns::Network;
use support::{Answer, Client, Cluster, eventually};

const NODES: usize = 5;
/// Until all replicas agree once the network is whole again.
const CONVERGED: Duration = Duration::from_mins(1);

/// Nodes by number, a client beside them, and the network between them.
struct World {
    // Before the network, which can only be taken down once nobody uses it.
    cluster: Cluster,
    client: Client,
    network: Network,
}

impl World {
    fn start() -> Self {
        let network = Network::enter(NODES);
        let mut cluster = Cluster::prepare(NODES, &[]);
        let secret = cluster.dir.path().join("secret");
        std::fs::write(&secret, "one-secret-of-one-cluster\n").expect("a file");
        private(&secret);
        let peer = |node| format!("{}:8082", Network::address(node));
        let seeds: Vec<String> = (0..NODES).map(peer).collect();
        for (i, node) in cluster.nodes.iter_mut().enumerate() {
            node.before = network.inside(i);
            node.client = format!("{}:8080", Network::address(i));
            "127.0.0.1:8081".clone_into(&mut node.admin);
            node.peer = peer(i);
            node.seeds.clone_from(&seeds);
            node.extra.push("--cluster-secret-file".to_owned());
            node.extra.push(secret.display().to_string());
            node.spawn();
        }
        for node in &cluster.nodes {
            node.wait_ready(Duration::from_mins(1));
        }
        let client = Client::new();
        Self {
            cluster,
            client,
            network,
        }
    }

    fn url(&self, node: usize, key: &str) -> String {
        self.cluster.nodes[node].url(key)
    }

    fn put(&self, node: usize, key: &str, value: &Value, clock: &str) -> Answer {
        self.client.put(&self.url(node, key), value, clock)
    }

    fn get(&self, node: usize, key: &str) -> Answer {
        self.client.get(&self.url(node, key))
    }

    /// Waits until every node shows exactly these values.
    fn wait_for(&self, key: &str, values: &[Value]) {
        eventually(
            CONVERGED,
            &format!("{key} is {values:?} everywhere"),
            || (0..NODES).all(|node| self.get(node, key).values() == values),
        );
    }
}

#[cfg(unix)]
fn private(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let only_me = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(file, only_me).expect("permissions");
}

/// Every pair from one side to the other, both ways.
fn between(one: &[usize], other: &[usize]) -> Vec<(usize, usize)> {
    let pairs = one.iter().flat_map(|a| other.iter().map(|b| (*a, *b)));
    pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect()
}

#[test]
fn p2_p3_p5_p7_writes_on_both_sides_of_a_partition_are_all_there_after_it() {
    let world = World::start();
    let clocks: Vec<String> = (0..20)
        .map(|i| {
            let made = world
                .client
                .post(&world.url(i % NODES, &format!("k{i}")), &json!("old"));
            assert_eq!(made.status, 201, "{made:?}");
            made.clock()
        })
        .collect();
    let sides = [vec![0, 1], vec![2, 3, 4]];
    world.network.drop_packets(&between(&sides[0], &sides[1]));
    for (i, clock) in clocks.iter().enumerate().take(10) {
        for (node, value) in [(i % 2, "few"), (2 + i % 3, "many")] {
            let put = world.put(node, &format!("k{i}"), &json!(value), clock);
            assert_eq!(put.status, 200, "k{i} at {node}: {put:?}");
        }
    }
    for i in 10..20 {
        let deleted = world.client.delete(&world.url(2 + i % 3, &format!("k{i}")));
        assert_eq!(deleted.status, 200, "k{i}: {deleted:?}");
    }
    world.network.heal();
    for i in 0..10 {
        world.wait_for(&format!("k{i}"), &[json!("few"), json!("many")]);
    }
    for i in 10..20 {
        let key = format!("k{i}");
        eventually(CONVERGED, &format!("{key} is deleted everywhere"), || {
            (0..NODES).all(|node| world.get(node, &key).status == 404)
        });
    }
}

/// In strict mode only owners count, so that at most one side can have a quorum of a key.
#[test]
fn p4_strict_mode_never_serves_both_sides_of_a_partition() {
    let world = World::start();
    world.network.drop_packets(&between(&[0, 1], &[2, 3, 4]));
    let mut refused = 0;
    for i in 0..20 {
        let key = format!("k{i}?mode=strict");
        let made = [0, 2].map(|node| world.client.post(&world.url(node, &key), &json!(i)));
        let served = made.iter().filter(|answer| answer.status == 201).count();
        assert!(served <= 1, "k{i} on both sides: {made:?}");
        for answer in made.iter().filter(|answer| answer.status != 201) {
            assert!([503, 504].contains(&answer.status), "k{i}: {answer:?}");
            refused += 1;
        }
    }
    assert!(
        refused >= 20,
        "the partition did not bite: {refused} refusals"
    );
}

/// The others hear node 0 no more, while it hears them.
#[test]
fn p5_p8_a_node_that_is_not_heard_serves_nobody_wrongly_and_catches_up() {
    let world = World::start();
    let made = world.client.post(&world.url(1, "k"), &json!("old"));
    let mute: Vec<(usize, usize)> = (1..NODES).map(|to| (0, to)).collect();
    world.network.drop_packets(&mute);
    let mut clock = made.clock();
    for i in 0..20 {
        let put = world.put(1 + i % 4, "k", &json!(i), &clock);
        assert_eq!(put.status, 200, "{i}: {put:?}");
        clock = put.clock();
    }
    world.network.heal();
    world.wait_for("k", &[json!(19)]);
}
