//! Rule 3: what the final reads must show, taken from every node after everything is healed, twice.

use std::collections::{BTreeMap, BTreeSet};

use super::super::history::{Action, Convergence, Operation, Phase, Rest};
use super::bits::Bits;
use super::key::KeyHistory;
use super::violation::{Findings, Kind, describe, shows};

/// Looks at each final read of the key, and compares them.
pub(super) fn check(key: &KeyHistory<'_>, findings: &mut Findings) {
    let is_value = |w: &&Operation| w.is_acked() && w.op != Action::Delete;
    let writes = key.writes.iter().enumerate();
    let acked: Bits = writes
        .filter(|(_, w)| is_value(w))
        .map(|(n, _)| n)
        .collect();
    let finals = key
        .operations
        .iter()
        .filter(|o| o.is_final() && o.is_read());
    let finals: Vec<&Operation> = finals.copied().collect();
    for read in &finals {
        lost(key, read, &acked, findings);
        returned(key, read, findings);
    }
    compare(&finals, findings);
}

/// Acknowledged, and neither there nor replaced by anything that had seen it.
fn lost(key: &KeyHistory<'_>, read: &Operation, acked: &Bits, findings: &mut Findings) {
    let explained = key.explained_by(read);
    for place in acked.without(&explained) {
        let Some(write) = key.writes.get(place) else {
            continue;
        };
        let value = write.value.as_deref().unwrap_or_default();
        findings.note(Kind::Lost, read, (value, Some(write)), || {
            format!(
                "{value}, written by {}, is gone: {} {}, and nothing that had seen {value} replaced \
                 or deleted it",
                describe(write),
                describe(read),
                shows(read)
            )
        });
    }
}

/// There, although an acknowledged write or delete had covered it.
fn returned(key: &KeyHistory<'_>, read: &Operation, findings: &mut Findings) {
    for place in key.shown(read).without(&Bits::nothing()) {
        let Some(write) = key.writes.get(place) else {
            continue;
        };
        let is_delete = |o: &Operation| o.op == Action::Delete;
        let deleted = key.acked_cover(place, is_delete);
        let replaced = || key.acked_cover(place, |o| !is_delete(o));
        let (kind, verb, cover) = match (deleted, replaced()) {
            (Some(cover), _) => (Kind::Resurrected, "deleted", cover),
            (None, Some(cover)) => (Kind::FalseSibling, "replaced", cover),
            (None, None) => continue,
        };
        let value = write.value.as_deref().unwrap_or_default();
        findings.note(kind, read, (value, Some(cover)), || {
            format!(
                "{value}, written by {}, was {verb} by {}, which had seen it, and is back: {} {}",
                describe(write),
                describe(cover),
                describe(read),
                shows(read)
            )
        });
    }
}

/// All nodes must show the same, and each of them the same twice.
fn compare(finals: &[&Operation], findings: &mut Findings) {
    let mut rounds: BTreeMap<Phase, &Operation> = BTreeMap::new();
    let mut nodes: BTreeMap<&str, &Operation> = BTreeMap::new();
    for &read in finals {
        let first = *rounds.entry(read.phase).or_insert(read);
        if differ(first, read) {
            findings.note(Kind::Diverged, read, ("", Some(first)), || {
                let (one, other) = (describe(first), describe(read));
                let (this, that) = (shows(first), shows(read));
                format!("two nodes differ: {one} {this}, but {other} {that}")
            });
        }
        let first = *nodes.entry(&read.endpoint).or_insert(read);
        if first.phase != read.phase && differ(first, read) {
            findings.note(Kind::Flapping, read, ("", Some(first)), || {
                let (before, after) = (describe(first), describe(read));
                let (this, that) = (shows(first), shows(read));
                format!("a node changed its mind: {before} {this}, then {after} {that}")
            });
        }
    }
}

fn differ(one: &Operation, other: &Operation) -> bool {
    fn set(read: &Operation) -> BTreeSet<&String> {
        read.values.iter().flatten().collect()
    }
    set(one) != set(other)
}

/// The owners of every key must hold the same.
pub(super) fn check_replicas(convergence: Option<&Convergence>, findings: &mut Findings) {
    let Some(Convergence { after, differing }) = convergence else {
        return;
    };
    for key in differing {
        let seconds = after / 1_000_000;
        let text = format!("its owners still hold different records {seconds} s after the heal");
        findings.note_replicas(key, text);
    }
}

/// The ring must come to rest.
pub(super) fn check_rest(rest: Option<&Rest>, findings: &mut Findings) {
    let Some(Rest { restless, .. }) = rest else {
        return;
    };
    if !restless.is_empty() {
        let text = format!("although nothing failed any more: {}", restless.join("; "));
        findings.note_whole(Kind::Stuck, "", text);
    }
}
