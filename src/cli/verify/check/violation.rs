//! A broken promise, said so that a person understands it and finds the operations.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::super::history::{Action, Operation};

/// How a promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(in super::super) enum Kind {
    /// An acknowledged value is gone, and nothing that had seen it stands in its place.
    #[serde(rename = "LOST")]
    Lost,
    /// A value that nobody wrote there.
    #[serde(rename = "PHANTOM")]
    Phantom,
    /// A value whose write was refused.
    #[serde(rename = "DIRTY")]
    Dirty,
    /// A value that an acknowledged delete had covered.
    #[serde(rename = "RESURRECTED")]
    Resurrected,
    /// A value beside one that had covered it.
    #[serde(rename = "FALSE SIBLING")]
    FalseSibling,
    /// A value twice in one answer.
    #[serde(rename = "DUPLICATE")]
    Duplicate,
    /// Nodes that do not agree at the end.
    #[serde(rename = "DIVERGED")]
    Diverged,
    /// A node that does not agree with itself at the end.
    #[serde(rename = "FLAPPING")]
    Flapping,
    /// A strict read without something acknowledged before it.
    #[serde(rename = "STALE")]
    Stale,
    /// A strict read without something that its session had seen before.
    #[serde(rename = "NON-MONOTONIC")]
    NonMonotonic,
    /// A change of members that never ends.
    #[serde(rename = "STUCK")]
    Stuck,
}

impl Kind {
    /// The word of the verdict, and the promise that it breaks.
    pub(in super::super) fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Lost => ("LOST", "P1, P2"),
            Self::Phantom => ("PHANTOM", "P6, P11"),
            Self::Dirty => ("DIRTY", "P6"),
            Self::Resurrected => ("RESURRECTED", "P7"),
            Self::FalseSibling => ("FALSE SIBLING", "P3"),
            Self::Duplicate => ("DUPLICATE", "P3"),
            Self::Diverged => ("DIVERGED", "P8"),
            Self::Flapping => ("FLAPPING", "P8"),
            Self::Stale => ("STALE", "P4"),
            Self::NonMonotonic => ("NON-MONOTONIC", "P4"),
            Self::Stuck => ("STUCK", "P9"),
        }
    }
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in super::super) struct Violation {
    /// How.
    pub(in super::super) kind: Kind,
    /// On which key; empty if on none.
    pub(in super::super) key: String,
    /// Of which value; empty if it is about whole answers.
    pub(in super::super) value: String,
    /// What happened.
    pub(in super::super) text: String,
    /// The operations to look at, the one that shows it first.
    pub(in super::super) operations: Vec<u64>,
    /// The clock that goes with the value, if its write was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) clock: Option<String>,
    /// In how many answers it shows.
    pub(in super::super) answers: usize,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, promise) = self.kind.words();
        write!(f, "{word} ({promise})")?;
        if !self.key.is_empty() {
            write!(f, ", key {}", self.key)?;
        }
        write!(f, ": {}", self.text)?;
        if self.answers > 1 {
            write!(f, "; so in {} answers", self.answers)?;
        }
        if let Some(clock) = &self.clock {
            write!(f, "\n  clock: {clock}")?;
        }
        Ok(())
    }
}

/// Violations as they are found: the same one again is only counted.
#[derive(Debug, Default)]
pub(super) struct Findings(BTreeMap<(Kind, String, String), Violation>);

impl Findings {
    /// Notes that `shown_by` shows a violation of `value`, which `of` wrote.
    pub(super) fn note(
        &mut self,
        kind: Kind,
        shown_by: &Operation,
        (value, of): (&str, Option<&Operation>),
        text: impl FnOnce() -> String,
    ) {
        let key = &shown_by.key;
        let place = (kind, key.clone(), value.to_owned());
        let violation = self.0.entry(place).or_insert_with(|| Violation {
            kind,
            key: key.clone(),
            value: value.to_owned(),
            text: text(),
            operations: std::iter::once(shown_by.id)
                .chain(of.map(|o| o.id))
                .collect(),
            clock: of.and_then(|o| o.token.clone()),
            answers: 0,
        });
        violation.answers += 1;
    }

    /// Notes a key whose replicas differ.
    pub(super) fn note_replicas(&mut self, key: &str, text: String) {
        self.note_whole(Kind::Diverged, key, text);
    }

    /// Notes what no operation shows.
    pub(super) fn note_whole(&mut self, kind: Kind, key: &str, text: String) {
        let violation = Violation {
            kind,
            key: key.to_owned(),
            value: String::new(),
            text,
            operations: Vec::new(),
            clock: None,
            answers: 0,
        };
        let place = (kind, key.to_owned(), "whole".to_owned());
        self.0.insert(place, violation);
    }

    /// Whether this was noted of the value already.
    pub(super) fn has(&self, kind: Kind, key: &str, value: &str) -> bool {
        let place = (kind, key.to_owned(), value.to_owned());
        self.0.contains_key(&place)
    }

    /// All of them, the gravest kinds first.
    pub(super) fn into_violations(self) -> Vec<Violation> {
        self.0.into_values().collect()
    }
}

/// An operation in words.
pub(super) fn describe(operation: &Operation) -> String {
    let Operation {
        id,
        session,
        endpoint,
        op,
        answer,
        ..
    } = operation;
    let verb = match op {
        Action::Get if operation.is_final() => "final GET",
        Action::Get if operation.strict => "strict GET",
        Action::Get => "GET",
        Action::Post => "POST",
        Action::Put => "PUT",
        Action::Delete => "DELETE",
    };
    let (from, until) = (seconds(operation.invoked), seconds(operation.completed));
    let clock = match operation.clock {
        Some(clock) => format!(", with the clock of operation {clock}"),
        None => String::new(),
    };
    format!(
        "operation {id} ({verb} at {endpoint} by session {session}, {from} to {until} s: \
         {answer}{clock})"
    )
}

/// What an answer showed, in words.
pub(super) fn shows(operation: &Operation) -> String {
    match operation.values.as_deref() {
        None | Some([]) => "shows no value".to_owned(),
        Some(values) => format!("shows {}", values.join(", ")),
    }
}

fn seconds(micros: u64) -> String {
    format!("{}.{:03}", micros / 1_000_000, micros / 1000 % 1000)
}
