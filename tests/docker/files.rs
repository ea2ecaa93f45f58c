//! The Compose files themselves, read by Compose without a daemon.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::engine::succeeded;
use crate::support::tools::tool;

/// Files that are started by themselves, and what their `.env` must say.
const FILES: [(&str, &[(&str, &str)]); 2] = [
    ("compose.yaml", &[]),
    ("host.yaml", &[("CONSUL_SERVERS", "192.0.2.1")]),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker")
}

fn compose(file: &str, environment: &[(&str, &str)], args: &[&str]) -> String {
    let mut command = Command::new(tool("docker-compose"));
    command.env("DOCKER_HOST", "unix:///nobody/listens/here");
    command.envs(environment.iter().copied());
    command.arg("--file").arg(folder().join(file)).args(args);
    succeeded(file, args, &command.output().expect("docker-compose"))
}

/// The file with everything filled in, as Compose would run it with these profiles.
fn config(file: &str, environment: &[(&str, &str)], profiles: &[&str]) -> Value {
    let mut args: Vec<&str> = profiles.iter().flat_map(|p| ["--profile", *p]).collect();
    args.extend(["config", "--format", "json"]);
    serde_json::from_str(&compose(file, environment, &args)).expect("JSON")
}

fn services(config: &Value) -> impl Iterator<Item = (&String, &Value)> {
    config["services"].as_object().expect("services").iter()
}

#[test]
fn every_compose_file_is_valid_alone_and_with_each_of_its_profiles() {
    for (file, environment) in FILES {
        let profiles = compose(file, environment, &["config", "--profiles"]);
        let profiles: Vec<&str> = profiles.lines().collect();
        let alone = services(&config(file, environment, &[])).count();
        for profile in &profiles {
            let with = services(&config(file, environment, &[profile])).count();
            assert!(with > alone, "{file}: profile {profile} adds nothing");
        }
        config(file, environment, &profiles);
    }
}

/// Those too that others include.
#[test]
fn every_compose_file_there_is_can_be_read_by_itself() {
    let mut files = Vec::new();
    compose_files(&folder(), &mut files);
    assert!(files.len() > FILES.len(), "{files:?}");
    let environment: Vec<_> = FILES.iter().flat_map(|(_, said)| *said).copied().collect();
    for file in files {
        let file = file.to_str().expect("a path");
        compose(file, &environment, &["--profile", "*", "config", "--quiet"]);
    }
}

fn compose_files(within: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(within).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            compose_files(&path, found);
        } else if path
            .extension()
            .is_some_and(|is| is == "yaml" || is == "yml")
        {
            let text = std::fs::read_to_string(&path).expect("a text");
            if text.lines().any(|line| line == "services:") {
                found.push(path);
            }
        }
    }
}

#[test]
fn a_host_that_is_not_told_the_first_hosts_is_refused() {
    let mut command = Command::new(tool("docker-compose"));
    command.env_remove("CONSUL_SERVERS");
    command
        .arg("--file")
        .arg(folder().join("host.yaml"))
        .args(["config", "--quiet"]);
    let output = command.output().expect("docker-compose");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains(".env.example"),
        "{said}"
    );
}

#[test]
fn every_image_has_an_exact_tag_and_ours_has_the_programs_version() {
    for (file, environment) in FILES {
        for (name, service) in services(&config(file, environment, &["*"])) {
            let image = service["image"].as_str().expect("an image");
            let (_, tag) = image
                .rsplit_once(':')
                .unwrap_or_else(|| panic!("{name}: {image}"));
            assert!(is_exact(tag), "{name}: {image}");
            let ours = service["build"].is_object();
            assert!(!ours || tag == env!("CARGO_PKG_VERSION"), "{name}: {image}");
        }
    }
    for dockerfile in ["docker/Dockerfile", "docker/lb/Dockerfile"] {
        let version = crate::images::argument(dockerfile, "VERSION");
        assert_eq!(version, env!("CARGO_PKG_VERSION"), "{dockerfile}");
        let text = std::fs::read_to_string(folder().join("..").join(dockerfile));
        let text = text.expect("a Dockerfile");
        let bases = text.lines().filter_map(|line| line.strip_prefix("ARG "));
        let bases: Vec<_> = bases.filter_map(|line| line.rsplit_once(':')).collect();
        assert_eq!(bases.len(), 2, "{dockerfile}");
        for (image, tag) in bases {
            assert!(is_exact(tag), "{dockerfile}: {image}:{tag}");
        }
    }
}

