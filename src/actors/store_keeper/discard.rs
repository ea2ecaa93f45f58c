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
        self.recent.forget();
        loop {
            let page = self.engine.page(partition, None, PAGE)?;
            let last = page.len() < PAGE;
            let mut counts = self.counts;
            let mut changes = Vec::with_capacity(page.len() + 1);
            for (key, record) in page {
                let state = decode_record(record).ok();
                let state = state.and_then(|record| decode_state(&record.state).ok());
                // One that cannot be read was never counted off either.
                let was = state.map_or(Presence::Absent, |state| presence(&state));
                counts.shift(was, Presence::Absent);
                changes.push(Change::Remove(partition, key));
            }
            changes.push(counts.change());
            self.commit_synced(changes)?;
            self.counts = counts;
            if last {
                self.tree.forget(partition);
                return Ok(());
            }
        }
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

impl Handler<DiscardHints> for StoreKeeper {
    type Result = Result<(), Fault>;

    fn handle(&mut self, _: DiscardHints, _: &mut Context<Self>) -> Self::Result {
        self.finish_pending()?;
        let discarded = self.store.discard_hints();
        self.discarded(discarded)
    }
}

impl StoreKeeper {
    fn discarded(&mut self, outcome: Result<(), EngineError>) -> Result<(), Fault> {
        outcome.map_err(|error| match error {
            EngineError::Damaged(_) => Fault::Damaged,
            EngineError::Full | EngineError::Broken(_) => {
                self.end_broken(&error);
                Fault::Broken
            }
        })
    }
}
