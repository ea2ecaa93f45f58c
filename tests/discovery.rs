//! Nodes in a real Consul: how they find each other, one goes ahead at a time, and nothing happens
//! to a cluster whose Consul is empty, forbidding, or gone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::indexing_slicing, reason = "a failure here fails the test")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::balancer::Balancer;
use support::consul::Consul;
use support::load::Load;
use support::{Cluster, Node, eventually};

const SOON: Duration = Duration::from_secs(30);

fn waiting(node: &Node) -> String {
    node.status()["waiting_for"].to_string()
}

fn clients(cluster: &Cluster) -> Vec<String> {
    let running = cluster.running();
    let mut all: Vec<String> = running.map(|node| node.client.clone()).collect();
    all.sort();
    all
}

fn members(node: &Node) -> usize {
    node.status()["members"].as_array().unwrap().len()
}

fn is_serving(node: &Node) -> bool {
    support::Client::new()
        .try_get(&format!("http://{}/status", node.admin))
        .is_some()
}

#[test]
fn nodes_find_each_other_in_consul_and_a_new_one_waits_for_the_lock() {
    let consul = Consul::start();
    let mut cluster = Cluster::start_in(&consul, 3);
    eventually(SOON, "all pass", || consul.passing() == clients(&cluster));
    let entry = &consul.get("/v1/health/service/quorate?passing")[0]["Service"];
    for (name, value) in [("zone", "default"), ("version", env!("CARGO_PKG_VERSION"))] {
        assert_eq!(entry["Meta"][name], value, "{entry}");
    }
    assert_eq!(entry["Tags"], json!(["production"]));

    let session = consul.put(
        "/v1/session/create",
        &json!({"TTL": "60s", "LockDelay": "0s"}),
    );
    let session: Value = serde_json::from_str(&session).unwrap();
    let session = session["ID"].as_str().unwrap();
    let lock = format!("/v1/kv/quorate/join?acquire={session}");
    eventually(SOON, "the founders have let the lock go", || {
        consul.put(&lock, &Value::Null).trim() == "true"
    });
    cluster.add_in_consul().spawn();
    let fourth = &cluster.nodes[3];
    eventually(SOON, "the fourth node runs", || is_serving(fourth));
    eventually(SOON, "it waits for the lock", || {
        waiting(fourth).contains("lock")
    });
    assert_eq!(members(&cluster.nodes[0]), 3);
    assert_eq!(registered(&consul), 4);
    assert_eq!(consul.passing().len(), 3, "it passes before its turn");
    consul.put(&lock.replace("acquire", "release"), &Value::Null);
    eventually(SOON, "it passes", || {
        let passes = consul.passing().contains(&fourth.client);
        // Looked at afterwards: once READY it stays so.
        let state = fourth.status()["state"].clone();
        assert!(!passes || state == "READY", "it passes as {state}");
        passes
    });
    cluster.wait_ready();
    assert_eq!(members(&cluster.nodes[0]), 4);
    eventually(SOON, "all pass", || consul.passing() == clients(&cluster));
    leaves_rotation_serves_on_and_deregisters(&mut cluster.nodes[3], &consul);
}

fn registered(consul: &Consul) -> usize {
    let entries = consul.get("/v1/health/service/quorate");
    entries.as_array().unwrap().len()
}

fn leaves_rotation_serves_on_and_deregisters(node: &mut Node, consul: &Consul) {
    let all = registered(consul);
    node.signal(rustix::process::Signal::TERM);
    let check = format!("_service_maintenance:quorate-{}", node.name);
    eventually(SOON, "it is in maintenance", || {
        let checks = consul.get("/v1/health/checks/quorate");
        let checks = checks.as_array().unwrap();
        let own = checks.iter().find(|it| it["CheckID"] == check.as_str());
        own.is_some_and(|it| it["Status"] == "critical")
    });
    assert!(!consul.passing().contains(&node.client));
    assert_eq!(registered(consul), all);
    let read = support::Client::new().get(&node.url("key"));
    assert_eq!(read.status, 404, "the balancer may not know yet: {read:?}");
    assert!(node.wait_exit(SOON).success());
    assert_eq!(registered(consul), all - 1);
}

/// A node whose Consul has no cluster has the lock, and can do nothing with it.
#[test]
fn a_lost_lock_is_noticed_and_taken_again() {
    let consul = Consul::start();
    let mut cluster = Cluster::prepare_in(&consul, 1);
    cluster.nodes[0]
        .extra
        .retain(|word| word != "--bootstrap-expect" && word != "1");
    cluster.nodes[0].spawn();
    let holder = || {
        let lock = consul.try_get("/v1/kv/quorate/join");
        lock.and_then(|lock| lock[0]["Session"].as_str().map(str::to_owned))
    };
    eventually(SOON, "the node has the lock", || holder().is_some());
    let first = holder().unwrap();
    consul.put(&format!("/v1/session/destroy/{first}"), &Value::Null);
    let node = &cluster.nodes[0];
    eventually(SOON, "the loss is noticed", || {
        node.log_text().contains("lock-lost")
    });
    let again = || holder().is_some_and(|session| session != first);
    eventually(SOON, "it has the lock again", again);
}

