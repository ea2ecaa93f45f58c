//! A cluster of real processes, used as its clients use it.

#![allow(clippy::indexing_slicing, reason = "a failure here fails the test")]

mod support;

use std::time::Duration;

use serde_json::json;
use support::{Client, Cluster};

/// The session of the README: create, read, a conflict, its merge, delete, create again.
#[test]
fn a_session_of_all_verbs_works_against_every_node() {
    let cluster = Cluster::start(3);
    let client = Client::new();
    for node in &cluster.nodes {
        let url = node.url(&format!("cart-of-{}", node.name));
        let created = client.post(&url, &json!(["milk"]));
        assert_eq!(created.status, 201, "{created:?}");
        let again = client.post(&url, &json!(["bread"]));
        assert_eq!(again.status, 409, "{again:?}");
        assert_eq!(again.json()["code"], "already_exists");
        assert_eq!(again.values(), [json!(["milk"])]);

        let read = client.get(&url);
        assert_eq!((read.status, read.values()), (200, vec![json!(["milk"])]));
        let clock = read.clock();
        for value in ["bread", "beer"] {
            let put = client.put(&url, &json!(["milk", value]), &clock);
            assert_eq!(put.status, 200, "{put:?}");
        }
        let conflict = client.get(&url);
        assert_eq!(
            conflict.values(),
            [json!(["milk", "beer"]), json!(["milk", "bread"])]
        );

        let merged = client.put(&url, &json!(["milk", "beer", "bread"]), &conflict.clock());
        assert_eq!(
            (merged.status, &merged.json()["siblings"]),
            (200, &json!(1))
        );
        assert_eq!(
            client.get(&url).values(),
            [json!(["milk", "beer", "bread"])]
        );

        assert_eq!(client.delete(&url).status, 200);
        let gone = client.get(&url);
        assert_eq!(
            (gone.status, &gone.json()["code"]),
            (404, &json!("not_found"))
        );
        assert!(!gone.clock().is_empty());
        assert_eq!(client.delete(&url).status, 404, "a second delete");
        assert_eq!(client.post(&url, &json!("again")).status, 201);
        assert_eq!(client.get(&url).values(), [json!("again")]);
    }
}

#[test]
fn a_clock_of_one_node_is_good_at_every_other() {
    let cluster = Cluster::start(3);
    let client = Client::new();
    let mut clock = client.post(&cluster.nodes[0].url("k"), &json!(0)).clock();
    for round in 1..=6 {
        let node = &cluster.nodes[round % 3];
        let put = client.put(&node.url("k"), &json!(round), &clock);
        assert_eq!(put.status, 200, "{put:?}");
        clock = put.clock();
    }
    for node in &cluster.nodes {
        assert_eq!(
            client.get(&format!("{}?quorum=3", node.url("k"))).values(),
            [json!(6)]
        );
    }
}

/// Seed defect 6: in 104 of 200 concurrent pairs both were answered 200 and the replicas differed.
#[test]
fn seed_defect_06_of_two_racing_creates_one_wins_and_both_see_it() {
    let cluster = Cluster::start(3);
    for round in 0..50 {
        let urls: Vec<String> = cluster
            .nodes
            .iter()
            .map(|n| n.url(&format!("r{round}")))
            .collect();
        let answers = std::thread::scope(|scope| {
            let racers: Vec<_> = urls[..2]
                .iter()
                .enumerate()
                .map(|(i, url)| scope.spawn(move || Client::new().post(url, &json!(i))))
                .collect();
            racers
                .into_iter()
                .map(|r| r.join().unwrap())
                .collect::<Vec<_>>()
        });
        let created: Vec<_> = answers.iter().filter(|a| a.status == 201).collect();
        assert_eq!(created.len(), 1, "{answers:?}");
        let read = Client::new().get(&format!("{}?quorum=3", urls[2]));
        assert_eq!(read.values().len(), 1, "{read:?}");
        assert!(
            answers
                .iter()
                .any(|a| a.status == 409 && a.values() == read.values())
        );
    }
}

