//! Quorate in containers: our images and Compose files under a real Docker Engine and Compose, on
//! one host and on several. Hosts are network namespaces, each with an Engine of its own. The
//! images that ours are built from are stand-ins, see `docker/images.rs`.

#![expect(clippy::expect_used, reason = "a failure here fails the test")]
#![allow(clippy::indexing_slicing, reason = "a failure here fails the test")]

#[path = "docker/engine.rs"]
mod engine;
#[path = "docker/files.rs"]
mod files;
#[path = "docker/images.rs"]
mod images;
mod support;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use engine::{Engine, succeeded};
use support::load::Load;
use support::netns::Network;
use support::{Client, eventually};

const SERVED: Duration = Duration::from_mins(1);
/// Who use the balancer at once.
const USERS: usize = 4;
/// Engines and clusters are heavy: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

/// A host with our images and a copy of the folder `docker`.
struct Host {
    engine: Engine,
    folder: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl Host {
    fn start(network: &Network, node: usize) -> Self {
        let engine = Engine::start(network, node);
        engine.docker(&[
            "load",
            "--quiet",
            "--input",
            &images::archive().display().to_string(),
        ]);
        let copy = engine.scratch("copy");
        images::docker_folder(&copy);
        Self {
            engine,
            folder: copy.join("docker"),
            environment: Vec::new(),
        }
    }

    fn command(&self, file: &str, args: &[&str]) -> Command {
        let mut command = self.engine.client("docker-compose");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.arg("--file").arg(self.folder.join(file)).args(args);
        command
    }

    fn compose(&self, file: &str, args: &[&str]) -> String {
        let output = self.command(file, args).output().expect("docker-compose");
        succeeded(file, args, &output)
    }

    fn base(&self, port: u16) -> String {
        format!("http://{}:{port}", self.engine.address)
    }

    /// What Docker knows about a container.
    fn inspect(&self, container: &str) -> Value {
        let said = self.engine.docker(&["inspect", container]);
        let all: Value = serde_json::from_str(&said).expect("JSON");
        all[0].clone()
    }
}

/// Create, read, update and delete.
fn serves(base: &str, key: &str) {
    let client = Client::new();
    let url = format!("{base}/v1/{key}");
    let made = client.post(&url, &json!("one"));
    assert_eq!(made.status, 201, "{made:?}");
    let read = client.get(&url);
    assert_eq!(read.values(), [json!("one")], "{read:?}");
    let put = client.put(&url, &json!("two"), &read.clock());
    assert_eq!(put.status, 200, "{put:?}");
    assert_eq!(client.get(&url).values(), [json!("two")]);
    let deleted = client.delete(&url);
    assert_eq!(deleted.status, 200, "{deleted:?}");
    assert_eq!(client.get(&url).status, 404);
}

#[test]
fn p1_three_nodes_behind_the_balancer_lose_no_acknowledged_write_when_one_is_killed() {
    let _turn = TURN.lock();
    let network = Network::enter(1);
    let mut host = Host::start(&network, 0);
    host.environment = vec![("QUORATE_PUBLISH", host.engine.address.clone())];
    host.compose("compose.yaml", &["up", "--detach", "--wait", "--no-build"]);
    let base = host.base(8080);
    serves(&base, "key");
    is_locked_down(&host);
    the_admin_page_wants_the_token(&host);

    let load = Load::at(&format!("{}:8080", host.engine.address));
    let requests = load.during(USERS, || {
        eventually(SERVED, "the balancer is used", || load.done() > 200);
        host.compose("compose.yaml", &["kill", "n2"]);
        let before = load.done();
        eventually(SERVED, "it is used on", || load.done() > before + 300);
        host.compose("compose.yaml", &["start", "n2"]);
        load.tally()
    });
    let (made, failed) = requests;
    assert!(failed.len() * 50 < made, "of {made} requests: {failed:?}");
    load.check(&format!("{}:8080", host.engine.address));

    host.compose("compose.yaml", &["stop", "n1"]);
    let state = host.inspect("quorate-n1-1")["State"].clone();
    assert_eq!(
        state["ExitCode"], 0,
        "a node that is stopped ends in good order: {state}"
    );
    serves(&base, "another-key");
    host.compose("compose.yaml", &["up", "--detach", "--wait", "--no-build"]);
    load.check(&format!("{}:8080", host.engine.address));
    host.compose("compose.yaml", &["down", "--timeout", "0"]);
}

/// As the image says, whatever the Compose file adds.
fn is_locked_down(host: &Host) {
    let user = host.compose("compose.yaml", &["exec", "-T", "n1", "id", "-u"]);
    assert_eq!(user, "10001");
    let write = ["exec", "-T", "n1", "touch", "/usr/local/bin/x"];
    let write = host
        .command("compose.yaml", &write)
        .output()
        .expect("docker-compose");
    let said = String::from_utf8_lossy(&write.stderr);
    assert!(said.contains("Read-only file system"), "{said}");
    let config = host.inspect("quorate-n1-1")["Config"].clone();
    assert_eq!(config["User"], "10001:10001");
    assert_eq!(config["StopSignal"], "SIGTERM");
    assert_eq!(
        config["Healthcheck"]["Test"][0], "CMD",
        "no shell in between: {config}"
    );
    let version = &config["Labels"]["org.opencontainers.image.version"];
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
}

/// Which was made at the first start, and which the operator reads from a node.
fn the_admin_page_wants_the_token(host: &Host) {
    let refused = Client::new().get(&format!("{}/status", host.base(8081)));
    assert_eq!(refused.status, 401, "{refused:?}");
    let status = host.compose("compose.yaml", &["exec", "-T", "n1", "quorate", "status"]);
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["node"], "n1");
    assert_eq!(
        status["members"].as_array().map(Vec::len),
        Some(3),
        "{status}"
    );
}