#[test]
fn a_wrong_token_is_told_and_keeps_a_new_node_waiting_and_a_revoked_one_goes_unnoticed() {
    let consul = Consul::start_guarded();
    let mut cluster = Cluster::prepare_in(&consul, 1);
    let file = cluster.dir.path().join("token");
    std::fs::write(&file, "6f1d1f9e-0000-4000-8000-000000000000\n").unwrap();
    let token = file.to_str().unwrap().to_owned();
    let node = &mut cluster.nodes[0];
    node.extra.extend(["--consul-token-file".to_owned(), token]);
    node.spawn();
    eventually(SOON, "the refusal is told", || {
        node.log_text().contains("Consul answers 403")
    });
    eventually(SOON, "it waits", || waiting(node).contains("catalogue"));
    assert!(!node.is_ready());
    node.stop();
    let (name, token) = consul.token(&rights(&consul));
    std::fs::write(&file, &token).unwrap();
    node.spawn();
    node.wait_ready(SOON);
    eventually(SOON, "it passes", || {
        consul.passing() == [node.client.clone()]
    });
    let balancer = Balancer::start_with_token("nginx-1.31", &consul, &token);
    eventually(SOON, "it is in rotation", || {
        balancer.rotation() == [node.client.clone()]
    });
    let load = Load::at(&balancer.address);
    load.during(1, || {
        a_token_is_revoked_unnoticed(&name, &consul, node, &balancer, &load);
    });
    load.check(&node.client);
}

/// All that docs/operations-discovery.md asks for.
fn rights(consul: &Consul) -> String {
    let agent = &consul.get("/v1/agent/self")["Config"]["NodeName"];
    let rows = [
        ("service \"quorate\"", "write"),
        (&format!("session {agent}"), "write"),
        ("key \"quorate/join\"", "write"),
        ("node_prefix \"\"", "read"),
        ("service_prefix \"\"", "read"),
    ];
    rows.map(|(to, may)| format!("{to} {{ policy = \"{may}\" }}"))
        .join("\n")
}

fn a_token_is_revoked_unnoticed(
    name: &str,
    consul: &Consul,
    node: &Node,
    balancer: &Balancer,
    load: &Load,
) {
    let (ring, rotation) = (node.status()["ring"].clone(), balancer.rotation());
    let refusals = || node.log_text().matches("Consul answers 403").count();
    let before = refusals();
    consul.revoke(name);
    // An instance that is no node, so that whoever waits for news asks again.
    let news = json!({"ID": "news", "Name": "quorate", "Port": 1});
    consul.put("/v1/agent/service/register", &news);
    eventually(SOON, "the node is refused", || refusals() > before);
    eventually(SOON, "consul-template is refused", || {
        balancer.log_text().contains("response code: 403")
    });
    let enough = load.done() + 200;
    eventually(SOON, "users go on", || load.done() >= enough);
    let (_, wrong) = load.tally();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(node.status()["ring"], ring);
    assert_eq!(balancer.rotation(), rotation);
}

/// What registrator 7.4 registers for a container with `SERVICE_8080_PEER` and the rest, as it was
/// recorded: addresses apart, nothing is ours to choose.
fn as_registrator_does(node: &Node) -> Value {
    let id = format!("a-host:{}:8080", node.name);
    let (address, port) = node.client.rsplit_once(':').unwrap();
    json!({
        "ID": id, "Name": "quorate", "Tags": ["zone-a", "production"],
        "Address": address, "Port": port.parse::<u16>().unwrap(),
        "Meta": {"check_http": "/readyz", "check_interval": "2s", "check_timeout": "1s",
            "peer": node.peer},
        "Weights": {"Passing": 1, "Warning": 1},
        "Check": {"CheckID": format!("service:{id}"), "Name": "Service 'quorate' check",
            "HTTP": format!("http://{}/readyz", node.client), "Interval": "2s", "Timeout": "1s"},
    })
}

#[test]
fn nodes_that_registrator_registers_find_themselves_and_each_other() {
    let consul = Consul::start();
    let mut cluster = Cluster::prepare_in(&consul, 3);
    for node in &mut cluster.nodes {
        node.extra.extend(["--register", "no"].map(str::to_owned));
        node.spawn();
    }
    let first = &cluster.nodes[0];
    eventually(SOON, "the node runs", || is_serving(first));
    assert!(
        consul
            .get("/v1/health/service/quorate")
            .as_array()
            .unwrap()
            .is_empty()
    );
    for node in &cluster.nodes {
        consul.put("/v1/agent/service/register", &as_registrator_does(node));
    }
    cluster.wait_ready();
    eventually(SOON, "all pass", || consul.passing() == clients(&cluster));
    assert!(cluster.nodes[0].log_text().contains("a-host:n1:8080"));
    assert!(cluster.nodes[1].stop().success());
    let left = consul.get("/v1/health/service/quorate");
    assert_eq!(
        left.as_array().unwrap().len(),
        3,
        "registrator's to take away"
    );
    assert_eq!(consul.passing(), clients(&cluster));
}
