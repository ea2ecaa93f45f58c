//! Disks that are full: writes are refused with what became of them, reads go on, and all is well
//! again as soon as there is space.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a failure here fails the test"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use support::{Answer, Client, Cluster, eventually};
use tempfile::TempDir;

/// More than the 32 MiB that a node keeps for what must not fail.
const SIZE: &str = "size=80m";
const BALLAST_BYTES: usize = 60 << 20;

/// A small disk, gone when dropped.
struct Disk(TempDir);

impl Disk {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", SIZE, "tmpfs"])
            .arg(dir.path());
        let done = mount.output().unwrap();
        assert!(
            done.status.success(),
            "this test mounts small file systems of its own, for which it must be root: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        Self(dir)
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }

    fn fill(&self) {
        std::fs::write(self.ballast(), vec![1; BALLAST_BYTES]).unwrap();
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(self.0.path());
    }
}

fn unmount(path: &Path) {
    // The test is over either way.
    drop(Command::new("umount").arg("-l").arg(path).output());
}

fn create(client: &Client, cluster: &Cluster, node: usize, key: &str) -> Answer {
    client.post(&cluster.nodes[node].url(key), &json!(key))
}

#[test]
fn p6_a_full_disk_refuses_writes_honestly_and_is_well_again_with_space() {
    let disks = [(); 3].map(|()| Disk::new());
    let mut cluster = Cluster::prepare(3, &[]);
    for (node, disk) in cluster.nodes.iter_mut().zip(&disks) {
        node.data = disk.data();
        node.spawn();
    }
    cluster.wait_ready();
    let client = Client::new();
    assert_eq!(create(&client, &cluster, 0, "before").status, 201);

    disks[0].fill();
    for node in 0..3 {
        let created = create(&client, &cluster, node, &format!("one-full-{node}"));
        assert_eq!(created.status, 201, "two of three have space: {created:?}");
    }

    disks[1].fill();
    let mut refused = Vec::new();
    for node in 0..3 {
        let key = format!("two-full-{node}");
        let created = create(&client, &cluster, node, &key);
        assert_eq!(created.status, 507, "{created:?}");
        assert_eq!(created.json()["code"], "storage_full");
        if created.json()["outcome"] == "not_applied" {
            refused.push(key);
        }
    }

    disks[2].fill();
    for node in 0..3 {
        let key = format!("all-full-{node}");
        let created = create(&client, &cluster, node, &key);
        assert_eq!(created.status, 507, "{created:?}");
        assert_eq!(created.json()["code"], "storage_full");
        assert_eq!(created.json()["outcome"], "not_applied", "{created:?}");
        refused.push(key);
        let read = client.get(&cluster.nodes[node].url("before"));
        assert_eq!(read.values(), [json!("before")], "reads go on");
    }

    for disk in &disks {
        disk.free();
    }
    let minute = Duration::from_mins(1);
    for node in 0..3 {
        let key = format!("after-{node}");
        eventually(minute, "there is space", || {
            let status = create(&client, &cluster, node, &key).status;
            status == 201 || status == 409
        });
        for key in &refused {
            let read = client.get(&format!("{}?quorum=3", cluster.nodes[node].url(key)));
            assert_eq!(read.status, 404, "{key} was not applied: {read:?}");
        }
    }
    for node in &mut cluster.nodes {
        assert!(node.is_running(), "{} did not survive", node.name);
    }
}
