//! Keeps the copies of partitions that this node owns no more for their quarantine, and then
//! removes them: page by page, as background work, and only while all present owners answer and
//! have lost nothing. Nobody gets anything of such a copy meanwhile.

#[cfg(test)]
mod tests;

use std::time::Duration;

use actix::prelude::{Actor, Addr, AsyncContext, Context, Handler, Message, ResponseFuture};
use actix::{ActorFutureExt, WrapFuture};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use slog::{Logger, info, warn};
use tokio::time::{Instant, sleep};

use super::asking::ask;
use super::background::Kind;
use super::pulling::Pulling;
use super::ring_keeper::{Cleared, RingKeeper};
use super::ring_view::{RingView, View};
use super::store_keeper::{Clear, GetValues, SaveMeta};
use crate::dynamo::key::Partition;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quarantine::{Kept, Look, Quarantine};
use crate::dynamo::ring::Ring;
use crate::storage::{Engine, EngineError};
use crate::wire::reaping::{SteadyCall, SteadyReply};

const META_QUARANTINE: &str = "quarantine";
/// Looks in a quarantine, unless they would come too often or too rarely.
const LOOKS: u32 = 24;
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long a member may take to say at which epoch it is.
const ASK_TIME: Duration = Duration::from_secs(2);

/// What the custodian works with.
#[derive(Debug, Clone)]
pub struct CustodianParts {
    /// Of which partitions there are old copies.
    pub view: RingView,
    /// To the other members, and to the store.
    pub pulling: Pulling,
    /// Told which copies are gone.
    pub ring_keeper: Addr<RingKeeper>,
    /// How long copies are kept.
    pub time: Duration,
    /// Where progress is told.
    pub log: Logger,
}

/// The actor; see the module.
#[derive(Debug)]
pub struct Custodian {
    parts: CustodianParts,
    past: Past,
    status: QuarantineStatus,
}

/// What had been kept before this start, and for how long.
#[derive(Debug, Clone, Default)]
pub struct Past(Vec<(Partition, Kept)>);

/// Asks how the quarantine is.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "QuarantineStatus")]
pub struct GetStatus;

/// The old copies of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct QuarantineStatus {
    /// How long a copy is kept once every member has acknowledged that others own it, in seconds.
    pub seconds: u64,
    /// Partitions of which there are old copies.
    pub partitions: usize,
    /// Keys with a value in them, as far as they are counted.
    pub keys: u64,
    /// Until the last of them may go, in seconds.
    pub seconds_left: u64,
    /// What holds that up.
    pub waiting_for: Option<String>,
    /// Records removed since the start.
    pub removed: u64,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Looked(QuarantineStatus);

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    partition: u16,
    epoch: u64,
    acknowledged: bool,
    waited_ms: u64,
}

impl Past {
    /// Reads back what was stored.
    ///
    /// # Errors
    /// [`EngineError`]; a past that is unreadable is one too.
    pub fn restore(engine: &dyn Engine) -> Result<Self, EngineError> {
        let Some(bytes) = engine.meta(META_QUARANTINE)? else {
            return Ok(Self::default());
        };
        let notes: Vec<Note> = rmp_serde::from_slice(&bytes)
            .map_err(|unreadable| EngineError::Broken(Box::new(unreadable)))?;
        let kept = notes.into_iter().filter_map(|note| {
            let kept = Kept {
                epoch: note.epoch,
                acknowledged: note.acknowledged,
                waited: Duration::from_millis(note.waited_ms),
            };
            Some((Partition::new(note.partition)?, kept))
        });
        Ok(Self(kept.collect()))
    }
}

impl Custodian {
    /// One that looks after the old copies from its start on.
    #[must_use]
    pub fn new(parts: CustodianParts, past: Past) -> Self {
        let status = QuarantineStatus {
            seconds: parts.time.as_secs(),
            ..QuarantineStatus::default()
        };
        Self {
            parts,
            past,
            status,
        }
    }
}

