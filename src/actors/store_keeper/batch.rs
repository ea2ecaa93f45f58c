//! One group commit: operations in order over an overlay of the engine, so that those on one key
//! see each other, and then one batch of changes.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use slog::error;
use tokio::time::Instant;

use super::recent::Known;
use super::store::{Entry, Place, Store, presence};
use super::upkeep::{Redigest, mark};
use crate::actors::replica::{MintReply, Minted, ReplicaMint, ReplicaWrite, Terms};
use crate::actors::ring_view::View;
use crate::actors::store_keeper::Recover;
use crate::dynamo::key::{Key, Partition};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quorum::Fault;
use crate::dynamo::version::{Actor, Decided, Mint, Reason, Refused, decide, sync};
use crate::limits::SIBLINGS_MAX;
use crate::mutant::Mutant;
use crate::storage::{Change, Counts, EngineError, HintTally, Presence, hint_bytes};
use crate::wire::state::{decode_state, encode_state};

/// What an operation is answered once its batch is committed.
pub(super) struct Answer<T> {
    result: Result<T, Fault>,
    /// Whether it stands on something that only this batch makes durable.
    depends: bool,
}

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Committed {
    All,
    /// There was no space for the records; they are as they were.
    OnlyMeta,
}

/// What a batch leaves of the records it has looked at.
struct Records {
    changes: Vec<Change>,
    digests: Vec<Redigest>,
    counts: Counts,
    /// What is to be remembered of each, once it is committed.
    known: Vec<(Key, Known)>,
}

/// Why an operation has no reply.
enum Stop {
    /// It is refused.
    Refuse(Fault),
    /// The engine failed, and with it the whole batch.
    Engine(EngineError),
}

/// A batch in the making.
pub(super) struct Batch<'a> {
    store: &'a mut Store,
    view: Arc<View>,
    now: Instant,
    entries: HashMap<Key, Entry>,
    hints: HashMap<(NodeId, Key), Entry>,
    tally: HintTally,
    meta: Vec<Change>,
}

impl<T> Answer<T> {
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Answer<U> {
        Answer {
            result: self.result.map(change),
            depends: self.depends,
        }
    }

    pub(super) fn after(self, committed: Committed) -> Result<T, Fault> {
        match committed {
            Committed::OnlyMeta if self.depends => Err(Fault::StorageFull),
            Committed::All | Committed::OnlyMeta => self.result,
        }
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Refuse(fault)
    }
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Full => Self::Refuse(Fault::StorageFull),
            EngineError::Damaged(_) | EngineError::Broken(_) => Self::Engine(error),
        }
    }
}

impl<'a> Batch<'a> {
    /// A batch of about so many operations.
    pub(super) fn new(
        store: &'a mut Store,
        view: Arc<View>,
        now: Instant,
        operations: usize,
    ) -> Self {
        Self {
            tally: store.hints.clone(),
            store,
            view,
            now,
            entries: HashMap::with_capacity(operations),
            hints: HashMap::new(),
            meta: Vec::new(),
        }
    }

    pub(super) fn save_meta(&mut self, name: &'static str, value: Bytes) {
        self.meta.push(Change::Meta(name, value));
    }

    /// Merges a state, into the record or, as a fallback, into the hint.
    ///
    /// # Errors
    /// [`EngineError`] when the engine failed; then the batch must not be committed.
    pub(super) fn write(&mut self, write: &ReplicaWrite) -> Result<Answer<()>, EngineError> {
        let admitted = self.admit(&write.key, &write.terms, View::admit_write);
        self.on_entry(&write.key, admitted, |batch, entry| {
            entry.check_whole()?;
            let incoming = decode_state(&write.state).map_err(|why| {
                error!(batch.store.log, "a replica sent a state that cannot be read";
                    "error.message" => why.to_string());
                Fault::Unreachable
            })?;
            batch.store.heed_amnesia(entry, &incoming.context)?;
            if incoming != entry.state {
                entry.become_state(sync(&entry.state, &incoming), entry.minted);
            }
            Ok(())
        })
    }

    /// Puts what other owners hold in the place of a damaged record.
    ///
    /// # Errors
    /// [`EngineError`] when the engine failed; then the batch must not be committed.
    pub(super) fn recover(&mut self, recover: Recover) -> Result<Answer<()>, EngineError> {
        let admitted = self.admit(&recover.key, &recover.terms, View::admit_write);
        self.on_entry(&recover.key, admitted, |_, entry| {
            if entry.damaged {
                entry.recover(recover.state);
            } else {
                // Mended already, or known here from when it was written: it is written once more.
                entry.become_state(sync(&entry.state, &recover.state), entry.minted);
                entry.changed = true;
            }
            Ok(())
        })
    }

