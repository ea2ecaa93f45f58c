//! How the store is, for operators.

use std::collections::BTreeMap;

use actix::{Context, Handler, Message, MessageResult};
use serde::Serialize;

use super::work::Work;
use super::{COMMIT_OPERATIONS, HintStatus, StoreKeeper};
use crate::metrics::histogram::Shown;
use crate::storage::Durability;

/// Asks how the store is.
#[derive(Debug, Message)]
#[rtype(result = "StoreStatus")]
pub struct GetStatus;

/// How the store is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreStatus {
    /// Operations and batches that wait for the next commit.
    pub depth: usize,
    /// How many operations one commit takes.
    pub capacity: usize,
    /// Operations taken since the start.
    pub operations: u64,
    /// Batches written since the start.
    pub commits: u64,
    /// Of these and of the timed ones, how often the disk was waited for.
    pub syncs: u64,
    /// Keys with a value.
    pub keys: u64,
    /// Keys of which only the delete is left.
    pub tombstones: u64,
    /// What is kept for other nodes, by their names.
    pub hints: BTreeMap<String, HintStatus>,
    /// Hints that their owners, or all present owners, have acknowledged since the start.
    pub hints_delivered: u64,
    /// How long batches took.
    #[serde(skip)]
    pub commit_times: Shown,
    /// How long the disk was waited for.
    #[serde(skip)]
    pub sync_times: Shown,
    /// Bytes that the engine takes.
    pub bytes: u64,
    /// How many damaged records were found since the start.
    pub damaged: u64,
    /// How many of them were mended.
    pub mended: u64,
    /// The life in which this node mints, 16 hexadecimal digits.
    pub incarnation: String,
    /// The number of this start.
    pub boot: u64,
    /// `always`, `interval` or `os`.
    pub durability: &'static str,
}

impl Handler<GetStatus> for StoreKeeper {
    type Result = MessageResult<GetStatus>;

    fn handle(&mut self, _: GetStatus, _: &mut Context<Self>) -> Self::Result {
        let store = &self.store;
        MessageResult(StoreStatus {
            depth: self.pending.iter().map(Work::operations).sum(),
            capacity: COMMIT_OPERATIONS,
            operations: self.operations,
            commits: store.commits,
            syncs: store.syncs,
            keys: store.counts.live,
            tombstones: store.counts.deleted,
            hints: self.hint_status(),
            hints_delivered: self.hints_delivered,
            commit_times: store.times.commits.shown(),
            sync_times: store.times.syncs.shown(),
            bytes: store.engine.bytes(),
            damaged: store.records.damage().found(),
            mended: store.records.damage().mended(),
            incarnation: store.identity.incarnation.to_string(),
            boot: store.identity.boot,
            durability: match store.identity.durability {
                Durability::Always => "always",
                Durability::Interval => "interval",
                Durability::Os => "os",
            },
        })
    }
}
