//! `quorate verify`: are the promises kept? Clients write and read while faults happen; what they
//! saw is recorded, and checked afterwards.

mod check;
mod history;
mod report;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::failure::Failure;
use super::output::{Format, OutputArgs, Streams, line};
use check::Verdict;
use history::History;
pub(super) use history::HistoryError;

/// What `verify` takes.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    /// Checks a recorded history again, and runs nothing
    #[arg(long, value_name = "FILE")]
    check: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs, records, checks, says what was found.
pub(super) fn run(args: &Args, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let history = read(&args.check)?;
    conclude(&history, args.output, streams)
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
