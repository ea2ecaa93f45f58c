//! Which partitions of a move have flipped or been verified, as far as this node is concerned:
//! noted durably before anybody is told. A note holds for the whole move, also when other epochs
//! come in the middle of it.

use actix::prelude::{Context, Handler, Message};
use actix::{ActorFutureExt, WrapFuture};
use serde::{Deserialize, Serialize};

use super::{KeeperError, Reply, RestoreError, RingKeeper, ready, respond, save};
use crate::actors::ring_view::{PartitionSet, View};
use crate::dynamo::key::Partition;
use crate::dynamo::ring::Ring;
use crate::storage::Engine;
use crate::wire::transfer::FlipReply;

pub(super) const META_MOVES: &str = "moves";

/// Asks this node, as an old owner, to serve no more reads of a partition.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<FlipReply, KeeperError>")]
pub struct Flip {
    /// The epoch of the move.
    pub epoch: u64,
    /// Which partition.
    pub partition: Partition,
}

/// Notes that this node, as an owner to be, holds all of a partition.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), KeeperError>")]
pub struct Verified {
    /// The epoch of the move.
    pub epoch: u64,
    /// Which partition.
    pub partition: Partition,
}

/// The partitions of a move that are done with, as far as this node is concerned.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Moves {
    /// In which the move began.
    pub(super) epoch: u64,
    pub(super) flipped: Vec<u16>,
    pub(super) verified: Vec<u16>,
}

/// Reads the note back into a view that has its ring.
pub(super) fn restore(engine: &dyn Engine, view: &mut View) -> Result<(), RestoreError> {
    if let Some(bytes) = engine.meta(META_MOVES)? {
        let moves: Moves = rmp_serde::from_slice(&bytes)?;
        let ring = view.ring.as_ref();
        if ring.is_some_and(|ring| ring.move_epoch() == moves.epoch) {
            let set = |list: Vec<u16>| list.into_iter().filter_map(Partition::new).collect();
            view.flipped = set(moves.flipped);
            view.verified = set(moves.verified);
        }
    }
    Ok(())
}

/// Forgets the note when the ring about to be in force is of another move, or of none.
pub(super) fn follow(view: &mut View, ring: &Ring) {
    let before = view.ring.as_ref();
    if !before.is_some_and(|before| ring.goes_on_from(before)) {
        view.flipped = PartitionSet::default();
        view.verified = PartitionSet::default();
    }
}

impl RingKeeper {
    /// Stores what the view says of the move, and only then shows the view and gives the reply.
    fn publish_stored<R: 'static>(&self, view: View, reply: R) -> Reply<R> {
        let epoch = view.ring.as_ref().map_or(0, |ring| ring.move_epoch());
        let storing = self.store_moves(epoch, &view.flipped, &view.verified);
        respond(storing.into_actor(self).map(move |stored, act, _| {
            stored.map(|()| {
                act.publisher.publish(view);
                reply
            })
        }))
    }

    pub(super) fn store_moves(
        &self,
        epoch: u64,
        flipped: &PartitionSet,
        verified: &PartitionSet,
    ) -> impl Future<Output = Result<(), KeeperError>> + use<> {
        let moves = Moves {
            epoch,
            flipped: flipped.iter().map(Partition::number).collect(),
            verified: verified.iter().map(Partition::number).collect(),
        };
        let bytes = rmp_serde::to_vec_named(&moves).ok();
        save(self.store.clone(), META_MOVES, bytes)
    }
}

impl Handler<Flip> for RingKeeper {
    type Result = Reply<FlipReply>;

    fn handle(&mut self, flip: Flip, _ctx: &mut Context<Self>) -> Self::Result {
        let mut view = View::clone(&self.view());
        let Some(ring) = &view.ring else {
            return ready(Err(KeeperError::NoRing));
        };
        if ring.epoch != flip.epoch {
            return ready(Ok(FlipReply::WrongEpoch));
        }
        let placement = ring.placement(flip.partition);
        if placement.incoming.is_none() || !placement.owners.contains(&view.me) {
            return ready(Ok(FlipReply::NotMoving));
        }
        view.flipped.insert(flip.partition);
        self.publish_stored(view, FlipReply::Flipped)
    }
}

impl Handler<Verified> for RingKeeper {
    type Result = Reply<()>;

    fn handle(&mut self, verified: Verified, _ctx: &mut Context<Self>) -> Self::Result {
        let mut view = View::clone(&self.view());
        if view.epoch() != verified.epoch {
            return ready(Err(KeeperError::OtherEpoch {
                current: view.epoch(),
            }));
        }
        if view.stale.contains(verified.partition) {
            return ready(Err(KeeperError::NotStored));
        }
        view.verified.insert(verified.partition);
        self.publish_stored(view, ())
    }
}
