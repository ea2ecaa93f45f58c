//! Rule 5: whether a run could have shown a broken promise at all.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::super::history::{Action, History, Operation, Outcome, Phase};

/// Of the operations while a fault is there, so many of a hundred must have a known result.
const DETERMINATE_IN_FAULTS: usize = 30;

/// Of all operations, so many.
const DETERMINATE: usize = 90;

/// What there was to check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(in super::super) struct Counts {
    /// Keys.
    pub(in super::super) keys: usize,
    /// All operations but the final reads.
    pub(in super::super) operations: usize,
    /// Those that were done,
    pub(in super::super) ok: usize,
    /// those surely not done,
    pub(in super::super) fail: usize,
    /// and those of which nobody knows.
    pub(in super::super) info: usize,
    /// Operations while a fault was there,
    pub(in super::super) in_faults: usize,
    /// and those of them whose result is known.
    pub(in super::super) determinate_in_faults: usize,
    /// Acknowledged creates, puts and deletes.
    pub(in super::super) acked_writes: usize,
    /// Strict reads that were answered.
    pub(in super::super) strict_reads: usize,
    /// Final reads that were answered.
    pub(in super::super) final_reads: usize,
    /// Faults that bit, by kind.
    pub(in super::super) faults: BTreeMap<String, usize>,
}

impl Counts {
    /// Counts a history.
    pub(super) fn of(history: &History) -> Self {
        let keys: BTreeSet<&str> = history.operations.iter().map(|o| o.key.as_str()).collect();
        let mut out = Self {
            keys: keys.len(),
            ..Self::default()
        };
        for operation in &history.operations {
            out.add(operation);
        }
        for fault in history.faults.iter().filter(|f| f.bit) {
            *out.faults.entry(fault.kind.clone()).or_default() += 1;
        }
        out
    }

    fn add(&mut self, operation: &Operation) {
        if operation.is_final() {
            self.final_reads += usize::from(operation.is_read());
            return;
        }
        self.operations += 1;
        match operation.result {
            Outcome::Ok => self.ok += 1,
            Outcome::Fail => self.fail += 1,
            Outcome::Info => self.info += 1,
        }
        if operation.phase == Phase::Faults {
            self.in_faults += 1;
            self.determinate_in_faults += usize::from(operation.result != Outcome::Info);
        }
        self.acked_writes += usize::from(operation.is_acked());
        self.strict_reads += usize::from(operation.is_read() && operation.strict);
    }
}

/// The reasons why the run shows nothing.
pub(super) fn check(history: &History) -> Vec<String> {
    let counts = Counts::of(history);
    let mut out = Vec::new();
    if counts.acked_writes == 0 {
        out.push("no write was acknowledged".to_owned());
    }
    let wanted = history.run.iter().flat_map(|run| &run.faults);
    for fault in wanted.filter(|f| !counts.faults.contains_key(*f)) {
        out.push(format!("the fault {fault} did not bite"));
    }
    let determinate = counts.ok + counts.fail;
    if is_below(determinate, counts.operations, DETERMINATE) {
        let all = counts.operations;
        out.push(format!(
            "only {determinate} of {all} operations have a known result: less than {DETERMINATE} %"
        ));
    }
    if is_below(
        counts.determinate_in_faults,
        counts.in_faults,
        DETERMINATE_IN_FAULTS,
    ) {
        let (known, all) = (counts.determinate_in_faults, counts.in_faults);
        out.push(format!(
            "only {known} of {all} operations during faults have a known result: less than \
             {DETERMINATE_IN_FAULTS} %"
        ));
    }
    let unread = unread(history);
    if let Some((key, endpoint)) = unread.first() {
        let n = unread.len();
        out.push(format!(
            "{n} final reads are missing, the first of key {key} at {endpoint}"
        ));
    }
    out
}

fn is_below(part: usize, whole: usize, percent: usize) -> bool {
    part * 100 < whole * percent
}

/// The final reads that should be there and are not: of every written key, from every node, twice.
fn unread(history: &History) -> Vec<(&str, &str)> {
    let finals = || history.operations.iter().filter(|o| o.is_final());
    let mut nodes: BTreeSet<&str> = finals().map(|o| o.endpoint.as_str()).collect();
    if nodes.is_empty() {
        nodes.insert("any node");
    }
    let answered = finals().filter(|o| o.is_read());
    let answered: BTreeSet<(&str, &str, Phase)> = answered
        .map(|o| (o.key.as_str(), o.endpoint.as_str(), o.phase))
        .collect();
    let written = history.operations.iter().filter(|o| o.op != Action::Get);
    let written: BTreeSet<&str> = written.map(|o| o.key.as_str()).collect();
    let mut out = Vec::new();
    for key in written {
        for &node in &nodes {
            for round in [Phase::Final1, Phase::Final2] {
                if !answered.contains(&(key, node, round)) {
                    out.push((key, node));
                }
            }
        }
    }
    out
}
