//! `quorate verify`: are the promises kept? Clients write and read while faults happen; what they
//! saw is recorded, and checked afterwards.

mod answer;
mod asker;
mod check;
mod cluster;
mod crew;
mod finale;
mod history;
mod nemesis;
mod operator;
mod recorder;
mod relay;
mod repair;
mod report;
mod run;
mod schedule;
mod session;
mod strike;
mod workload;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::endpoints::{host_port, seconds};
use super::failure::Failure;
use super::output::{Format, OutputArgs, Streams, line};
use check::Verdict;
use history::History;
pub(super) use history::HistoryError;
use schedule::Kind;
use workload::Workload;

/// What `verify` takes.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    /// Checks a recorded history again, and runs nothing
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["endpoints", "nemesis", "nodes", "seed", "minutes", "dir", "history"]
    )]
    check: Option<PathBuf>,
    /// Client addresses of a cluster that is there; without them a cluster is started, and stopped
    #[arg(
        long,
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        value_parser = host_port,
        conflicts_with_all = ["nemesis", "nodes"]
    )]
    endpoints: Vec<String>,
    /// What the clients do
    #[arg(
        long,
        value_enum,
        ignore_case = true,
        value_delimiter = ',',
        value_name = "W1,…",
        default_value = "w1,w2,w3,w4,w5"
    )]
    workloads: Vec<Workload>,
    /// Which faults happen meanwhile, one after the other; none leaves the cluster alone
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "FAULT,…",
        default_value = "kill,pause"
    )]
    nemesis: Vec<Nemesis>,
    /// What all choices follow from [default: a random one, which is shown]
    #[arg(long)]
    seed: Option<u64>,
    /// How long the clients work
    #[arg(long, value_parser = minutes, conflicts_with = "seconds")]
    minutes: Option<Duration>,
    /// The same in seconds
    #[arg(long, value_parser = seconds, default_value = "60")]
    seconds: Duration,
    /// How many nodes are started
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// How many clients there are, spread over the workloads
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=500))]
    sessions: u32,
    /// How long the replicas may take to become equal after the last fault; 0 does not look
    #[arg(long, value_parser = seconds_or_none, default_value = "60", value_name = "SECONDS")]
    converge: Duration,
    /// How long after their first final reads the nodes are read again
    #[arg(long, value_parser = seconds, default_value = "20", value_name = "SECONDS")]
    settle: Duration,
    /// Where the nodes keep data and logs; it stays [default: a temporary one, which stays only if
    /// the run fails]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where the history is kept [default: history.jsonl in that directory]
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    /// Further flags of `quorate server`, for every node
    #[arg(last = true, value_name = "SERVER FLAGS")]
    flags: Vec<String>,
}

/// Which faults happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nemesis {
    /// None.
    None,
    /// One kind.
    Fault(Kind),
}

impl Nemesis {
    /// As it is typed.
    fn name(self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Fault(kind) => kind.name(),
        }
    }
}

impl clap::ValueEnum for Nemesis {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self::None,
            Self::Fault(Kind::Kill),
            Self::Fault(Kind::Pause),
            Self::Fault(Kind::Wipe),
            Self::Fault(Kind::RestartStorm),
            Self::Fault(Kind::Clock),
            Self::Fault(Kind::Partition),
            Self::Fault(Kind::Slow),
            Self::Fault(Kind::Lossy),
            Self::Fault(Kind::Join),
            Self::Fault(Kind::Leave),
            Self::Fault(Kind::Replace),
            Self::Fault(Kind::Forget),
            Self::Fault(Kind::KillDuringMove),
            Self::Fault(Kind::PartitionDuringMove),
        ]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        match self {
            Self::None => Some(clap::builder::PossibleValue::new("none").help("No fault at all")),
            Self::Fault(kind) => kind.to_possible_value(),
        }
    }
}

fn minutes(text: &str) -> Result<Duration, &'static str> {
    let minutes = text
        .parse::<f64>()
        .ok()
        .filter(|m| *m > 0.0 && *m <= 24.0 * 60.0);
    let minutes = minutes.ok_or("must be a number of minutes, more than 0 and at most a day")?;
    Ok(Duration::from_secs_f64(minutes * 60.0))
}

fn seconds_or_none(text: &str) -> Result<Duration, &'static str> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    seconds(text)
}

/// Runs, records, checks, says what was found.
pub(super) async fn run(args: Args, streams: &mut Streams<'_>) -> Result<(), Failure> {
    if let Some(path) = &args.check {
        return conclude(&read(path)?, args.output, streams);
    }
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    tokio::select! {
        result = run::run(args, streams) => result,
        _ = interrupt.recv() => Err(Failure::Interrupted),
        _ = terminate.recv() => Err(Failure::Interrupted),
    }
}

/// Reads a recorded history.
fn read(path: &Path) -> Result<History, Failure> {
    let failure = |source| Failure::File {
        path: path.to_owned(),
        source,
    };
    let mut history = History::default();
    let file = BufReader::new(File::open(path).map_err(failure)?);
    for (n, text) in file.lines().enumerate() {
        history.add_text(n + 1, &text.map_err(failure)?)?;
    }
    Ok(history)
}

/// Checks the history and shows the result.
fn conclude(
    history: &History,
    output: OutputArgs,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let report = check::check(history)?;
    match output.for_reports(streams) {
        Format::Json => line(streams.data, &report::json(&report, history)?)?,
        Format::Table => report::text(streams.data, &report, history)?,
    }
    streams.data.flush()?;
    match report.verdict {
        Verdict::Ok => Ok(()),
        Verdict::Violated => Err(Failure::Violated(report.violations.len())),
        Verdict::Void => Err(Failure::Void),
    }
}
