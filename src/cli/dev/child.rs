//! One node's process.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::available_parallelism;

use rustix::process::{Pid, Signal, kill_process};

use super::Failure;
use super::layout::Node;

/// How much of a dead node's log is shown.
const TAIL_LINES: usize = 20;

/// Settings that would make every node the same one, or another than the layout says.
const NOT_INHERITED: [&str; 6] = [
    "QUORATE_CONFIG",
    "QUORATE_BOOTSTRAP_EXPECT",
    "QUORATE_ADVERTISE_CLIENT",
    "QUORATE_ADVERTISE_ADMIN",
    "QUORATE_ADVERTISE_PEER",
    "QUORATE_DATA_DIR",
];

/// A node's process. Its standard input is ours to hold: when we end, however that happens, it ends
/// too, and so does the node.
pub(in crate::cli) struct Child {
    process: std::process::Child,
    name: String,
    client: String,
    admin: String,
    log: PathBuf,
    /// Where this start's lines begin.
    log_start: usize,
}

impl Child {
    /// Starts a node that knows all nodes.
    pub(in crate::cli) fn start(
        node: &Node,
        all: &[Node],
        flags: &[String],
    ) -> Result<Self, Failure> {
        let all: Vec<&Node> = all.iter().collect();
        Self::start_with(node, &all, flags, &[])
    }

    /// Starts one that knows these nodes, with these variables in its environment.
    pub(in crate::cli) fn start_with(
        node: &Node,
        all: &[&Node],
        flags: &[String],
        variables: &[(&str, String)],
    ) -> Result<Self, Failure> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| Failure::File { path, source }
        };
        fs::create_dir_all(&node.dir).map_err(file(&node.dir))?;
        let log = open_log(&node.log).map_err(file(&node.log))?;
        let log_start = log.metadata().map_err(file(&node.log))?.len();
        let again = log.try_clone().map_err(file(&node.log))?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(arguments(node, all))
            .args(flags)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(again);
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        for (name, value) in defaults(all.len()) {
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        Ok(Self {
            process: command.spawn()?,
            name: node.name.clone(),
            client: address(node.client),
            admin: address(node.admin),
            log: node.log.clone(),
            log_start: usize::try_from(log_start).unwrap_or(usize::MAX),
        })
    }

    pub(in crate::cli) fn name(&self) -> &str {
        &self.name
    }

    pub(in crate::cli) fn client(&self) -> &str {
        &self.client
    }

    pub(in crate::cli) fn admin(&self) -> &str {
        &self.admin
    }

    pub(in crate::cli) fn log(&self) -> &Path {
        &self.log
    }

    /// Name, process id, client and admin address.
    pub(in crate::cli) fn row(&self) -> Vec<String> {
        let pid = self.process.id().to_string();
        vec![
            self.name.clone(),
            pid,
            self.client.clone(),
            self.admin.clone(),
        ]
    }

    /// How it ended, if it has.
    pub(in crate::cli) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.process.try_wait()
    }

    /// Its process id, while it is ours to know.
    pub(in crate::cli) fn pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.process.id()).ok()?)
    }

    /// Asks it to end in good order. It may have ended already.
    pub(in crate::cli) fn ask_to_end(&mut self) -> io::Result<()> {
        self.signal(Signal::TERM).map(drop)
    }

    /// Sends it a signal; `false` if it had ended.
    pub(in crate::cli) fn signal(&mut self, signal: Signal) -> io::Result<bool> {
        let runs = self.ended()?.is_none();
        if runs {
            kill_process(Pid::from_child(&self.process), signal)?;
        }
        Ok(runs)
    }

    /// Ends it at once; `false` if it had ended.
    pub(in crate::cli) fn kill(&mut self) -> io::Result<bool> {
        if self.ended()?.is_some() {
            return Ok(false);
        }
        self.process.kill()?;
        self.process.wait()?;
        Ok(true)
    }

    /// The failure that its end is, with the last lines it wrote.
    pub(in crate::cli) fn died(&self, status: ExitStatus) -> Failure {
        match fs::read(&self.log) {
            Ok(bytes) => Failure::NodeDied {
                name: self.name.clone(),
                status,
                log: self.log.clone(),
                tail: tail(bytes.get(self.log_start..).unwrap_or_default()),
            },
            Err(source) => Failure::File {
                path: self.log.clone(),
                source,
            },
        }
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// What fits a development node unless its user says otherwise, by variable or by flag.
fn defaults(nodes: usize) -> [(&'static str, String); 3] {
    let cores = available_parallelism().map_or(1, usize::from);
    let workers = (cores / nodes.max(1)).max(1);
    [
        ("QUORATE_WORKERS", workers.to_string()),
        ("QUORATE_LOG_FORMAT", "text".to_owned()),
        // Nobody puts these logs away, and a benchmark would fill the disk.
        ("QUORATE_LOG_ACTIONS", "no".to_owned()),
    ]
}

/// The same for every start, so that a second one goes on where the first ended.
fn arguments(node: &Node, all: &[&Node]) -> Vec<std::ffi::OsString> {
    let seeds = all.iter().map(|n| address(n.relay.unwrap_or(n.peer)));
    let seeds: Vec<String> = seeds.collect();
    let advertised = node.relay.map(|port| ("--advertise-peer", address(port)));
    let text = [
        ("--name", node.name.clone()),
        ("--client", address(node.client)),
        ("--admin", address(node.admin)),
        ("--peer", address(node.peer)),
        ("--seeds", seeds.join(",")),
    ];
    let mut out = vec!["server".into(), "--exit-with-stdin".into()];
    out.extend(["--data-dir".into(), node.dir.clone().into_os_string()]);
    for (flag, value) in text.into_iter().chain(advertised) {
        out.extend([flag.into(), value.into()]);
    }
    out
}

fn tail(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log);
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(TAIL_LINES);
    let shown = lines
        .into_iter()
        .skip(skipped)
        .map(|line| format!("  {line}"));
    shown.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::layout::layout;
    use super::*;

    #[test]
    fn every_node_is_told_of_all_nodes_itself_included() {
        let nodes = layout(2, 9000, Path::new("d")).unwrap();
        let arguments = arguments(&nodes[1], &nodes.iter().collect::<Vec<_>>());
        let text: Vec<&str> = arguments.iter().map(|a| a.to_str().unwrap()).collect();
        let line = text.join(" ");
        for part in [
            "server --exit-with-stdin --data-dir d/n2 --name n2",
            "--client 127.0.0.1:9010 --admin 127.0.0.1:9011 --peer 127.0.0.1:9012",
            "--seeds 127.0.0.1:9002,127.0.0.1:9012",
        ] {
            assert!(line.contains(part), "{line}");
        }
    }

    #[test]
    fn the_end_of_a_log_is_its_last_lines() {
        let lines: Vec<String> = (0..30).map(|n| n.to_string()).collect();
        let shown = tail(lines.join("\n").as_bytes());
        assert_eq!(shown.lines().count(), TAIL_LINES);
        assert!(
            shown.starts_with("  10\n") && shown.ends_with("\n  29"),
            "{shown}"
        );
        assert_eq!(tail(b"\xff"), "  \u{fffd}");
    }
}
