//! The engine with what is known about it, and the writes of the node's own facts.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use slog::{Logger, warn};
use tokio::time::Instant;

use super::recent::{Known, Recent};
use super::unheard::Unheard;
use super::upkeep::mark;
use crate::actors::local_reader::{LocalRecords, Stored};
use crate::clock::monotonic;
use crate::dynamo::key::Key;
use crate::dynamo::merkle::{Mark, Tree};
use crate::dynamo::node_id::{Incarnation, NodeId};
use crate::dynamo::quorum::Fault;
use crate::dynamo::version::{Actor, Context, State, is_amnesia};
use crate::metrics::histogram::Histogram;
use crate::mutant::Mutant;
use crate::storage::{
    Change, Counts, Durability, Engine, EngineError, EpochLease, HintTally, Identity, Presence,
    Sync, hint_bytes,
};
use crate::wire::record::encode_state_record;
use crate::wire::state::decode_state;

pub(super) struct Store {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) records: LocalRecords,
    pub(super) identity: Identity,
    pub(super) lease: EpochLease,
    pub(super) counts: Counts,
    pub(super) tree: Tree,
    pub(super) hints: HintTally,
    /// Since when there have been hints for a node without a break.
    pub(super) hinted_since: BTreeMap<NodeId, Instant>,
    /// What all hints may come to.
    pub(super) hint_limit: u64,
    /// Whoever commits a change of a record has taken it out of here.
    pub(super) recent: Recent,
    pub(super) unheard: Unheard,
    /// Whether records or hints have changed since the boot number last rose.
    pub(super) has_written: bool,
    pub(super) random: Box<dyn FnMut() -> u64 + Send>,
    pub(super) log: Logger,
    pub(super) commits: u64,
    pub(super) syncs: u64,
    pub(super) times: Times,
    /// Whether something acknowledged may not be on the disk.
    pub(super) unsynced: bool,
}

/// How long the engine took.
pub(super) struct Times {
    /// For a batch.
    pub(super) commits: Histogram,
    /// For what waited for the disk.
    pub(super) syncs: Histogram,
}

impl Default for Times {
    fn default() -> Self {
        let [commits, syncs] = [(); 2].map(|()| Histogram::of_durations());
        Self { commits, syncs }
    }
}

/// Where a state is kept.
pub(super) enum Place {
    /// With this node's own records.
    Record,
    /// Among the hints for this node.
    Hint(NodeId),
}

/// A record or hint as a batch will leave it.
#[derive(Clone, Default)]
pub(super) struct Entry {
    pub(super) state: State,
    pub(super) minted: Option<Actor>,
    /// What it was before the batch.
    pub(super) was: Presence,
    /// What it counts for among the hints; `None` if it is no hint, or not there.
    pub(super) weight: Option<u64>,
    /// Whether the batch changes it.
    pub(super) changed: bool,
    /// Whether the engine's record cannot be read; then nothing is done on it but to replace it.
    pub(super) damaged: bool,
    /// Whether it could not be read before the batch, so that its digest is not known.
    pub(super) was_damaged: bool,
    /// The encoded record and the encoded state in it, if an answer already needed them.
    pub(super) encoded: Option<(Bytes, Bytes)>,
    /// What stood for it in the digests before the batch.
    pub(super) mark: Mark,
}

impl Store {
    /// Commits changes of records, as durably as this run promises.
    pub(super) fn commit(&mut self, changes: Vec<Change>) -> Result<(), EngineError> {
        match self.identity.durability {
            Durability::Always if !Mutant::NoSyncBeforeAck.is_chosen() => {
                self.commit_synced(changes)
            }
            Durability::Always | Durability::Interval | Durability::Os => {
                self.commit_to(changes, Sync::Os)?;
                self.unsynced = true;
                Ok(())
            }
        }
    }

    /// Commits changes that must be on the disk whatever this run promises.
    pub(super) fn commit_synced(&mut self, changes: Vec<Change>) -> Result<(), EngineError> {
        self.commit_to(changes, Sync::Disk)?;
        self.syncs += 1;
        Ok(())
    }

    fn commit_to(&mut self, changes: Vec<Change>, sync: Sync) -> Result<(), EngineError> {
        debug_assert!(!changes.iter().any(|change| self.recent.holds(change)));
        let began = monotonic();
        match self.engine.commit(changes, sync) {
            Ok(()) => {
                self.commits += 1;
                let took = began.elapsed();
                self.times.commits.took(took);
                if sync == Sync::Disk {
                    self.times.syncs.took(took);
                }
                Ok(())
            }
            Err(error) => {
                self.recent.forget();
                Err(error)
            }
        }
    }

    pub(super) fn sync(&mut self) -> Result<(), EngineError> {
        let began = monotonic();
        self.engine.sync()?;
        self.times.syncs.took(began.elapsed());
        self.syncs += 1;
        self.unsynced = false;
        Ok(())
    }

    pub(super) fn save_identity(
        &mut self,
        change: impl FnOnce(&mut Identity),
    ) -> Result<(), EngineError> {
        let mut identity = self.identity;
        change(&mut identity);
        self.commit_synced(vec![identity.change()])?;
        self.identity = identity;
        Ok(())
    }

