//! What every answer must keep at any time, and rule 4: what strict reads must keep during the run.

use std::collections::{BTreeMap, BTreeSet};

use super::super::history::{Action, Operation, Outcome};
use super::bits::Bits;
use super::key::KeyHistory;
use super::violation::{Findings, Kind, describe, shows};

/// Looks at each answer of the key that showed values.
pub(super) fn check(key: &KeyHistory<'_>, findings: &mut Findings) {
    let mut last_of_session: BTreeMap<u32, &Operation> = BTreeMap::new();
    for read in &key.operations {
        foreign(key, read, findings);
        beside(key, read, findings);
        if read.is_read() && read.strict && !read.is_final() {
            stale(key, read, findings);
            returned(key, read, findings);
            if let Some(before) = last_of_session.insert(read.session, read) {
                forgotten(key, before, read, findings);
            }
        }
    }
}

/// Values that nobody wrote, whose write was refused, or that are there twice.
fn foreign(key: &KeyHistory<'_>, read: &Operation, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for value in read.values.iter().flatten() {
        if !seen.insert(value) {
            findings.note(Kind::Duplicate, read, (value, None), || {
                format!("{value} is there twice: {} {}", describe(read), shows(read))
            });
        }
        let write = key.writer(value).and_then(|n| key.writes.get(n));
        let Some(write) = write.filter(|w| w.invoked < read.completed) else {
            findings.note(Kind::Phantom, read, (value, None), || {
                let (read, shown) = (describe(read), shows(read));
                format!("nobody had written {value} to this key: {read} {shown}")
            });
            continue;
        };
        if write.result == Outcome::Fail {
            findings.note(Kind::Dirty, read, (value, Some(write)), || {
                format!(
                    "{value} was refused, and is there: written by {}; {} {}",
                    describe(write),
                    describe(read),
                    shows(read)
                )
            });
        }
    }
}

/// A value beside another that had covered it: no replica may ever hold both, unless it has yet to
/// hear of one of them. A sloppy write may be with fallbacks only, and a write that two nodes minted,
/// because the first kept silent, is known for one by those who have it; so a read that is not strict
/// may show the first attempt once more, until they are heard.
fn beside(key: &KeyHistory<'_>, read: &Operation, findings: &mut Findings) {
    let shown = key.shown(read);
    for cover in shown.without(&Bits::nothing()) {
        let covered = key.covered_by(cover);
        for place in shown
            .without(&Bits::nothing())
            .filter(|n| covered.contains(*n))
        {
            let (Some(write), Some(cover)) = (key.writes.get(place), key.writes.get(cover)) else {
                continue;
            };
            let settled = read.strict || read.is_final() || (is_firm(write) && is_firm(cover));
            if !settled {
                continue;
            }
            let value = write.value.as_deref().unwrap_or_default();
            findings.note(Kind::FalseSibling, read, (value, Some(cover)), || {
                format!(
                    "{value}, written by {}, is there beside what replaced it, written by {}: {} {}",
                    describe(write),
                    describe(cover),
                    describe(read),
                    shows(read)
                )
            });
        }
    }
}

/// Whether W owners surely had it when it was acknowledged.
fn is_firm(write: &Operation) -> bool {
    write.is_acked() && (write.strict || write.hinted == Some(0))
}

/// A strict read without something that owners had acknowledged before it.
fn stale(key: &KeyHistory<'_>, read: &Operation, findings: &mut Findings) {
    let due = |w: &Operation| is_firm(w) && w.op != Action::Delete && w.completed < read.invoked;
    let writes = key.writes.iter().enumerate();
    let due: Bits = writes.filter(|(_, w)| due(w)).map(|(n, _)| n).collect();
    for place in due.without(&key.explained_by(read)) {
        let Some(write) = key.writes.get(place) else {
            continue;
        };
        let value = write.value.as_deref().unwrap_or_default();
        findings.note(Kind::Stale, read, (value, Some(write)), || {
            format!(
                "{} {}, and neither {value}, acknowledged before by {}, nor anything that had seen it",
                describe(read),
                shows(read),
                describe(write)
            )
        });
    }
}

/// A strict read with something that owners had acknowledged to be replaced or deleted before it.
fn returned(key: &KeyHistory<'_>, read: &Operation, findings: &mut Findings) {
    for place in key.shown(read).without(&Bits::nothing()) {
        let before = |y: &Operation| is_firm(y) && y.completed < read.invoked;
        let (Some(write), Some(cover)) = (key.writes.get(place), key.acked_cover(place, before))
        else {
            continue;
        };
        let value = write.value.as_deref().unwrap_or_default();
        findings.note(Kind::Stale, read, (value, Some(cover)), || {
            format!(
                "{} {}, though {value} had been replaced or deleted before by {}, which had seen it",
                describe(read),
                shows(read),
                describe(cover)
            )
        });
    }
}

/// A strict read without something that the session's last one showed.
fn forgotten(key: &KeyHistory<'_>, before: &Operation, read: &Operation, findings: &mut Findings) {
    if before.completed > read.invoked {
        return;
    }
    let (had, explained) = (key.shown(before), key.explained_by(read));
    for place in had.without(&explained) {
        let Some(write) = key.writes.get(place) else {
            continue;
        };
        let value = write.value.as_deref().unwrap_or_default();
        if findings.has(Kind::Stale, key.key, value) {
            continue;
        }
        findings.note(Kind::NonMonotonic, read, (value, Some(before)), || {
            format!(
                "session {} saw {value} in {}, and then no longer: {} {}",
                read.session,
                describe(before),
                describe(read),
                shows(read)
            )
        });
    }
}
