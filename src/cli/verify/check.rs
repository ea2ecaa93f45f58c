//! The history checker: decides from recorded operations alone whether the promises were kept. Pure:
//! no files, no clocks, no cluster.
//!
//! The rules are those of `docs/verify.md`. They follow from one idea: a clock says what its owner
//! has seen, so from the clocks that the clients used one can compute what each write may have
//! replaced, and everything else must still be there.

mod bits;
mod during;
mod finals;
mod key;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
mod validity;
mod violation;

use std::collections::BTreeMap;

use serde::Serialize;

use super::history::{History, HistoryError, Operation};
use key::KeyHistory;
pub(super) use validity::Counts;
use violation::Findings;
pub(super) use violation::Violation;

/// What a run shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Every promise was kept, and the run could have shown otherwise.
    Ok,
    /// A promise was broken.
    Violated,
    /// The run shows nothing.
    Void,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    /// All in one word.
    pub(super) verdict: Verdict,
    /// Each broken promise once for each value.
    pub(super) violations: Vec<Violation>,
    /// Why the run shows nothing; empty if it does.
    pub(super) void: Vec<String>,
    /// What there was to check.
    pub(super) counts: Counts,
}

/// Checks a history.
///
/// # Errors
/// [`HistoryError`] if it contradicts itself.
pub(super) fn check(history: &History) -> Result<Report, HistoryError> {
    let mut by_key: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in &history.operations {
        by_key.entry(&operation.key).or_default().push(operation);
    }
    let mut findings = Findings::default();
    for (key, operations) in by_key {
        let key = KeyHistory::new(key, operations)?;
        during::check(&key, &mut findings);
        finals::check(&key, &mut findings);
    }
    finals::check_replicas(history.convergence.as_ref(), &mut findings);
    finals::check_rest(history.rest.as_ref(), &mut findings);
    let violations = findings.into_violations();
    let void = validity::check(history);
    let verdict = match (violations.is_empty(), void.is_empty()) {
        (false, _) => Verdict::Violated,
        (true, false) => Verdict::Void,
        (true, true) => Verdict::Ok,
    };
    Ok(Report {
        verdict,
        violations,
        void,
        counts: Counts::of(history),
    })
}
