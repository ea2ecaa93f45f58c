//! The one actor that writes to the engine. It takes what has gathered in its mailbox, applies it
//! in order, commits it as one batch with one sync, and only then answers: group commit.

mod batch;
mod discard;
mod messages;
mod reap;
mod recent;
mod status;
mod store;
#[cfg(test)]
mod tests;
mod unheard;
mod upkeep;
mod work;

pub use discard::{Clear, Discard, DiscardHints, Removed};
pub use reap::Reap;
pub use status::{GetStatus, StoreStatus};
pub(super) use upkeep::record_mark;
pub use upkeep::{GetLeaves, GetRoots, GetValues, RebuildDigests};

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter, AsyncContext, Context, Handler, Message};
use slog::{Logger, crit, info};
use tokio::time::Instant;

use crate::actors::deferred::Deferred;
use crate::actors::local_reader::LocalRecords;
use crate::actors::replica::{MintReply, ReplicaMint, ReplicaWrite};
use crate::actors::ring_view::RingView;
use crate::dynamo::merkle::Tree;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quorum::Fault;
use crate::storage::{
    Counts, Durability, Engine, EngineError, EpochLease, HintSum, HintTally, Identity,
    IdentityError,
};
use batch::Batch;
pub use messages::{
    Apply, CountOn, Drain, DropHints, HintStatus, NoteCluster, NoteClusterError, Recover,
    RenewIncarnation, SaveMeta, StoreOp, StoreReply,
};
use recent::Recent;
use store::{Store, Times};
use unheard::Unheard;
use work::Work;

/// Most operations in one commit; a peer's batch that is larger makes a commit of its own.
pub const COMMIT_OPERATIONS: usize = 256;

/// Most bytes of values and states in one commit, but for a single larger batch.
pub const COMMIT_BYTES: usize = 1 << 20;

/// A store that had so many operations in its last commit waits [`GATHER_TIME`] before the next.
const BUSY_COMMIT: usize = 4;

/// Well below the time that a sync takes on a fast disk, a little above a round between nodes.
const GATHER_TIME: Duration = Duration::from_micros(300);

/// What is kept of the records written last.
const RECENT_BYTES: usize = 8 << 20;

/// How often [`Durability::Interval`] brings everything to the disk.
pub const SYNC_INTERVAL: Duration = Duration::from_millis(200);

/// What a store keeper is made of.
pub struct StoreParts {
    /// Where records are.
    pub engine: Arc<dyn Engine>,
    /// The same engine for reading; the damage that both meet is counted together.
    pub records: LocalRecords,
    /// Which partitions are this node's.
    pub view: RingView,
    /// As [`Identity::begin`] gave it.
    pub identity: Identity,
    /// What the hints for other nodes may come to, in bytes; beyond it they are refused.
    pub hint_bytes: u64,
    /// Random numbers for new incarnations.
    pub random: Box<dyn FnMut() -> u64 + Send>,
    /// Ends the process: called once, with the reason, when the engine can be trusted no longer.
    pub on_fatal: Box<dyn Fn(&str) + Send>,
    /// Where to tell what happens.
    pub log: Logger,
}

/// The only writer of the node's engine; see the module's text.
pub struct StoreKeeper {
    store: Store,
    view: RingView,
    pending: VecDeque<Work>,
    commit_due: bool,
    upkeep_due: bool,
    /// Operations in the last commit.
    last_commit: usize,
    gathered: bool,
    ended: Option<Ended>,
    operations: u64,
    hints_delivered: u64,
    on_fatal: Box<dyn Fn(&str) + Send>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Drained,
    Broken,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Commit;

impl StoreKeeper {
    /// Starts the keeper on a thread of its own, because it blocks while the disk works.
    ///
    /// # Errors
    /// [`IdentityError`] when the engine's metadata cannot be read.
    pub fn start(parts: StoreParts) -> Result<Addr<Self>, IdentityError> {
        let lease = EpochLease::resume(&*parts.engine)?;
        let counts = Counts::read(&*parts.engine)?;
        let hints = HintTally::read(&*parts.engine)?;
        let thread = Arbiter::new();
        let make = move |_: &mut Context<Self>| Self::new(parts, lease, counts, hints);
        Ok(Self::start_in_arbiter(&thread.handle(), make))
    }

    fn new(parts: StoreParts, lease: EpochLease, counts: Counts, hints: HintTally) -> Self {
        let mut keeper = Self {
            store: Store {
                engine: parts.engine,
                records: parts.records,
                identity: parts.identity,
                lease,
                counts,
                tree: Tree::default(),
                hints: HintTally::default(),
                hinted_since: BTreeMap::new(),
                hint_limit: parts.hint_bytes,
                recent: Recent::new(RECENT_BYTES),
                unheard: Unheard::default(),
                has_written: false,
                random: parts.random,
                log: parts.log,
                commits: 0,
                syncs: 0,
                times: Times::default(),
                unsynced: false,
            },
            view: parts.view,
            pending: VecDeque::new(),
            commit_due: false,
            upkeep_due: false,
            last_commit: 0,
            gathered: false,
            ended: None,
            operations: 0,
            hints_delivered: 0,
            on_fatal: parts.on_fatal,
        };
        keeper.store.note_hints(hints, Instant::now());
        keeper
    }

