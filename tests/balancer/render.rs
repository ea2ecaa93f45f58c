//! `quorate lb render --watch --exec`: for those who run nginx with nothing beside it.

use std::fs::{File, read_to_string};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::edges::register;
use crate::support::consul::Consul;
use crate::support::process::wait_until_gone;
use crate::support::tools::tool;
use crate::support::{Client, Cluster, eventually, free_address};

const SOON: Duration = Duration::from_secs(30);

/// nginx with the balancer's configuration, and the program that tells it of nodes.
struct Rendered {
    address: String,
    dir: TempDir,
    program: Option<Child>,
    nginx: Option<Child>,
}

impl Rendered {
    fn start(consul: &Consul) -> Self {
        let mut rendered = Self {
            address: free_address(),
            dir: tempfile::tempdir().unwrap(),
            program: None,
            nginx: None,
        };
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/lb/nginx.conf");
        let conf = read_to_string(shipped).unwrap();
        let conf = conf.replace("@LISTEN@", &rendered.address);
        std::fs::write(rendered.dir.path().join("nginx.conf"), conf).unwrap();
        rendered.watch(consul);
        eventually(SOON, "no node is written", || {
            rendered.upstream().contains("down")
        });
        let mut nginx = rendered.nginx();
        nginx.args(["-g", "daemon off;"]);
        rendered.nginx = Some(nginx.spawn().unwrap());
        eventually(SOON, "nginx answers", || rendered.status() == Some(503));
        rendered
    }

    /// Starts the program. Its command notes how many nodes the file names at each run.
    fn watch(&mut self, consul: &Consul) {
        let nginx = tool("nginx-1.22").display().to_string();
        let command = format!(
            "grep -c max_fails upstream.conf >>runs; \
             [ ! -e nginx.pid ] || exec {nginx} -p . -c nginx.conf -s reload"
        );
        let log = File::create(self.dir.path().join("told")).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_quorate"));
        program.args(["lb", "render", "--watch", "--out", "upstream.conf"]);
        program.args(["--consul", &consul.address, "--exec", &command]);
        program.current_dir(self.dir.path()).stdin(Stdio::null());
        self.program = Some(program.stderr(log).spawn().unwrap());
    }

    fn end_program(&mut self) {
        let mut program = self.program.take().unwrap();
        program.kill().unwrap();
        program.wait().unwrap();
    }

    fn nginx(&self) -> Command {
        let path = self.dir.path().join("log");
        let log = File::options().create(true).append(true).open(path);
        let log = log.unwrap();
        let mut command = Command::new(tool("nginx-1.22"));
        command.args(["-p", ".", "-c", "nginx.conf"]);
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    fn upstream(&self) -> String {
        self.read("upstream.conf")
    }

    /// How many nodes there were whenever the command ran.
    fn runs(&self) -> Vec<usize> {
        let runs = self.read("runs");
        runs.lines().map(|line| line.parse().unwrap()).collect()
    }

    fn read(&self, file: &str) -> String {
        read_to_string(self.dir.path().join(file)).unwrap_or_default()
    }

    /// Of an answer to a read of a key that is not there.
    fn status(&self) -> Option<u16> {
        let url = format!("http://{}/v1/key", self.address);
        Client::new().try_get(&url).map(|answer| answer.status)
    }

    fn await_runs(&self, runs: &[usize]) {
        eventually(SOON, &format!("the command has run for {runs:?}"), || {
            let now = self.runs();
            assert!(runs.starts_with(&now), "it has run for {now:?}");
            now == runs
        });
    }
}

/// nginx ends its workers itself, who would go on if it were killed.
impl Drop for Rendered {
    fn drop(&mut self) {
        if let Some(mut nginx) = self.nginx.take() {
            let pid = i32::try_from(nginx.id()).ok().and_then(Pid::from_raw);
            if pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok()) {
                wait_until_gone(nginx.id(), 10);
            }
            drop(nginx.kill());
            drop(nginx.wait());
        }
        if let Some(mut program) = self.program.take() {
            drop(program.kill());
            drop(program.wait());
        }
        if std::thread::panicking() {
            eprintln!("--- it told:\n{}", self.read("told"));
        }
    }
}

#[test]
fn lb_render_runs_its_command_once_a_change_and_keeps_the_last_nodes_without_consul() {
    let mut consul = Consul::start();
    let mut rendered = Rendered::start(&consul);
    rendered.await_runs(&[0]);
    let cluster = Cluster::start_in(&consul, 1);
    rendered.await_runs(&[0, 1]);
    eventually(SOON, "the node is used", || rendered.status() == Some(404));
    let leave = |id: &str| {
        let path = format!("/v1/agent/service/deregister/{id}");
        consul.put(&path, &Value::Null);
    };
    register(&consul, "other", "127.0.0.1:1");
    rendered.await_runs(&[0, 1, 2]);
    leave("other");
    rendered.await_runs(&[0, 1, 2, 1]);
    register(&consul, "third", "127.0.0.1:2");
    rendered.await_runs(&[0, 1, 2, 1, 2]);

    let last = rendered.upstream();
    consul.kill();
    eventually(SOON, "it tells that Consul is away", || {
        rendered.read("told").contains("the last nodes stay")
    });
    assert_eq!(rendered.upstream(), last);
    assert_eq!(rendered.status(), Some(404), "the node is still used");
    // Empty at first, which is no news; then the node registers again, and the other is gone.
    consul.spawn();
    rendered.await_runs(&[0, 1, 2, 1, 2, 1]);
    assert!(rendered.upstream().contains(&cluster.nodes[0].client));

    let last = rendered.upstream();
    drop(cluster);
    rendered.end_program();
    eventually(SOON, "no node passes", || consul.passing().is_empty());
    rendered.watch(&consul);
    eventually(SOON, "it finds no node", || {
        rendered.read("told").contains("no node is READY")
    });
    assert_eq!(rendered.upstream(), last);
    register(&consul, "fourth", "127.0.0.1:3");
    rendered.await_runs(&[0, 1, 2, 1, 2, 1, 1]);
    assert_ne!(rendered.upstream(), last);
}
