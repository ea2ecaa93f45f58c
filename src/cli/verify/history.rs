//! What is recorded of a run: one JSON object a line, enough to check the run again later, by
//! anybody.

use serde::{Deserialize, Serialize};

/// A history that cannot be checked.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum HistoryError {
    /// Not a line of a history.
    #[error("line {line} is not of a history: {source}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Values must be unique, or nobody can tell who wrote what.
    #[error("operation {operation} writes the value {value} to {key} a second time")]
    ValueTwice {
        /// The second one.
        operation: u64,
        /// Where.
        key: String,
        /// What.
        value: String,
    },
    /// A create or put must say what it wrote.
    #[error("operation {operation} is a write without a value")]
    NoValue {
        /// Which.
        operation: u64,
    },
    /// A clock is named by the operation whose answer carried it.
    #[error("operation {operation} uses the clock of operation {clock}, which is none of its key")]
    NoSuchClock {
        /// Which uses it.
        operation: u64,
        /// Which should have returned it.
        clock: u64,
    },
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub(super) enum Line {
    /// The first: what was run.
    Run(Run),
    /// A client's operation.
    Op(Operation),
    /// A fault that is over.
    Fault(Fault),
    /// What became of the replicas once all was well again.
    Convergence(Convergence),
    /// What became of the ring once nothing failed any more.
    Rest(Rest),
}

/// What was run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    /// What the choices follow from.
    pub(super) seed: u64,
    /// The command that does it again.
    pub(super) command: String,
    /// The kinds of faults that had to happen.
    #[serde(default)]
    pub(super) faults: Vec<String>,
}

/// A client's operation. Times are microseconds since the run began, by one monotonic clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Operation {
    /// Unique in the history.
    pub(super) id: u64,
    /// Which client: its operations follow each other.
    pub(super) session: u32,
    /// The node it was sent to.
    pub(super) endpoint: String,
    /// When in the run.
    pub(super) phase: Phase,
    /// On what.
    pub(super) key: String,
    /// What was asked for.
    pub(super) op: Action,
    /// Whether only owners were to serve.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) strict: bool,
    /// What was written: the name of a value, unique in the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<String>,
    /// The operation whose answer carried the clock that was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) clock: Option<u64>,
    /// When it was sent.
    pub(super) invoked: u64,
    /// When its answer was there, or when it was given up.
    pub(super) completed: u64,
    /// What is known of its effect.
    pub(super) result: Outcome,
    /// What exactly was answered, or why nothing was.
    pub(super) answer: String,
    /// Of the acknowledgements, how many came from stand-ins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hinted: Option<u32>,
    /// The values that the answer showed; empty if it showed that there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) values: Option<Vec<String>>,
    /// The clock of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<String>,
}

/// When in the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// No fault is there.
    Calm,
    /// At least one is.
    Faults,
    /// Everything is healed and had time to converge: the final reads, first …
    Final1,
    /// … and second.
    Final2,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Action {
    /// A read.
    Get,
    /// A write of a key without a value.
    Post,
    /// A write.
    Put,
    /// A delete, with or without a clock.
    Delete,
}

/// What is known of an operation's effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// Done.
    Ok,
    /// Not done, never: 4xx, `not_applied`, or nothing was sent.
    Fail,
    /// Nobody knows.
    Info,
}

/// A fault that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fault {
    /// Which kind.
    pub(super) kind: String,
    /// Whom it hit.
    pub(super) target: String,
    /// When it began, in microseconds.
    pub(super) from: u64,
    /// When it ended.
    pub(super) until: u64,
    /// Whether it did what it should.
    pub(super) bit: bool,
    /// The part that the node had which was killed in the middle of a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<String>,
    /// How far the change had come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) moment: Option<String>,
}

/// What became of the replicas once all was well again, asked one by one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Convergence {
    /// How long until all owners of each key held the same, in microseconds, or for how long it
    /// was waited in vain.
    pub(super) after: u64,
    /// The keys whose owners still did not.
    pub(super) differing: Vec<String>,
}