/// Whether a tag names one version, by three numbers or by its day: `1.30` moves on.
fn is_exact(tag: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let is_version = |part: &str| part.split('.').count() == 3 && part.split('.').all(is_number);
    let mut parts = tag.trim_start_matches('v').split('-');
    parts.any(|part| is_version(part) || (part.len() == 8 && is_number(part)))
}

/// On loopback, unless the operator says otherwise.
#[test]
fn only_the_balancer_and_the_admin_page_are_published() {
    let config = config("compose.yaml", &[], &[]);
    let mut published = BTreeSet::new();
    for (name, service) in services(&config) {
        for port in service["ports"].as_array().into_iter().flatten() {
            assert_eq!(port["host_ip"], "127.0.0.1", "{name}: {port}");
            published.insert(format!("{name} {}", port["target"]));
        }
    }
    let want = ["lb 8080", "n1 8081"].map(str::to_owned);
    assert_eq!(published, BTreeSet::from(want));
}

#[test]
fn nodes_and_balancers_can_write_nowhere_but_to_their_data_and_gain_no_rights() {
    for (file, environment) in FILES {
        let config = config(file, environment, &[]);
        let ours = services(&config).filter(|(_, service)| service["build"].is_object());
        let ours: Vec<_> = ours.collect();
        assert!(ours.len() > 1, "{file}");
        for (name, service) in ours {
            assert_eq!(service["read_only"], true, "{file}: {name}");
            assert_eq!(
                service["cap_drop"],
                serde_json::json!(["ALL"]),
                "{file}: {name}"
            );
            let options = service["security_opt"].to_string();
            assert!(options.contains("no-new-privileges"), "{file}: {name}");
        }
    }
}

/// A line for each request would fill the host's disk.
#[test]
fn what_nodes_and_balancers_log_is_bounded() {
    for (file, environment) in FILES {
        for (name, service) in services(&config(file, environment, &[])) {
            let options = &service["logging"]["options"];
            let bounded = options["max-size"].is_string() && options["max-file"].is_string();
            let ours = service["build"].is_object();
            assert!(bounded || !ours, "{file}: {name}: {service}");
        }
    }
}

/// The seed's way: registrator reads them, and a node finds itself and the others by what it makes
/// of them.
#[test]
fn what_registrator_is_told_is_what_the_nodes_say_of_themselves() {
    let config = config(
        "compose.yaml",
        &[("QUORATE_REGISTER", "no")],
        &["registrator"],
    );
    let nodes = services(&config).filter(|(name, _)| name.starts_with('n'));
    let nodes: Vec<_> = nodes.collect();
    assert_eq!(nodes.len(), 3);
    for (name, node) in nodes {
        let (labels, says) = (&node["labels"], &node["environment"]);
        assert_eq!(
            labels["SERVICE_8080_PEER"], says["QUORATE_ADVERTISE_PEER"],
            "{name}"
        );
        assert_eq!(labels["SERVICE_8080_NAME"], "quorate");
        assert_eq!(labels["SERVICE_8080_TAGS"], "production");
        assert_eq!(says["QUORATE_REGISTER"], "no");
        let client = says["QUORATE_ADVERTISE_CLIENT"]
            .as_str()
            .expect("an address");
        let on = &node["networks"]["default"]["ipv4_address"];
        assert_eq!(client, format!("{}:8080", on.as_str().expect("an address")));
    }
}
