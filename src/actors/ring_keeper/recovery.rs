//! What is still to be recovered of a store that was lost or has gone back in time: noted durably
//! before anything relies on it, so that a crash half-way resumes.

use actix::prelude::{Context, Handler, Message};
use actix::{ActorFutureExt, WrapFuture};
use serde::{Deserialize, Serialize};
use slog::{info, warn};

use super::{KeeperError, Reply, RestoreError, RingKeeper, ready, respond, save};
use crate::actors::ring_view::{PartitionSet, View};
use crate::dynamo::key::Partition;
use crate::dynamo::membership::promise::Silence;
use crate::dynamo::ring::Ring;
use crate::storage::Engine;

const META_RECOVERY: &str = "recovery";

/// The store has gone back in time: every partition of this node is to be discarded and pulled
/// from its other owners, it serves none that is moving, and gives no vote for as long as it may
/// have forgotten one. Durable when answered.
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
        let before = view.clone();
        follow(view, &before, &ring, data_id);
        if view.forgetful {
            view.flipped = given(view, &ring);
        }
    }
    Ok(())
}

/// What a ring about to be in force means for the node's part in it.
pub(super) fn follow(view: &mut View, before: &View, ring: &Ring, data_id: u64) {
    if is_loss(before, ring, data_id) {
        view.recovering = owned(view, ring);
        view.flipped = given(view, ring);
    }
    if before.forgetful {
        let regained = regained(before, ring);
        view.recovering = union(&view.recovering, &regained);
        view.tainted = union(&view.tainted, &regained);
        view.flipped = flipped_at_most(before, ring);
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

/// What the node owns in the ring, and did not in the one before nor has pulled there: what it had
/// of it then is forgotten.
fn regained(view: &View, ring: &Ring) -> PartitionSet {
    let had = |p: &Partition| {
        view.ring.as_ref().is_some_and(|before| {
            let row = before.placement(*p);
            let pulled = row.is_gained_by(&view.me) && view.verified.contains(*p);
            row.owners.contains(&view.me) || pulled
        })
    };
    owned(view, ring).iter().filter(|p| !had(p)).collect()
}

/// What the node has flipped in the move of a ring, or may have: a move that it does not know yet
/// may be one that it has forgotten.
fn flipped_at_most(before: &View, ring: &Ring) -> PartitionSet {
    if is_known_move(before, ring) {
        before.flipped
    } else {
        given(before, ring)
    }
}

fn is_known_move(before: &View, ring: &Ring) -> bool {
    let known = before.ring.as_ref();
    known.is_some_and(|before| ring.goes_on_from(before))
}

fn union(a: &PartitionSet, b: &PartitionSet) -> PartitionSet {
    a.iter().chain(b.iter()).collect()
}

/// The moving partitions that the node owns. With its disk it has lost which of them it promised to
/// serve no more, so it serves none.
fn given(view: &View, ring: &Ring) -> PartitionSet {
    let moves = |p: &Partition| ring.placement(*p).incoming.is_some();
    owned(view, ring).iter().filter(moves).collect()
}

impl RingKeeper {
    /// Stores what is to be recovered, if the ring about to be stored means a loss, or shows one:
    /// before the ring, so that no crash leaves a member that does not know of its loss.
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
        let shown = view.forgetful.then(|| {
            let regained = regained(&view, ring);
            let (recovering, tainted) = (
                union(&view.recovering, &regained),
                union(&view.tainted, &regained),
            );
            let kept = is_known_move(&view, ring).then_some(view.verified);
            let flipped = flipped_at_most(&view, ring);
            let moves = self.store_moves(ring.move_epoch(), &flipped, &kept.unwrap_or_default());
            (moves, self.store_note(&recovering, &tainted))
        });
        async move {
            if let Some((moves, note)) = storing {
                moves.await?;
                note.await?;
            }
            if let Some((moves, note)) = shown {
                moves.await?;
                note.await?;
            }
            Ok(())
        }
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
        let (silence, ring) = (Silence::default(), view.ring.clone());
        view.forgetful = true;
        if let Some(ring) = &ring {
            view.recovering = owned(&view, ring);
            view.tainted = view.recovering;
            view.stale = ring.gains(&view.me).collect();
            view.flipped = given(&view, ring);
            view.verified = PartitionSet::default();
        }
        warn!(self.log, "the store has gone back in time; its partitions are pulled anew";
            "event.action" => "recovery-begun", "quorate.partitions" => view.recovering.len());
        let hushed = self.store_silence(&silence);
        let rest = ring.map(|ring| {
            let moves = self.store_moves(ring.move_epoch(), &view.flipped, &view.verified);
            let noted = self.store_note(&view.recovering, &view.tainted);
            (self.store_stale(&view), moves, noted)
        });
        let storing = async move {
            hushed.await?;
            if let Some((stale, moves, noted)) = rest {
                stale.await?;
                moves.await?;
                noted.await?;
            }
            Ok(())
        };
        respond(
            storing
                .into_actor(self)
                .map(move |stored, act: &mut Self, _| {
                    stored.map(|()| {
                        act.silence = Some(silence);
                        act.publisher.publish(view);
                    })
                }),
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
