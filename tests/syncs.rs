//! P1, as the kernel sees it: what a client is told is done has been synced before, which no death
//! of a process could show, since the system's own cache outlives it; and a sync that fails is the
//! end of its node.

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use support::{Client, Cluster};

const WRITES: usize = 20;

/// The syncs that have returned by now, by the logs of the tracers.
fn syncs(logs: &[PathBuf]) -> usize {
    let text = |log| std::fs::read_to_string(log).unwrap_or_default();
    let done = |log| text(log).lines().filter(|l| l.ends_with("= 0")).count();
    logs.iter().map(done).sum()
}

/// What has a node's syncs noted in a file, and perhaps tampered with.
fn traced(log: &Path, more: &[&str]) -> Vec<String> {
    let trace = "strace -D -f --seccomp-bpf -e trace=fsync,fdatasync";
    let words = trace.split(' ').chain(more.iter().copied()).chain(["-o"]);
    let mut words: Vec<String> = words.map(str::to_owned).collect();
    words.push(log.display().to_string());
    words
}

#[test]
fn p1_two_nodes_have_synced_a_write_before_it_is_acknowledged() {
    let mut cluster = Cluster::prepare(3, &["--write-quorum", "2"]);
    let mut logs = Vec::new();
    for node in &mut cluster.nodes {
        let log = node.data.with_extension("strace");
        node.before = traced(&log, &[]);
        logs.push(log);
    }
    cluster.spawn_all();
    cluster.wait_ready();
    let client = Client::new();
    for n in 0..WRITES {
        let before = syncs(&logs);
        let created = client.post(&cluster.nodes[n % 3].url(&format!("k{n}")), &json!(n));
        let after = syncs(&logs);
        assert_eq!(created.status, 201, "{created:?}");
        assert!(after >= before + 2, "write {n}: {before}, then {after}");
    }
}

/// After an error nobody knows what the system's cache still holds, so a sync is never tried again.
#[test]
fn p1_a_sync_that_fails_ends_its_node_with_a_clear_message_and_loses_nothing() {
    const ERROR: &str = "inject=fdatasync:error=EIO:when=40+";
    let mut cluster = Cluster::prepare(3, &[]);
    let log = cluster.nodes[2].data.with_extension("strace");
    cluster.nodes[2].before = traced(&log, &["-e", ERROR]);
    cluster.spawn_all();
    cluster.wait_ready();
    let (client, mut acknowledged) = (Client::new(), Vec::new());
    for n in 0..2000 {
        if !cluster.nodes[2].is_running() {
            break;
        }
        let created = client.try_post(
            &cluster.nodes[n % 3].url(&format!("k{n}")),
            &json!({ "value": n }),
        );
        if created.is_some_and(|created| created.status == 201) {
            acknowledged.push(n);
        }
    }
    assert!(!cluster.nodes[2].is_running(), "it still runs");
    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
    let said = cluster.nodes[2].log_text();
    assert!(said.contains("cannot be trusted any longer"), "{said}");
    assert!(said.contains("Input/output error"), "{said}");

    cluster.nodes[2].before.clear();
    cluster.nodes[2].spawn();
    cluster.nodes[2].wait_ready(Duration::from_mins(1));
    for n in acknowledged {
        let read = client.get(&format!(
            "{}?quorum=3",
            cluster.nodes[2].url(&format!("k{n}"))
        ));
        assert_eq!(read.values(), [json!(n)], "k{n}: {read:?}");
    }
}