    fn hint_status(&self) -> BTreeMap<String, HintStatus> {
        let status = |(target, sum): (&NodeId, &HintSum)| {
            let since = self.store.hinted_since.get(target);
            let status = HintStatus {
                count: sum.count,
                bytes: sum.bytes,
                oldest_seconds: since.map_or(0, |since| since.elapsed().as_secs()),
            };
            (target.to_string(), status)
        };
        self.store.hints.iter().map(status).collect()
    }

    /// The mailbox hands over everything that waits in it before the commit is reached.
    fn queue(&mut self, work: Work, ctx: &mut Context<Self>) {
        self.operations += work.operations() as u64;
        self.pending.push_back(work);
        self.arrange_commit(ctx);
    }

    fn arrange_commit(&mut self, ctx: &mut Context<Self>) {
        if !self.commit_due && !self.pending.is_empty() {
            self.commit_due = true;
            ctx.notify(Commit);
        }
    }

    /// Whether a busy store should wait once for more to sync together. A sync costs about as much
    /// for one operation as for twenty, and whoever is answered now soon writes again.
    fn should_gather(&mut self) -> bool {
        let syncs = self.store.identity.durability == Durability::Always;
        let waiting = self.pending.iter().map(Work::operations).sum::<usize>();
        let busy = self.last_commit >= BUSY_COMMIT && waiting < COMMIT_OPERATIONS;
        self.gathered = syncs && busy && self.ended.is_none() && !self.gathered;
        self.gathered
    }

    /// Takes from the front of the queue as much as one commit may hold.
    fn take_group(&mut self) -> Vec<Work> {
        let (mut operations, mut bytes) = (0, 0);
        let mut fits = |work: &mut Work| {
            let first = operations == 0;
            operations += work.operations();
            bytes += work.bytes();
            first || (operations <= COMMIT_OPERATIONS && bytes <= COMMIT_BYTES)
        };
        std::iter::from_fn(|| self.pending.pop_front_if(&mut fits)).collect()
    }

    /// Commits what was asked before something that is done by itself.
    fn finish_pending(&mut self) -> Result<(), Fault> {
        while self.ended.is_none() && !self.pending.is_empty() {
            self.commit();
        }
        if self.ended.is_some() {
            return Err(Fault::Broken);
        }
        Ok(())
    }

    fn commit(&mut self) {
        let group = self.take_group();
        self.last_commit = group.iter().map(Work::operations).sum();
        match self.ended {
            Some(Ended::Drained) => group.into_iter().for_each(Work::refuse),
            Some(Ended::Broken) => {}
            None => {
                if let Err(error) = self.commit_group(group) {
                    self.end_broken(&error);
                }
            }
        }
    }

    /// On an error nobody of the group is answered: what became of it is not known.
    fn commit_group(&mut self, group: Vec<Work>) -> Result<(), EngineError> {
        let mut batch = Batch::new(
            &mut self.store,
            self.view.load(),
            Instant::now(),
            self.last_commit,
        );
        let mut decided = Vec::with_capacity(group.len());
        for work in group {
            decided.push(work.decide(&mut batch)?);
        }
        let committed = batch.commit()?;
        for work in decided {
            // First of all: nothing may replace what is not remembered yet.
            if let Some(unheard) = work.answer(committed) {
                self.pending.push_front(unheard);
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), EngineError> {
        while self.ended.is_none() && !self.pending.is_empty() {
            self.commit();
        }
        self.store.sync()?;
        self.store
            .save_identity(|identity| identity.clean_shutdown = true)
    }

    fn end_broken(&mut self, error: &EngineError) {
        self.ended = Some(Ended::Broken);
        self.pending.clear();
        let reason = format!("the store of this node cannot be trusted any longer: {error}");
        crit!(self.store.log, "the storage engine failed; this node ends";
            "error.message" => &reason);
        (self.on_fatal)(&reason);
    }
}

impl Actor for StoreKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.arrange_upkeep(ctx);
        if self.store.identity.durability == Durability::Interval {
            ctx.run_interval(SYNC_INTERVAL, |keeper, _| {
                if keeper.ended.is_none()
                    && keeper.store.unsynced
                    && let Err(error) = keeper.store.sync()
                {
                    keeper.end_broken(&error);
                }
            });
        }
    }
}

impl Handler<ReplicaWrite> for StoreKeeper {
    type Result = Deferred<Result<(), Fault>>;

