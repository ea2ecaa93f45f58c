//! The records that were written last, decoded, so that a write of a busy key neither looks for its
//! record in the engine nor takes it apart. Only the store keeper writes: what is here is what the
//! engine holds, because a commit takes out what it changes and puts back what became of it.

use std::collections::HashMap;

use bytes::Bytes;

use crate::dynamo::key::Key;
use crate::dynamo::merkle::Mark;
use crate::dynamo::version::{Actor, Body, State};
use crate::storage::Change;
use crate::wire::state::size_hint;

/// What an entry takes beside its key and its state, about.
const OVERHEAD: usize = 256;

/// A larger record is left to the engine: copying it would cost more than taking it apart.
const LARGEST: usize = 16 << 10;

/// What is known of a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) state: State,
    pub(super) minted: Option<Actor>,
    /// What stands for it in the digests.
    pub(super) mark: Mark,
}

/// Two generations: when the younger is full it becomes the older, and the older is forgotten.
pub(super) struct Recent {
    /// Bytes of one generation.
    capacity: usize,
    /// By the younger.
    used: usize,
    generation: u64,
    slots: HashMap<Key, Slot>,
}

struct Slot {
    known: Known,
    bytes: usize,
    generation: u64,
}

impl Recent {
    /// Keeps about so many bytes at most.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            capacity: bytes / 2,
            used: 0,
            generation: 0,
            slots: HashMap::new(),
        }
    }

    /// Takes out the record of a key, if it was written lately.
    pub(super) fn take(&mut self, key: &Key) -> Option<Known> {
        let slot = self.slots.remove(key)?;
        if slot.generation == self.generation {
            self.used -= slot.bytes;
        }
        Some(slot.known)
    }

    /// Puts in what the engine holds under a key.
    pub(super) fn put(&mut self, key: &Key, mut known: Known) {
        let bytes = OVERHEAD + key.as_bytes().len() + size_hint(&known.state);
        if bytes > LARGEST.min(self.capacity) {
            return;
        }
        if self.used + bytes > self.capacity {
            let younger = self.generation;
            self.slots.retain(|_, slot| slot.generation == younger);
            (self.generation, self.used) = (younger + 1, 0);
        }
        self.used += bytes;
        detach(&mut known.state);
        let generation = self.generation;
        let slot = Slot {
            known,
            bytes,
            generation,
        };
        self.slots.insert(key.detached(), slot);
    }

    /// Whether a change is of a record that is in here.
    pub(super) fn holds(&self, change: &Change) -> bool {
        match change {
            Change::Put(_, key, _) | Change::Remove(_, key) => self.slots.contains_key(key),
            Change::PutHint(..) | Change::RemoveHint(..) | Change::Meta(..) => false,
        }
    }

    /// Forgets everything.
    pub(super) fn forget(&mut self) {
        *self = Self::new(2 * self.capacity);
    }
}

/// Has the values in buffers of their own, so that they keep no message alive.
fn detach(state: &mut State) {
    for sibling in &mut state.siblings {
        if let Body::Value(value) = &mut sibling.body {
            *value = Bytes::copy_from_slice(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::fake::state;
    use crate::dynamo::key::Partition;

    fn key(name: &str) -> Key {
        Key::new(Bytes::copy_from_slice(name.as_bytes())).unwrap()
    }

    fn known(n: u64) -> Known {
        Known {
            state: state(&[n]),
            minted: None,
            mark: Mark {
                digest: n,
                has_value: true,
            },
        }
    }

    fn one() -> usize {
        OVERHEAD + 3 + size_hint(&known(1).state)
    }

    #[test]
    fn what_was_put_last_is_taken_once() {
        let mut recent = Recent::new(10_000);
        recent.put(&key("a"), known(1));
        recent.put(&key("b"), known(2));
        assert_eq!(recent.take(&key("a")), Some(known(1)));
        assert_eq!(recent.take(&key("a")), None);
        recent.put(&key("a"), known(3));
        assert_eq!(recent.take(&key("a")), Some(known(3)));
        let partition = Partition::new(0).unwrap();
        assert!(recent.holds(&Change::Remove(partition, key("b"))));
        recent.forget();
        assert!(!recent.holds(&Change::Put(partition, key("b"), Bytes::new())));
        assert_eq!(recent.take(&key("b")), None);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
        let mut recent = Recent::new(8 * one());
        for n in 100..200 {
            let name = key(&n.to_string());
            assert_eq!(recent.take(&name), None);
            recent.put(&name, known(n));
            assert!(recent.slots.len() <= 8);
        }
        assert_eq!(recent.take(&key("100")), None);
        assert_eq!(recent.take(&key("199")), Some(known(199)));
        // Those that are written again and again stay, and take no more room than once.
        for n in 0..1000 {
            recent.take(&key("200"));
            recent.put(&key("200"), known(n));
        }
        assert_eq!(recent.take(&key("200")), Some(known(999)));
        assert_eq!(recent.take(&key("198")), Some(known(198)));
    }

    #[test]
    fn a_large_record_is_not_kept_and_a_value_keeps_no_message_alive() {
        let mut recent = Recent::new(1 << 20);
        let mut large = known(1);
        large.state.siblings[0].body = Body::Value(vec![b'1'; LARGEST].into());
        recent.put(&key("a"), large);
        assert_eq!(recent.take(&key("a")), None);
        let message = Bytes::from(vec![b'1'; 100]);
        let mut small = known(1);
        small.state.siblings[0].body = Body::Value(message.slice(..1));
        recent.put(&key("a"), small);
        assert!(message.is_unique());
    }
}
