//! The only place that starts nodes: real processes on free ports of 127.0.0.1, stopped on every
//! way out.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(unreachable_pub, reason = "a module of several test binaries")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failure here fails the test"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "other processes live in real time"
)]

use std::collections::BTreeSet;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub mod balancer;
pub mod browser;
pub mod connection;
pub mod consul;
pub mod http;
pub mod keys;
pub mod lines;
pub mod load;
pub mod netns;
pub mod process;
pub mod tools;

pub use http::{Answer, Client};
use process::pause;

/// How long a cluster may take to become READY on a busy machine.
const READY_TIME: Duration = Duration::from_mins(1);

/// Some nodes with their data, gone when dropped.
pub struct Cluster {
    // Before the directory, so that a failed test can still show their logs.
    pub nodes: Vec<Node>,
    pub dir: TempDir,
    extra: Vec<String>,
}

/// One node: what it was started with, and its process while it runs.
pub struct Node {
    pub name: String,
    pub client: String,
    pub admin: String,
    pub peer: String,
    pub data: PathBuf,
    pub seeds: Vec<String>,
    pub extra: Vec<String>,
    /// What stands before the program on its command line.
    pub before: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Cluster {
    /// Starts so many nodes together and waits until all are READY.
    pub fn start(nodes: usize) -> Self {
        Self::start_with(nodes, &[])
    }

    /// The same with more arguments for every node.
    pub fn start_with(nodes: usize, extra: &[&str]) -> Self {
        let mut cluster = Self::prepare(nodes, extra);
        for node in &mut cluster.nodes {
            node.spawn();
        }
        cluster.wait_ready();
        cluster
    }

    /// Chooses names, ports and directories, and starts nothing.
    pub fn prepare(nodes: usize, extra: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let extra: Vec<String> = extra.iter().map(ToString::to_string).collect();
        let mut cluster = Self {
            nodes: Vec::new(),
            dir,
            extra,
        };
        for i in 1..=nodes {
            let node = Node::new(&format!("n{i}"), cluster.dir.path(), &cluster.extra);
            cluster.nodes.push(node);
        }
        let seeds: Vec<String> = cluster.nodes.iter().map(|n| n.peer.clone()).collect();
        for node in &mut cluster.nodes {
            node.seeds.clone_from(&seeds);
        }
        cluster
    }

    /// So many nodes that find each other in this Consul; starts nothing.
    pub fn prepare_in(consul: &consul::Consul, nodes: usize) -> Self {
        let extra = ["--discovery", "consul", "--consul", &consul.address];
        let mut cluster = Self::prepare(nodes, &extra);
        for node in &mut cluster.nodes {
            node.seeds.clear();
            node.extra
                .extend(["--bootstrap-expect".to_owned(), nodes.to_string()]);
        }
        cluster
    }

    /// The same, started and READY.
    pub fn start_in(consul: &consul::Consul, nodes: usize) -> Self {
        let mut cluster = Self::prepare_in(consul, nodes);
        cluster.spawn_all();
        cluster.wait_ready();
        cluster
    }

    /// One more node that looks for the others in Consul; starts nothing.
    pub fn add_in_consul(&mut self) -> &mut Node {
        let node = self.add();
        node.seeds.clear();
        node
    }

    /// Prepares one more node, with the first ones as its seeds, and starts nothing.
    pub fn add(&mut self) -> &mut Node {
        let name = format!("n{}", self.nodes.len() + 1);
        let mut node = Node::new(&name, self.dir.path(), &self.extra);
        node.seeds = self.nodes.iter().map(|n| n.peer.clone()).collect();
        self.nodes.push(node);
        self.nodes.last_mut().expect("just pushed")
    }

    /// One more node, which runs and waits for an operator to take it in; its name.
    pub fn add_staged(&mut self) -> String {
        let node = self.add();
        node.extra
            .extend(["--auto-commit", "false"].map(str::to_owned));
        node.spawn();
        let name = node.name.clone();
        eventually(READY_TIME, "the new node is staged", || {
            // Not through the new node, which has no ring yet.
            let old = self.running().find(|n| n.name != name);
            let plan = old.map(|n| n.command_line(&["cluster", "plan", "-o", "json"]));
            plan.is_some_and(|(_, out, _)| out.contains(&format!("join {name}")))
        });
        name
    }

    /// Waits until every running node is READY and they all have the same ring, at rest.
    pub fn wait_ready(&self) {
        for node in self.nodes.iter().filter(|n| n.child.is_some()) {
            node.wait_ready(READY_TIME);
        }
        let same = || {
            let rings: Vec<_> = self.running().map(|n| n.status()["ring"].clone()).collect();
            rings.windows(2).all(|pair| pair[0] == pair[1])
        };
        eventually(READY_TIME, "all nodes have the same ring", same);
    }

    pub fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|n| n.child.is_some())
    }

    pub fn kill_all(&mut self) {
        self.nodes.iter_mut().for_each(Node::kill);
    }

    /// Starts every node that does not run.
    pub fn spawn_dead(&mut self) {
        let dead = self.nodes.iter_mut().filter(|n| n.child.is_none());
        dead.for_each(Node::spawn);
    }

    pub fn spawn_all(&mut self) {
        self.nodes.iter_mut().for_each(Node::spawn);
    }
}

/// Every test is one of the log as well: each line of each node, as a log store would take it.
impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        for node in &self.nodes {
            let text = node.log_text();
            // What the system, or a node that cannot start, says is no line of the log.
            for line in text.lines().filter(|line| line.starts_with('{')) {
                let faults = lines::Line::parse(line).map(|line| line.faults());
                assert_eq!(faults, Ok(Vec::new()), "{}: {line}", node.name);
            }
        }
    }
}

