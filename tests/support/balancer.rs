//! The load balancer of `docker/lb`, as its container starts it.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::consul::Consul;
use super::http::Client;
use super::process::{children, wait_until_gone};
use super::tools::tool;
use super::{eventually, free_address};

const START_TIME: Duration = Duration::from_secs(20);
const RELOAD_TIME: Duration = Duration::from_secs(20);

/// nginx, and consul-template over it unless nginx asks Consul's DNS.
pub struct Balancer {
    pub address: String,
    pub dir: PathBuf,
    child: Child,
    _home: TempDir,
}

impl Balancer {
    /// nginx in this version under consul-template.
    pub fn start(nginx: &str, consul: &Consul) -> Self {
        Self::start_as(nginx, "consul-template", consul, "")
    }

    /// The same; consul-template shows this token.
    pub fn start_with_token(nginx: &str, consul: &Consul, token: &str) -> Self {
        Self::start_as(nginx, "consul-template", consul, token)
    }

    /// nginx that looks up the nodes by itself.
    pub fn start_srv(nginx: &str, consul: &Consul) -> Self {
        Self::start_as(nginx, "srv", consul, "")
    }

    fn start_as(nginx: &str, discovery: &str, consul: &Consul, token: &str) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let (dir, programs) = (home.path().join("lb"), home.path().join("bin"));
        std::fs::create_dir(&programs).expect("a directory");
        symlink(tool(nginx), programs.join("nginx")).expect("a link");
        symlink(tool("consul-template"), programs.join("consul-template")).expect("a link");
        let path = std::env::var("PATH").expect("a PATH");
        let log = File::options()
            .create(true)
            .append(true)
            .open(home.path().join("log"));
        let log = log.expect("a log file");
        let start = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/lb/start");
        let address = free_address();
        let mut command = Command::new("sh");
        command
            .arg(start)
            .env("PATH", format!("{}:{path}", programs.display()));
        command.env("LB_DIR", &dir).env("LB_LISTEN", &address);
        command
            .env("LB_DISCOVERY", discovery)
            .env("CONSUL_DNS", &consul.dns);
        command
            .env("CONSUL_HTTP_ADDR", &consul.address)
            .env("CONSUL_HTTP_TOKEN", token);
        command
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("a second handle"));
        let child = command.stdout(log).spawn().expect("the balancer's process");
        let balancer = Self {
            address,
            dir,
            child,
            _home: home,
        };
        let health = balancer.url("/lb/health");
        eventually(START_TIME, "the balancer answers", || {
            Client::new()
                .try_get(&health)
                .is_some_and(|a| a.status == 200)
        });
        balancer
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The addresses that nginx sends requests to.
    pub fn rotation(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.join("upstream.conf")).unwrap_or_default();
        let nodes = text.lines().filter(|line| line.contains("max_fails"));
        let nodes = nodes.filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned));
        let mut nodes: Vec<String> = nodes.collect();
        nodes.sort();
        nodes
    }

    pub fn log_text(&self) -> String {
        let log = self.dir.with_file_name("log");
        std::fs::read_to_string(log).unwrap_or_default()
    }

    /// Has nginx read its configuration again.
    pub fn reload(&self) {
        let master = self.master().expect("nginx runs");
        kill_process(master, Signal::HUP).expect("a signal");
    }

    /// Has it read its configuration again, and returns once new workers serve while an old one
    /// still has something to finish.
    pub fn reload_meanwhile(&self) {
        let before = self.workers();
        self.reload();
        eventually(RELOAD_TIME, "only new workers take requests", || {
            let now = self.workers();
            let is_ending = |pid: &u32| now[pid].contains("shutting down");
            let (old, new): (Vec<u32>, Vec<u32>) =
                now.keys().partition(|pid| before.contains_key(pid));
            old.iter().all(is_ending) && !old.is_empty() && !new.iter().all(is_ending)
        });
    }

    /// nginx's workers, and what each calls itself.
    fn workers(&self) -> BTreeMap<u32, String> {
        let master = self.master().expect("nginx runs");
        let workers = children(master.as_raw_nonzero().get().unsigned_abs());
        workers.expect("processes")
    }

    /// When the nodes were rendered that nginx has been told of last.
    pub fn rendered(&self) -> Option<SystemTime> {
        let rendered = std::fs::metadata(self.dir.join("rendered.conf")).ok()?;
        rendered.modified().ok()
    }

    /// Has the whole of it end in good order, as Docker does: what `start` has become is told.
    pub fn terminate(&self) {
        let own = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(own.expect("a process id"), Signal::TERM).expect("a signal");
    }

    /// The nodes that answered the last requests in nginx's log, one each, the last one last.
    pub fn answered(&self, last: usize) -> Vec<String> {
        let text = self.log_text();
        let lines = text.lines().rev().filter_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            Some(line["quorate.upstream.address"].as_str()?.to_owned())
        });
        let mut nodes: Vec<String> = lines.take(last).collect();
        nodes.reverse();
        nodes
    }

    fn master(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.dir.join("nginx.pid")).ok()?;
        Pid::from_raw(text.trim().parse().ok()?)
    }
}

/// nginx first, then consul-template if there is one; whatever does not end by itself is killed.
impl Drop for Balancer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = self.log_text();
            let lines: Vec<&str> = text.lines().collect();
            let last = lines.len().saturating_sub(20);
            eprintln!("--- the balancer's log:\n{}", lines[last..].join("\n"));
        }
        let own = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        for pid in self.master().into_iter().chain(own) {
            match kill_process(pid, Signal::TERM) {
                // It ends its workers itself, who would go on if it were killed before.
                Ok(()) => wait_until_gone(pid.as_raw_nonzero().get().unsigned_abs(), 10),
                Err(gone) => eprintln!("the balancer's process {pid:?}: {gone}"),
            }
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