impl Actor for Custodian {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let mut rounds = Rounds::new(self.parts.clone(), std::mem::take(&mut self.past));
        let pause = (self.parts.time / LOOKS).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        let me = ctx.address().downgrade();
        let looking = async move {
            // Ends with the actor.
            loop {
                let looked = rounds.look().await;
                let Some(me) = me.upgrade() else { return };
                me.do_send(Looked(looked));
                sleep(pause).await;
            }
        };
        ctx.spawn(looking.into_actor(self).map(|(), _, _| ()));
    }
}

impl Handler<Looked> for Custodian {
    type Result = ();

    fn handle(&mut self, Looked(status): Looked, _: &mut Self::Context) {
        self.status = status;
    }
}

impl Handler<GetStatus> for Custodian {
    type Result = ResponseFuture<QuarantineStatus>;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> Self::Result {
        let (parts, looked) = (self.parts.clone(), self.status.clone());
        Box::pin(async move { parts.counted(looked).await })
    }
}

/// The looks of one node, one after the other.
struct Rounds {
    parts: CustodianParts,
    quarantine: Quarantine,
    /// What is on the disk of it.
    saved: Quarantine,
    looked: Instant,
    removed: u64,
}

impl Rounds {
    fn new(parts: CustodianParts, past: Past) -> Self {
        let quarantine = Quarantine::new(parts.time, past.0);
        Self {
            saved: quarantine.clone(),
            quarantine,
            parts,
            looked: Instant::now(),
            removed: 0,
        }
    }

    /// One look, and the removal of what may go.
    async fn look(&mut self) -> QuarantineStatus {
        let view = self.parts.view.load();
        let elapsed = self.looked.elapsed();
        self.looked = Instant::now();
        let mut waiting_for = None;
        let is_member = view.ring.as_ref().filter(|r| r.member(&view.me).is_some());
        if let Some(ring) = is_member.filter(|_| !view.stranger && !view.doubtful) {
            waiting_for = self.look_at(&view, ring, elapsed).await;
        }
        let looked = QuarantineStatus {
            seconds: self.parts.time.as_secs(),
            partitions: self.parts.view.load().leftovers.len(),
            keys: 0,
            seconds_left: self.quarantine.left().as_secs(),
            waiting_for,
            removed: self.removed,
        };
        self.parts.counted(looked).await
    }

    /// Gives what the quarantine waits for beside time.
    async fn look_at(&mut self, view: &View, ring: &Ring, elapsed: Duration) -> Option<String> {
        let full = self.parts.full(view).await;
        let look = |acknowledged, elapsed| Look {
            elapsed,
            epoch: ring.epoch,
            acknowledged,
        };
        self.quarantine
            .look(look(false, elapsed), full.iter().copied());
        let mut waiting_for = None;
        if self.quarantine.waits_for_members() {
            let behind = self.parts.behind(view, ring).await;
            let acknowledged = look(behind.is_empty(), Duration::ZERO);
            self.quarantine.look(acknowledged, full.iter().copied());
            if !behind.is_empty() {
                let names: Vec<&str> = behind.iter().map(NodeId::as_str).collect();
                let (names, epoch) = (names.join(", "), ring.epoch);
                waiting_for = Some(format!("{names} to acknowledge epoch {epoch}"));
            }
        }
        self.save().await;
        let before = self.removed;
        for partition in self.quarantine.due() {
            match self.clear(ring, partition).await {
                Ok(()) => {}
                Err(why) => waiting_for = waiting_for.or(Some(why)),
            }
        }
        if self.removed > before {
            info!(self.parts.log, "removed old copies of partitions that others own";
                "event.action" => "old-copies-removed",
                "quorate.keys.count" => self.removed - before);
        }
        waiting_for
    }

