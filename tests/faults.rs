//! Nodes that die, with real processes: what is written meanwhile is kept by others, and comes home.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failure here fails the test"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "other processes live in real time"
)]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Answer, Client, Cluster, Node, eventually};

/// P8: from the return of a node until it has what was written while it was away.
const CONVERGENCE: Duration = Duration::from_secs(10);
/// Until the others know that a node has died.
const NOTICE: Duration = Duration::from_secs(5);

/// Who holds a key, as places in the cluster: its owners in order, and the other nodes.
fn homes(cluster: &Cluster, key: &str) -> (Vec<usize>, Vec<usize>) {
    let row = admin(&cluster.nodes[0], &format!("ring/{key}")).json();
    let place = |name: &Value| cluster.nodes.iter().position(|n| *name == json!(n.name));
    let places = |names: &Value| -> Vec<usize> {
        let names = names.as_array().expect("a list of names");
        names
            .iter()
            .map(|name| place(name).expect("a node"))
            .collect()
    };
    (places(&row["owners"]), places(&row["fallbacks"]))
}

fn admin(node: &Node, path: &str) -> Answer {
    Client::new().get(&format!("http://{}/{path}", node.admin))
}

/// The values that the node itself holds of a key.
/// What a node holds itself; nothing while it does not listen yet.
fn held(node: &Node, key: &str) -> Vec<Value> {
    let url = format!("http://{}/replica/{key}", node.admin);
    let Some(answer) = Client::new().try_get(&url) else {
        return Vec::new();
    };
    let answer = answer.json();
    let siblings = answer["siblings"].as_array().cloned().unwrap_or_default();
    siblings.iter().map(|s| s["value"].clone()).collect()
}

fn hints(node: &Node) -> Value {
    node.status()["hints"].clone()
}

/// Keys for other nodes that the running nodes keep.
fn hints_kept(cluster: &Cluster) -> u64 {
    let count = |node: &Node| -> u64 {
        let hints = hints(node);
        let sums = hints.as_object().expect("hints by node").values();
        sums.map(|sum| sum["count"].as_u64().expect("a count"))
            .sum()
    };
    cluster.running().map(count).sum()
}

fn acks(answer: &Answer) -> &str {
    answer.header("x-quorate-acks")
}

/// Waits until the node knows that the others with these names are away.
fn wait_noticed(node: &Node, dead: &[&str]) {
    eventually(NOTICE, "the dead are noticed", || {
        let status = node.status();
        let members = status["members"].as_array().expect("members");
        let away = members.iter().filter(|m| m["reachable"] == json!(false));
        let away: Vec<&Value> = away.map(|m| &m["name"]).collect();
        dead.iter().all(|name| away.contains(&&json!(name)))
    });
}

fn wait_home(cluster: &Cluster, owners: &[usize], key: &str, value: &Value) {
    cluster.wait_ready();
    eventually(CONVERGENCE, &format!("{key} is with its owners"), || {
        let at_home = |owner: &usize| held(&cluster.nodes[*owner], key) == [value.clone()];
        owners.iter().all(at_home)
    });
    eventually(CONVERGENCE, "no hint is left", || hints_kept(cluster) == 0);
}

