//! Nodes as processes: started, and ended on every way out.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{Outcome, quorate};

/// How long nodes may take until they serve.
const READY_WITHIN: Duration = Duration::from_mins(6);
const ASK_EVERY: Duration = Duration::from_millis(50);

/// One node.
pub(crate) struct Node {
    name: String,
    pub(crate) client: String,
    pub(crate) admin: String,
    peer: String,
    data: PathBuf,
    child: Option<Child>,
}

/// Some nodes, which end with this value, and so does their data.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    dir: TempDir,
}

impl Cluster {
    /// So many nodes that serve.
    pub(crate) fn start(count: usize) -> Outcome<Self> {
        let dir = tempfile::tempdir()?;
        let nodes = (1..=count).map(|n| Node::new(n, dir.path()));
        let mut nodes = nodes.collect::<Outcome<Vec<Node>>>()?;
        let seeds = seeds(&nodes);
        for node in &mut nodes {
            node.start(&seeds, &[])?;
        }
        let cluster = Self { nodes, dir };
        cluster.wait_ready()?;
        Ok(cluster)
    }

    /// The client addresses of the first so many.
    pub(crate) fn endpoints(&self, count: usize) -> Vec<String> {
        let some = self.nodes.iter().take(count);
        some.map(|node| node.client.clone()).collect()
    }

    /// Starts the last node again.
    pub(crate) fn start_last(&mut self) -> Outcome<()> {
        let seeds = seeds(&self.nodes);
        self.last()?.start(&seeds, &[])
    }

    /// Starts one more node, which finds the others and is known to none.
    pub(crate) fn add(&mut self, flags: &[&str]) -> Outcome<()> {
        let seeds = seeds(&self.nodes);
        let mut node = Node::new(self.nodes.len() + 1, self.dir.path())?;
        node.start(&seeds, flags)?;
        self.nodes.push(node);
        Ok(())
    }

    pub(crate) fn first(&self) -> Outcome<&Node> {
        Ok(self.nodes.first().ok_or("no node")?)
    }

    pub(crate) fn last(&mut self) -> Outcome<&mut Node> {
        Ok(self.nodes.last_mut().ok_or("no node")?)
    }

    pub(crate) fn wait_ready(&self) -> Outcome<()> {
        until(READY_WITHIN, || Ok(self.nodes.iter().all(Node::is_ready)))?;
        Ok(())
    }
}

fn seeds(nodes: &[Node]) -> String {
    let peers: Vec<&str> = nodes.iter().map(|node| node.peer.as_str()).collect();
    peers.join(",")
}

impl Node {
    fn new(number: usize, dir: &Path) -> Outcome<Self> {
        let name = format!("n{number}");
        Ok(Self {
            client: free_address()?,
            admin: free_address()?,
            peer: free_address()?,
            data: dir.join(&name),
            name,
            child: None,
        })
    }

    fn start(&mut self, seeds: &str, flags: &[&str]) -> Outcome<()> {
        let mut command = Command::new(quorate()?);
        command
            .args(["server", "--exit-with-stdin", "--workers", "1"])
            .args(["--name", &self.name, "--client", &self.client])
            .args(["--admin", &self.admin, "--peer", &self.peer])
            .args(["--seeds", seeds, "--data-dir"])
            .arg(&self.data)
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.child = Some(command.spawn()?);
        Ok(())
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) -> Outcome<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Removes all that it has on its disk.
    pub(crate) fn wipe(&self) -> Outcome<()> {
        Ok(std::fs::remove_dir_all(&self.data)?)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Outcome<()> {
        let id = self.child.as_ref().map(Child::id);
        let pid = id.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(kill_process(pid.ok_or("the node does not run")?, signal)?)
    }

    fn is_ready(&self) -> bool {
        ureq::get(format!("http://{}/readyz", self.client))
            .call()
            .is_ok()
    }

    /// What its admin listener says.
    pub(crate) fn asked(&self, path: &str) -> Outcome<Value> {
        let mut answer = ureq::get(format!("http://{}{path}", self.admin)).call()?;
        Ok(serde_json::from_reader(answer.body_mut().as_reader())?)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // One that is stopped or gone needs nothing else, and there is nobody left to tell.
        drop(self.kill());
    }
}

/// Free when asked: nobody promises that it stays so, but ports are given out in turn.
fn free_address() -> Outcome<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.to_string())
}

/// Waits for something, and gives how long that took.
pub(crate) fn until(
    limit: Duration,
    mut is_so: impl FnMut() -> Outcome<bool>,
) -> Outcome<Duration> {
    let began = Instant::now();
    while !is_so()? {
        if began.elapsed() > limit {
            return Err(format!("nothing of the kind within {limit:?}").into());
        }
        sleep(ASK_EVERY);
    }
    Ok(began.elapsed())
}
