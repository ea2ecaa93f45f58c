//! The records that were written last, so that a write of a busy key does not look for its record
//! in the engine. Only the store keeper writes, so what is here is what the engine holds.

use std::collections::HashMap;

use bytes::Bytes;

use crate::dynamo::key::Key;
use crate::storage::Change;

/// What an entry takes beside its key and its record, about.
const OVERHEAD: usize = 128;

/// Two generations: when the younger is full it becomes the older, and the older is forgotten.
pub(super) struct Recent {
    /// Bytes of one generation.
    capacity: usize,
    used: usize,
    younger: HashMap<Key, Bytes>,
    older: HashMap<Key, Bytes>,
}

impl Recent {
    /// Keeps about so many bytes at most.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            capacity: bytes / 2,
            used: 0,
            younger: HashMap::new(),
            older: HashMap::new(),
        }
    }

    /// The record of a key, if it was written lately.
    pub(super) fn get(&self, key: &Key) -> Option<Bytes> {
        self.younger
            .get(key)
            .or_else(|| self.older.get(key))
            .cloned()
    }

    /// Notes what the engine is about to hold; if it then does not, everything must be forgotten.
    pub(super) fn note(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(_, key, record) => self.put(key, record.clone()),
                Change::Remove(_, key) => self.remove(key),
                Change::PutHint(..) | Change::RemoveHint(..) | Change::Meta(..) => {}
            }
        }
    }

    /// Forgets everything.
    pub(super) fn forget(&mut self) {
        *self = Self::new(2 * self.capacity);
    }

    fn put(&mut self, key: &Key, record: Bytes) {
        self.remove(key);
        let bytes = OVERHEAD + key.as_bytes().len() + record.len();
        if bytes > self.capacity {
            return;
        }
        if self.used + bytes > self.capacity {
            self.older = std::mem::take(&mut self.younger);
            self.used = 0;
        }
        self.used += bytes;
        self.younger.insert(key.detached(), record);
    }

    fn remove(&mut self, key: &Key) {
        self.older.remove(key);
        if let Some(known) = self.younger.remove(key) {
            self.used -= OVERHEAD + key.as_bytes().len() + known.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamo::key::Partition;

    fn key(name: &str) -> Key {
        Key::new(Bytes::copy_from_slice(name.as_bytes())).unwrap()
    }

    fn put(name: &str, record: &str) -> Change {
        let partition = Partition::new(0).unwrap();
        Change::Put(
            partition,
            key(name),
            Bytes::copy_from_slice(record.as_bytes()),
        )
    }

    #[test]
    fn the_last_change_of_a_key_is_what_is_there() {
        let mut recent = Recent::new(10_000);
        recent.note(&[put("a", "1"), put("b", "1"), put("a", "2")]);
        assert_eq!(recent.get(&key("a")), Some("2".into()));
        recent.note(&[Change::Remove(Partition::new(0).unwrap(), key("a"))]);
        assert_eq!(recent.get(&key("a")), None);
        assert_eq!(recent.get(&key("b")), Some("1".into()));
        recent.forget();
        assert_eq!(recent.get(&key("b")), None);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
        let mut recent = Recent::new(8 * (OVERHEAD + 4));
        let names: Vec<String> = (100..200).map(|n| n.to_string()).collect();
        for name in &names {
            recent.note(&[put(name, "1")]);
            assert!(recent.younger.len() + recent.older.len() <= 8);
        }
        assert_eq!(recent.get(&key("100")), None);
        assert_eq!(recent.get(&key("199")), Some("1".into()));
        recent.note(&[put("199", &"x".repeat(9_000))]);
        assert_eq!(
            recent.get(&key("199")),
            None,
            "too large, and not the old one"
        );
    }
}