#[test]
fn p5_with_two_of_three_owners_dead_a_fallback_counts_and_what_it_took_comes_home() {
    let mut cluster = Cluster::start(5);
    let client = Client::new();
    let (owners, _) = homes(&cluster, "cart");
    let url = cluster.nodes[owners[0]].url("cart");
    let old = client.post(&url, &json!("old"));
    assert_eq!(
        (old.status, acks(&old)),
        (201, "home=2,hinted=0"),
        "{old:?}"
    );
    let names = [1, 2].map(|i| cluster.nodes[owners[i]].name.clone());
    for i in [1, 2] {
        cluster.nodes[owners[i]].kill();
    }
    // Before anybody has noticed, and after.
    let first = client.put(&url, &json!("first"), &old.clock());
    assert_eq!(
        (first.status, acks(&first)),
        (200, "home=1,hinted=1"),
        "{first:?}"
    );
    wait_noticed(&cluster.nodes[owners[0]], &[&names[0], &names[1]]);
    let new = client.put(&url, &json!("new"), &first.clock());
    assert_eq!(
        (new.status, acks(&new)),
        (200, "home=1,hinted=1"),
        "{new:?}"
    );
    let read = client.get(&url);
    assert_eq!(
        (read.status, acks(&read)),
        (200, "home=1,hinted=1"),
        "{read:?}"
    );
    assert_eq!(read.values(), [json!("new")]);
    let created = client.post(&cluster.nodes[owners[0]].url("other"), &json!(1));
    assert_eq!(created.status, 201, "{created:?}");

    let began = std::time::Instant::now();
    let strict = client.put(
        &format!("{url}?mode=strict"),
        &json!("strict"),
        &new.clock(),
    );
    let body = strict.json();
    assert_eq!(
        (strict.status, &body["code"]),
        (503, &json!("quorum_not_met"))
    );
    assert_eq!(body["outcome"], json!("not_applied"), "{strict:?}");
    assert!(began.elapsed() < Duration::from_secs(1), "not at once");

    cluster.spawn_dead();
    wait_home(&cluster, &owners, "cart", &json!("new"));
    for node in &cluster.nodes {
        let read = client.get(&format!("{}?quorum=3", node.url("cart")));
        assert_eq!(read.values(), [json!("new")], "{read:?}");
    }
}

#[test]
fn p5_with_all_owners_dead_fallbacks_mint_and_their_hints_survive_their_own_death() {
    let mut cluster = Cluster::start(5);
    let client = Client::new();
    let (owners, others) = homes(&cluster, "cart");
    assert_eq!(others.len(), 2);
    for owner in &owners {
        cluster.nodes[*owner].kill();
    }
    let url = cluster.nodes[others[0]].url("cart");
    let created = client.post(&url, &json!("created"));
    assert_eq!(
        (created.status, acks(&created)),
        (201, "home=0,hinted=2"),
        "{created:?}"
    );
    let put = client.put(&url, &json!("put"), &created.clock());
    assert_eq!(
        (put.status, acks(&put)),
        (200, "home=0,hinted=2"),
        "{put:?}"
    );
    for place in &others {
        cluster.nodes[*place].kill();
    }
    for place in &others {
        cluster.nodes[*place].spawn();
    }
    eventually(
        Duration::from_secs(30),
        "the hints can be read again",
        || {
            let read = client.try_get(&url);
            read.is_some_and(|read| read.status == 200 && read.values() == [json!("put")])
        },
    );
    assert!(
        hints_kept(&cluster) >= 2,
        "{}",
        hints(&cluster.nodes[others[0]])
    );
    cluster.spawn_dead();
    wait_home(&cluster, &owners, "cart", &json!("put"));
}

/// Creates these keys through some nodes, with many clients at once.
fn create_all(nodes: &[Node], keys: &[String]) {
    std::thread::scope(|scope| {
        for (i, share) in keys.chunks(keys.len().div_ceil(8)).enumerate() {
            scope.spawn(move || {
                let client = Client::new();
                for key in share {
                    let created = client.post(&nodes[i % nodes.len()].url(key), &json!(key));
                    assert_eq!((created.status, acks(&created)), (201, "home=2,hinted=0"));
                }
            });
        }
    });
}