impl Node {
    pub fn new(name: &str, dir: &Path, extra: &[String]) -> Self {
        Self {
            name: name.to_owned(),
            client: free_address(),
            admin: free_address(),
            peer: free_address(),
            data: dir.join(name),
            seeds: Vec::new(),
            extra: extra.to_vec(),
            before: Vec::new(),
            log: dir.join(format!("{name}.log")),
            child: None,
        }
    }

    pub fn command(&self) -> Command {
        let words = self.before.iter().map(String::as_str);
        let mut words = words.chain([env!("CARGO_BIN_EXE_quorate"), "server"]);
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).args(["--name", &self.name]);
        command.args([
            "--client",
            &self.client,
            "--admin",
            &self.admin,
            "--peer",
            &self.peer,
        ]);
        command.arg("--data-dir").arg(&self.data);
        command.args(["--workers", "1"]);
        if !self.seeds.is_empty() {
            command.args(["--seeds", &self.seeds.join(",")]);
        }
        command.args(&self.extra);
        command
    }

    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("a log file");
        let mut command = self.command();
        command.stdin(Stdio::null());
        command
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        self.child = Some(command.spawn().expect("the node's process"));
    }

    /// SIGKILL, and waits for the end of the process.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("SIGKILL");
            child.wait().expect("the end of the process");
        }
    }

    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("a running process");
        let pid = i32::try_from(child.id()).expect("a process id");
        kill_process(Pid::from_raw(pid).expect("a process id"), signal).expect("a signal");
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running process").id()
    }

    /// A put with an `Idempotency-Key`.
    pub fn put_once(
        &self,
        client: &Client,
        key: &str,
        value: &Value,
        clock: &str,
        request: &str,
    ) -> Answer {
        client.put_with(
            &self.url(key),
            value,
            clock,
            &[("idempotency-key", request)],
        )
    }

    /// SIGTERM, and waits for the end of the process.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_exit(Duration::from_secs(30))
    }

    /// Waits for the process to end by itself.
    pub fn wait_exit(&mut self, time: Duration) -> ExitStatus {
        let mut child = self.child.take().expect("a running process");
        let deadline = Instant::now() + time;
        loop {
            if let Some(status) = child.try_wait().expect("the state of the process") {
                return status;
            }
            if Instant::now() > deadline {
                self.child = Some(child);
                panic!(
                    "{} runs on after {time:?}; its log:\n{}",
                    self.name,
                    self.log_text()
                );
            }
            pause();
        }
    }

    /// Whether the process is there; one that has ended by itself is put away.
    pub fn is_running(&mut self) -> bool {
        let ended = self.child.as_mut().is_some_and(|child| {
            child
                .try_wait()
                .expect("the state of the process")
                .is_some()
        });
        if ended {
            self.child = None;
        }
        self.child.is_some()
    }

    /// Whether it was started and not yet seen to end.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Runs the program as an operator of this node; gives its exit code and what it printed.
    pub fn command_line(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command
            .args(args)
            .env("QUORATE_ADMIN_ENDPOINTS", &self.admin);
        let output = command.stdin(Stdio::null()).output().expect("the program");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        (code, text(&output.stdout), text(&output.stderr))
    }

    /// Has every node that this one knows move so many partitions at once, and so many bytes a
    /// second, or `none`: with 1 and 1, a move has a middle that lasts.
    pub fn limit_transfers(&self, at_once: &str, bytes_s: &str) {
        let limit = ["cluster", "limit", "transfers", at_once, bytes_s];
        let (code, out, err) = self.command_line(&limit);
        assert_eq!(code, 0, "{out}{err}");
    }

    /// How many partitions are moving, as it knows.
    pub fn moving(&self) -> u64 {
        self.status()["ring"]["moving"].as_u64().expect("a ring")
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn is_ready(&self) -> bool {
        Client::new()
            .try_get(&format!("http://{}/readyz", self.client))
            .is_some_and(|a| a.status == 200)
    }

    pub fn wait_ready(&self, time: Duration) {
        let ready = format!("{} is READY", self.name);
        eventually(time, &ready, || self.is_ready());
    }

    pub fn status(&self) -> Value {
        Client::new()
            .get(&format!("http://{}/status", self.admin))
            .json()
    }

    pub fn url(&self, key: &str) -> String {
        format!("http://{}/v1/{key}", self.client)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The test is over either way; there is nobody left to tell.
            drop(child.kill());
            drop(child.wait());
        }
        if thread::panicking() {
            eprintln!("--- log of {}:\n{}", self.name, tail(&self.log_text()));
        }
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Copies a directory with everything in it.
pub fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory to copy") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// Ports given to the tests of this process.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// An address of this machine that nobody listens on and that nobody else is given: from below the
/// ports that the system takes for the near ends of connections.
pub fn free_address() -> String {
    let mut given = GIVEN.lock().expect("no test failed in here");
    loop {
        let random = RandomState::new().hash_one(given.len());
        let port = 10_000 + u16::try_from(random % 20_000).expect("it is smaller");
        let address = format!("127.0.0.1:{port}");
        if TcpListener::bind(&address).is_ok() && given.insert(port) {
            return address;
        }
    }
}

/// Waits for something to become true; fails loudly when the time is over.
pub fn eventually(time: Duration, what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + time;
    while !is_true() {
        assert!(
            Instant::now() < deadline,
            "waited {time:?} in vain until {what}"
        );
        pause();
    }
}
