//! How much is kept for other nodes, by node, kept exactly: a batch that changes the numbers
//! carries them.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut};

use super::identity::{VERSION, opened_any, sealed};
use super::{Change, Engine, IdentityError};
use crate::dynamo::key::Key;
use crate::dynamo::node_id::NodeId;

const HINTS: &str = "hints";

/// What the hints for one node come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HintSum {
    /// How many there are.
    pub count: u64,
    /// Bytes of their keys and records.
    pub bytes: u64,
}

/// What all hints come to. A node without hints has no entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HintTally(BTreeMap<NodeId, HintSum>);

/// What one hint counts for.
#[must_use]
pub fn hint_bytes(key: &Key, record: &[u8]) -> u64 {
    (key.as_bytes().len() + record.len()) as u64
}

impl HintTally {
    /// The numbers as of the last batch.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn read(engine: &dyn Engine) -> Result<Self, IdentityError> {
        let Some(stored) = engine.meta(HINTS)? else {
            return Ok(Self::default());
        };
        let fields = opened_any(HINTS, &stored)?;
        decoded(fields).ok_or(IdentityError::Damaged(HINTS))
    }

    /// The change that stores them.
    #[must_use]
    pub fn change(&self) -> Change {
        let mut out = vec![VERSION];
        for (target, sum) in &self.0 {
            let name = target.as_str().as_bytes();
            out.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(name);
            out.put_u64(sum.count);
            out.put_u64(sum.bytes);
        }
        Change::Meta(HINTS, sealed(out))
    }

    /// Notes that one hint for the target went from so many bytes to so many; `None` is no hint.
    pub fn shift(&mut self, target: &NodeId, was: Option<u64>, is: Option<u64>) {
        let sum = self.0.entry(target.clone()).or_default();
        sum.count = (sum.count + u64::from(is.is_some())).saturating_sub(u64::from(was.is_some()));
        sum.bytes = (sum.bytes + is.unwrap_or(0)).saturating_sub(was.unwrap_or(0));
        if sum.count == 0 {
            self.0.remove(target);
        }
    }

    /// Bytes of all hints.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.values().map(|sum| sum.bytes).sum()
    }

    /// The nodes that hints are kept for, and what they come to.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeId, &HintSum)> {
        self.0.iter()
    }
}

fn decoded(mut fields: &[u8]) -> Option<HintTally> {
    let mut out = BTreeMap::new();
    while fields.has_remaining() {
        let length = usize::from(fields.try_get_u8().ok()?);
        let (name, rest) = fields.split_at_checked(length)?;
        fields = rest;
        let target = NodeId::new(std::str::from_utf8(name).ok()?).ok()?;
        let sum = HintSum {
            count: fields.try_get_u64().ok()?,
            bytes: fields.try_get_u64().ok()?,
        };
        out.insert(target, sum);
    }
    Some(HintTally(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{MemoryEngine, Sync};

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    #[test]
    fn sums_follow_the_hints_and_are_read_back() {
        let engine = MemoryEngine::default();
        let mut tally = HintTally::read(&engine).unwrap();
        assert_eq!(tally, HintTally::default());
        let steps = [
            ("a", None, Some(10)),
            ("a", None, Some(5)),
            ("b", None, Some(1)),
            ("a", Some(10), Some(12)),
            ("b", Some(1), None),
        ];
        for (target, was, is) in steps {
            tally.shift(&id(target), was, is);
        }
        let (count, bytes) = (2, 17);
        let sums: Vec<_> = tally.iter().collect();
        assert_eq!(sums, [(&id("a"), &HintSum { count, bytes })]);
        assert_eq!(tally.bytes(), 17);
        engine.commit(vec![tally.change()], Sync::Disk).unwrap();
        assert_eq!(HintTally::read(&engine).unwrap(), tally);
    }

    #[test]
    fn sums_that_are_cut_off_are_damage() {
        let mut tally = HintTally::default();
        tally.shift(&id("a-node"), None, Some(3));
        let Change::Meta(name, whole) = tally.change() else {
            panic!("not metadata")
        };
        let body = &whole[..whole.len() - 4];
        for cut in 2..body.len() {
            let engine = MemoryEngine::default();
            let cut = Change::Meta(name, sealed(body[..cut].to_vec()));
            engine.commit(vec![cut], Sync::Disk).unwrap();
            let read = HintTally::read(&engine);
            assert!(matches!(read, Err(IdentityError::Damaged("hints"))));
        }
    }
}
