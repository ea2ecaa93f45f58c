//! The cluster that a run starts for itself: real processes, real disks, and everything that can be
//! done to them. Whatever was started ends with this value.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::super::bench::Random;
use super::super::dev::child::Child;
use super::super::dev::layout::{self, Node};
use super::super::dev::not_ready;
use super::super::failure::Failure;
use super::relay::Relay;

/// How long all nodes may take until they serve.
const READY_WITHIN: Duration = Duration::from_mins(1);

const ASK_EVERY: Duration = Duration::from_millis(100);

/// Ports are looked for from here on, below those that systems give to connections.
const FIRST_PORT: u16 = 10_000;

/// Ten ports a node, so many nodes at most.
const PORTS: u16 = 20_000;

/// Where Linux distributions put the library that changes what a process takes for the time.
const FAKE_TIME: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
];

/// Some nodes, and perhaps the relays between them.
pub(super) struct Cluster {
    nodes: Vec<Node>,
    children: Vec<Child>,
    flags: Vec<String>,
    /// Those whose process was ended on purpose.
    down: BTreeSet<usize>,
    relay: Option<Relay>,
    stopped: Stopped,
}

/// Processes under SIGSTOP. They would not notice that we are gone, so a panic, which may end this
/// process at once, lets them go on first; then they end with our end of their standard input.
type Stopped = Arc<Mutex<Vec<Pid>>>;

impl Cluster {
    /// Starts so many nodes with their data below the directory, and waits until they serve.
    pub(super) async fn start(
        nodes: u16,
        dir: &Path,
        flags: &[String],
        relayed: bool,
        seed: u64,
    ) -> Result<Self, Failure> {
        let nodes = free_layout(nodes, dir, relayed)?;
        let mut cluster = Self {
            nodes: Vec::new(),
            children: Vec::new(),
            flags: flags.to_vec(),
            down: BTreeSet::new(),
            relay: None,
            stopped: Stopped::default(),
        };
        continue_on_panic(Arc::clone(&cluster.stopped));
        if relayed {
            let names: Rc<[String]> = nodes.iter().map(|n| n.name.clone()).collect();
            let ports = nodes.iter().filter_map(|n| Some((n.relay?, n.peer)));
            let ports: Vec<(u16, u16)> = ports.collect();
            cluster.relay = Some(Relay::start(&ports, names, seed).await?);
        }
        for node in &nodes {
            cluster.children.push(Child::start(node, &nodes, flags)?);
        }
        cluster.nodes = nodes;
        cluster.ready().await?;
        Ok(cluster)
    }

    /// Waits until every node serves.
    pub(super) async fn ready(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            self.check()?;
            let waiting = not_ready(&self.children).await;
            if waiting.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let seconds = READY_WITHIN.as_secs();
                return Err(Failure::NotReady { seconds, waiting });
            }
            sleep(ASK_EVERY).await;
        }
    }

    /// Whether every node serves, and with all that it owns.
    pub(super) async fn serves(&self) -> bool {
        not_ready(&self.children).await.is_empty()
    }

    /// Fails if a node has ended by itself.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        for (n, child) in self.children.iter_mut().enumerate() {
            if let Some(status) = child.ended()?
                && !self.down.contains(&n)
            {
                return Err(child.died(status));
            }
        }
        Ok(())
    }

    /// Client addresses.
    pub(super) fn endpoints(&self) -> Vec<String> {
        self.children
            .iter()
            .map(|c| c.client().to_owned())
            .collect()
    }

    /// Names and admin addresses.
    pub(super) fn admins(&self) -> Vec<(String, String)> {
        let each = self.children.iter();
        each.map(|c| (c.name().to_owned(), c.admin().to_owned()))
            .collect()
    }

    /// What the node is called.
    pub(super) fn name(&self, node: usize) -> String {
        self.nodes
            .get(node)
            .map_or_else(String::new, |n| n.name.clone())
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The links between the nodes, if they can be changed.
    pub(super) fn relay(&self) -> Option<&Relay> {
        self.relay.as_ref()
    }

    /// SIGKILL; `false` if it was not running.
    pub(super) fn kill(&mut self, node: usize) -> Result<bool, Failure> {
        self.down.insert(node);
        match self.children.get_mut(node) {
            Some(child) => Ok(child.kill()?),
            None => Ok(false),
        }
    }

    /// Starts a node again that was killed.
    pub(super) fn start_again(
        &mut self,
        node: usize,
        variables: &[(&str, String)],
    ) -> Result<(), Failure> {
        let child = self.children.get_mut(node);
        if let (Some(child), Some(layout)) = (child, self.nodes.get(node)) {
            *child = Child::start_with(layout, &self.nodes, &self.flags, variables)?;
            self.down.remove(&node);
        }
        Ok(())
    }

    /// Sends the node a signal; `false` if it was not running.
    pub(super) fn signal(&mut self, node: usize, signal: Signal) -> Result<bool, Failure> {
        let Some(child) = self.children.get_mut(node) else {
            return Ok(false);
        };
        if let (Ok(mut stopped), Some(pid)) = (self.stopped.lock(), child.pid()) {
            stopped.retain(|p| *p != pid);
            stopped.extend((signal == Signal::STOP).then_some(pid));
        }
        Ok(child.signal(signal)?)
    }

    /// Removes all that a killed node had on its disk; `false` if there was nothing.
    pub(super) fn wipe(&self, node: usize) -> Result<bool, Failure> {
        let Some(node) = self.nodes.get(node) else {
            return Ok(false);
        };
        let existed = node.dir.exists();
        fs::remove_dir_all(&node.dir).map_err(|source| Failure::File {
            path: node.dir.clone(),
            source,
        })?;
        Ok(existed)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in &mut self.children {
            // There is nobody left to tell; and the node ends with our end of its standard input.
            drop(child.kill());
        }
    }
}

fn continue_on_panic(stopped: Stopped) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let stopped = stopped.lock().map(|s| s.clone()).unwrap_or_default();
        for pid in stopped {
            if let Err(error) = kill_process(pid, Signal::CONT) {
                eprintln!("process {} may still be stopped: {error}", pid.as_raw_pid());
            }
        }
        before(panic);
    }));
}

/// What makes a process take the time for so many days off, if this machine can do that.
pub(super) fn fake_time(days: i8) -> Result<Vec<(&'static str, String)>, Failure> {
    let library = FAKE_TIME.into_iter().find(|path| Path::new(path).exists());
    let library = library.ok_or(Failure::Usage(
        "--nemesis clock needs libfaketime, which is not there: install it (apt install faketime)",
    ))?;
    Ok(vec![
        ("LD_PRELOAD", library.to_owned()),
        ("FAKETIME", format!("{days:+}d")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ])
}

/// Nodes on ports that nobody uses.
fn free_layout(nodes: u16, dir: &Path, relayed: bool) -> Result<Vec<Node>, Failure> {
    let mut random = Random::new(getrandom::u64().map_err(Failure::Random)?);
    let choices = usize::from(PORTS / 10 - nodes);
    let mut tries = 0..50;
    loop {
        let place = u16::try_from(random.below(choices)).unwrap_or(0);
        let mut layout = layout::layout(nodes, FIRST_PORT + 10 * place, dir)?;
        if relayed {
            for node in &mut layout {
                node.relay = Some(node.peer + 1);
            }
        }
        let free = layout::check_ports(&layout);
        match (free, tries.next()) {
            (Ok(()), _) => return Ok(layout),
            (Err(taken), None) => return Err(taken),
            (Err(_), Some(_)) => {}
        }
    }
}
