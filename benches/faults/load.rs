//! A load at an even rate while something happens, second by second.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStderr, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Outcome, bench};

/// It says for the first time how far it is when so much of what counts is over.
const FIRST_WORD: Duration = Duration::from_millis(500);

/// One that is under way.
pub(crate) struct Load {
    bench: Child,
    words: Lines<BufReader<ChildStderr>>,
    first_word: Instant,
}

/// One second of the load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Second {
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) p99_ms: f64,
}

impl Load {
    /// Starts one, and waits until it counts.
    pub(crate) fn start(endpoints: &[String], flags: &str) -> Outcome<Self> {
        let mut bench = bench(endpoints, flags)?.stderr(Stdio::piped()).spawn()?;
        let words = bench.stderr.take().map(BufReader::new).ok_or("no words")?;
        let mut words = words.lines();
        let mut said = words.by_ref().map_while(Result::ok);
        said.find(|word| word.contains("/s,"));
        Ok(Self {
            bench,
            words,
            first_word: Instant::now(),
        })
    }

    /// How much of what counts is over.
    pub(crate) fn elapsed(&self) -> Duration {
        FIRST_WORD + self.first_word.elapsed()
    }

    /// Waits until so much of it is.
    pub(crate) fn wait_until(&self, due: Duration) {
        sleep(due.saturating_sub(self.elapsed()));
    }

    /// Waits for its end.
    pub(crate) fn finish(self) -> Outcome<Vec<Second>> {
        self.words.map_while(Result::ok).for_each(drop);
        let output = self.bench.wait_with_output()?;
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let seconds = report["timeline"].as_array().ok_or("no timeline")?;
        Ok(seconds.iter().map(second).collect())
    }
}

fn second(moment: &Value) -> Second {
    Second {
        done: moment["operations"].as_u64().unwrap_or(0),
        failed: moment["failed"].as_u64().unwrap_or(0),
        p99_ms: moment["p99_ms"].as_f64().unwrap_or(f64::NAN),
    }
}

/// The median of the seconds' percentiles: one second in which the machine was busy elsewhere says
/// nothing.
pub(crate) fn median(seconds: &[Second]) -> f64 {
    let mut all: Vec<f64> = seconds.iter().map(|second| second.p99_ms).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}
