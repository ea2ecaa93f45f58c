//! The cluster that a run starts for itself: real processes, real disks, and everything that can be
//! done to them. Whatever was started ends with this value.

use std::cell::RefCell;
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

/// Some nodes, and perhaps the relays between them. Nodes go by their places; a place whose node has
/// left is free for another one.
pub(super) struct Cluster {
    nodes: Vec<Node>,
    children: Vec<Option<Child>>,
    flags: Vec<String>,
    /// Those that are members.
    crew: BTreeSet<usize>,
    /// Those whose process was ended on purpose, or may end by itself.
    down: BTreeSet<usize>,
    relay: Option<Relay>,
    stopped: Stopped,
    /// Where clients may go.
    doors: Doors,
}

/// The client addresses of the members, as they are now.
pub(super) type Doors = Rc<RefCell<Vec<String>>>;

/// How many nodes found the cluster, and for how many more there is a place.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) founders: u16,
    pub(super) spares: u16,
}

/// Processes under SIGSTOP. They would not notice that we are gone, so a panic, which may end this
/// process at once, lets them go on first; then they end with our end of their standard input.
type Stopped = Arc<Mutex<Vec<Pid>>>;

impl Cluster {
    /// Starts the founders with their data below the directory, and waits until they serve.
    pub(super) async fn start(
        size: Size,
        dir: &Path,
        flags: &[String],
        relayed: bool,
        seed: u64,
    ) -> Result<Self, Failure> {
        let nodes = free_layout(size.founders + size.spares, dir, relayed)?;
        let crew = 0..usize::from(size.founders);
        let mut cluster = Self {
            children: nodes.iter().map(|_| None).collect(),
            nodes,
            flags: flags.to_vec(),
            crew: crew.clone().collect(),
            down: BTreeSet::new(),
            relay: None,
            stopped: Stopped::default(),
            doors: Doors::default(),
        };
        continue_on_panic(Arc::clone(&cluster.stopped));
        if relayed {
            let nodes = &cluster.nodes;
            let names: Rc<[String]> = nodes.iter().map(|n| n.name.clone()).collect();
            let ports = nodes.iter().filter_map(|n| Some((n.relay?, n.peer)));
            let ports: Vec<(u16, u16)> = ports.collect();
            cluster.relay = Some(Relay::start(&ports, names, seed).await?);
        }
        for node in crew {
            cluster.start_again(node, &[])?;
        }
        cluster.show_doors();
        cluster.ready().await?;
        Ok(cluster)
    }

    /// Waits until every node serves.
    pub(super) async fn ready(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            self.check()?;
            let waiting = not_ready(self.members()).await;
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
        not_ready(self.members()).await.is_empty()
    }

    /// The processes of the members.
    fn members(&self) -> impl Iterator<Item = &Child> {
        let each = self.crew.iter().filter_map(|n| self.children.get(*n));
        each.flatten()
    }

    /// Fails if a node has ended by itself.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        let children = self.children.iter_mut().enumerate();
        for (n, child) in children.filter_map(|(n, child)| Some((n, child.as_mut()?))) {
            if let Some(status) = child.ended()?
                && !self.down.contains(&n)
            {
                return Err(child.died(status));
            }
        }
        Ok(())
    }

    /// Client addresses of the members, which follow them.
    pub(super) fn doors(&self) -> Doors {
        Rc::clone(&self.doors)
    }

    fn show_doors(&self) {
        let doors = self.members().map(|c| c.client().to_owned()).collect();
        self.doors.replace(doors);
    }

    /// Names and admin addresses of the members.
    pub(super) fn admins(&self) -> Vec<(String, String)> {
        let each = self.members();
        each.map(|c| (c.name().to_owned(), c.admin().to_owned()))
            .collect()
    }

    /// Names and admin addresses of the members that run.
    pub(super) fn operable(&self) -> Vec<(usize, String)> {
        let up = self.crew.iter().filter(|n| !self.down.contains(n));
        let address = |n: &usize| Some((*n, self.children.get(*n)?.as_ref()?.admin().to_owned()));
        up.filter_map(address).collect()
    }

    /// The admin address of any node that was started.
    pub(super) fn admin_of(&self, node: usize) -> Option<String> {
        let child = self.children.get(node)?.as_ref()?;
        Some(child.admin().to_owned())
    }

    /// What the node is called.
    pub(super) fn name(&self, node: usize) -> String {
        self.nodes
            .get(node)
            .map_or_else(String::new, |n| n.name.clone())
    }

    /// The place of the node of this name.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|n| n.name == name)
    }

    /// The members.
    pub(super) fn crew(&self) -> Vec<usize> {
        self.crew.iter().copied().collect()
    }

    /// Starts a new node that knows the members, and is staged if so wished.
    pub(super) fn enter(&mut self, node: usize, staged: bool) -> Result<(), Failure> {
        let mut flags = self.flags.clone();
        if staged {
            flags.extend(["--auto-commit", "false"].map(str::to_owned));
        }
        self.start_with(node, &flags, &[])
    }

    /// The node has become a member: clients may go there.
    pub(super) fn entered(&mut self, node: usize) {
        self.crew.insert(node);
        self.show_doors();
    }

    /// The member is about to be none, and may end by itself.
    pub(super) fn leaves(&mut self, node: usize) {
        self.crew.remove(&node);
        self.down.insert(node);
        self.show_doors();
    }

    /// Whether the process of the node has ended, or there is none.
    pub(super) fn has_ended(&mut self, node: usize) -> Result<bool, Failure> {
        match self.children.get_mut(node) {
            Some(Some(child)) => Ok(child.ended()?.is_some()),
            Some(None) | None => Ok(true),
        }
    }

    /// Clears the place of a node that has ended for good.
    pub(super) fn clear(&mut self, node: usize) -> Result<(), Failure> {
        self.wipe(node)?;
        if let Some(child) = self.children.get_mut(node) {
            *child = None;
        }
        self.down.remove(&node);
        Ok(())
    }

    /// The links between the nodes, if they can be changed.
    pub(super) fn relay(&self) -> Option<&Relay> {
        self.relay.as_ref()
    }

    /// SIGKILL; `false` if it was not running.
    pub(super) fn kill(&mut self, node: usize) -> Result<bool, Failure> {
        self.down.insert(node);
        match self.children.get_mut(node) {
            Some(Some(child)) => Ok(child.kill()?),
            Some(None) | None => Ok(false),
        }
    }

    /// Starts a node again that was killed.
    pub(super) fn start_again(
        &mut self,
        node: usize,
        variables: &[(&str, String)],
    ) -> Result<(), Failure> {
        let flags = self.flags.clone();
        self.start_with(node, &flags, variables)
    }

    fn start_with(
        &mut self,
        node: usize,
        flags: &[String],
        variables: &[(&str, String)],
    ) -> Result<(), Failure> {
        let known = self.crew.iter().filter_map(|n| self.nodes.get(*n));
        let known: Vec<&Node> = known.collect();
        let child = self.children.get_mut(node);
        if let (Some(child), Some(layout)) = (child, self.nodes.get(node)) {
            *child = Some(Child::start_with(layout, &known, flags, variables)?);
            self.down.remove(&node);
        }
        Ok(())
    }

    /// Sends the node a signal; `false` if it was not running.
    pub(super) fn signal(&mut self, node: usize, signal: Signal) -> Result<bool, Failure> {
        let Some(Some(child)) = self.children.get_mut(node) else {
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
        for child in self.children.iter_mut().flatten() {
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