    /// Applies a client's write. The reply to one from afar may be lost on its way; then its
    /// coordinator asks the next owner too, and the two attempts must be told for one.
    ///
    /// # Errors
    /// [`EngineError`] when the engine failed; then the batch must not be committed.
    pub(super) fn mint(
        &mut self,
        mint: &ReplicaMint,
        afar: bool,
    ) -> Result<Answer<MintReply>, EngineError> {
        let admitted = self.admit(&mint.key, &mint.terms, View::admit_mint);
        self.on_entry(&mint.key, admitted, |batch, entry| {
            batch.mint_on(entry, &mint.mint, afar)
        })
    }

    /// Remembers the request of a mint that is in the record or hint already, whatever the ring and
    /// the mint's deadline say by now: it changes what nobody sees.
    ///
    /// # Errors
    /// [`EngineError`] when the engine failed; then the batch must not be committed.
    pub(super) fn remember(
        &mut self,
        mint: &ReplicaMint,
        place: Place,
    ) -> Result<Answer<()>, EngineError> {
        self.on_entry(&mint.key, Ok(place), |_, entry| {
            entry.check_whole()?;
            let mut state = entry.state.clone();
            state.remember(mint.mint.request.id, Reason::Doubtful);
            entry.become_state(state, entry.minted);
            Ok(())
        })
    }

    /// Removes a hint if it is still exactly what its target has acknowledged, or unreadable.
    ///
    /// # Errors
    /// [`EngineError`] when the engine failed; then the batch must not be committed.
    pub(super) fn drop_hint(
        &mut self,
        target: &NodeId,
        key: &Key,
        acknowledged: &Bytes,
    ) -> Result<Answer<()>, EngineError> {
        self.on_entry(key, Ok(Place::Hint(target.clone())), |_, entry| {
            let is_the_same = encode_state(&entry.state) == *acknowledged
                || Mutant::HintDroppedUnacknowledged.is_chosen();
            if entry.state.is_empty() || is_the_same {
                entry.vanish();
            }
            Ok(())
        })
    }

    /// Writes everything as one batch.
    ///
    /// # Errors
    /// [`EngineError`] when it is not known what was written.
    pub(super) fn commit(mut self) -> Result<Committed, EngineError> {
        let meta = std::mem::take(&mut self.meta);
        let records = self.records();
        let hints = self.hints();
        let (tally, now) = (std::mem::take(&mut self.tally), self.now);
        self.store.has_written |= !records.changes.is_empty() || !hints.is_empty();
        let synced = !meta.is_empty();
        let changes: Vec<Change> = records
            .changes
            .into_iter()
            .chain(hints)
            .chain(meta.iter().cloned())
            .collect();
        let committed = match (changes.is_empty(), synced) {
            (true, _) => Ok(()),
            (false, true) => self.store.commit_synced(changes),
            (false, false) => self.store.commit(changes),
        };
        match committed {
            Ok(()) => {
                self.store.counts = records.counts;
                for digest in records.digests {
                    digest.apply(&mut self.store.tree);
                }
                for (key, known) in records.known {
                    self.store.recent.put(&key, known);
                }
                self.store.note_hints(tally, now);
                Ok(Committed::All)
            }
            Err(EngineError::Full) => {
                if synced {
                    self.store.commit_synced(meta)?;
                }
                Ok(Committed::OnlyMeta)
            }
            Err(broken @ (EngineError::Damaged(_) | EngineError::Broken(_))) => Err(broken),
        }
    }

    fn records(&mut self) -> Records {
        let mut out = Records {
            changes: Vec::with_capacity(self.entries.len() + 1),
            digests: Vec::with_capacity(self.entries.len()),
            counts: self.store.counts,
            known: Vec::with_capacity(self.entries.len()),
        };
        for (key, mut entry) in self.entries.drain() {
            let mut stands_for = entry.mark;
            if entry.changed {
                let (partition, is) = (key.hash().partition(), presence(&entry.state));
                out.counts.shift(entry.was, is);
                let (record, state) = entry.encode().clone();
                stands_for = mark(&key, is, &state);
                out.digests.push(Redigest::of(&key, &entry, stands_for));
                out.changes.push(match is {
                    Presence::Absent => Change::Remove(partition, key.clone()),
                    Presence::Live | Presence::Deleted => {
                        Change::Put(partition, key.clone(), record)
                    }
                });
            }
            out.known
                .extend(entry.known(stands_for).map(|known| (key, known)));
        }
        if out.counts != self.store.counts {
            out.changes.push(out.counts.change());
        }
        out
    }

    /// The changed hints, and their sums.
    fn hints(&mut self) -> Vec<Change> {
        let dirty = self.hints.drain().filter(|(_, entry)| entry.changed);
        let mut changes: Vec<Change> = dirty
            .map(|((target, key), mut entry)| match entry.weight {
                None => Change::RemoveHint(target, key),
                Some(_) => Change::PutHint(target, key, entry.encode().0.clone()),
            })
            .collect();
        if self.tally != self.store.hints {
            changes.push(self.tally.change());
        }
        changes
    }

