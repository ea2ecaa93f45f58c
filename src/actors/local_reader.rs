//! Reads of this node's own records, straight from the engine: they do not queue behind the
//! writer, and see everything that was acknowledged.

use std::sync::Arc;

use actix::{Actor, Context, Handler};
use bytes::Bytes;
use slog::{Logger, error, warn};
use tokio::time::Instant;

use crate::actors::damage::DamageBoard;
use crate::actors::replica::{ReadReply, ReplicaRead};
use crate::actors::ring_view::{RingView, View};
use crate::dynamo::key::{Key, Partition};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quorum::Fault;
use crate::dynamo::ring::OwnerSet;
use crate::dynamo::version::{State, sync};
use crate::storage::{Engine, EngineError};
use crate::wire::record::{Record, RecordError, decode_record};
use crate::wire::state::{decode_state, encode_state};

/// This node's records, for reading. Cheap to clone; the clones know of damage together.
#[derive(Clone)]
pub struct LocalRecords {
    engine: Arc<dyn Engine>,
    damage: DamageBoard,
    log: Logger,
}

/// What the engine holds under a key.
pub(super) enum Stored {
    /// Nothing.
    Absent,
    /// A record.
    Whole(Record),
    /// Something that is not what was written.
    Damaged,
}

/// Some records of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Keys and encoded states, in key order. Damaged records are left out.
    pub entries: Vec<(Key, Bytes)>,
    /// How many damaged records were left out.
    pub damaged: usize,
    /// Where the next page begins: after this key. `None` when this was the last page.
    pub next_after: Option<Key>,
}

/// Some of the hints for a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HintPage {
    /// Keys and encoded states, by partition and key. The state of a damaged hint is empty bytes.
    pub entries: Vec<(Key, Bytes)>,
    /// Where the next page begins: after this key. `None` when this was the last page.
    pub next_after: Option<Key>,
}

impl std::fmt::Debug for LocalRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LocalRecords")
    }
}

