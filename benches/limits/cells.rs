//! The measurements: every system in turn, all of it several times over.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::Outcome;
use super::process::{MachineTime, Processes, cpu_seconds, largest_rss};
use super::systems::{self, System};

/// What to do.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Whole seconds, at least 2, that a cell takes besides its preload and warm-up.
    pub(crate) seconds: u32,
    /// How often everything is measured.
    pub(crate) repeats: u32,
    /// The program whose nodes are measured, and whose `bench` measures.
    pub(crate) quorate: PathBuf,
}

/// One system under one load, once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Seconds of CPU of all the system's processes for a thousand operations.
    pub(crate) cpu_per_1000: f64,
    pub(crate) failed: f64,
    pub(crate) stolen: f64,
}

/// One repeat.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Repeat {
    pub(crate) echo_put: Cell,
    pub(crate) bare_put: Cell,
    pub(crate) put: Cell,
    pub(crate) echo_get: Cell,
    pub(crate) get: Cell,
    pub(crate) put_alone: Cell,
    pub(crate) get_alone: Cell,
}

/// All that was measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) repeats: Vec<Repeat>,
    /// MiB of the largest node once it held 10 000 keys, and at the end of all load.
    pub(crate) loaded_mib: f64,
    pub(crate) final_mib: f64,
}

/// A kind of load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    op: &'static str,
    connections: &'static str,
    keys: &'static str,
}

pub(crate) const PUT: Load = Load {
    op: "put",
    connections: "64",
    keys: "10000",
};
pub(crate) const GET: Load = Load { op: "get", ..PUT };
/// Writing 10 000 keys over one connection would take longer than measuring it.
const PUT_ALONE: Load = Load {
    op: "put",
    connections: "1",
    keys: "200",
};
const GET_ALONE: Load = Load {
    op: "get",
    ..PUT_ALONE
};

#[derive(Deserialize)]
struct Report {
    per_second: f64,
    failed: f64,
    latencies: Vec<Latencies>,
}

#[derive(Deserialize)]
struct Latencies {
    p50_ms: f64,
    p99_ms: f64,
}

/// Starts the systems, measures, and leaves ending them to the caller.
pub(crate) fn measure(plan: &Plan, dir: &Path, processes: &Processes) -> Outcome<Measured> {
    let cluster = systems::cluster(processes, dir, &plan.quorate, &[])?;
    let fill = Plan {
        seconds: 2,
        repeats: 1,
        quorate: plan.quorate.clone(),
    };
    cell(&fill, &cluster, GET)?;
    let loaded_mib = largest_rss(&cluster.ids)?;
    let echo = systems::echo(processes)?;
    let bare = systems::bare(processes, dir)?;
    let mut repeats = Vec::new();
    for _ in 0..plan.repeats {
        repeats.push(Repeat {
            echo_put: cell(plan, &echo, PUT)?,
            bare_put: cell(plan, &bare, PUT)?,
            put: cell(plan, &cluster, PUT)?,
            echo_get: cell(plan, &echo, GET)?,
            get: cell(plan, &cluster, GET)?,
            put_alone: cell(plan, &cluster, PUT_ALONE)?,
            get_alone: cell(plan, &cluster, GET_ALONE)?,
        });
    }
    Ok(Measured {
        repeats,
        loaded_mib,
        final_mib: largest_rss(&cluster.ids)?,
    })
}

/// Runs `quorate bench`. It says once a second how much it has done; the CPU time is taken from
/// its first such word to its last.
pub(crate) fn cell(plan: &Plan, system: &System, load: Load) -> Outcome<Cell> {
    let before = MachineTime::now()?;
    let mut bench = Command::new(&plan.quorate)
        .args(["bench", "-o", "json", "--value-size", "100"])
        .args(["--op", load.op, "--connections", load.connections])
        .args(["--keys", load.keys, "--seconds", &plan.seconds.to_string()])
        .args(["--endpoints", &system.endpoints.join(",")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (said, cpu) = listen(bench.stderr.take(), system)?;
    let mut report = String::new();
    if let Some(mut out) = bench.stdout.take() {
        out.read_to_string(&mut report)?;
    }
    if !bench.wait()?.success() {
        return Err(format!("a benchmark failed:\n{said}").into());
    }
    let report: Report = serde_json::from_str(&report)?;
    let latencies = report.latencies.first().ok_or("no latencies")?;
    Ok(Cell {
        per_second: report.per_second,
        p50_ms: latencies.p50_ms,
        p99_ms: latencies.p99_ms,
        cpu_per_1000: cpu,
        failed: report.failed,
        stolen: MachineTime::now()?.stolen_since(before),
    })
}

/// Everything that was said, and the CPU seconds for a thousand operations.
fn listen(progress: Option<impl Read>, system: &System) -> Outcome<(String, f64)> {
    let (mut said, mut first, mut last, mut done) = (String::new(), None, 0.0, 0.0);
    for line in progress
        .map(BufReader::new)
        .into_iter()
        .flat_map(BufRead::lines)
    {
        let line = line?;
        if let Some((count, _)) = line.trim().split_once("/s,") {
            last = cpu_seconds(&system.ids)?;
            match first {
                None => first = Some(last),
                Some(_) => done += count.parse::<f64>()?,
            }
        }
        said.push_str(&line);
        said.push('\n');
    }
    let cpu = last - first.unwrap_or(last);
    Ok((said, 1000.0 * cpu / done))
}
