//! What `docker/Dockerfile` does where there is no program yet, without network: base images by
//! `docker/base.sh`, the crates' sources by `cargo vendor`. It takes minutes: `make image` runs it.

use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread::spawn;

use serde_json::Value;

use crate::engine::{Engine, succeeded};
use crate::support::eventually;
use crate::support::netns::Network;
use crate::support::tools::tool;
use crate::{SERVED, TURN, images};

const RUST: &str = "RUST=quorate-base/rust:12";
const RUNTIME: &str = "RUNTIME=quorate-base/debian:12";
/// A cluster of one.
const ONE: [&str; 16] = [
    "run",
    "--detach",
    "--name",
    "one",
    "--read-only",
    "--cap-drop=ALL",
    "compiled",
    "server",
    "--name=n1",
    "--seeds=127.0.0.1:8082",
    "--replicas=1",
    "--read-quorum=1",
    "--write-quorum=1",
    "--client=127.0.0.1:8080",
    "--admin=127.0.0.1:8081",
    "--peer=127.0.0.1:8082",
];

#[test]
fn the_image_is_compiled_without_network_and_its_program_serves() {
    let _turn = TURN.lock();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // From before this thread moves into a network that reaches nobody.
    let (tell, told) = channel::<Command>();
    let outside = spawn(move || told.recv().expect("a command").output());
    let network = Network::enter(1);
    let engine = Engine::start(&network, 0);
    let project = engine.scratch("project");
    images::context(&project);

    let tools = tool("docker");
    let tools = tools.parent().expect("the directory of the tools");
    let path = std::env::var("PATH").unwrap_or_default();
    let script =
        "cargo vendor --locked --manifest-path \"$1/Cargo.toml\" \"$2\" && \"$1/docker/base.sh\"";
    let mut prepare = Command::new("sh");
    engine.told_to(&mut prepare);
    prepare
        .env("PATH", format!("{}:{path}", tools.display()))
        .args(["-c", script, "sh"])
        .args([root, &project.join("vendor")]);
    tell.send(prepare).expect("somebody listens");
    let output = outside.join().expect("the thread").expect("a shell");
    succeeded("docker/base.sh", &[""; 0], &output);

    let (file, project) = (
        project.join("docker/Dockerfile"),
        project.display().to_string(),
    );
    let file = file.display().to_string();
    engine.docker(&[
        "build",
        "--network=none",
        "--tag=compiled",
        "--build-arg",
        RUST,
        "--build-arg",
        RUNTIME,
        "--file",
        &file,
        &project,
    ]);
    let version = engine.docker(&["run", "--rm", "compiled", "--version"]);
    assert_eq!(version, concat!("quorate ", env!("CARGO_PKG_VERSION")));
    engine.docker(&ONE);
    eventually(SERVED, "the node is healthy", || {
        let said = engine.docker(&["inspect", "--format={{json .State}}", "one"]);
        let state: Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(state["Running"], true, "{state}");
        state["Health"]["Status"] == "healthy"
    });
    let put = [
        "exec",
        "one",
        "quorate",
        "create",
        "key",
        "1",
        "--endpoints=127.0.0.1:8080",
    ];
    engine.docker(&put);
}