impl LocalRecords {
    /// The records that the engine holds.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, log: Logger) -> Self {
        Self {
            engine,
            damage: DamageBoard::default(),
            log,
        }
    }

    /// Answers a replica's read: an owner's with its record, a fallback's with all hints it has for
    /// the key. A damaged record is a fault: what it held may be what the reader must not miss.
    ///
    /// # Errors
    /// What [`View::admit_read`] refuses; [`Fault::Overloaded`] when the deadline has passed;
    /// [`Fault::Damaged`]; [`Fault::Broken`] when the engine cannot tell.
    pub fn read(&self, view: &View, read: &ReplicaRead) -> Result<ReadReply, Fault> {
        if read.terms.deadline <= Instant::now() {
            return Err(Fault::Overloaded);
        }
        let partition = read.key.hash().partition();
        view.admit_read(partition, &read.terms)?;
        if let OwnerSet::Fallback(_) = read.terms.set {
            return self.hinted(&read.key);
        }
        self.state(partition, &read.key)
    }

    /// This node's own state of a key, whatever the ring says, encoded.
    ///
    /// # Errors
    /// [`Fault::Damaged`]; [`Fault::Broken`] when the engine cannot tell.
    pub fn peek(&self, key: &Key) -> Result<ReadReply, Fault> {
        self.state(key.hash().partition(), key)
    }

    /// Whether anything is kept here for another node.
    ///
    /// # Errors
    /// [`Fault::Broken`] when the engine cannot tell.
    pub fn holds_hints(&self) -> Result<bool, Fault> {
        Ok(!self.hint_targets()?.is_empty())
    }

    /// At most `limit` records of a partition, in key order, after the given key.
    ///
    /// # Errors
    /// [`Fault::Damaged`], [`Fault::Broken`] when the engine cannot tell.
    pub fn scan(
        &self,
        partition: Partition,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page, Fault> {
        let found = self.engine_said(self.engine.page(partition, after, limit))?;
        let full = found.len() == limit;
        let next_after = found.last().filter(|_| full).map(|(key, _)| key.clone());
        let (mut entries, mut damaged) = (Vec::with_capacity(found.len()), 0);
        for (key, record) in found {
            match decode_record(record) {
                Ok(record) => entries.push((key, record.state)),
                Err(why) => {
                    self.note_damage(&key, &why);
                    damaged += 1;
                }
            }
        }
        Ok(Page {
            entries,
            damaged,
            next_after,
        })
    }

    /// The merged hints for a key, whomever they are for, encoded.
    ///
    /// # Errors
    /// [`Fault::Broken`] when the engine cannot tell.
    pub fn hinted(&self, key: &Key) -> Result<ReadReply, Fault> {
        let mut merged: Option<State> = None;
        for target in self.hint_targets()? {
            let hint = self.engine_said(self.engine.hint(&target, key))?;
            let hint = hint.and_then(|record| self.readable_hint(key, record));
            let state = hint.and_then(|hint| decode_state(&hint.state).ok());
            merged = match (merged, state) {
                (Some(one), Some(other)) => Some(sync(&one, &other)),
                (one, other) => one.or(other),
            };
        }
        Ok(merged.as_ref().map(encode_state))
    }

    /// The nodes that hints are kept for.
    ///
    /// # Errors
    /// [`Fault::Broken`] when the engine cannot tell.
    pub fn hint_targets(&self) -> Result<Vec<NodeId>, Fault> {
        self.engine_said(self.engine.hint_targets())
    }

    /// At most `limit` hints for a node, after the given key.
    ///
    /// # Errors
    /// [`Fault::Broken`] when the engine cannot tell.
    pub fn hints(
        &self,
        target: &NodeId,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<HintPage, Fault> {
        let found = self.engine_said(self.engine.hints(target, after, limit))?;
        let full = found.len() == limit;
        let next_after = found.last().filter(|_| full).map(|(key, _)| key.clone());
        let readable = found.into_iter().map(|(key, record)| {
            let record = self.readable_hint(&key, record);
            (key, record.map(|r| r.state).unwrap_or_default())
        });
        Ok(HintPage {
            entries: readable.collect(),
            next_after,
        })
    }

    /// The parts of a hint. One that cannot be read is as good as missing: no owner is asked for
    /// it, since each of them has its own record, or another hint.
    pub(super) fn readable_hint(&self, key: &Key, record: Bytes) -> Option<Record> {
        let told = |why: &RecordError| {
            warn!(self.log, "a hint is damaged and counts as missing";
                "quorate.partition" => key.hash().partition().number(),
                "quorate.key.hash" => format!("{:016x}", key.hash().as_u64()),
                "error.message" => why.to_string());
        };
        decode_record(record).inspect_err(told).ok()
    }

    /// The record of a key.
    ///
    /// # Errors
    /// [`EngineError`] when the engine cannot tell.
    pub(super) fn record(&self, partition: Partition, key: &Key) -> Result<Stored, EngineError> {
        let record = match self.engine.get(partition, key) {
            Ok(None) => return Ok(Stored::Absent),
            Ok(Some(record)) => record,
            Err(EngineError::Damaged(why)) => {
                self.note_damage(key, &*why);
                return Ok(Stored::Damaged);
            }
            Err(other @ (EngineError::Full | EngineError::Broken(_))) => return Err(other),
        };
        Ok(self.opened(key, record))
    }

    /// The parts of a record, if it is what was written.
    pub(super) fn opened(&self, key: &Key, record: Bytes) -> Stored {
        match decode_record(record) {
            Ok(record) => Stored::Whole(record),
            Err(why) => {
                self.note_damage(key, &why);
                Stored::Damaged
            }
        }
    }

    fn state(&self, partition: Partition, key: &Key) -> Result<ReadReply, Fault> {
        match self.engine_said(self.record(partition, key))? {
            Stored::Absent => Ok(None),
            Stored::Whole(record) => Ok(Some(record.state)),
            Stored::Damaged => Err(Fault::Damaged),
        }
    }

    /// Notes a record that cannot be read; counted and logged when it is met for the first time.
    pub(super) fn note_damage(&self, key: &Key, why: &dyn std::error::Error) {
        if self.damage.met(key) {
            warn!(self.log, "a record is damaged; the other owners are asked for it";
                "quorate.partition" => key.hash().partition().number(),
                "quorate.key.hash" => format!("{:016x}", key.hash().as_u64()),
                "error.message" => why.to_string());
        }
    }

    /// The damaged records met so far.
    #[must_use]
    pub fn damage(&self) -> &DamageBoard {
        &self.damage
    }

    fn engine_said<T>(&self, result: Result<T, EngineError>) -> Result<T, Fault> {
        result.map_err(|why| {
            error!(self.log, "a read of the storage engine failed";
                "error.message" => why.to_string());
            match why {
                EngineError::Damaged(_) => Fault::Damaged,
                EngineError::Full | EngineError::Broken(_) => Fault::Broken,
            }
        })
    }
}

/// The local replica's reads as an actor: one for each HTTP worker, started on its thread.
pub struct LocalReader {
    records: LocalRecords,
    view: RingView,
}

impl LocalReader {
    /// A reader of these records, under the current ring.
    #[must_use]
    pub fn new(records: LocalRecords, view: RingView) -> Self {
        Self { records, view }
    }
}

impl Actor for LocalReader {
    type Context = Context<Self>;
}

impl Handler<ReplicaRead> for LocalReader {
    type Result = Result<ReadReply, Fault>;

    fn handle(&mut self, read: ReplicaRead, _: &mut Context<Self>) -> Self::Result {
        self.records.read(&self.view.load(), &read)
    }
}