/// What became of the ring once nothing failed any more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rest {
    /// How long until nothing moved, in microseconds, or for how long it was waited in vain.
    pub(super) after: u64,
    /// What went on all the same, in words.
    pub(super) restless: Vec<String>,
}

/// All that is known of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct History {
    /// Absent in histories written by hand.
    pub(super) run: Option<Run>,
    /// In any order.
    pub(super) operations: Vec<Operation>,
    /// In any order.
    pub(super) faults: Vec<Fault>,
    /// Absent if nobody looked.
    pub(super) convergence: Option<Convergence>,
    /// Absent if nobody looked.
    pub(super) rest: Option<Rest>,
}

impl History {
    /// Takes one more line.
    pub(super) fn add(&mut self, line: Line) {
        match line {
            Line::Run(run) => self.run = Some(run),
            Line::Op(operation) => self.operations.push(operation),
            Line::Fault(fault) => self.faults.push(fault),
            Line::Convergence(convergence) => self.convergence = Some(convergence),
            Line::Rest(rest) => self.rest = Some(rest),
        }
    }

    /// Takes one more line of text, the `number`-th of its file.
    pub(super) fn add_text(&mut self, number: usize, text: &str) -> Result<(), HistoryError> {
        let line = number;
        match serde_json::from_str(text) {
            Ok(parsed) => self.add(parsed),
            Err(source) => return Err(HistoryError::Line { line, source }),
        }
        Ok(())
    }
}

impl Action {
    /// As HTTP calls it.
    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

impl Operation {
    /// Whether it may have changed something.
    pub(super) fn may_have_effect(&self) -> bool {
        self.op != Action::Get && self.result != Outcome::Fail
    }

    /// Whether it is a write or delete that was acknowledged.
    pub(super) fn is_acked(&self) -> bool {
        self.op != Action::Get && self.result == Outcome::Ok
    }

    /// Whether it is a read that was answered.
    pub(super) fn is_read(&self) -> bool {
        self.op == Action::Get && self.result == Outcome::Ok
    }

    /// Whether it is one of the final reads, answered or not.
    pub(super) fn is_final(&self) -> bool {
        matches!(self.phase, Phase::Final1 | Phase::Final2)
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"{"line":"run","seed":7,"command":"quorate verify --seed 7","faults":["kill"]}
{"line":"op","id":1,"session":2,"endpoint":"127.0.0.1:1","phase":"calm","key":"k","op":"PUT","value":"a","clock":0,"invoked":10,"completed":20,"result":"ok","answer":"200","hinted":1,"token":"eyJ2"}
{"line":"op","id":2,"session":2,"endpoint":"127.0.0.1:1","phase":"final1","key":"k","op":"GET","strict":true,"invoked":30,"completed":40,"result":"info","answer":"no answer in time"}
{"line":"fault","kind":"kill","target":"n1","from":1,"until":2,"bit":true}
{"line":"convergence","after":5,"differing":["k"]}
{"line":"rest","after":6,"restless":["leave n2"]}"#;

    #[test]
    fn a_history_is_read_as_it_was_written() {
        let mut history = History::default();
        for (n, text) in LINES.lines().enumerate() {
            history.add_text(n + 1, text).unwrap();
        }
        let mut written = vec![Line::Run(history.run.clone().unwrap())];
        written.extend(history.operations.iter().cloned().map(Line::Op));
        written.extend(history.faults.iter().cloned().map(Line::Fault));
        written.extend(history.convergence.clone().map(Line::Convergence));
        written.extend(history.rest.clone().map(Line::Rest));
        let text = written
            .iter()
            .map(|line| serde_json::to_string(line).unwrap());
        assert_eq!(text.collect::<Vec<_>>().join("\n"), LINES);
    }

    #[test]
    fn a_line_that_is_none_is_named_by_its_number() {
        let mut history = History::default();
        let refused = history.add_text(3, "{\"line\":\"op\"}").unwrap_err();
        assert!(refused.to_string().starts_with("line 3 "), "{refused}");
    }
}