/// No fallback exists: the other owners keep the hints.
#[test]
fn p8_ten_thousand_keys_come_home_within_ten_seconds_of_their_owners_return() {
    let mut cluster = Cluster::start(3);
    let keys: Vec<String> = (0..10_000).map(|i| format!("k{i}")).collect();
    cluster.nodes[2].kill();
    create_all(&cluster.nodes[..2], &keys);
    let all_kept = || hints_kept(&cluster) == 10_000;
    eventually(CONVERGENCE, "every key has a hint", all_kept);
    let kept = hints(&cluster.nodes[0]);
    assert!(kept["n3"]["bytes"].as_u64() > Some(0) && kept["n3"]["oldest_seconds"].is_u64());
    cluster.spawn_dead();
    cluster.wait_ready();
    eventually(CONVERGENCE, "nothing is kept any more", || {
        hints_kept(&cluster) == 0
    });
    assert_eq!(cluster.nodes[2].status()["keys"], json!(10_000));
    for key in keys.iter().step_by(100) {
        assert_eq!(held(&cluster.nodes[2], key), [json!(key)], "{key}");
    }
}

/// Seed defect 1: a GET with one dead replica crashed the coordinator; after eight GETs, all six
/// nodes were down.
#[test]
fn seed_defect_01_a_dead_replica_takes_no_other_node_with_it() {
    let mut cluster = Cluster::start(5);
    let client = Client::new();
    let keys: Vec<String> = (0..20).map(|i| format!("k{i}")).collect();
    for key in &keys {
        assert_eq!(
            client.post(&cluster.nodes[0].url(key), &json!(key)).status,
            201
        );
    }
    cluster.nodes[4].kill();
    for key in &keys {
        for node in cluster.running() {
            let read = client.get(&node.url(key));
            assert_eq!(
                (read.status, read.values()),
                (200, vec![json!(key)]),
                "{read:?}"
            );
            let all = client.get(&format!("{}?quorum=3", node.url(key)));
            assert_eq!(
                (all.status, all.values()),
                (200, vec![json!(key)]),
                "{all:?}"
            );
        }
    }
    assert!(cluster.running().all(Node::is_ready));
}

/// Seed defect 3: with one replica of three missing the key, 105 of 200 GETs at R=2 said 404.
#[test]
fn seed_defect_03_a_replica_that_missed_a_write_hides_it_from_no_reader() {
    let mut cluster = Cluster::start(3);
    let client = Client::new();
    cluster.nodes[2].kill();
    for i in 0..20 {
        let created = client.post(&cluster.nodes[0].url(&format!("k{i}")), &json!(i));
        assert_eq!(created.status, 201, "{created:?}");
    }
    cluster.spawn_dead();
    cluster.wait_ready();
    for i in 0..200 {
        let (node, key) = (&cluster.nodes[i % 3], i % 20);
        let read = client.get(&node.url(&format!("k{key}")));
        assert_eq!(
            (read.status, read.values()),
            (200, vec![json!(key)]),
            "{read:?}"
        );
    }
}

/// Seed defect 9: a deleted value came back from a replica that had missed the delete, and a key
/// that was created anew got the clock it had had before.
#[test]
fn p7_seed_defect_09_a_delete_that_a_replica_missed_stays_and_a_new_value_has_a_new_clock() {
    let mut cluster = Cluster::start(3);
    let client = Client::new();
    let url = cluster.nodes[0].url("k");
    let first = client.post(&url, &json!(1));
    assert_eq!(first.status, 201, "{first:?}");
    eventually(CONVERGENCE, "all hold the value", || {
        cluster.nodes.iter().all(|n| held(n, "k") == [json!(1)])
    });
    cluster.nodes[2].kill();
    let deleted = client.delete(&url);
    assert_eq!(deleted.status, 200, "{deleted:?}");
    cluster.spawn_dead();
    cluster.wait_ready();
    eventually(CONVERGENCE, "all hold the delete", || {
        cluster.nodes.iter().all(|n| held(n, "k") == [Value::Null])
    });
    for node in &cluster.nodes {
        assert_eq!(client.get(&node.url("k")).status, 404, "{}", node.name);
    }
    let again = client.post(&url, &json!(2));
    assert_eq!(again.status, 201, "{again:?}");
    assert_ne!(again.clock(), first.clock());
    for node in &cluster.nodes {
        let read = client.get(&node.url("k"));
        assert_eq!(read.values(), [json!(2)], "{}", node.name);
    }
}
