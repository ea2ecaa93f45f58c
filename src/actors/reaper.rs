//! Forgets deletes that nobody needs any more, by the rule of [`crate::dynamo::reaping`]. Every
//! owner sweeps the tombstones it holds: the first in the ring's order leads; the others wait a
//! grace longer for each place behind it, so that they only do what the first could not.

mod answers;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use actix::prelude::{Actor, Addr, AsyncContext, Context, Handler, Message, MessageResult};
use actix::{ActorFutureExt, WrapFuture};
use serde::Serialize;
use slog::Logger;
use tokio::time::Instant;

pub use answers::{AnswerReap, AnswerSteady};

use super::background::Background;
use super::health::HealthBoard;
use super::link::Link;
use super::local_reader::LocalRecords;
use super::ring_view::RingView;
use super::store_keeper::StoreKeeper;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::reaping::{Sight, Steadiness};
use sweep::Sweeps;

/// Between two looks of a node at itself.
const LOOK: Duration = Duration::from_millis(500);
/// Sweeps in a grace.
pub const SWEEPS: u32 = 4;

/// What reaping works with.
#[derive(Debug, Clone)]
pub struct ReaperParts {
    /// Which partitions this node owns, and with whom.
    pub view: RingView,
    /// To the other members.
    pub link: Link,
    /// Who answers.
    pub health: HealthBoard,
    /// Where tombstones are.
    pub records: LocalRecords,
    /// Removes them.
    pub store: Addr<StoreKeeper>,
    /// Paces the sweeps.
    pub background: Background,
    /// How long nothing may have happened to anybody.
    pub grace: Duration,
    /// Between two sweeps; [`SWEEPS`] fit a grace.
    pub pause: Duration,
    /// Where progress is told.
    pub log: Logger,
}

/// Asks how far reaping is.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "ReapingStatus")]
pub struct GetStatus;

/// How far reaping is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReapingStatus {
    /// How long nothing may have happened to anybody, in seconds.
    pub grace_seconds: u64,
    /// For how long nothing has happened to this node, in seconds.
    pub steady_seconds: u64,
    /// Tombstones on which all owners agree, and which wait for the grace.
    pub candidates: usize,
    /// Tombstones removed under this node's lead since its start.
    pub reaped: u64,
    /// Partitions with tombstones that could not be reaped in the last sweep, by what kept them.
    pub blocked: BTreeMap<String, u64>,
}

/// The actor; see the module.
#[derive(Debug)]
pub struct Reaper {
    parts: ReaperParts,
    started: Instant,
    steadiness: Steadiness,
    status: ReapingStatus,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Swept(ReapingStatus);

/// Asks for how long this node has been steady.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Duration")]
struct GetSteady;

impl Reaper {
    /// Looks and sweeps from its start on.
    #[must_use]
    pub fn new(parts: ReaperParts) -> Self {
        Self {
            parts,
            started: Instant::now(),
            steadiness: Steadiness::default(),
            status: ReapingStatus::default(),
        }
    }

    /// Looks at itself: whatever happens between two looks is found by the later one, or has
    /// delayed it.
    fn look(&mut self) {
        let now = self.started.elapsed();
        self.steadiness.look(now, self.parts.sight());
    }

    fn steady(&self) -> Duration {
        self.steadiness.steady(self.started.elapsed())
    }
}

impl ReaperParts {
    fn sight(&self) -> Sight {
        let view = self.view.load();
        let reaches = |id: &NodeId| *id == view.me || self.health.of(id).is_reachable();
        let ring = view.ring.as_ref();
        let calm = ring.is_some_and(|ring| {
            !ring.is_moving() && ring.members.iter().all(|member| reaches(&member.id))
        });
        let lost = view.stranger || view.doubtful || !view.recovering.is_empty();
        // An engine that cannot tell is not clear.
        let hints = self.records.holds_hints().unwrap_or(true);
        Sight {
            epoch: view.epoch(),
            calm,
            clear: !lost && !hints,
        }
    }
}

impl Actor for Reaper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.look();
        ctx.run_interval(LOOK, |act, _| act.look());
        let (mut sweeps, me) = (Sweeps::new(self.parts.clone()), ctx.address().downgrade());
        let pause = self.parts.pause;
        let sweeping = async move {
            // Ends with the actor.
            loop {
                tokio::time::sleep(pause).await;
                let Some(me) = me.upgrade() else { return };
                let steady = me.send(GetSteady).await;
                let Ok(steady) = steady else { return };
                me.do_send(Swept(sweeps.sweep(steady).await));
            }
        };
        ctx.spawn(sweeping.into_actor(self).map(|(), _, _| ()));
    }
}

impl Handler<GetSteady> for Reaper {
    type Result = MessageResult<GetSteady>;

    fn handle(&mut self, _: GetSteady, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.steady())
    }
}

impl Handler<Swept> for Reaper {
    type Result = ();

    fn handle(&mut self, Swept(status): Swept, _: &mut Self::Context) {
        self.status = status;
    }
}

impl Handler<GetStatus> for Reaper {
    type Result = MessageResult<GetStatus>;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> Self::Result {
        MessageResult(ReapingStatus {
            grace_seconds: self.parts.grace.as_secs(),
            steady_seconds: self.steady().as_secs(),
            ..self.status.clone()
        })
    }
}