    /// Removes a copy whose time is over, or says what it waits for.
    async fn clear(&mut self, ring: &Ring, partition: Partition) -> Result<(), String> {
        self.parts.check_owners(ring, partition).await?;
        let pulling = &self.parts.pulling;
        let mut bytes = 0;
        loop {
            pulling.background.turn(Kind::Reaping, bytes).await;
            let removed = pulling.store.send(Clear(partition)).await;
            let Ok(Ok(removed)) = removed else {
                return Err("this node's own store".into());
            };
            self.removed += removed.records;
            if removed.is_empty {
                break;
            }
            bytes = removed.bytes;
        }
        self.parts.forget(partition).await;
        Ok(())
    }

    /// What was waited for is not waited for again after a restart, save for about a look's time.
    async fn save(&mut self) {
        if self.saved == self.quarantine {
            return;
        }
        let note = |(partition, kept): (Partition, Kept)| Note {
            partition: partition.number(),
            epoch: kept.epoch,
            acknowledged: kept.acknowledged,
            waited_ms: u64::try_from(kept.waited.as_millis()).unwrap_or(u64::MAX),
        };
        let notes: Vec<Note> = self.quarantine.kept().map(note).collect();
        let Ok(value) = rmp_serde::to_vec_named(&notes) else {
            return;
        };
        let save = SaveMeta {
            name: META_QUARANTINE,
            value: value.into(),
        };
        match self.parts.pulling.store.send(save).await {
            Ok(Ok(())) => self.saved = self.quarantine.clone(),
            other => warn!(self.parts.log, "the quarantine was not noted";
                "error.message" => ?other),
        }
    }
}

impl CustodianParts {
    /// What a look has found, with what there is now.
    async fn counted(&self, looked: QuarantineStatus) -> QuarantineStatus {
        let now = self.view.load().leftovers;
        let values = self.pulling.store.send(GetValues).await;
        let values = values.unwrap_or_default();
        let of = |p: Partition| values.get(p.index()).copied().flatten();
        let has_more = now.len() > looked.partitions;
        QuarantineStatus {
            partitions: now.len(),
            keys: now.iter().filter_map(of).sum(),
            seconds_left: if has_more {
                looked.seconds
            } else {
                looked.seconds_left
            },
            ..looked
        }
    }

    /// The partitions of which there is an old copy indeed; that there is none of the others is
    /// told.
    async fn full(&self, view: &View) -> Vec<Partition> {
        let mut full = Vec::new();
        for partition in view.leftovers.iter() {
            let page = self.pulling.records.scan(partition, None, 1);
            let nothing = |page: &super::local_reader::Page| {
                page.entries.is_empty() && page.damaged == 0 && page.next_after.is_none()
            };
            if page.as_ref().is_ok_and(nothing) {
                self.forget(partition).await;
            } else {
                full.push(partition);
            }
        }
        full
    }

    async fn forget(&self, partition: Partition) {
        // A ring keeper that cannot store it has ended the node.
        drop(self.ring_keeper.send(Cleared(partition)).await);
    }

    /// The members that are not known to be at this epoch.
    async fn behind(&self, view: &View, ring: &Ring) -> Vec<NodeId> {
        let call = SteadyCall {
            epoch: ring.epoch,
            partitions: Vec::new(),
        };
        let others = ring.members.iter().filter(|member| member.id != view.me);
        let asked = others.map(|member| async {
            let (link, path) = (&self.pulling.link, "/peer/v1/steady");
            let said = ask(link, (ring, &member.id), path, &call, ASK_TIME).await;
            said.map(|_: SteadyReply| ())
                .err()
                .map(|_| member.id.clone())
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Whether all present owners answer and have lost nothing; an old copy may be of use else.
    async fn check_owners(&self, ring: &Ring, partition: Partition) -> Result<(), String> {
        let row = ring.placement(partition);
        if row.incoming.is_some() {
            return Err(format!("partition {} to arrive", partition.number()));
        }
        for owner in &row.owners {
            let held = self.pulling.digest_of(ring, partition, owner).await;
            match held {
                Ok(held) if !held.recovering => {}
                Ok(_) => return Err(format!("{owner} to recover")),
                Err(_) => return Err(format!("{owner} to answer")),
            }
        }
        Ok(())
    }
}
