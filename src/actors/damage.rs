//! Which of this node's records are known to be damaged: met by its readers and its writer, and
//! mended by the mender.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::dynamo::key::Key;

/// Damaged records that are remembered at a time. One beyond it is met again by its next reader.
const REMEMBERED: usize = 65_536;

/// The damaged records of a node; cheap to clone, and shared by all its threads.
#[derive(Debug, Clone, Default)]
pub struct DamageBoard(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: Mutex<Known>,
    arrived: Notify,
    found: AtomicU64,
    mended: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    keys: BTreeSet<Key>,
    queue: VecDeque<Key>,
}

impl DamageBoard {
    /// Notes a damaged record; whether it was not known to be.
    pub fn met(&self, key: &Key) -> bool {
        let mut known = self.known();
        if known.keys.len() >= REMEMBERED || known.keys.contains(key) {
            return false;
        }
        // The key may be a slice of a whole request, which must not stay for its sake.
        let key = key.detached();
        known.keys.insert(key.clone());
        known.queue.push_back(key);
        self.0.found.fetch_add(1, Ordering::Relaxed);
        self.0.arrived.notify_one();
        true
    }

    /// A damaged record to mend next. Whoever takes it tells what came of it.
    pub async fn next(&self) -> Key {
        loop {
            let arrived = self.0.arrived.notified();
            let next = self.known().queue.pop_front();
            if let Some(key) = next {
                return key;
            }
            arrived.await;
        }
    }

    /// The record is whole again, or no longer this node's.
    pub fn done(&self, key: &Key, mended: bool) {
        self.known().keys.remove(key);
        self.0.mended.fetch_add(mended.into(), Ordering::Relaxed);
    }

    /// The record could not be mended yet; it comes after all others.
    pub fn postpone(&self, key: Key) {
        self.known().queue.push_back(key);
        self.0.arrived.notify_one();
    }

    /// How many damaged records were found since the start.
    #[must_use]
    pub fn found(&self) -> u64 {
        self.0.found.load(Ordering::Relaxed)
    }

    /// How many of them were mended.
    #[must_use]
    pub fn mended(&self) -> u64 {
        self.0.mended.load(Ordering::Relaxed)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::fake::key;

    #[actix::test]
    async fn a_damaged_record_is_found_once_and_handed_out_until_it_is_mended() {
        let board = DamageBoard::default();
        assert!(board.met(&key("a")));
        assert!(!board.met(&key("a")), "known");
        assert!(board.met(&key("b")));
        let first = board.next().await;
        assert_eq!(first, key("a"));
        board.postpone(first);
        assert_eq!(board.next().await, key("b"));
        assert!(!board.met(&key("b")), "somebody is at it");
        board.done(&key("b"), true);
        assert_eq!(board.next().await, key("a"));
        board.done(&key("a"), false);
        assert_eq!((board.found(), board.mended()), (2, 1));
        assert!(board.met(&key("b")), "damaged once more");
    }
}
