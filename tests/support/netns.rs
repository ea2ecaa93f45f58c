//! A cluster whose nodes have network namespaces of their own, joined by a bridge in one more, so
//! that packets between them can be dropped as a broken switch would: silently. Needs root.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Networks made by this process, whose tests run side by side.
static MADE: AtomicU32 = AtomicU32::new(0);

/// The namespaces of one test, gone when dropped.
pub struct Network {
    name: String,
    nodes: usize,
}

impl Network {
    /// Makes a namespace for the clients and one for each node, and moves this thread, and with it
    /// every process that it starts, into that of the clients.
    pub fn enter(nodes: usize) -> Self {
        for tool in ["ip", "nft"] {
            let found = Command::new(tool).arg("-V").output().is_ok();
            assert!(
                found,
                "this test needs {tool}: apt-get install iproute2 nftables"
            );
        }
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes network namespaces: run it as root"
        );
        remove_left_over();
        let network = Self {
            name: format!(
                "quorate{}x{}",
                std::process::id(),
                MADE.fetch_add(1, Ordering::Relaxed)
            ),
            nodes,
        };
        network.build();
        let hub = File::open(format!("/run/netns/{}", network.hub())).expect("a namespace");
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(hub.as_fd(), kind).expect("to move into the namespace");
        network
    }

    /// The command line before a program that runs as this node; nodes count from 0.
    pub fn inside(&self, node: usize) -> Vec<String> {
        ["ip", "netns", "exec", &self.of(node)]
            .map(str::to_owned)
            .into()
    }

    /// The namespace itself, for programs that must go on seeing the file systems of this one.
    pub fn file(&self, node: usize) -> String {
        format!("/run/netns/{}", self.of(node))
    }

    /// Where the node is reached.
    pub fn address(node: usize) -> String {
        format!("10.213.0.{}", node + 1)
    }

    /// Drops, from now on, what the first of each pair sends to the second, and nothing else.
    pub fn drop_packets(&self, pairs: &[(usize, usize)]) {
        for to in 0..self.nodes {
            let from: Vec<String> = (pairs.iter().filter(|(_, t)| *t == to))
                .map(|(from, _)| format!("ip saddr {} drop", Self::address(*from)))
                .collect();
            let rules = format!(
                "add table ip cut\ndelete table ip cut\ntable ip cut {{\nchain input {{\n\
                 type filter hook input priority 0;\n{}\n}}\n}}\n",
                from.join("\n")
            );
            run("ip", &["netns", "exec", &self.of(to), "nft", &rules]);
        }
    }

    /// Drops nothing any more.
    pub fn heal(&self) {
        self.drop_packets(&[]);
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.name)
    }

    fn of(&self, node: usize) -> String {
        format!("{}-{node}", self.name)
    }

    fn build(&self) {
        let hub = self.hub();
        run("ip", &["netns", "add", &hub]);
        let in_hub = |args: &str| run("ip", &words(&format!("-n {hub} {args}")));
        in_hub("link add bridge type bridge");
        in_hub("address add 10.213.0.254/24 dev bridge");
        in_hub("link set bridge up");
        in_hub("link set lo up");
        for node in 0..self.nodes {
            let name = self.of(node);
            run("ip", &["netns", "add", &name]);
            in_hub(&format!(
                "link add port{node} type veth peer eth netns {name}"
            ));
            in_hub(&format!("link set port{node} master bridge up"));
            let in_node = |args: &str| run("ip", &words(&format!("-n {name} {args}")));
            in_node(&format!("address add {}/24 dev eth", Self::address(node)));
            in_node("link set eth up");
            in_node("link set lo up");
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn run(program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).output();
    let done = done.expect("the program was found before");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {args:?}: {said}");
}

/// Removes the namespaces of tests that were killed.
fn remove_left_over() {
    let names = std::fs::read_dir("/run/netns").into_iter().flatten();
    for name in names.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let Some((test, _)) = name.split_once('-') else {
            continue;
        };
        let pid = test.strip_prefix("quorate");
        let pid = pid.and_then(|rest| Some(rest.split_once('x')?.0));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(test);
        }
    }
}

/// Whatever is left after an error here is removed by the next test.
fn remove(test: &str) {
    let names = std::fs::read_dir("/run/netns").into_iter().flatten();
    for name in names.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        if name.split_once('-').is_some_and(|(of, _)| of == test) {
            drop(Command::new("ip").args(["netns", "delete", &name]).output());
        }
    }
}
