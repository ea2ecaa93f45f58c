//! One key's operations, and what each write is known to have covered: rule 1 of the check.
//!
//! A write covers what its clock had seen: the values of the answer that carried the clock, and
//! whatever those covered, transitively.

use std::collections::HashMap;

use super::super::history::{Action, HistoryError, Operation, Outcome};
use super::bits::Bits;

/// One key's operations, ready to be asked.
pub(super) struct KeyHistory<'a> {
    /// Its name.
    pub(super) key: &'a str,
    /// All, in the order of their invocation.
    pub(super) operations: Vec<&'a Operation>,
    /// Creates, puts and deletes in that order; sets are of their places in this list.
    pub(super) writes: Vec<&'a Operation>,
    /// What each of them surely covers, if it took effect.
    pub(super) covers: Vec<Bits>,
    /// Deletes that may have taken effect, and all that each may have covered.
    deletes: Vec<(&'a Operation, Bits)>,
    by_value: HashMap<&'a str, usize>,
}

impl<'a> KeyHistory<'a> {
    /// Puts the operations of one key in order.
    pub(super) fn new(
        key: &'a str,
        mut operations: Vec<&'a Operation>,
    ) -> Result<Self, HistoryError> {
        operations.sort_by_key(|o| (o.invoked, o.id));
        let is_write = |o: &&Operation| o.op != Action::Get;
        let writes: Vec<&Operation> = operations.iter().copied().filter(is_write).collect();
        let mut history = Self {
            key,
            by_value: by_value(key, &writes)?,
            operations,
            writes,
            covers: Vec::new(),
            deletes: Vec::new(),
        };
        history.follow_clocks()?;
        history.collect_deletes();
        Ok(history)
    }

    /// The write of a value, if there was one.
    pub(super) fn writer(&self, value: &str) -> Option<usize> {
        self.by_value.get(value).copied()
    }

    /// The writes of the values that an answer showed.
    pub(super) fn shown(&self, operation: &Operation) -> Bits {
        let values = operation.values.iter().flatten();
        values.filter_map(|value| self.writer(value)).collect()
    }

    /// What a write covers.
    pub(super) fn covered_by(&self, write: usize) -> &Bits {
        const NOTHING: &Bits = &Bits::nothing();
        self.covers.get(write).unwrap_or(NOTHING)
    }

    /// Rule 2: the writes whose absence or presence a read explains. They are shown, or covered by
    /// what is shown, or by a delete that was under way before the read was answered.
    pub(super) fn explained_by(&self, read: &Operation) -> Bits {
        let shown = self.shown(read);
        let mut out = self.known_with(&shown);
        for (delete, reach) in &self.deletes {
            if delete.invoked < read.completed {
                out.join(reach);
            }
        }
        out
    }

    /// The first acknowledged write for which `is_such` holds and that covers the given one.
    pub(super) fn acked_cover(
        &self,
        covered: usize,
        is_such: impl Fn(&Operation) -> bool,
    ) -> Option<&'a Operation> {
        let mut covers = self.writes.iter().zip(&self.covers);
        covers
            .find(|(y, covers)| y.is_acked() && covers.contains(covered) && is_such(y))
            .map(|(y, _)| *y)
    }

    /// The writes and all that they cover.
    fn known_with(&self, writes: &Bits) -> Bits {
        let mut out = writes.clone();
        for write in writes.without(&Bits::default()) {
            out.join(self.covered_by(write));
        }
        out
    }

    /// A clock was answered before it was used, and what the answer showed was invoked before that:
    /// so in the order of invocation everything is known when it is needed.
    fn follow_clocks(&mut self) -> Result<(), HistoryError> {
        let sources: HashMap<u64, &Operation> =
            self.operations.iter().map(|o| (o.id, *o)).collect();
        let places: HashMap<u64, usize> = (self.writes.iter().enumerate())
            .map(|(place, write)| (write.id, place))
            .collect();
        for at in 0..self.writes.len() {
            let covers = match self.writes.get(at).and_then(|w| Some((w.id, w.clock?))) {
                None => Bits::default(),
                Some((operation, clock)) => {
                    let missing = HistoryError::NoSuchClock { operation, clock };
                    let source = sources.get(&clock).ok_or(missing)?;
                    let mut seen = self.shown(source);
                    seen.extend(places.get(&clock).filter(|_| source.is_acked()).copied());
                    self.known_with(&seen)
                }
            };
            self.covers.push(covers);
        }
        Ok(())
    }

    /// A delete without a clock may cover any write invoked before it completed; if it is not known
    /// to have completed, any write at all.
    fn collect_deletes(&mut self) {
        let mut deletes = Vec::new();
        for (delete, covers) in self.writes.iter().zip(&self.covers) {
            if delete.op != Action::Delete || !delete.may_have_effect() {
                continue;
            }
            let mut reach = covers.clone();
            if delete.clock.is_none() {
                let until = match delete.result {
                    Outcome::Info => u64::MAX,
                    Outcome::Ok | Outcome::Fail => delete.completed,
                };
                let earlier = self.writes.iter().enumerate();
                reach.extend(earlier.filter(|(_, w)| w.invoked < until).map(|(n, _)| n));
            }
            deletes.push((*delete, reach));
        }
        self.deletes = deletes;
    }
}

fn by_value<'a>(
    key: &str,
    writes: &[&'a Operation],
) -> Result<HashMap<&'a str, usize>, HistoryError> {
    let mut out = HashMap::new();
    for (place, write) in writes.iter().enumerate() {
        let operation = write.id;
        if write.op == Action::Delete {
            continue;
        }
        let value = write.value.as_deref();
        let value = value.ok_or(HistoryError::NoValue { operation })?;
        if out.insert(value, place).is_some() {
            let (key, value) = (key.to_owned(), value.to_owned());
            return Err(HistoryError::ValueTwice {
                operation,
                key,
                value,
            });
        }
    }
    Ok(out)
}