/// The first host founds the cluster; the others have the same file, the same `.env`, and its
/// secrets.
#[test]
fn p9_hosts_join_the_first_one_with_the_same_file_and_nothing_edited() {
    let _turn = TURN.lock();
    let network = Network::enter(3);
    let hosts = [0, 1, 2].map(|node| Host::start(&network, node));
    let file = "host.yaml";
    let up = ["up", "--detach", "--wait", "--no-build"];
    for (host, name) in hosts.iter().zip(["alpha", "beta", "gamma"]) {
        let servers = format!("CONSUL_SERVERS={}\n", Network::address(0));
        // These hosts are one machine, with one name.
        let env = format!("{servers}QUORATE_NAME={name}\n");
        std::fs::write(host.folder.join(".env"), env).expect("a file");
    }
    let [first, others @ ..] = &hosts;
    first.compose(file, &up);
    let early = others[0]
        .command(file, &up)
        .output()
        .expect("docker-compose");
    assert!(!early.status.success(), "without the first host's secrets");
    let said = others[0].compose(file, &["logs", "init"]);
    assert!(said.contains("copy the folder secrets from"), "{said}");

    for other in others {
        support::copy_tree(&first.folder.join("secrets"), &other.folder.join("secrets"));
        other.compose(file, &up);
    }
    for (i, host) in hosts.iter().enumerate() {
        serves(&host.base(8000), &format!("key-{i}"));
        let members = host.compose(file, &["exec", "-T", "node", "quorate", "members"]);
        let names: Value = serde_json::from_str(&members).expect("JSON");
        assert_eq!(names.as_array().map(Vec::len), Some(3), "{members}");
    }
    let client = Client::new();
    let made = client.post(
        &format!("{}/v1/shared", hosts[1].base(8000)),
        &json!("seen"),
    );
    assert_eq!(made.status, 201, "{made:?}");
    hosts[1].compose(file, &["kill", "node"]);
    let read = || client.get(&format!("{}/v1/shared", hosts[2].base(8000)));
    eventually(SERVED, "another host serves it", || {
        read().values() == [json!("seen")]
    });
    for host in &hosts {
        host.compose(file, &["down", "--timeout", "0"]);
    }
}
