//! P1, as the kernel sees it: what a client is told is done has been synced before, which no death
//! of a process could show, since the system's own cache outlives it.

mod support;

use std::path::PathBuf;

use serde_json::json;
use support::{Client, Cluster};

const WRITES: usize = 20;

/// The syncs that have returned by now, by the logs of the tracers.
fn syncs(logs: &[PathBuf]) -> usize {
    let text = |log| std::fs::read_to_string(log).unwrap_or_default();
    let done = |log| text(log).lines().filter(|l| l.ends_with("= 0")).count();
    logs.iter().map(done).sum()
}

#[test]
fn p1_two_nodes_have_synced_a_write_before_it_is_acknowledged() {
    let mut cluster = Cluster::prepare(3, &["--write-quorum", "2"]);
    let mut logs = Vec::new();
    for node in &mut cluster.nodes {
        let log = node.data.with_extension("strace");
        let trace = "strace -D -f --seccomp-bpf -e trace=fsync,fdatasync -o";
        node.before = trace.split(' ').map(str::to_owned).collect();
        node.before.push(log.display().to_string());
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
