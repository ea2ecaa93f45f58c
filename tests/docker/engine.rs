//! A Docker Engine of one's own: a daemon in a network namespace, which stands for a host, with its
//! own directories. It is asked by the clients that belong to it, and ends with the test.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::eventually;
use crate::support::netns::Network;
use crate::support::process::pause;
use crate::support::tools::tool;

const STARTED: Duration = Duration::from_secs(30);
/// How often to look whether the daemon has ended: for half a minute.
const LOOKS: u32 = 1_500;

/// A host with Docker.
pub(crate) struct Engine {
    /// Where other hosts reach it.
    pub(crate) address: String,
    namespace: String,
    daemon: Child,
    dir: TempDir,
}

impl Engine {
    /// Starts the daemon in the namespace of this node of the network.
    pub(crate) fn start(network: &Network, node: usize) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let namespace = network.file(node);
        let daemon = daemon(dir.path(), &namespace);
        let engine = Self {
            address: Network::address(node),
            namespace,
            daemon,
            dir,
        };
        let answers = || engine.ask(&["version"]).status.success();
        eventually(STARTED, "the Docker Engine answers", answers);
        engine
    }

    /// The output of a `docker` command that must succeed.
    pub(crate) fn docker(&self, args: &[&str]) -> String {
        succeeded("docker", args, &self.ask(args))
    }

    /// What a `docker` command says.
    pub(crate) fn ask(&self, args: &[&str]) -> Output {
        let mut command = self.client("docker");
        command.args(args).output().expect("the docker client")
    }

    /// The command line of `docker` or `docker-compose`, for this engine.
    pub(crate) fn client(&self, program: &str) -> Command {
        let mut command = Command::new(tool(program));
        self.told_to(&mut command);
        command
    }

    /// Has a program ask this engine, if it asks any.
    pub(crate) fn told_to(&self, command: &mut Command) {
        command.env("DOCKER_HOST", self.host());
        command.env("DOCKER_CONFIG", self.dir.path().join("config"));
        // What also those have who have not installed BuildKit.
        command.env("DOCKER_BUILDKIT", "0");
        command.stdin(Stdio::null());
    }

    /// The output of a program that runs on the host, beside the containers.
    pub(crate) fn on_host(&self, program: &str, args: &[&str]) -> String {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.namespace))
            .arg(program);
        let output = command.args(args).output().expect("nsenter, of util-linux");
        succeeded(program, args, &output)
    }

    /// A directory that goes with the engine.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("socket").display())
    }
}

/// The output, if the program succeeded.
pub(crate) fn succeeded(program: &str, args: &[impl AsRef<OsStr>], output: &Output) -> String {
    let args: Vec<_> = args.iter().map(AsRef::as_ref).collect();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Not `ip netns exec`, which hides the control groups; and told to end when this thread does.
fn daemon(dir: &Path, namespace: &str) -> Child {
    let at = |name: &str| dir.join(name);
    let log = File::create(at("log")).expect("a log file");
    let tools = tool("dockerd");
    let tools = tools.parent().expect("the directory of the tools");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "TERM", "nsenter"])
        .arg(format!("--net={namespace}"))
        .arg(tool("dockerd"))
        .args(["--bridge", "none", "--shutdown-timeout", "3"])
        .args([
            "--containerd-namespace",
            &format!("quorate{}", std::process::id()),
        ])
        .arg("--data-root")
        .arg(at("data"))
        .arg("--exec-root")
        .arg(at("exec"))
        .arg("--pidfile")
        .arg(at("pid"))
        .arg("--host")
        .arg(format!("unix://{}", at("socket").display()))
        .env("PATH", format!("{}:{path}", tools.display()))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log);
    command.spawn().expect("setpriv, of util-linux")
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.scratch("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(15)..);
            eprintln!(
                "--- the Docker Engine's log:\n{}",
                tail.unwrap_or_default().join("\n")
            );
        }
        // Killed, so that the daemon need not wait for each of them.
        let running = self.ask(&["ps", "--quiet"]);
        let running = String::from_utf8_lossy(&running.stdout).into_owned();
        let mut kill = vec!["kill"];
        kill.extend(running.split_whitespace());
        if kill.len() > 1 {
            drop(self.ask(&kill));
        }
        let asked = kill_process(Pid::from_child(&self.daemon), Signal::TERM);
        let mut looks = 0;
        while asked.is_ok() && looks < LOOKS && matches!(self.daemon.try_wait(), Ok(None)) {
            looks += 1;
            pause();
        }
        if !matches!(self.daemon.try_wait(), Ok(Some(_))) {
            drop(self.daemon.kill());
            drop(self.daemon.wait());
        }
    }
}
