//! The engine on disk: fjall, a log-structured merge tree with one journal.
//!
//! All records share one keyspace, in which the partition is the front of the key: 256 keyspaces
//! would mean 256 memtables. A batch reaches its readers only when its journal entry is where the
//! commit asked for it to be. Hints have a keyspace of their own, with the target's name in front.

mod ahead;
mod journal;
mod torn;

use std::io::ErrorKind;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvPair, PersistMode, UserValue};

use super::{Change, Engine, EngineError, Entry, Sync};
use crate::dynamo::key::{Key, Partition};
use crate::dynamo::node_id::NodeId;
use crate::mutant::Mutant;
use ahead::Ahead;
use journal::JournalError;

const MIB: u64 = 1024 * 1024;
/// What records may take in memory before they are written out as a table.
const RECORDS_MEMTABLE: u64 = 8 * MIB;
/// The same for hints.
const HINTS_MEMTABLE: u64 = 4 * MIB;
const META_MEMTABLE: u64 = MIB;
/// Blocks kept in memory for reads; the operating system's own cache comes on top.
const BLOCK_CACHE: u64 = 16 * MIB;
/// Journals beyond this are made superfluous by writing memtables out. It bounds how long the
/// next start replays.
const JOURNALS: u64 = 128 * MIB;
const WORKERS: usize = 2;
/// What the journal adds to the key and the record of a change, at most and about.
const ITEM_BYTES: usize = 96;
/// Records are refused while less than this is free, so that flushes, compactions and metadata
/// still find space. Refusing before anything is written is the only refusal that is certain.
const RESERVE: u64 = 32 * MIB;

/// Records in a directory of their own.
pub struct FjallEngine {
    path: PathBuf,
    /// Records are refused while less than this is free.
    reserve: u64,
    ahead: Ahead,
    database: Database,
    records: Keyspace,
    hints: Keyspace,
    meta: Keyspace,
}

impl FjallEngine {
    /// Opens the directory, or makes it.
    ///
    /// # Errors
    /// [`EngineError::Damaged`] when something that was acknowledged is lost;
    /// [`EngineError::Broken`] when it cannot be read or made.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        journal::inspect(path)?;
        let database = Database::builder(path)
            .cache_size(BLOCK_CACHE)
            .max_journaling_size(JOURNALS)
            .worker_threads(WORKERS)
            .open()?;
        let sized = |bytes| move || KeyspaceCreateOptions::default().max_memtable_size(bytes);
        let records = database.keyspace("records", sized(RECORDS_MEMTABLE))?;
        let hints = database.keyspace("hints", sized(HINTS_MEMTABLE))?;
        let meta = database.keyspace("meta", sized(META_MEMTABLE))?;
        if Mutant::HintsDroppedOnRestart.is_chosen() {
            hints.clear()?;
        }
        Ok(Self {
            path: path.to_owned(),
            reserve: RESERVE,
            ahead: Ahead::new(path),
            database,
            records,
            hints,
            meta,
        })
    }

    fn refuse_when_full(&self, changes: &[Change]) -> Result<(), EngineError> {
        let grown = |c: &Change| match c {
            Change::Put(_, key, record) | Change::PutHint(_, key, record) => {
                Some((key.as_bytes().len() + record.len()) as u64)
            }
            Change::Remove(..) | Change::RemoveHint(..) | Change::Meta(..) => None,
        };
        let bytes = changes.iter().filter_map(grown).reduce(|a, b| a + b);
        // Twice: in the journal, and in the table that it becomes.
        let needed = bytes.map(|bytes| self.reserve.saturating_add(2 * bytes));
        if let Some(needed) = needed
            && self.free()? < needed
        {
            return Err(EngineError::Full);
        }
        Ok(())
    }

    fn free(&self) -> Result<u64, EngineError> {
        let disk = rustix::fs::statvfs(&self.path).map_err(broken)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

impl Engine for FjallEngine {
    fn get(&self, partition: Partition, key: &Key) -> Result<Option<Bytes>, EngineError> {
        Ok(self
            .records
            .get(stored_key(partition, key))?
            .map(|r| copied(&r)))
    }

    fn page(
        &self,
        partition: Partition,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Entry>, EngineError> {
        let from = match after {
            Some(key) => Bound::Excluded(stored_key(partition, key)),
            None => Bound::Included(prefix(partition.number())),
        };
        let to = Bound::Excluded(prefix(partition.number() + 1));
        let range = self.records.range((from, to)).take(limit);
        range.map(|guard| entry(guard.into_inner()?, 2)).collect()
    }

    fn hint(&self, target: &NodeId, key: &Key) -> Result<Option<Bytes>, EngineError> {
        Ok(self.hints.get(hint_key(target, key))?.map(|r| copied(&r)))
    }

    fn hints(
        &self,
        target: &NodeId,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Entry>, EngineError> {
        let from = match after {
            Some(key) => Bound::Excluded(hint_key(target, key)),
            None => Bound::Included(named(target, NAME_ENDS)),
        };
        let to = Bound::Excluded(named(target, AFTER_NAME));
        let front = target.as_str().len() + 3;
        let range = self.hints.range((from, to)).take(limit);
        range
            .map(|guard| entry(guard.into_inner()?, front))
            .collect()
    }

    fn hint_targets(&self) -> Result<Vec<NodeId>, EngineError> {
        let mut found: Vec<NodeId> = Vec::new();
        loop {
            let from = match found.last() {
                Some(last) => Bound::Excluded(named(last, AFTER_NAME)),
                None => Bound::Unbounded,
            };
            let range = (from, Bound::<Vec<u8>>::Unbounded);
            let Some(next) = self.hints.range(range).next() else {
                return Ok(found);
            };
            found.push(target(&next.key()?)?);
        }
    }

    fn meta(&self, name: &'static str) -> Result<Option<Bytes>, EngineError> {
        Ok(self.meta.get(name)?.map(|value| copied(&value)))
    }

    fn commit(&self, changes: Vec<Change>, sync: Sync) -> Result<(), EngineError> {
        self.refuse_when_full(&changes)?;
        self.ahead.make_ready(journal_bytes(&changes));
        let mut batch = self.database.batch().durability(Some(match sync {
            Sync::Disk if !Mutant::EngineIgnoresSync.is_chosen() => PersistMode::SyncData,
            Sync::Disk | Sync::Os => PersistMode::Buffer,
        }));
        for change in changes {
            match change {
                Change::Put(p, key, record) => {
                    batch.insert(&self.records, stored_key(p, &key), &*record);
                }
                Change::Remove(p, key) => batch.remove(&self.records, stored_key(p, &key)),
                Change::PutHint(target, key, record) => {
                    batch.insert(&self.hints, hint_key(&target, &key), &*record);
                }
                Change::RemoveHint(target, key) => {
                    batch.remove(&self.hints, hint_key(&target, &key));
                }
                Change::Meta(name, value) => batch.insert(&self.meta, name, &*value),
            }
        }
        // A failed write leaves part of the batch behind, which may yet be completed when the
        // journal closes: want of space in here is no different from any other failure.
        batch.commit().map_err(broken)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.database.persist(PersistMode::SyncData).map_err(broken)
    }

    fn bytes(&self) -> u64 {
        let tables = self.records.disk_space() + self.hints.disk_space() + self.meta.disk_space();
        tables + self.database.write_buffer_size()
    }
}

impl From<JournalError> for EngineError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Damaged { .. } => Self::Damaged(Box::new(error)),
            JournalError::Io { .. } => broken(error),
        }
    }
}

