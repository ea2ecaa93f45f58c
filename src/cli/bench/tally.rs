//! What was measured.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::super::output::table;

/// Latencies are kept in microseconds, up to an hour, to three digits.
const LONGEST_US: u64 = 3_600_000_000;
const DIGITS: u8 = 3;

/// Latencies of a single second, which are few, need no more.
const SECOND_DIGITS: u8 = 2;

/// The two kinds of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Put,
    Get,
}

/// Everything that is counted while a benchmark runs.
pub(super) struct Tally {
    put: Histogram<u64>,
    get: Histogram<u64>,
    errors: BTreeMap<String, u64>,
    unsent: u64,
    done: u64,
    seconds: Vec<Second>,
}

/// What was asked for in one second, whenever it was answered.
struct Second {
    latencies: Histogram<u64>,
    failed: u64,
}

/// What a benchmark found. Throughput counts what succeeded.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) seconds: f64,
    pub(super) operations: u64,
    pub(super) per_second: f64,
    pub(super) failed: u64,
    /// By status, or by what happened to the connection.
    pub(super) errors: BTreeMap<String, u64>,
    /// Due in time and never sent, because their connection was still busy at the end.
    pub(super) unsent: u64,
    pub(super) latencies: Vec<Latencies>,
    /// Second by second, both kinds together, by when an operation was due.
    pub(super) timeline: Vec<Moment>,
}

/// One second of a benchmark.
#[derive(Debug, Serialize)]
pub(super) struct Moment {
    /// From the beginning; 0 is the first.
    pub(super) second: usize,
    pub(super) operations: u64,
    pub(super) failed: u64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
}

/// How long one kind of operation took.
#[derive(Debug, Serialize)]
pub(super) struct Latencies {
    pub(super) op: &'static str,
    pub(super) operations: u64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    #[serde(rename = "p99.9_ms")]
    pub(super) p999_ms: f64,
    pub(super) max_ms: f64,
}

impl Second {
    #[expect(
        clippy::expect_used,
        reason = "the bounds are constants, and a test makes one"
    )]
    fn new() -> Self {
        let latencies = Histogram::new_with_bounds(1, LONGEST_US, SECOND_DIGITS);
        Self {
            latencies: latencies.expect("the bounds are valid"),
            failed: 0,
        }
    }

    fn moment(&self, second: usize) -> Moment {
        let Latencies {
            operations,
            p50_ms,
            p99_ms,
            max_ms,
            ..
        } = latencies("", &self.latencies);
        Moment {
            second,
            operations,
            failed: self.failed,
            p50_ms,
            p99_ms,
            max_ms,
        }
    }
}

impl Tally {
    #[expect(
        clippy::expect_used,
        reason = "the bounds are constants, and a test makes a tally of them"
    )]
    pub(super) fn new() -> Self {
        let histogram =
            Histogram::new_with_bounds(1, LONGEST_US, DIGITS).expect("the bounds are valid");
        Self {
            put: histogram.clone(),
            get: histogram,
            errors: BTreeMap::new(),
            unsent: 0,
            done: 0,
            seconds: Vec::new(),
        }
    }

    /// An operation that succeeded; it was due so long after the beginning.
    pub(super) fn success(&mut self, kind: Kind, due: Duration, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let histogram = match kind {
            Kind::Put => &mut self.put,
            Kind::Get => &mut self.get,
        };
        histogram.saturating_record(micros.max(1));
        self.done += 1;
        let latencies = &mut self.second(due).latencies;
        latencies.saturating_record(micros.max(1));
    }

    /// One that did not; before the beginning it belongs to no second.
    pub(super) fn error(&mut self, due: Option<Duration>, what: String) {
        *self.errors.entry(what).or_default() += 1;
        if let Some(due) = due {
            self.second(due).failed += 1;
        }
    }

    fn second(&mut self, due: Duration) -> &mut Second {
        let at = usize::try_from(due.as_secs()).unwrap_or(usize::MAX);
        while self.seconds.len() <= at {
            self.seconds.push(Second::new());
        }
        #[expect(clippy::indexing_slicing, reason = "it was made above")]
        &mut self.seconds[at]
    }

    /// Operations that were due and never sent.
    pub(super) fn unsent(&mut self, count: u64) {
        self.unsent += count;
    }

    /// Successes and errors so far.
    pub(super) fn progress(&self) -> (u64, u64) {
        (self.done, self.errors.values().sum())
    }

    /// The errors so far, which are then forgotten.
    pub(super) fn take_errors(&mut self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.errors)
    }

    pub(super) fn report(&self, over: Duration) -> Report {
        let kinds = [("put", &self.put), ("get", &self.get)];
        let measured = kinds.into_iter().filter(|(_, h)| !h.is_empty());
        let seconds = over.as_secs_f64();
        Report {
            seconds,
            operations: self.done,
            per_second: hundredths(as_float(self.done) / seconds),
            failed: self.errors.values().sum(),
            errors: self.errors.clone(),
            unsent: self.unsent,
            latencies: measured.map(|(op, h)| latencies(op, h)).collect(),
            timeline: (self.seconds.iter().enumerate())
                .map(|(n, second)| second.moment(n))
                .collect(),
        }
    }
}

