//! `host.yaml` on several hosts: the same file on each, with the same `.env` and the same secrets.

use std::io::ErrorKind;
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::netns::Network;
use crate::support::{Client, copy_tree, eventually};
use crate::{
    Host, SERVED, TURN, UP, has_a_newer_image, names_all_nodes_in_its_dns, runs_the_newer_image,
    serves,
};

const FILE: &str = "host.yaml";

/// What the operator writes into `.env`; the name only because these hosts are one machine.
fn is_told(host: &Host, name: &str, first: &[usize]) {
    let first: Vec<_> = first.iter().map(|node| Network::address(*node)).collect();
    let env = format!("CONSUL_SERVERS={}\nQUORATE_NAME={name}\n", first.join(","));
    std::fs::write(host.folder.join(".env"), env).expect("a file");
}

fn takes_the_secrets(host: &Host, first: &Host) {
    copy_tree(&first.folder.join("secrets"), &host.folder.join("secrets"));
}

fn members(host: &Host) -> usize {
    let members = host.compose(FILE, &["exec", "-T", "node", "quorate", "members"]);
    let names: Value = serde_json::from_str(&members).expect("JSON");
    names.as_array().map_or(0, Vec::len)
}

fn keeps_its_admin_port_to_itself(host: &Host) {
    let at = |port: u16| TcpStream::connect(format!("{}:{port}", host.engine.address));
    at(8082).expect("the peer port is for the other hosts");
    let refused = at(8081).expect_err("the admin port is for the host alone");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

/// The first host founds the cluster; the others have the same file, the same `.env`, and its
/// secrets.
#[test]
fn p9_hosts_join_the_first_one_with_the_same_file_and_nothing_edited() {
    let _turn = TURN.lock();
    let network = Network::enter(3);
    let hosts = [0, 1, 2].map(|node| Host::start(&network, node));
    for (host, name) in hosts.iter().zip(["alpha", "beta", "gamma"]) {
        is_told(host, name, &[0]);
    }
    let [first, others @ ..] = &hosts;
    first.compose(FILE, &UP);
    let early = others[0]
        .command(FILE, &UP)
        .output()
        .expect("docker-compose");
    assert!(!early.status.success(), "without the first host's secrets");
    let said = others[0].compose(FILE, &["logs", "init"]);
    assert!(said.contains("copy the folder secrets from"), "{said}");

    for other in others {
        takes_the_secrets(other, first);
        other.compose(FILE, &UP);
    }
    for (i, host) in hosts.iter().enumerate() {
        serves(&host.base(8000), &format!("key-{i}"));
        assert_eq!(members(host), 3);
        names_all_nodes_in_its_dns(host, "127.0.0.1:8500");
        keeps_its_admin_port_to_itself(host);
    }
    // A kept connection would hold up the end of its balancer.
    let made = Client::new().post(
        &format!("{}/v1/shared", hosts[1].base(8000)),
        &json!("seen"),
    );
    assert_eq!(made.status, 201, "{made:?}");
    let client = Client::new();
    hosts[1].compose(FILE, &["kill", "node"]);
    let read = || client.get(&format!("{}/v1/shared", hosts[2].base(8000)));
    eventually(SERVED, "another host serves it", || {
        read().values() == [json!("seen")]
    });
    is_away_for_a_while_and_comes_back_newer(&hosts[1]);
    leaves_for_good(&hosts[1], "beta", &hosts[2]);
    assert_eq!(read().values(), [json!("seen")]);
    for host in [&hosts[0], &hosts[2]] {
        host.compose(FILE, &["down", "--timeout", "0"]);
    }
}

fn is_away_for_a_while_and_comes_back_newer(host: &Host) {
    host.compose(FILE, &["stop"]);
    has_a_newer_image(host);
    host.compose(FILE, &UP);
    runs_the_newer_image(host, "quorate-host-node-1");
    serves(&host.base(8000), "back");
    assert_eq!(members(host), 3);
}

/// By the commands of docker/README.md, the first two of them on another host.
fn leaves_for_good(host: &Host, name: &str, other: &Host) {
    let quorate = ["exec", "-T", "node", "quorate", "cluster"];
    for said in [["leave", name], ["commit", "--wait"]] {
        other.compose(FILE, &[&quorate[..], &said[..]].concat());
    }
    host.compose(FILE, &["down", "--volumes"]);
    assert_eq!(host.engine.docker(&["volume", "ls", "--quiet"]), "");
    assert_eq!(members(other), 2);
    serves(&other.base(8000), "without-it");
}

/// Of three first hosts any may go: Consul still has a leader, and a host that joins is admitted.
#[test]
fn p9_three_first_hosts_found_together_and_without_one_of_them_another_joins() {
    let _turn = TURN.lock();
    let network = Network::enter(4);
    let hosts = [0, 1, 2, 3].map(|node| Host::start(&network, node));
    for (host, name) in hosts.iter().zip(["alpha", "beta", "gamma", "delta"]) {
        is_told(host, name, &[0, 1, 2]);
    }
    let [first, second, third, fourth] = &hosts;
    let without_waiting = ["up", "--detach", "--no-build"];
    first.compose(FILE, &without_waiting);
    for other in [second, third, fourth] {
        takes_the_secrets(other, first);
    }
    second.compose(FILE, &without_waiting);
    for host in [third, second, first] {
        host.compose(FILE, &UP);
        serves(&host.base(8000), &host.engine.address);
        assert_eq!(members(host), 3);
    }
    let client = Client::new();
    let at = |host: &Host| format!("{}/v1/shared", host.base(8000));
    let made = client.post(&at(second), &json!("seen"));
    assert_eq!(made.status, 201, "{made:?}");

    first.compose(FILE, &["kill"]);
    eventually(SERVED, "another host serves it", || {
        client.get(&at(third)).values() == [json!("seen")]
    });
    fourth.compose(FILE, &UP);
    assert_eq!(client.get(&at(fourth)).values(), [json!("seen")]);
    serves(&fourth.base(8000), "late");
    assert_eq!(members(fourth), 4);

    first.compose(FILE, &UP);
    serves(&first.base(8000), "back");
    assert_eq!(members(first), 4);
    for host in &hosts {
        host.compose(FILE, &["down", "--timeout", "0"]);
    }
}