    fn handle(&mut self, write: ReplicaWrite, ctx: &mut Context<Self>) -> Self::Result {
        let (reply, deferred) = Deferred::new();
        self.queue(Work::Write(write, reply), ctx);
        deferred
    }
}

impl Handler<ReplicaMint> for StoreKeeper {
    type Result = Deferred<Result<MintReply, Fault>>;

    fn handle(&mut self, mint: ReplicaMint, ctx: &mut Context<Self>) -> Self::Result {
        let (reply, deferred) = Deferred::new();
        self.queue(Work::Mint(Box::new(mint), reply), ctx);
        deferred
    }
}

impl Handler<Apply> for StoreKeeper {
    type Result = Deferred<Vec<Result<StoreReply, Fault>>>;

    fn handle(&mut self, batch: Apply, ctx: &mut Context<Self>) -> Self::Result {
        let (reply, deferred) = Deferred::new();
        self.store.unheard.heard(&batch.heard);
        self.queue(Work::Batch(batch.ops, reply), ctx);
        deferred
    }
}

impl Handler<Recover> for StoreKeeper {
    type Result = Deferred<Result<(), Fault>>;

    fn handle(&mut self, recover: Recover, ctx: &mut Context<Self>) -> Self::Result {
        let (reply, deferred) = Deferred::new();
        self.queue(Work::Recover(Box::new(recover), reply), ctx);
        deferred
    }
}

impl Handler<SaveMeta> for StoreKeeper {
    type Result = Deferred<Result<(), Fault>>;

    fn handle(&mut self, meta: SaveMeta, ctx: &mut Context<Self>) -> Self::Result {
        let (reply, deferred) = Deferred::new();
        self.queue(Work::Meta(meta, reply), ctx);
        deferred
    }
}

impl Handler<DropHints> for StoreKeeper {
    type Result = Deferred<Result<(), Fault>>;

    fn handle(&mut self, drop: DropHints, ctx: &mut Context<Self>) -> Self::Result {
        let (reply, deferred) = Deferred::new();
        self.hints_delivered += drop.acknowledged.len() as u64;
        self.queue(Work::DropHints(drop, reply), ctx);
        deferred
    }
}

impl Handler<NoteCluster> for StoreKeeper {
    type Result = Result<(), NoteClusterError>;

    fn handle(&mut self, note: NoteCluster, _: &mut Context<Self>) -> Self::Result {
        match (self.ended, self.store.identity.cluster) {
            (Some(_), _) => Err(NoteClusterError::Ended),
            (None, Some(known)) if known == note.cluster => Ok(()),
            (None, Some(known)) => Err(NoteClusterError::Other(known)),
            (None, None) => self
                .store
                .save_identity(|identity| identity.cluster = Some(note.cluster))
                .map_err(|error| {
                    self.end_broken(&error);
                    NoteClusterError::Ended
                }),
        }
    }
}

impl Handler<RenewIncarnation> for StoreKeeper {
    type Result = Result<(), Fault>;

    fn handle(&mut self, renew: RenewIncarnation, _: &mut Context<Self>) -> Self::Result {
        if self.ended.is_some() {
            return Err(Fault::Broken);
        }
        self.store.renew(renew.boot).map_err(|error| {
            self.end_broken(&error);
            Fault::Broken
        })
    }
}

impl Handler<CountOn> for StoreKeeper {
    type Result = Result<u64, Fault>;

    fn handle(&mut self, _: CountOn, _: &mut Context<Self>) -> Self::Result {
        if self.ended.is_some() {
            return Err(Fault::Broken);
        }
        if !std::mem::take(&mut self.store.has_written) {
            return Ok(self.store.identity.boot);
        }
        match self.store.save_identity(|identity| identity.boot += 1) {
            Ok(()) => Ok(self.store.identity.boot),
            Err(EngineError::Full) => Err(Fault::StorageFull),
            Err(error) => {
                self.end_broken(&error);
                Err(Fault::Broken)
            }
        }
    }
}

impl Handler<Drain> for StoreKeeper {
    type Result = Result<(), Fault>;

    fn handle(&mut self, _: Drain, _: &mut Context<Self>) -> Self::Result {
        match self.ended {
            Some(Ended::Drained) => return Ok(()),
            Some(Ended::Broken) => return Err(Fault::Broken),
            None => {}
        }
        if let Err(error) = self.finish() {
            self.end_broken(&error);
        }
        if self.ended.is_some() {
            return Err(Fault::Broken);
        }
        self.ended = Some(Ended::Drained);
        info!(self.store.log, "the store is on the disk");
        Ok(())
    }
}

impl Handler<Commit> for StoreKeeper {
    type Result = ();

    fn handle(&mut self, _: Commit, ctx: &mut Context<Self>) {
        if self.should_gather() {
            std::thread::sleep(GATHER_TIME);
            return ctx.notify(Commit);
        }
        self.commit_due = false;
        self.commit();
        self.arrange_commit(ctx);
        self.arrange_upkeep(ctx);
    }
}
