//! Removes what comes from an older store: the records of a partition, and all hints.

use actix::{Context, Handler, Message};
use tokio::time::Instant;

use super::StoreKeeper;
use super::store::{Store, presence};
use crate::dynamo::key::Partition;
use crate::dynamo::quorum::Fault;
use crate::storage::{Change, EngineError, Presence, hint_bytes};
use crate::wire::record::decode_record;
use crate::wire::state::decode_state;

/// Records removed in one commit.
const PAGE: usize = 256;

/// Removes every record of a partition, durably. Only before the other owners give theirs.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), Fault>")]
pub struct Discard(pub Partition);

/// Removes some records of a partition that this node does not own, durably; and none once it is an
/// owner, or one to be that has begun to pull.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Removed, Fault>")]
pub struct Clear(pub Partition);

/// What was removed in one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// How many records.
    pub records: u64,
    /// Bytes of keys and records.
    pub bytes: u64,
    /// Whether nothing is left.
    pub is_empty: bool,
}

/// Removes all hints, durably. Only while none is taken.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), Fault>")]
pub struct DiscardHints;

impl Store {
    fn discard_hints(&mut self) -> Result<(), EngineError> {
        for target in self.engine.hint_targets()? {
            loop {
                let page = self.engine.hints(&target, None, PAGE)?;
                let mut tally = self.hints.clone();
                let mut changes = Vec::with_capacity(page.len() + 1);
                for (key, record) in page {
                    tally.shift(&target, Some(hint_bytes(&key, &record)), None);
                    changes.push(Change::RemoveHint(target.clone(), key));
                }
                if changes.is_empty() {
                    break;
                }
                changes.push(tally.change());
                self.commit_synced(changes)?;
                self.note_hints(tally, Instant::now());
            }
        }
        Ok(())
    }

    fn discard(&mut self, partition: Partition) -> Result<(), EngineError> {
        while !self.discard_some(partition)?.is_empty {}
        Ok(())
    }

    /// One commit of it.
    fn discard_some(&mut self, partition: Partition) -> Result<Removed, EngineError> {
        let page = self.engine.page(partition, None, PAGE)?;
        let mut removed = Removed {
            records: page.len() as u64,
            bytes: 0,
            is_empty: page.len() < PAGE,
        };
        let mut counts = self.counts;
        let mut changes = Vec::with_capacity(page.len() + 1);
        for (key, record) in page {
            removed.bytes += (key.as_bytes().len() + record.len()) as u64;
            let state = decode_record(record).ok();
            let state = state.and_then(|record| decode_state(&record.state).ok());
            // One that cannot be read was never counted off either.
            let was = state.map_or(Presence::Absent, |state| presence(&state));
            counts.shift(was, Presence::Absent);
            self.recent.take(&key);
            changes.push(Change::Remove(partition, key));
        }
        if !changes.is_empty() {
            changes.push(counts.change());
            self.commit_synced(changes)?;
            self.counts = counts;
        }
        if removed.is_empty {
            self.tree.forget(partition);
        }
        Ok(removed)
    }
}

impl Handler<Discard> for StoreKeeper {
    type Result = Result<(), Fault>;

    fn handle(&mut self, Discard(partition): Discard, ctx: &mut Context<Self>) -> Self::Result {
        self.finish_pending()?;
        let discarded = self.store.discard(partition);
        self.arrange_upkeep(ctx);
        self.discarded(discarded)
    }
}

impl Handler<Clear> for StoreKeeper {
    type Result = Result<Removed, Fault>;

    fn handle(&mut self, Clear(partition): Clear, ctx: &mut Context<Self>) -> Self::Result {
        self.finish_pending()?;
        if !self.view.load().may_clear(partition) {
            return Err(Fault::NotReady);
        }
        let removed = self.store.discard_some(partition);
        self.arrange_upkeep(ctx);
        self.discarded(removed)
    }
}

impl Handler<DiscardHints> for StoreKeeper {
    type Result = Result<(), Fault>;

    fn handle(&mut self, _: DiscardHints, _: &mut Context<Self>) -> Self::Result {
        self.finish_pending()?;
        let discarded = self.store.discard_hints();
        self.discarded(discarded)
    }
}

impl StoreKeeper {
    fn discarded<T>(&mut self, outcome: Result<T, EngineError>) -> Result<T, Fault> {
        outcome.map_err(|error| match error {
            EngineError::Damaged(_) => Fault::Damaged,
            EngineError::Full | EngineError::Broken(_) => {
                self.end_broken(&error);
                Fault::Broken
            }
        })
    }
}
