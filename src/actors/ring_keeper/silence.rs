//! The node's vote about the next ring, and its silence once its store has gone back in time: noted
//! before anything else is done about that, so that no crash makes it vote as it once did.

use std::sync::Arc;

use actix::prelude::{Context, Handler, Message};
use actix::{ActorFutureExt, WrapFuture};
use serde::{Deserialize, Serialize};

use super::{KeeperError, Reply, RestoreError, RingKeeper, ready, respond, save};
use crate::actors::ring_view::View;
use crate::dynamo::membership::promise::Silence;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::Ring;
use crate::storage::Engine;

pub(super) const META_SILENCE: &str = "silence";

/// A node has told which epoch is in force there. Durable when answered, if it matters.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), KeeperError>")]
pub struct EpochHeard {
    /// Who.
    pub from: NodeId,
    /// Which.
    pub epoch: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Note {
    heard: Vec<(String, u64)>,
    through: Option<u64>,
}

/// Reads the note back, and what it means for a view that has its ring.
pub(super) fn restore(
    engine: &dyn Engine,
    view: &mut View,
) -> Result<Option<Silence>, RestoreError> {
    let Some(bytes) = engine.meta(META_SILENCE)? else {
        return Ok(None);
    };
    let note: Note = rmp_serde::from_slice(&bytes)?;
    let named = |(name, epoch): (String, u64)| NodeId::new(&name).ok().map(|id| (id, epoch));
    let heard = note.heard.into_iter().filter_map(named);
    let silence = Silence::from_parts(heard, note.through);
    view.forgetful = is_forgetful(Some(&silence), view.ring.as_deref());
    Ok(Some(silence))
}

/// Whether what the store has forgotten can still matter under this ring.
pub(super) fn is_forgetful(silence: Option<&Silence>, ring: Option<&Ring>) -> bool {
    silence.is_some_and(|silence| ring.is_none_or(|ring| !silence.is_over(ring)))
}

impl RingKeeper {
    /// The ring under which this node may vote. One that has lost its disk, or whose store has gone
    /// back in time, has lost promises too, and might give a second one: the first votes from the
    /// epoch after the one that makes it the member again, the second see [`Silence`].
    pub(super) fn votes_on(&self) -> Result<Arc<Ring>, KeeperError> {
        let view = self.view();
        let ring = view.ring.clone().ok_or(KeeperError::NoRing)?;
        let silent = self.silence.as_ref().is_some_and(|s| s.binds(&ring));
        if view.stranger || view.doubtful || silent {
            return Err(KeeperError::NoVote);
        }
        Ok(ring)
    }

    /// Stores the silence, and only then keeps it.
    pub(super) fn store_silence(
        &self,
        silence: &Silence,
    ) -> impl Future<Output = Result<(), KeeperError>> + use<> {
        let named = |(id, epoch): (&NodeId, u64)| (id.to_string(), epoch);
        let note = Note {
            heard: silence.heard().map(named).collect(),
            through: silence.through(),
        };
        save(
            self.store.clone(),
            META_SILENCE,
            rmp_serde::to_vec_named(&note).ok(),
        )
    }

    /// The silence as it will be under a ring about to be stored, if that changes it.
    pub(super) fn silence_under(&self, ring: &Ring) -> Option<Silence> {
        let mut silence = self.silence.clone()?;
        silence.follow(&self.view().me, ring);
        (Some(&silence) != self.silence.as_ref()).then_some(silence)
    }
}

impl Handler<EpochHeard> for RingKeeper {
    type Result = Reply<()>;

    fn handle(&mut self, heard: EpochHeard, _ctx: &mut Context<Self>) -> Self::Result {
        let view = self.view();
        let Some(mut silence) = self.silence.clone().filter(|_| view.forgetful) else {
            return ready(Ok(()));
        };
        silence.hear(heard.from, heard.epoch);
        if let Some(ring) = &view.ring {
            silence.follow(&view.me, ring);
        }
        if Some(&silence) == self.silence.as_ref() {
            return ready(Ok(()));
        }
        let storing = self.store_silence(&silence);
        respond(
            storing
                .into_actor(self)
                .map(move |stored, act: &mut Self, _| stored.map(|()| act.silence = Some(silence))),
        )
    }
}