fn latencies(op: &'static str, of: &Histogram<u64>) -> Latencies {
    let at = |quantile| as_float(of.value_at_quantile(quantile)) / 1000.0;
    Latencies {
        op,
        operations: of.len(),
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        p999_ms: at(0.999),
        max_ms: as_float(of.max()) / 1000.0,
    }
}

fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts and microseconds of a benchmark are far below 2^52"
)]
fn as_float(number: u64) -> f64 {
    number as f64
}

impl Report {
    /// Writes it for people, every second for itself if that is wanted.
    pub(super) fn table(&self, timeline: bool, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "{:.0} operations/s over {} s",
            self.per_second, self.seconds
        )?;
        let head = ["OP", "COUNT", "P50 MS", "P99 MS", "P99.9 MS", "MAX MS"].map(str::to_owned);
        let mut rows = vec![head.to_vec()];
        for l in &self.latencies {
            let times = [l.p50_ms, l.p99_ms, l.p999_ms, l.max_ms].map(|ms| format!("{ms:.2}"));
            let mut row = vec![l.op.to_owned(), l.operations.to_string()];
            row.extend(times);
            rows.push(row);
        }
        table(out, &rows)?;
        for (what, count) in &self.errors {
            writeln!(out, "{count} × {what}")?;
        }
        if self.unsent > 0 {
            writeln!(out, "{} were due and never sent", self.unsent)?;
        }
        if timeline {
            self.seconds(out)?;
        }
        Ok(())
    }

    fn seconds(&self, out: &mut dyn Write) -> io::Result<()> {
        let head = ["SECOND", "COUNT", "FAILED", "P50 MS", "P99 MS", "MAX MS"].map(str::to_owned);
        let mut rows = vec![head.to_vec()];
        for m in &self.timeline {
            let mut row = vec![m.second.to_string()];
            row.extend([m.operations, m.failed].map(|n| n.to_string()));
            row.extend([m.p50_ms, m.p99_ms, m.max_ms].map(|ms| format!("{ms:.2}")));
            rows.push(row);
        }
        table(out, &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_successes_and_names_errors() {
        let mut tally = Tally::new();
        for ms in 1..=1000 {
            let due = Duration::from_secs(if ms > 900 { 2 } else { 0 });
            tally.success(Kind::Put, due, Duration::from_millis(ms));
        }
        tally.error(None, "503".to_owned());
        tally.error(Some(Duration::from_millis(1999)), "503".to_owned());
        tally.unsent(3);
        assert_eq!(tally.progress(), (1000, 2));
        let report = tally.report(Duration::from_secs(4));
        assert_eq!(
            (report.operations, report.failed, report.unsent),
            (1000, 2, 3)
        );
        assert!((report.per_second - 250.0).abs() < 0.01);
        let p99s: Vec<f64> = report.timeline.iter().map(|m| m.p99_ms.round()).collect();
        for (got, want) in p99s.iter().zip([891.0, 0.0, 999.0]) {
            assert!((got - want).abs() <= want / 50.0, "{got}, not {want}");
        }
        let [puts] = &report.latencies[..] else {
            panic!("{report:?}");
        };
        for (got, want) in [
            (puts.p50_ms, 500.0),
            (puts.p99_ms, 990.0),
            (puts.p999_ms, 999.0),
            (puts.max_ms, 1000.0),
        ] {
            assert!((got - want).abs() < want / 500.0, "{got}, not {want}");
        }
        let mut out = Vec::new();
        report.table(true, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for part in [
            "250 operations/s over 4 s",
            "\nput  1000",
            "2 × 503",
            "3 were due",
            "\n0       900    0       ",
            "\n1       0      1       0.00    0.00    0.00",
            "\n2       100    0       ",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn latencies_beyond_all_bounds_are_kept_at_the_bound() {
        let mut tally = Tally::new();
        for took in [0, 100_000] {
            tally.success(Kind::Get, Duration::ZERO, Duration::from_secs(took));
        }
        assert_eq!(tally.report(Duration::from_secs(1)).operations, 2);
    }
}