/// Seed defect 4, over the network: the second of two puts with one context was dropped.
#[test]
fn seed_defect_04_two_puts_with_one_clock_both_stay() {
    let cluster = Cluster::start(3);
    let client = Client::new();
    let clock = client.get(&cluster.nodes[0].url("never-written")).clock();
    for (i, node) in cluster.nodes.iter().enumerate() {
        for n in 0..2 {
            let put = client.put(&node.url("never-written"), &json!([i, n]), &clock);
            assert_eq!(put.status, 200, "{put:?}");
        }
    }
    assert_eq!(
        client
            .get(&cluster.nodes[1].url("never-written"))
            .values()
            .len(),
        6
    );
}

#[test]
fn one_dead_node_of_three_stops_neither_reads_nor_writes() {
    let mut cluster = Cluster::start(3);
    let client = Client::new();
    let clock = client
        .post(&cluster.nodes[0].url("k"), &json!("before"))
        .clock();
    cluster.nodes[2].kill();
    for node in &cluster.nodes[..2] {
        let read = client.get(&node.url("k"));
        assert_eq!(
            (read.status, read.header("x-quorate-acks")),
            (200, "home=2,hinted=0")
        );
        assert_eq!(client.post(&node.url(&node.name), &json!(1)).status, 201);
        let all = client.get(&format!("{}?quorum=3", node.url("k")));
        assert_eq!(
            (all.status, &all.json()["code"]),
            (503, &json!("quorum_not_met"))
        );
    }
    assert_eq!(
        client
            .put(&cluster.nodes[1].url("k"), &json!("after"), &clock)
            .status,
        200
    );

    cluster.nodes[1].kill();
    let alone = client.put(&cluster.nodes[0].url("k"), &json!("alone"), &clock);
    assert_eq!(
        (alone.status, &alone.json()["outcome"]),
        (503, &json!("unknown")),
        "{alone:?}"
    );
    let read = client.get(&cluster.nodes[0].url("k"));
    assert_eq!(
        (read.status, &read.json()["needed"]),
        (503, &json!(2)),
        "{read:?}"
    );
}

#[test]
fn a_retried_request_with_an_idempotency_key_adds_no_sibling() {
    let cluster = Cluster::start(3);
    let client = Client::new();
    let clock = client.get(&cluster.nodes[0].url("k")).clock();
    let first = cluster.nodes[0].put_once(&client, "k", &json!(1), &clock, "order-1");
    let later = client.put(&cluster.nodes[1].url("k"), &json!(2), &first.clock());
    assert_eq!(later.status, 200);
    for node in &cluster.nodes {
        let again = node.put_once(&client, "k", &json!(1), &clock, "order-1");
        assert_eq!(
            (again.status, again.clock()),
            (200, first.clock()),
            "{again:?}"
        );
        let reused = node.put_once(&client, "k", &json!(7), &clock, "order-1");
        assert_eq!(reused.status, 400, "{reused:?}");
    }
    assert_eq!(client.get(&cluster.nodes[2].url("k")).values(), [json!(2)]);
}

#[test]
fn sigterm_ends_a_node_with_exit_code_0_and_its_data_stays() {
    let mut cluster = Cluster::start(1);
    let client = Client::new();
    assert_eq!(
        client
            .post(&cluster.nodes[0].url("k"), &json!("kept"))
            .status,
        201
    );
    assert!(cluster.nodes[0].stop().success());
    cluster.spawn_all();
    cluster.wait_ready();
    assert_eq!(
        client.get(&cluster.nodes[0].url("k")).values(),
        [json!("kept")]
    );
}

/// Seed defect 21, the part that belongs here: the health check said 200 in every state.
#[test]
fn readyz_falls_when_no_quorum_can_be_reached_and_livez_stays() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    let time = Duration::from_secs(5);
    support::eventually(time, "readyz falls", || !cluster.nodes[0].is_ready());
    let alive = Client::new().get(&format!("http://{}/livez", cluster.nodes[0].client));
    assert_eq!(alive.status, 200);
}
