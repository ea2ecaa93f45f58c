//! What faults cost: how a cluster of five serves while one node is dead, stopped or slow, and how
//! long the replicas take to become equal again, and how it serves while members change. `make
//! faults` runs it; it fails if a bound of the promises P8, P9 and P10 is missed.

#![allow(
    clippy::disallowed_methods,
    reason = "other processes live in real time"
)]
#![allow(
    clippy::indexing_slicing,
    reason = "JSON is indexed by name, and what is not there is null"
)]

mod availability;
mod convergence;
mod load;
mod membership;
mod nodes;
mod witness;

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Whatever goes wrong ends the run and is shown.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let kept = match words[..] {
        ["availability"] => availability::measure()?,
        ["convergence"] => convergence::measure()?,
        ["membership"] => membership::measure()?,
        [] => [
            convergence::measure()?,
            availability::measure()?,
            membership::measure()?,
        ]
        .iter()
        .all(|kept| *kept),
        _ => return Err("usage: faults [availability|convergence|membership]".into()),
    };
    if kept {
        Ok(())
    } else {
        Err("a bound was missed".into())
    }
}

/// A line of the report, at once.
fn tell(line: &str) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// `target/release/examples/faults` finds `target/release/quorate`.
fn quorate() -> Outcome<PathBuf> {
    let mut path = std::env::current_exe()?;
    path.pop();
    path.pop();
    Ok(path.join("quorate"))
}

/// `quorate bench`, ready to run.
fn bench(endpoints: &[String], flags: &str) -> Outcome<Command> {
    let mut bench = Command::new(quorate()?);
    bench
        .args(["bench", "-o", "json", "--endpoints", &endpoints.join(",")])
        .args(flags.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    Ok(bench)
}

/// Runs it to its end.
fn run(mut bench: Command) -> Outcome<Value> {
    let output = bench.output()?;
    if !output.status.success() {
        return Err(format!("a benchmark failed: {bench:?}").into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
