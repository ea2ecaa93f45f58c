//! Keeps the digests of the store: what a commit changes in them, and the scan that builds them in
//! short slices between the commits.

use std::time::Duration;

use actix::{AsyncContext, Context, Handler, Message, MessageResult};
use bytes::Bytes;
use tokio::time::Instant;

use super::StoreKeeper;
use super::store::{Entry, Store, presence};
use crate::dynamo::key::{Key, PARTITIONS, Partition};
use crate::dynamo::merkle::{Digest, LeafDigests, Mark, Tree, record_digest};
use crate::storage::{EngineError, Presence};
use crate::wire::record::decode_record;
use crate::wire::state::decode_state;

/// How long a slice of the scan may hold up the commits.
const SLICE: Duration = Duration::from_millis(1);
/// Between two slices: most of the thread's time stays free for commits.
const PAUSE: Duration = Duration::from_millis(3);
/// Records read at once; few, because a record may be large and a slice ends only between pages.
const PAGE: usize = 16;

/// Asks for the digest of every partition, in order; `None` for one that is not built yet.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<Option<Digest>>")]
pub struct GetRoots;

/// Asks how many records of every partition have a value, in order; `None` where that is not
/// counted yet.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<Option<u64>>")]
pub struct GetValues;

/// Asks for the digests of a partition's leaves; `None` if they are not built yet.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Option<LeafDigests>")]
pub struct GetLeaves(pub Partition);

/// Tells that what is stored of a partition is not what the digests say, as when a record turned
/// out to be damaged: they are built anew, and the owners that differ then repair it.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct RebuildDigests(pub Partition);

#[derive(Message)]
#[rtype(result = "()")]
struct Slice;

/// What one changed record changes in the digests.
pub(super) enum Redigest {
    Replace { key: Key, old: Mark, new: Mark },
    Forget(Partition),
}

impl Redigest {
    /// A damaged record's digest is not known, so its partition is built anew.
    pub(super) fn of(key: &Key, before: &Entry, new: Mark) -> Self {
        if before.was_damaged {
            return Self::Forget(key.hash().partition());
        }
        Self::Replace {
            key: key.clone(),
            old: before.mark,
            new,
        }
    }

    pub(super) fn apply(self, tree: &mut Tree) {
        match self {
            Self::Replace { key, old, new } => tree.replace(&key, old, new),
            Self::Forget(partition) => tree.forget(partition),
        }
    }
}

/// What stands for a record in the digests.
pub(super) fn mark(key: &Key, presence: Presence, state: &Bytes) -> Mark {
    match presence {
        Presence::Absent => Mark::NOTHING,
        Presence::Live | Presence::Deleted => Mark {
            digest: record_digest(key.as_bytes(), state),
            has_value: presence == Presence::Live,
        },
    }
}

impl Store {
    /// Builds for one slice.
    fn build_digests(&mut self) -> Result<(), EngineError> {
        let until = Instant::now() + SLICE;
        while let Some((partition, after)) = self.tree.next_to_build() {
            let found = match self.engine.page(partition, after.as_ref(), PAGE) {
                Ok(found) => found,
                // The digests of what can be read differ from the other owners', as they should.
                Err(EngineError::Damaged(_)) => Vec::new(),
                Err(error @ (EngineError::Full | EngineError::Broken(_))) => return Err(error),
            };
            let last = found.len() < PAGE;
            let page: Vec<(Key, Mark)> = found.into_iter().map(|e| self.marked(e)).collect();
            self.tree.build(partition, &page, last);
            if Instant::now() >= until {
                break;
            }
        }
        Ok(())
    }

    /// A damaged record counts as missing, so that it is repaired.
    fn marked(&mut self, (key, record): (Key, Bytes)) -> (Key, Mark) {
        let mark = match decode_record(record) {
            Ok(record) => record_mark(&key, &record.state),
            Err(why) => {
                self.records.note_damage(&key, &why);
                self.recent.forget();
                Mark::NOTHING
            }
        };
        (key, mark)
    }
}

/// What stands for a key with this encoded state in the digests; nothing if it cannot be read.
pub(in crate::actors) fn record_mark(key: &Key, state: &Bytes) -> Mark {
    match decode_state(state) {
        Ok(decoded) => mark(key, presence(&decoded), state),
        Err(_unreadable) => Mark::NOTHING,
    }
}

impl StoreKeeper {
    /// Has the scan go on soon, if anything is to be built and nothing has ended.
    pub(super) fn arrange_upkeep(&mut self, ctx: &mut Context<Self>) {
        let due = self.ended.is_none() && self.store.tree.next_to_build().is_some();
        if due && !self.upkeep_due {
            self.upkeep_due = true;
            ctx.notify_later(Slice, PAUSE);
        }
    }
}

impl Handler<Slice> for StoreKeeper {
    type Result = ();

    fn handle(&mut self, _: Slice, ctx: &mut Context<Self>) {
        self.upkeep_due = false;
        if self.ended.is_some() {
            return;
        }
        match self.store.build_digests() {
            Ok(()) => self.arrange_upkeep(ctx),
            Err(error) => self.end_broken(&error),
        }
    }
}

impl Handler<GetRoots> for StoreKeeper {
    type Result = MessageResult<GetRoots>;

    fn handle(&mut self, _: GetRoots, _: &mut Context<Self>) -> Self::Result {
        let mut roots = Vec::with_capacity(usize::from(PARTITIONS));
        roots.extend(Partition::all().map(|partition| self.store.tree.root(partition)));
        MessageResult(roots)
    }
}

impl Handler<GetValues> for StoreKeeper {
    type Result = MessageResult<GetValues>;

    fn handle(&mut self, _: GetValues, _: &mut Context<Self>) -> Self::Result {
        let tree = &self.store.tree;
        MessageResult(Partition::all().map(|p| tree.values(p)).collect())
    }
}

impl Handler<GetLeaves> for StoreKeeper {
    type Result = MessageResult<GetLeaves>;

    fn handle(&mut self, GetLeaves(of): GetLeaves, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.store.tree.leaves(of))
    }
}

impl Handler<RebuildDigests> for StoreKeeper {
    type Result = ();

    fn handle(&mut self, RebuildDigests(of): RebuildDigests, ctx: &mut Context<Self>) {
        self.store.tree.forget(of);
        // What was remembered of a damaged record would hide the damage from the next write.
        self.store.recent.forget();
        self.arrange_upkeep(ctx);
    }
}
