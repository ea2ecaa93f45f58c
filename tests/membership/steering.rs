//! A member that requests are steered round: at once, and nothing moves.

use serde_json::{Value, json};

use super::support::{Client, Cluster, Node, eventually};
use super::{TIME, are_there, operator, store, try_operator};

fn reachable(node: &Node) -> Vec<(String, bool)> {
    let members = node.status()["members"].as_array().cloned();
    let of = |m: &Value| {
        (
            m["name"].as_str().unwrap_or_default().to_owned(),
            m["reachable"] == true,
        )
    };
    members.iter().flatten().map(of).collect()
}

#[test]
fn requests_are_steered_round_a_member_and_to_it_again() {
    let cluster = Cluster::start(4);
    let rows = || {
        let ring = Client::new().get(&format!("http://{}/ring", cluster.nodes[0].admin));
        ring.json()["partitions"].clone()
    };
    let before = rows();
    let said = operator(&cluster, &["down", "n2", "--dry-run"]);
    assert_eq!(
        (&said["dry_run"], &said["changed"]),
        (&json!(true), &json!(true))
    );
    let (code, _, err) = try_operator(&cluster, &["down", "nobody", "--dry-run"]);
    assert!(code == 1 && err.contains("nobody is not a member"), "{err}");
    let said = operator(&cluster, &["down", "n2"]);
    assert_eq!(
        (&said["changed"], &said["moving"]),
        (&json!(true), &json!(0))
    );
    for node in cluster.nodes.iter().filter(|node| node.name != "n2") {
        eventually(TIME, "all avoid n2", || {
            reachable(node).contains(&("n2".to_owned(), false))
        });
    }
    // It misses what is written, and a read that takes long may ask it all the same.
    let client = Client::new();
    for i in 0..60 {
        let node = [0, 2, 3].map(|place| &cluster.nodes[place])[i % 3];
        let url = node.url(&format!("steered{i}"));
        assert_eq!(client.post(&url, &json!(i)).status, 201);
        assert_eq!(client.get(&url).status, 200);
    }
    assert_eq!(rows(), before, "nothing moves");
    let told = store(&cluster, 50);
    assert_eq!(operator(&cluster, &["down", "n2"])["changed"], false);
    operator(&cluster, &["up", "n2"]);
    eventually(TIME, "n1 knows n2 again", || {
        reachable(&cluster.nodes[0]).iter().all(|(_, is)| *is)
    });
    are_there(&cluster, &told);
}