impl From<fjall::Error> for EngineError {
    fn from(error: fjall::Error) -> Self {
        if is_damage(&error) {
            Self::Damaged(Box::new(error))
        } else {
            broken(error)
        }
    }
}

/// Whether the disk gave something else than it was given.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "fjall may add variants; one that is not known to be damage is not treated as such"
)]
fn is_damage(error: &fjall::Error) -> bool {
    use fjall::{Error, LsmError};
    match error {
        // A file that is named in another and is not there, or too short, or not what it was.
        Error::Storage(LsmError::Io(error)) | Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::NotFound | ErrorKind::UnexpectedEof | ErrorKind::InvalidData
        ),
        Error::Storage(_)
        | Error::JournalRecovery(_)
        | Error::InvalidVersion(_)
        | Error::Decompress(_)
        | Error::InvalidTrailer
        | Error::InvalidTag(_)
        | Error::Unrecoverable => true,
        _ => false,
    }
}

fn broken(error: impl std::error::Error + Send + std::marker::Sync + 'static) -> EngineError {
    EngineError::Broken(Box::new(error))
}

/// What a batch takes in the journal, about.
fn journal_bytes(changes: &[Change]) -> u64 {
    let one = |change: &Change| {
        ITEM_BYTES
            + match change {
                Change::Put(_, key, record) | Change::PutHint(_, key, record) => {
                    key.as_bytes().len() + record.len()
                }
                Change::Remove(_, key) | Change::RemoveHint(_, key) => key.as_bytes().len(),
                Change::Meta(name, value) => name.len() + value.len(),
            }
    };
    changes.iter().map(one).sum::<usize>() as u64
}

fn prefix(partition: u16) -> Vec<u8> {
    partition.to_be_bytes().to_vec()
}

fn stored_key(partition: Partition, key: &Key) -> Vec<u8> {
    let key = key.as_bytes();
    let mut out = Vec::with_capacity(2 + key.len());
    out.put_u16(partition.number());
    out.extend_from_slice(key);
    out
}

/// Ends the target's name in the key of a hint; no name has it.
const NAME_ENDS: u8 = 0;
/// Comes after all hints of a target, and before those of any other.
const AFTER_NAME: u8 = 1;

fn named(target: &NodeId, end: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(target.as_str().len() + 1);
    out.extend_from_slice(target.as_str().as_bytes());
    out.push(end);
    out
}

fn hint_key(target: &NodeId, key: &Key) -> Vec<u8> {
    let mut out = named(target, NAME_ENDS);
    out.put_u16(key.hash().partition().number());
    out.extend_from_slice(key.as_bytes());
    out
}

fn target(hint_key: &[u8]) -> Result<NodeId, EngineError> {
    let name = hint_key.split(|byte| *byte == NAME_ENDS).next();
    let name = name.and_then(|name| std::str::from_utf8(name).ok());
    let id = name.and_then(|name| NodeId::new(name).ok());
    id.ok_or_else(|| broken(NotAKey))
}

/// The key behind so many bytes of the stored one, with its record.
fn entry((key, record): KvPair, front: usize) -> Result<Entry, EngineError> {
    let plain = key.get(front..).map(Bytes::copy_from_slice);
    match plain.map(Key::new) {
        Some(Ok(key)) => Ok((key, copied(&record))),
        Some(Err(_)) | None => Err(broken(NotAKey)),
    }
}

/// The engine's own type of bytes keeps short ones in place, which its memtable gains more by than
/// a copy costs here.
fn copied(record: &UserValue) -> Bytes {
    Bytes::copy_from_slice(record)
}

/// Something other than this program wrote into the keyspace.
#[derive(Debug, thiserror::Error)]
#[error("a stored key is none that this program makes")]
struct NotAKey;

#[cfg(test)]
mod tests;
