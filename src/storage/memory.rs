//! An engine that forgets everything when it is dropped: for tests, and for caches that need no
//! disk.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::{Change, Engine, EngineError, Entry, Sync};
use crate::dynamo::key::{Key, Partition};
use crate::dynamo::node_id::NodeId;

/// Records in memory.
#[derive(Debug, Default)]
pub struct MemoryEngine {
    held: RwLock<Held>,
}

#[derive(Debug, Default)]
struct Held {
    records: BTreeMap<Partition, BTreeMap<Key, Bytes>>,
    /// A target without hints has no entry.
    hints: BTreeMap<NodeId, BTreeMap<(Partition, Key), Bytes>>,
    meta: BTreeMap<&'static str, Bytes>,
    bytes: u64,
}

impl MemoryEngine {
    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Put(partition, key, record) => {
                self.forget(partition, &key);
                self.bytes += size(&key, &record);
                // The key may be a slice of a whole request, which must not stay for its sake.
                let records = self.records.entry(partition).or_default();
                records.insert(key.detached(), record);
            }
            Change::Remove(partition, key) => self.forget(partition, &key),
            Change::PutHint(target, key, record) => {
                self.forget_hint(&target, &key);
                self.bytes += size(&key, &record);
                let hints = self.hints.entry(target).or_default();
                hints.insert(place(&key.detached()), record);
            }
            Change::RemoveHint(target, key) => self.forget_hint(&target, &key),
            Change::Meta(name, value) => {
                self.meta.insert(name, value);
            }
        }
    }

    fn forget_hint(&mut self, target: &NodeId, key: &Key) {
        let Some(hints) = self.hints.get_mut(target) else {
            return;
        };
        let removed = hints.remove(&place(key));
        self.bytes -= removed.map_or(0, |record| size(key, &record));
        if hints.is_empty() {
            self.hints.remove(target);
        }
    }

    fn forget(&mut self, partition: Partition, key: &Key) {
        let records = self.records.get_mut(&partition);
        let removed = records.and_then(|records| records.remove(key));
        self.bytes -= removed.map_or(0, |record| size(key, &record));
    }
}

/// Where a hint lies among those for its target.
fn place(key: &Key) -> (Partition, Key) {
    (key.hash().partition(), key.clone())
}

fn size(key: &Key, record: &Bytes) -> u64 {
    (key.as_bytes().len() + record.len()) as u64
}

impl Engine for MemoryEngine {
    fn get(&self, partition: Partition, key: &Key) -> Result<Option<Bytes>, EngineError> {
        let held = self.read();
        let records = held.records.get(&partition);
        Ok(records.and_then(|records| records.get(key)).cloned())
    }

    fn page(
        &self,
        partition: Partition,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Entry>, EngineError> {
        let held = self.read();
        let Some(records) = held.records.get(&partition) else {
            return Ok(Vec::new());
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = records.range::<Key, _>((from, Bound::Unbounded));
        let entries = rest.take(limit).map(|(k, r)| (k.clone(), r.clone()));
        Ok(entries.collect())
    }

    fn hint(&self, target: &NodeId, key: &Key) -> Result<Option<Bytes>, EngineError> {
        let held = self.read();
        let hints = held.hints.get(target);
        Ok(hints.and_then(|hints| hints.get(&place(key))).cloned())
    }

    fn hints(
        &self,
        target: &NodeId,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Entry>, EngineError> {
        let held = self.read();
        let Some(hints) = held.hints.get(target) else {
            return Ok(Vec::new());
        };
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(place(key)));
        let rest = hints.range((from, Bound::Unbounded)).take(limit);
        Ok(rest.map(|((_, k), r)| (k.clone(), r.clone())).collect())
    }

    fn hint_targets(&self) -> Result<Vec<NodeId>, EngineError> {
        Ok(self.read().hints.keys().cloned().collect())
    }

    fn meta(&self, name: &'static str) -> Result<Option<Bytes>, EngineError> {
        Ok(self.read().meta.get(name).cloned())
    }

    fn commit(&self, changes: Vec<Change>, _sync: Sync) -> Result<(), EngineError> {
        let mut held = self.write();
        for change in changes {
            held.apply(change);
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.read().bytes
    }
}
