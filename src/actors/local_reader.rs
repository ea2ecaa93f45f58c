//! Reads of this node's own records, straight from the engine: they do not queue behind the
//! writer, and see everything that was acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::{Actor, Context, Handler};
use bytes::Bytes;
use slog::{Logger, error, warn};
use tokio::time::Instant;

use crate::actors::replica::{ReadReply, ReplicaRead};
use crate::actors::ring_view::{RingView, View};
use crate::dynamo::key::{Key, Partition};
use crate::dynamo::quorum::Fault;
use crate::storage::{Engine, EngineError};
use crate::wire::record::{Record, RecordError, decode_record};

/// This node's records, for reading. Cheap to clone; the clones count damage together.
#[derive(Clone)]
pub struct LocalRecords {
    engine: Arc<dyn Engine>,
    damaged: Arc<AtomicU64>,
    log: Logger,
}

/// Some records of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Keys and encoded states, in key order. Damaged records are left out.
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
            damaged: Arc::default(),
            log,
        }
    }

    /// Answers a replica's read. A damaged record reads as missing, so that repair replaces it.
    ///
    /// # Errors
    /// What [`View::admit_read`] refuses; [`Fault::Overloaded`] when the deadline has passed;
    /// [`Fault::Broken`] when the engine cannot tell.
    pub fn read(&self, view: &View, read: &ReplicaRead) -> Result<ReadReply, Fault> {
        if read.terms.deadline <= Instant::now() {
            return Err(Fault::Overloaded);
        }
        let partition = read.key.hash().partition();
        view.admit_read(partition, &read.terms)?;
        let record = self.engine_said(self.record(partition, &read.key))?;
        Ok(record.map(|record| record.state))
    }

    /// This node's own state of a key, whatever the ring says, encoded; for operators.
    ///
    /// # Errors
    /// [`Fault::Broken`] when the engine cannot tell.
    pub fn peek(&self, key: &Key) -> Result<ReadReply, Fault> {
        let record = self.engine_said(self.record(key.hash().partition(), key))?;
        Ok(record.map(|record| record.state))
    }

    /// At most `limit` records of a partition, in key order, after the given key.
    ///
    /// # Errors
    /// [`Fault::Broken`] when the engine cannot tell.
    pub fn scan(
        &self,
        partition: Partition,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page, Fault> {
        let found = self.engine_said(self.engine.page(partition, after, limit))?;
        let full = found.len() == limit;
        let next_after = found.last().filter(|_| full).map(|(key, _)| key.clone());
        let readable = found.into_iter().filter_map(|(key, record)| {
            let record = self.undamaged(&key, decode_record(record))?;
            Some((key, record.state))
        });
        Ok(Page {
            entries: readable.collect(),
            next_after,
        })
    }

    /// The record of a key; none if there is none, or none that can be read.
    ///
    /// # Errors
    /// [`EngineError`] when the engine cannot tell.
    pub(super) fn record(
        &self,
        partition: Partition,
        key: &Key,
    ) -> Result<Option<Record>, EngineError> {
        let found = self.engine.get(partition, key)?;
        Ok(found.and_then(|record| self.undamaged(key, decode_record(record))))
    }

    /// Counts and reports a record that cannot be read.
    pub(super) fn note_damage(&self, key: &Key, why: &dyn std::error::Error) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
        warn!(self.log, "a record is damaged and counts as missing";
            "quorate.partition" => key.hash().partition().number(),
            "quorate.key_hash" => format!("{:016x}", key.hash().as_u64()),
            "error.message" => why.to_string());
    }

    /// How many times a damaged record was met.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// The record, unless it cannot be read, which is counted and reported.
    pub(super) fn undamaged(
        &self,
        key: &Key,
        record: Result<Record, RecordError>,
    ) -> Option<Record> {
        record.inspect_err(|why| self.note_damage(key, why)).ok()
    }

    fn engine_said<T>(&self, result: Result<T, EngineError>) -> Result<T, Fault> {
        result.map_err(|why| {
            error!(self.log, "a read of the storage engine failed";
                "error.message" => why.to_string());
            Fault::Broken
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
