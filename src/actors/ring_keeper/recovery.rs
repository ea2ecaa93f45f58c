//! What is still to be recovered of a store that was lost or has gone back in time: noted durably
//! before anything relies on it, so that a crash half-way resumes.

use std::sync::Arc;

use actix::prelude::{Context, Handler, Message};
use actix::{ActorFutureExt, WrapFuture};
use serde::{Deserialize, Serialize};
use slog::{info, warn};

use super::{KeeperError, Reply, RestoreError, RingKeeper, ready, respond, save};
use crate::actors::ring_view::{PartitionSet, View};
use crate::dynamo::key::Partition;
use crate::dynamo::ring::Ring;
use crate::storage::Engine;

const META_RECOVERY: &str = "recovery";

/// The store has gone back in time: every partition of this node is to be discarded and pulled
/// from its other owners. Durable when answered.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), KeeperError>")]
pub struct BeginRecovery;

/// The old records of a partition are gone from the store.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), KeeperError>")]
pub struct Discarded(pub Partition);

/// This node holds all of a partition again.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), KeeperError>")]
pub struct Recovered(pub Partition);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Note {
    recovering: Vec<u16>,
    tainted: Vec<u16>,
}

/// Reads the note back into a view that has its ring.
pub(super) fn restore(
    engine: &dyn Engine,
    data_id: u64,
    view: &mut View,
) -> Result<(), RestoreError> {
    if let Some(bytes) = engine.meta(META_RECOVERY)? {
        let note: Note = rmp_serde::from_slice(&bytes)?;
        let set = |list: Vec<u16>| list.into_iter().filter_map(Partition::new).collect();
        view.recovering = set(note.recovering);
        view.tainted = set(note.tainted);
    }
    if let Some(ring) = view.ring.clone() {
        follow(view, &ring, data_id);
    }
    Ok(())
}

/// What a ring about to be in force means for the node's part in it.
pub(super) fn follow(view: &mut View, ring: &Ring, data_id: u64) {
    if is_loss(view, ring, data_id) {
        view.recovering = owned(view, ring);
        view.flipped = given(view, ring);
    }
    view.stranger = is_stranger(view, ring, data_id);
    let lost = |set: &PartitionSet| -> PartitionSet {
        let here = owned(view, ring);
        set.iter().filter(|p| here.contains(*p)).collect()
    };
    (view.recovering, view.tainted) = (lost(&view.recovering), lost(&view.tainted));
}

/// Whether the ring gives this node the name of a member whose disk was lost.
fn is_loss(view: &View, ring: &Ring, data_id: u64) -> bool {
    view.stranger && !is_stranger(view, ring, data_id)
}

fn is_stranger(view: &View, ring: &Ring, data_id: u64) -> bool {
    let member = ring.member(&view.me);
    member.is_some_and(|member| member.data_id != data_id)
}

/// The partitions that the node owns; those it is about to gain are pulled as any other gain.
fn owned(view: &View, ring: &Ring) -> PartitionSet {
    let owns = |p: &Partition| ring.placement(*p).owners.contains(&view.me);
    Partition::all().filter(owns).collect()
}

/// The moving partitions that the node owns. With its disk it has lost which of them it promised to
/// serve no more, so it serves none.
fn given(view: &View, ring: &Ring) -> PartitionSet {
    let moves = |p: &Partition| ring.placement(*p).incoming.is_some();
    owned(view, ring).iter().filter(moves).collect()
}

impl RingKeeper {
    /// Stores what is to be recovered, if the ring about to be stored means a loss: before the
    /// ring, so that no crash leaves a member that does not know of its loss.
    pub(super) fn note_loss(
        &self,
        ring: &Ring,
    ) -> impl Future<Output = Result<(), KeeperError>> + use<> {
        let view = self.view();
        let loss = is_loss(&view, ring, self.data_id);
        let storing = loss.then(|| {
            let recovering = owned(&view, ring);
            warn!(self.log, "this node is the member with a lost disk; recovering its partitions";
                "event.action" => "recovery-begun", "quorate.partitions" => recovering.len());
            let (given, none) = (given(&view, ring), PartitionSet::default());
            let moves = self.store_moves(ring.move_epoch(), &given, &none);
            (moves, self.store_note(&recovering, &none))
        });
        async move {
            if let Some((moves, note)) = storing {
                moves.await?;
                note.await?;
            }
            Ok(())
        }
    }

    /// The ring under which this node may vote. One that has lost its disk has lost its promises
    /// too, and might give a second one: the others alone decide that it is the member again, and
    /// it votes from the next epoch on.
    pub(super) fn votes_on(&self) -> Option<Arc<Ring>> {
        let view = self.view();
        view.ring.clone().filter(|_| !view.stranger)
    }

    fn store_note(
        &self,
        recovering: &PartitionSet,
        tainted: &PartitionSet,
    ) -> impl Future<Output = Result<(), KeeperError>> + use<> {
        let note = Note {
            recovering: recovering.iter().map(Partition::number).collect(),
            tainted: tainted.iter().map(Partition::number).collect(),
        };
        let bytes = rmp_serde::to_vec_named(&note).ok();
        save(self.store.clone(), META_RECOVERY, bytes)
    }

    fn publish_noted(&self, view: View) -> Reply<()> {
        let storing = self.store_note(&view.recovering, &view.tainted);
        respond(
            storing
                .into_actor(self)
                .map(move |stored, act: &mut Self, _| {
                    stored?;
                    if view.recovering.is_empty() {
                        info!(act.log, "every partition is recovered";
                    "event.action" => "recovery-ended");
                    }
                    act.publisher.publish(view);
                    Ok(())
                }),
        )
    }
}

impl Handler<BeginRecovery> for RingKeeper {
    type Result = Reply<()>;

    fn handle(&mut self, _: BeginRecovery, _ctx: &mut Context<Self>) -> Self::Result {
        let mut view = View::clone(&self.view());
        let Some(ring) = view.ring.clone() else {
            return ready(Ok(()));
        };
        view.recovering = owned(&view, &ring);
        view.tainted = view.recovering;
        view.stale = ring.gains(&view.me).collect();
        view.verified = PartitionSet::default();
        warn!(self.log, "the store has gone back in time; its partitions are pulled anew";
            "event.action" => "recovery-begun", "quorate.partitions" => view.recovering.len());
        let stale = self.store_stale(&view);
        let moves = self.store_moves(ring.move_epoch(), &view.flipped, &view.verified);
        let noted = self.store_note(&view.recovering, &view.tainted);
        let storing = async move {
            stale.await?;
            moves.await?;
            noted.await
        };
        let stored = storing.into_actor(self);
        respond(
            stored
                .map(move |stored, act: &mut Self, _| stored.map(|()| act.publisher.publish(view))),
        )
    }
}

impl Handler<Discarded> for RingKeeper {
    type Result = Reply<()>;

    fn handle(&mut self, Discarded(p): Discarded, _ctx: &mut Context<Self>) -> Self::Result {
        let mut view = View::clone(&self.view());
        view.tainted.remove(p);
        self.publish_noted(view)
    }
}

impl Handler<Recovered> for RingKeeper {
    type Result = Reply<()>;

    fn handle(&mut self, Recovered(p): Recovered, _ctx: &mut Context<Self>) -> Self::Result {
        let mut view = View::clone(&self.view());
        if view.tainted.contains(p) {
            return ready(Ok(()));
        }
        view.recovering.remove(p);
        self.publish_noted(view)
    }
}
