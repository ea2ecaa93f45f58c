//! The command as a user runs it: exit codes, where settings come from, and development clusters
//! that end with their parent.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/process.rs"]
mod process;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use process::wait_until_gone;
use rustix::process::{Pid, Signal, kill_process};

fn quorate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("QUORATE_")) {
        command.env_remove(name);
    }
    command
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn flags_win_over_variables_and_those_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("quorate.toml");
    std::fs::write(&file, "name = \"in file\"\n").unwrap();
    let rows = [
        (None, None, "\"in file\""),
        (Some("in env"), None, "\"in env\""),
        (Some("in env"), Some("in flag"), "\"in flag\""),
        (None, Some("in flag"), "\"in flag\""),
    ];
    for (variable, flag, refused) in rows {
        let mut command = quorate();
        command.arg("server").env("QUORATE_CONFIG", &file);
        command.envs(variable.map(|value| ("QUORATE_NAME", value)));
        command.args(flag.map(|value| ["--name", value]).into_iter().flatten());
        let output = command.output().unwrap();
        let said = errors(&output);
        assert!(said.contains(refused), "{variable:?} {flag:?}: {said}");
        assert_eq!(output.status.code(), Some(2), "{said}");
    }
}

#[test]
fn exit_codes_tell_usage_from_failure() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    let rows: [(&[&str], i32); 11] = [
        (&["--version"], 0),
        (&["no-such-verb"], 2),
        (&["server", "--no-such-flag"], 2),
        (&["clock", "decode", "no clock"], 2),
        (&["get", ""], 2),
        (&["get", "k", "--endpoints", "http://127.0.0.1:1"], 2),
        (&["status", "--admin", "127.0.0.1"], 2),
        (&["bench", "--keys", "64", "--endpoints", &address], 1),
        (&["get", "k", "--endpoints", &address], 1),
        (&["status", "--admin", &address], 1),
        (&["health", "--client", &address], 1),
    ];
    for (args, want) in rows {
        let output = quorate().args(args).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(want),
            "{args:?}: {}",
            errors(&output)
        );
        let stdout_is_data = output.stdout.is_empty() || want == 0;
        assert!(stdout_is_data, "{args:?} wrote to standard output");
    }
}

/// A development cluster whose table has been printed.
struct Dev {
    process: Child,
    pids: Vec<u32>,
    rest: BufReader<ChildStdout>,
}

impl Dev {
    fn start(dir: &Path, nodes: u16) -> Self {
        let mut process = dev(dir, nodes, free_ports(nodes)).spawn().unwrap();
        let mut rest = BufReader::new(process.stdout.take().unwrap());
        let mut pids = Vec::new();
        loop {
            let mut line = String::new();
            assert!(
                rest.read_line(&mut line).unwrap() > 0,
                "dev ended: {pids:?}"
            );
            let cells: Vec<&str> = line.split_whitespace().collect();
            match cells[..] {
                [name, pid, _, _] if name.starts_with('n') => pids.push(pid.parse().unwrap()),
                ["Ctrl-C", ..] => {
                    return Self {
                        process,
                        pids,
                        rest,
                    };
                }
                _ => {}
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }
}

fn dev(dir: &Path, nodes: u16, base: u16) -> Command {
    let mut command = quorate();
    let (nodes, base) = (nodes.to_string(), base.to_string());
    command.args(["dev", "--nodes", &nodes, "--base-port", &base, "--dir"]);
    command
        .arg(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A base whose ports were all free a moment ago, below those the system hands out by itself, and
/// never the same one twice in this process.
fn free_ports(nodes: u16) -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let candidate = || {
        let n = std::process::id() + NEXT.fetch_add(1, Ordering::Relaxed);
        let base = 10_000 + u16::try_from(n % 500 * 40).unwrap();
        let mut ports = (0..nodes).flat_map(|i| (0..3).map(move |j| base + 10 * i + j));
        let free = ports.all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
        free.then_some(base)
    };
    (0..500).find_map(|_| candidate()).unwrap()
}

#[test]
fn a_development_cluster_ends_in_good_order_on_both_signals() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = tempfile::tempdir().unwrap();
        let mut dev = Dev::start(dir.path(), 2);
        assert_eq!(dev.pids.len(), 2);
        dev.signal(signal);
        assert!(dev.process.wait().unwrap().success());
        dev.pids.iter().for_each(|pid| wait_until_gone(*pid, 1));
        dev.rest.read_to_end(&mut Vec::new()).unwrap();
    }
}

#[test]
fn the_nodes_of_a_killed_development_cluster_end_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(dir.path(), 2);
    dev.signal(Signal::KILL);
    dev.process.wait().unwrap();
    dev.pids.iter().for_each(|pid| wait_until_gone(*pid, 40));
}

#[test]
fn a_node_that_dies_is_named_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(dir.path(), 2);
    let mut errors = BufReader::new(dev.process.stderr.take().unwrap());
    let second = Pid::from_raw(i32::try_from(dev.pids[1]).unwrap()).unwrap();
    kill_process(second, Signal::KILL).unwrap();
    let mut said = String::new();
    while !said.contains("n2 ended with signal: 9") {
        assert!(errors.read_line(&mut said).unwrap() > 0, "{said}");
    }
    assert!(Path::new(&format!("/proc/{}", dev.pids[0])).exists());
    dev.signal(Signal::TERM);
    assert!(dev.process.wait().unwrap().success());
}

#[test]
fn a_node_that_does_not_start_ends_the_cluster_with_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = dev(dir.path(), 2, free_ports(2));
    let output = command.args(["--", "--replicas", "0"]).output().unwrap();
    let said = errors(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("--replicas must be at least 1"), "{said}");
}

#[test]
fn a_port_that_is_taken_is_named_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let base = free_ports(2);
    let taken = TcpListener::bind(("127.0.0.1", base + 11)).unwrap();
    let output = dev(dir.path(), 2, base).output().unwrap();
    let said = errors(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let port = taken.local_addr().unwrap().port();
    assert!(said.contains(&format!("port {port}, n2's")), "{said}");
    assert!(!dir.path().join("n1.log").exists());
}