    /// Where the operation is to be done, if it may be.
    fn admit(
        &self,
        key: &Key,
        terms: &Terms,
        rule: fn(&View, Partition, &Terms) -> Result<(), Fault>,
    ) -> Result<Place, Fault> {
        if terms.deadline <= self.now {
            return Err(Fault::Overloaded);
        }
        rule(&self.view, key.hash().partition(), terms)?;
        Ok(self.place(terms))
    }

    /// Where an operation under these terms is done.
    pub(super) fn place(&self, terms: &Terms) -> Place {
        let target = self.view.stands_for(terms.set).cloned();
        target.map_or(Place::Record, Place::Hint)
    }

    /// The entry in the overlay, which is made from what the engine has when it is not there yet.
    fn take(&mut self, place: &Place, key: &Key) -> Result<Entry, EngineError> {
        let known = match place {
            Place::Record => self.entries.remove(key),
            Place::Hint(target) => self.hints.remove(&(target.clone(), key.clone())),
        };
        known.map_or_else(|| self.store.load(place, key), Ok)
    }

    fn put_back(&mut self, place: Place, key: &Key, entry: Entry) {
        match place {
            Place::Record => self.entries.insert(key.clone(), entry),
            Place::Hint(target) => self.hints.insert((target, key.clone()), entry),
        };
    }

    /// Weighs a hint that an operation has changed; one that grows must find room.
    fn weigh(&mut self, target: &NodeId, key: &Key, entry: &mut Entry) -> Result<(), Fault> {
        let was = entry.weight;
        let is = (!entry.state.is_empty()).then(|| hint_bytes(key, &entry.encode().0));
        let others = self.tally.bytes().saturating_sub(was.unwrap_or(0));
        if is > was && others + is.unwrap_or(0) > self.store.hint_limit {
            return Err(Fault::HintsFull);
        }
        self.tally.shift(target, was, is);
        entry.weight = is;
        Ok(())
    }

    /// Runs an operation on the key's entry in the overlay.
    fn on_entry<T>(
        &mut self,
        key: &Key,
        admitted: Result<Place, Fault>,
        operation: impl FnOnce(&mut Self, &mut Entry) -> Result<T, Stop>,
    ) -> Result<Answer<T>, EngineError> {
        let place = match admitted {
            Ok(place) => place,
            Err(fault) => {
                return Ok(Answer {
                    result: Err(fault),
                    depends: false,
                });
            }
        };
        let mut entry = self.take(&place, key)?;
        let mut done;
        if let Place::Hint(target) = &place {
            let before = entry.clone();
            done = operation(self, &mut entry);
            if entry.changed
                && let Err(full) = self.weigh(target, key, &mut entry)
            {
                entry = before;
                done = Err(Stop::Refuse(full));
            }
        } else {
            done = operation(self, &mut entry);
        }
        let depends = entry.changed;
        self.put_back(place, key, entry);
        match done {
            Ok(reply) => Ok(Answer {
                result: Ok(reply),
                depends,
            }),
            Err(Stop::Refuse(fault)) => Ok(Answer {
                result: Err(fault),
                depends: false,
            }),
            Err(Stop::Engine(error)) => Err(error),
        }
    }

    fn mint_on(&mut self, entry: &mut Entry, mint: &Mint, afar: bool) -> Result<MintReply, Stop> {
        entry.check_whole()?;
        let merged = mint.merged.as_ref().map(|merged| &merged.context);
        for heard in merged.into_iter().chain([&mint.seen.seen]) {
            self.store.heed_amnesia(entry, heard)?;
        }
        let (incarnation, now) = (self.store.identity.incarnation, self.now);
        let epoch = self.store.lease_an_epoch()?;
        let current = entry.minted.filter(|a| a.incarnation == incarnation);
        let lease = &mut self.store.lease;
        let open_epoch = || {
            lease.take();
            Actor { incarnation, epoch }
        };
        Ok(
            match decide(&entry.state, current, mint, SIBLINGS_MAX, open_epoch) {
                Ok(mut decided) => {
                    let unheard = &mut self.store.unheard;
                    decided.state.doubt(|id| unheard.is_overdue(id, now));
                    if afar && mint.remember != Some(Reason::Doubtful) {
                        unheard.add(mint.request.id, now);
                        let is_unheard = |id| unheard.holds(id);
                        decided.state.remember_afar(mint.request.id, is_unheard);
                    }
                    MintReply::Minted(minted(entry, decided))
                }
                Err(Refused::AlreadyExists(s)) => MintReply::AlreadyExists(encode_state(&s)),
                Err(Refused::NothingToDelete(s)) => MintReply::NothingToDelete(encode_state(&s)),
                Err(Refused::TooManySiblings(s)) => MintReply::TooManySiblings(encode_state(&s)),
                Err(Refused::RequestReused) => MintReply::RequestReused,
            },
        )
    }
}

fn minted(entry: &mut Entry, decided: Decided) -> Minted {
    entry.become_state(decided.state, decided.minted);
    Minted {
        state: entry.encode().1.clone(),
        answer: decided.answer,
        siblings: entry.state.live().len(),
    }
}
