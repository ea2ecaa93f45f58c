//! Which partitions this node may have records of that it owns no more, and which of these it gains
//! again: their old copy must not be taken for the truth, for what is deleted in it may have been
//! forgotten by the owners since. It is noted, by the move that brings the partition back, before
//! that ring is in force.

use actix::ActorFutureExt;
use actix::WrapFuture;
use actix::prelude::{Context, Handler, Message};
use serde::{Deserialize, Serialize};

use super::{KeeperError, Reply, RestoreError, RingKeeper, respond, save};
use crate::actors::ring_view::{PartitionSet, View};
use crate::dynamo::key::Partition;
use crate::dynamo::ring::Ring;
use crate::storage::{Engine, EngineError};

const META_RETURNING: &str = "returning";

/// Nothing is left of the old copy of a partition. Durable when answered.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), KeeperError>")]
pub struct Cleared(pub Partition);

/// Old copies to be discarded, by the epoch in which the move began that brings them back.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Note {
    moves: Vec<(u64, Vec<u16>)>,
}

/// Finds what is left in the store, and reads the note back into a view that has its ring.
pub(super) fn restore(engine: &dyn Engine, view: &mut View) -> Result<(), RestoreError> {
    let Some(ring) = view.ring.clone() else {
        return Ok(());
    };
    for partition in Partition::all().filter(|p| !ring.placement(*p).involves(&view.me)) {
        match engine.page(partition, None, 1) {
            Ok(page) if page.is_empty() => {}
            Ok(_) | Err(EngineError::Damaged(_)) => view.leftovers.insert(partition),
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(bytes) = engine.meta(META_RETURNING)? {
        let note: Note = rmp_serde::from_slice(&bytes)?;
        let now = ring.move_epoch();
        let noted = note.moves.into_iter().filter(|(epoch, _)| *epoch == now);
        let noted = noted.flat_map(|(_, partitions)| partitions);
        let gains = |p: &Partition| ring.placement(*p).is_gained_by(&view.me);
        view.stale = noted.filter_map(Partition::new).filter(gains).collect();
    }
    Ok(())
}

/// What a ring about to be in force makes of the old copies.
pub(super) fn follow(view: &mut View, ring: &Ring) {
    let (leftovers, stale) = afterwards(view, ring);
    (view.leftovers, view.stale) = (leftovers, stale);
}

/// Where all owners were forgotten an old copy is better than none; there it is used.
fn afterwards(view: &View, ring: &Ring) -> (PartitionSet, PartitionSet) {
    let was_here = |p: Partition| {
        let before = view.ring.as_ref();
        before.is_some_and(|before| before.placement(p).involves(&view.me))
    };
    let (mut leftovers, mut stale) = (PartitionSet::default(), PartitionSet::default());
    for p in Partition::all() {
        let (row, is_old) = (
            ring.placement(p),
            view.leftovers.contains(p) || view.has_old_copy(p),
        );
        if !row.involves(&view.me) && (is_old || was_here(p)) {
            leftovers.insert(p);
        } else if row.is_gained_by(&view.me) && is_old {
            stale.insert(p);
        }
    }
    (leftovers, stale)
}

impl RingKeeper {
    /// Stores which old copies the ring about to be stored brings back. What is noted of the move
    /// before holds until that ring is stored.
    pub(super) fn note_returning(
        &self,
        ring: &Ring,
    ) -> impl Future<Output = Result<(), KeeperError>> + use<> {
        let view = self.view();
        let (_, stale) = afterwards(&view, ring);
        let before = view.ring.as_ref().map(|ring| ring.move_epoch());
        let moves = [
            (before.unwrap_or(0), view.stale),
            (ring.move_epoch(), stale),
        ];
        let storing = (!stale.is_empty()).then(|| self.store_returning(&moves));
        async move {
            match storing {
                Some(storing) => storing.await,
                None => Ok(()),
            }
        }
    }

    /// Stores the old copies of the move under way.
    pub(super) fn store_stale(
        &self,
        view: &View,
    ) -> impl Future<Output = Result<(), KeeperError>> + use<> {
        let epoch = view.ring.as_ref().map_or(0, |ring| ring.move_epoch());
        self.store_returning(&[(epoch, view.stale)])
    }

    fn store_returning(
        &self,
        moves: &[(u64, PartitionSet)],
    ) -> impl Future<Output = Result<(), KeeperError>> + use<> {
        let numbers = |set: &PartitionSet| set.iter().map(Partition::number).collect();
        let moves = moves.iter().map(|(epoch, set)| (*epoch, numbers(set)));
        let note = Note {
            moves: moves.collect(),
        };
        let bytes = rmp_serde::to_vec_named(&note).ok();
        save(self.store.clone(), META_RETURNING, bytes)
    }
}

impl Handler<Cleared> for RingKeeper {
    type Result = Reply<()>;

    fn handle(&mut self, Cleared(partition): Cleared, _ctx: &mut Context<Self>) -> Self::Result {
        let mut view = View::clone(&self.view());
        let returns = view.stale.contains(partition);
        view.leftovers.remove(partition);
        view.stale.remove(partition);
        let storing = returns.then(|| self.store_stale(&view));
        let stored = async move {
            match storing {
                Some(storing) => storing.await,
                None => Ok(()),
            }
        };
        respond(
            stored
                .into_actor(self)
                .map(move |stored, act: &mut Self, _| stored.map(|()| act.publisher.publish(view))),
        )
    }
}