    /// Begins a new incarnation if a context knows writes of this node that the node does not.
    pub(super) fn heed_amnesia(
        &mut self,
        entry: &Entry,
        heard: &Context,
    ) -> Result<(), EngineError> {
        let me = self.identity.incarnation;
        let known = &entry.state.context;
        if !is_amnesia(me, self.lease.next_epoch(), entry.minted, known, heard) {
            return Ok(());
        }
        self.renew(self.identity.boot)
    }

    /// Goes on under a new incarnation, and as this start or a later one.
    pub(super) fn renew(&mut self, boot: u64) -> Result<(), EngineError> {
        let (old, renewed) = (self.identity.incarnation, Incarnation((self.random)()));
        self.save_identity(|identity| {
            identity.incarnation = renewed;
            identity.boot = identity.boot.max(boot);
        })?;
        warn!(self.log, "others know more of this node than it does itself: its store has gone \
            back in time, and it goes on under a new incarnation";
            "event.action" => "incarnation-renewed",
            "quorate.incarnation_old" => %old, "quorate.incarnation" => %renewed);
        Ok(())
    }

    /// The next epoch, leased for good and not yet taken.
    pub(super) fn lease_an_epoch(&mut self) -> Result<u64, EngineError> {
        if self.lease.is_used_up() {
            let (longer, change) = self.lease.renewed();
            if !Mutant::LeaseNotDurable.is_chosen() {
                self.commit_synced(vec![change])?;
            }
            self.lease = longer;
        }
        Ok(self.lease.next_epoch())
    }

    /// Takes over what a batch has left of hints.
    pub(super) fn note_hints(&mut self, hints: HintTally, now: Instant) {
        let since = std::mem::take(&mut self.hinted_since);
        let begun = |id: &NodeId| since.get(id).copied().unwrap_or(now);
        self.hinted_since = hints
            .iter()
            .map(|(id, _)| (id.clone(), begun(id)))
            .collect();
        self.hints = hints;
    }

    /// The state of a key as the engine has it. A damaged hint counts as missing.
    pub(super) fn load(&mut self, place: &Place, key: &Key) -> Result<Entry, EngineError> {
        let mut entry = Entry::default();
        let stored = match place {
            Place::Record => match self.recent.take(key) {
                Some(known) => return Ok(known.into()),
                None => self.records.record(key.hash().partition(), key)?,
            },
            Place::Hint(target) => {
                let stored = match self.engine.hint(target, key) {
                    Err(EngineError::Damaged(_)) => Some(Bytes::new()),
                    other => other?,
                };
                entry.weight = stored.as_deref().map(|record| hint_bytes(key, record));
                let hint = stored.and_then(|record| self.records.readable_hint(key, record));
                hint.map_or(Stored::Absent, Stored::Whole)
            }
        };
        let record = match stored {
            Stored::Absent => return Ok(entry),
            Stored::Whole(record) => record,
            Stored::Damaged => {
                (entry.damaged, entry.was_damaged) = (true, true);
                return Ok(entry);
            }
        };
        match decode_state(&record.state) {
            Ok(state) => {
                entry.was = presence(&state);
                entry.state = state;
                entry.minted = record.minted;
                entry.mark = mark(key, entry.was, &record.state);
            }
            Err(why) => {
                self.records.note_damage(key, &why);
                (entry.damaged, entry.was_damaged) = (true, true);
            }
        }
        Ok(entry)
    }
}

impl From<Known> for Entry {
    fn from(known: Known) -> Self {
        Self {
            was: presence(&known.state),
            state: known.state,
            minted: known.minted,
            mark: known.mark,
            ..Self::default()
        }
    }
}

impl Entry {
    /// What is to be remembered of a record once it is committed, with what then stands for it in
    /// the digests; nothing of one that is gone or damaged.
    pub(super) fn known(self, mark: Mark) -> Option<Known> {
        (!self.damaged && !self.state.is_empty()).then_some(Known {
            state: self.state,
            minted: self.minted,
            mark,
        })
    }

    /// Leaves nothing behind, damage neither.
    pub(super) fn vanish(&mut self) {
        self.become_state(State::default(), None);
        self.changed = true;
    }

    /// The encoded record, and the encoded state in it.
    pub(super) fn encode(&mut self) -> &(Bytes, Bytes) {
        let (state, minted) = (&self.state, self.minted);
        self.encoded
            .get_or_insert_with(|| encode_state_record(state, minted))
    }

    /// A damaged record takes no part in anything: a merge would pass its rest off as the whole,
    /// and a mint would open a dot on top of a context that is lost.
    pub(super) fn check_whole(&self) -> Result<(), Fault> {
        if self.damaged {
            Err(Fault::Damaged)
        } else {
            Ok(())
        }
    }

    /// Puts what other owners hold in the place of a damaged record.
    pub(super) fn recover(&mut self, state: State) {
        self.damaged = false;
        self.changed = true;
        // It was counted as what it was, which in all likelihood is what it now is.
        self.was = presence(&state);
        self.state = state;
        self.encoded = None;
    }

    pub(super) fn become_state(&mut self, state: State, minted: Option<Actor>) {
        if state != self.state || minted != self.minted {
            self.state = state;
            self.minted = minted;
            self.changed = true;
            self.encoded = None;
        }
    }
}

/// What a state is to a reader.
pub(super) fn presence(state: &State) -> Presence {
    if state.is_live() {
        Presence::Live
    } else if state.is_empty() {
        Presence::Absent
    } else {
        Presence::Deleted
    }
}
