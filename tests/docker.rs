//! Quorate in containers: our images and Compose files under a real Docker Engine and Compose, on
//! one host and on several. Hosts are network namespaces, each with an Engine of its own. The
//! images that ours are built from are stand-ins, see `docker/images.rs`.

#![expect(clippy::expect_used, reason = "a failure here fails the test")]
#![allow(clippy::indexing_slicing, reason = "a failure here fails the test")]

#[cfg(feature = "extra")]
#[path = "docker/compiling.rs"]
mod compiling;
#[path = "docker/engine.rs"]
mod engine;
#[path = "docker/files.rs"]
mod files;
#[path = "docker/hosts.rs"]
mod hosts;
#[path = "docker/images.rs"]
mod images;
#[path = "docker/registrator.rs"]
mod registrator;
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
/// For one host.
const ONE_HOST: &str = "compose.yaml";
const UP: [&str; 4] = ["up", "--detach", "--wait", "--no-build"];
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
fn p1_three_nodes_behind_the_balancer_are_killed_and_upgraded_and_lose_no_acknowledged_write() {
    let _turn = TURN.lock();
    let network = Network::enter(1);
    let mut host = Host::start(&network, 0);
    host.environment = vec![("QUORATE_PUBLISH", host.engine.address.clone())];
    host.compose(ONE_HOST, &UP);
    let base = host.base(8080);
    serves(&base, "key");
    answers_what_the_readme_says(&host);
    is_locked_down(&host);
    the_admin_page_wants_the_token(&host);

    let load = Load::at(&format!("{}:8080", host.engine.address));
    load.during(USERS, || {
        after_requests(&load, 500);
        for node in ["n2", "n3"] {
            is_killed(&host, node, &load);
        }
        are_upgraded(&host, &load);
    });
    load.check(&format!("{}:8080", host.engine.address));

    ends_in_good_order(&host, "n1");
    serves(&base, "another-key");
    let before = containers(&host);
    host.compose(ONE_HOST, &UP);
    assert_eq!(
        containers(&host),
        before,
        "what is up to date is not made afresh"
    );
    load.check(&format!("{}:8080", host.engine.address));

    host.environment.push(("LB_DISCOVERY", "srv".to_owned()));
    host.compose(ONE_HOST, &up_alone("lb"));
    serves(&base, "by-dns");
    names_all_nodes_in_its_dns(&host, "172.28.80.10:8500");
    ends_in_good_order(&host, "lb");
    host.compose(ONE_HOST, &["down", "--timeout", "0"]);
}

/// Once it is told to; Docker does not have to kill it.
fn ends_in_good_order(host: &Host, service: &str) {
    host.compose(ONE_HOST, &["stop", service]);
    let state = host.inspect(&format!("quorate-{service}-1"))["State"].clone();
    assert_eq!(state["ExitCode"], 0, "{service}: {state}");
}

/// Else it would name three, and those that do not pass as well.
fn names_all_nodes_in_its_dns(host: &Host, consul: &str) {
    let own = format!("http://{consul}/v1/agent/self");
    let own = host.engine.on_host("curl", &["-sSf", &own]);
    let own: Value = serde_json::from_str(&own).expect("JSON");
    for setting in ["DNSEnableTruncate", "DNSOnlyPassing"] {
        assert_eq!(own["DebugConfig"][setting], true, "{setting}");
    }
}

/// Waits until the users have made so many more requests.
fn after_requests(load: &Load, more: usize) {
    let enough = load.done() + more;
    eventually(SERVED, "the users go on", || load.done() >= enough);
}

/// The ids, those that were made last first.
fn containers(host: &Host) -> String {
    host.engine
        .docker(&["ps", "--all", "--quiet", "--no-trunc"])
}

fn up_alone(node: &str) -> [&str; 5] {
    ["up", "--detach", "--wait", "--no-build", node]
}

/// What the node was working on, another one does: fewer than one request in a thousand fails.
fn is_killed(host: &Host, node: &str, load: &Load) {
    host.compose(ONE_HOST, &["kill", node]);
    after_requests(load, 4000);
    host.compose(ONE_HOST, &up_alone(node));
    let (made, failed) = load.tally();
    eprintln!("{node} is killed: {made} requests, {} failed", failed.len());
    assert!(
        failed.len() * 1000 < made,
        "{node} is killed, of {made}: {failed:#?}"
    );
}

/// Our node's image, made afresh under its name.
fn has_a_newer_image(host: &Host) {
    let image = format!("quorate:{}", env!("CARGO_PKG_VERSION"));
    let context = host.engine.scratch("newer");
    let newer = format!("FROM {image}\nLABEL org.opencontainers.image.revision=newer\n");
    std::fs::create_dir(&context).expect("a directory");
    std::fs::write(context.join("Dockerfile"), newer).expect("a Dockerfile");
    let context = context.display().to_string();
    host.engine
        .docker(&["build", "--quiet", "--tag", &image, &context]);
}

fn runs_the_newer_image(host: &Host, container: &str) {
    let labels = &host.inspect(container)["Config"]["Labels"];
    let revision = &labels["org.opencontainers.image.revision"];
    assert_eq!(revision, "newer", "{container}");
}

/// One by one, to an image that is newer, as docker/README.md says.
fn are_upgraded(host: &Host, load: &Load) {
    has_a_newer_image(host);
    for node in ["n1", "n2", "n3"] {
        host.compose(ONE_HOST, &up_alone(node));
        runs_the_newer_image(host, &format!("quorate-{node}-1"));
    }
    after_requests(load, 500);
    let (made, failed) = load.tally();
    eprintln!("all are upgraded: {made} requests, {} failed", failed.len());
    assert!(
        failed.is_empty(),
        "all are upgraded, of {made}: {failed:#?}"
    );
}

/// The first steps of docker/README.md, with the machine's own curl.
fn answers_what_the_readme_says(host: &Host) {
    let readme = std::fs::read_to_string(host.folder.join("README.md")).expect("a file");
    let lines = readme.lines().filter(|line| line.starts_with("curl "));
    let said = lines.map(|line| {
        let there = format!("{}:8080", host.engine.address);
        let line = line.replace("127.0.0.1:8080", &there);
        let said = host.engine.on_host("sh", &["-c", &line]);
        serde_json::from_str(&said).unwrap_or_else(|why| panic!("{line}: {why}: {said}"))
    });
    let said: Vec<Value> = said.collect();
    assert_eq!(said.len(), 2, "a create and a read");
    assert!(said[0]["clock"].is_string(), "{said:?}");
    assert_eq!(said[1]["value"], json!(["world"]), "{said:?}");
}

/// As the image says, whatever the Compose file adds.
fn is_locked_down(host: &Host) {
    let user = host.compose(ONE_HOST, &["exec", "-T", "n1", "id", "-u"]);
    assert_eq!(user, "10001");
    let write = ["exec", "-T", "n1", "touch", "/usr/local/bin/x"];
    let write = host
        .command(ONE_HOST, &write)
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
    let status = host.compose(ONE_HOST, &["exec", "-T", "n1", "quorate", "status"]);
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["node"], "n1");
    assert_eq!(
        status["members"].as_array().map(Vec::len),
        Some(3),
        "{status}"
    );
}
