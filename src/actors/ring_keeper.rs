//! Owns the ring: alone replaces it, keeps the promises about its next epoch, and remembers which
//! partitions of a move have flipped or been verified. Everything is on the disk before it is
//! answered or seen.

mod leftovers;
mod moves;
mod recovery;
mod silence;
#[cfg(test)]
mod tests;

pub use leftovers::Cleared;
pub use moves::{Flip, Verified};
pub use recovery::{BeginRecovery, Discarded, Recovered};
pub use silence::EpochHeard;

use std::sync::Arc;

use actix::prelude::{
    Actor, ActorFutureExt, Addr, AtomicResponse, Context, Handler, Message, Recipient, WrapFuture,
};
use slog::{Logger, error, info, warn};

use super::ring_view::{RingPublisher, View};
use super::store_keeper::{SaveMeta, StoreKeeper};
use crate::dynamo::membership::promise::{AcceptReply, Acceptor, PredictReply, Silence};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{Addresses, ClusterId, Ring};
use crate::storage::{Engine, EngineError};
use crate::wire::membership::{AcceptCall, PredictCall};
use crate::wire::ring::{RingError, decode_ring, encode_ring};

const META_RING: &str = "ring";
const META_ACCEPTOR: &str = "acceptor";

/// The one owner of the ring.
#[derive(Debug)]
pub struct RingKeeper {
    publisher: RingPublisher,
    acceptor: Acceptor,
    /// Once the store has been found to have gone back in time.
    silence: Option<Silence>,
    /// Names this node's data directory.
    data_id: u64,
    /// The cluster that the store has been of, which may be known without a ring.
    cluster: Option<ClusterId>,
    store: Addr<StoreKeeper>,
    subscribers: Vec<Recipient<RingChanged>>,
    log: Logger,
}

/// A newer ring is in force on this node, or a member of it is reached elsewhere.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct RingChanged(pub Arc<Ring>);

/// Asks to be told of every [`RingChanged`], and of the ring in force now.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Subscribe(pub Recipient<RingChanged>);

/// Puts a committed ring in force, if it is newer; answers with the epoch that is then in force.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<u64, KeeperError>")]
pub struct InstallRing(pub Ring);

/// Asks for a promise.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<PredictReply, KeeperError>")]
pub struct Predict(pub PredictCall);

/// Asks for an acceptance.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<AcceptReply, KeeperError>")]
pub struct Accept(pub AcceptCall);

/// The others vouch for this node's store: it may mint.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Vouched;

/// A member has said where it is reached now.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Announced {
    /// Which member.
    pub id: NodeId,
    /// Its addresses.
    pub addresses: Addresses,
}

/// Why the ring keeper did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeeperError {
    /// It could not be made durable, so it was not done.
    #[error("the store did not take it")]
    NotStored,
    /// There is no ring to speak of.
    #[error("this node has no ring")]
    NoRing,
    /// It may have forgotten what it has promised.
    #[error("this node may have forgotten its promises, so it gives no vote yet")]
    NoVote,
    /// The ring has moved on.
    #[error("this node is at epoch {current}")]
    OtherEpoch {
        /// The epoch in force.
        current: u64,
    },
    /// The ring is another cluster's.
    #[error("the ring belongs to another cluster")]
    OtherCluster,
    /// Another ring is in force at the same epoch, which should never be decided twice.
    #[error("this node has another ring at epoch {epoch}")]
    OtherRing {
        /// The epoch of both.
        epoch: u64,
    },
}

/// Why the ring could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What it holds is no ring.
    #[error("the stored ring is unreadable: {0}")]
    Ring(#[from] RingError),
    /// What it holds is no promise.
    #[error("the stored promise is unreadable: {0}")]
    Promise(#[from] rmp_serde::decode::Error),
}

impl RingKeeper {
    /// Reads back what was stored, publishes it, and gives the keeper. `data_id` names the data
    /// directory: a ring whose member of this name has another one does not mean this node. The
    /// identity of the node may tell its cluster even when there is no ring.
    ///
    /// # Errors
    /// [`RestoreError`] when the store cannot be read or understood.
    pub fn restore(
        engine: &dyn Engine,
        cluster: Option<ClusterId>,
        publisher: RingPublisher,
        data_id: u64,
        store: Addr<StoreKeeper>,
        log: Logger,
    ) -> Result<Self, RestoreError> {
        let mut view = View::clone(&publisher.view().load());
        view.ring = engine
            .meta(META_RING)?
            .map(|b| decode_ring(&b))
            .transpose()?
            .map(Arc::new);
        moves::restore(engine, &mut view)?;
        let silence = silence::restore(engine, &mut view)?;
        recovery::restore(engine, data_id, &mut view)?;
        leftovers::restore(engine, &mut view)?;
        let acceptor = match engine.meta(META_ACCEPTOR)? {
            Some(bytes) => rmp_serde::from_slice(&bytes)?,
            None => Acceptor::default(),
        };
        let cluster = view
            .ring
            .as_ref()
            .map_or(cluster, |ring| Some(ring.cluster));
        publisher.publish(view);
        Ok(Self {
            publisher,
            acceptor,
            silence,
            data_id,
            cluster,
            store,
            subscribers: Vec::new(),
            log,
        })
    }

    fn view(&self) -> Arc<View> {
        self.publisher.view().load()
    }

    /// Stores the acceptor and only then gives the reply. If it cannot be stored it is put back:
    /// a promise that would not survive a restart is none.
    fn bound<R: 'static>(&self, before: Acceptor, reply: R) -> Reply<R> {
        let changed = self.acceptor != before;
        let encoded = changed.then(|| rmp_serde::to_vec_named(&self.acceptor).ok());
        let storing = encoded.map(|bytes| save(self.store.clone(), META_ACCEPTOR, bytes));
        let stored = async move {
            match storing {
                Some(storing) => storing.await,
                None => Ok(()),
            }
        };
        respond(stored.into_actor(self).map(move |stored, act, _| {
            if stored.is_err() {
                act.acceptor = before;
            }
            stored.map(|()| reply)
        }))
    }

    fn put_in_force(&mut self, ring: Ring) -> u64 {
        self.cluster = Some(ring.cluster);
        let (before, ring) = (self.view(), Arc::new(ring));
        let mut view = View::clone(&before);
        moves::follow(&mut view, &ring);
        leftovers::follow(&mut view, &ring);
        recovery::follow(&mut view, &before, &ring, self.data_id);
        view.forgetful = silence::is_forgetful(self.silence.as_ref(), Some(&ring));
        view.ring = Some(ring.clone());
        self.publisher.publish(view);
        info!(self.log, "ring changed"; "event.action" => "ring-changed",
            "quorate.ring.epoch" => ring.epoch, "quorate.ring.hash" => %ring.hash(),
            "quorate.ring.members" => ring.members.len());
        if ring.members.len() < ring.replicas {
            warn!(self.log, "under-replicated: the ring has fewer members than a key has replicas";
                "quorate.ring.members" => ring.members.len(),
                "quorate.ring.replicas" => ring.replicas);
        }
        self.tell(&ring);
        ring.epoch
    }

    fn tell(&self, ring: &Arc<Ring>) {
        for subscriber in &self.subscribers {
            subscriber.do_send(RingChanged(ring.clone()));
        }
    }
}

/// An answer that no other message overtakes: the mailbox waits for it. Changes of the ring are
/// rare, and never on the way of a client's request.
type Reply<R> = AtomicResponse<RingKeeper, Result<R, KeeperError>>;

fn respond<R: 'static>(
    future: impl actix::fut::ActorFuture<RingKeeper, Output = Result<R, KeeperError>> + 'static,
) -> Reply<R> {
    AtomicResponse::new(Box::pin(future))
}

fn ready<R: 'static>(reply: Result<R, KeeperError>) -> Reply<R> {
    AtomicResponse::new(Box::pin(actix::fut::ready(reply)))
}

async fn save(
    store: Addr<StoreKeeper>,
    name: &'static str,
    value: Option<Vec<u8>>,
) -> Result<(), KeeperError> {
    let value = value.ok_or(KeeperError::NotStored)?.into();
    let stored = store
        .send(SaveMeta { name, value })
        .await
        .or(Err(KeeperError::NotStored))?;
    stored.or(Err(KeeperError::NotStored))
}

impl Actor for RingKeeper {
    type Context = Context<Self>;
}

impl Handler<Subscribe> for RingKeeper {
    type Result = ();

    fn handle(&mut self, Subscribe(subscriber): Subscribe, _ctx: &mut Self::Context) {
        if let Some(ring) = &self.view().ring {
            subscriber.do_send(RingChanged(ring.clone()));
        }
        self.subscribers.push(subscriber);
    }
}

impl Handler<InstallRing> for RingKeeper {
    type Result = Reply<u64>;

    fn handle(&mut self, InstallRing(ring): InstallRing, _ctx: &mut Self::Context) -> Self::Result {
        if self.cluster.is_some_and(|own| own != ring.cluster) {
            error!(self.log, "a ring of another cluster was refused";
                "quorate.cluster" => %ring.cluster, "quorate.ring.epoch" => ring.epoch);
            return ready(Err(KeeperError::OtherCluster));
        }
        if let Some(current) = &self.view().ring {
            if current.epoch == ring.epoch && current.hash() != ring.hash() {
                let (ours, theirs) = (current.hash(), ring.hash());
                error!(self.log, "two rings are said to be of one epoch; the other was refused";
                    "quorate.ring.epoch" => ring.epoch, "quorate.ring.hash" => %ours,
                    "quorate.ring.refused_hash" => %theirs);
                return ready(Err(KeeperError::OtherRing { epoch: ring.epoch }));
            }
            if current.epoch >= ring.epoch {
                return ready(Ok(current.epoch));
            }
        }
        let (noting, store) = (self.note_loss(&ring), self.store.clone());
        let returning = self.note_returning(&ring);
        let silence = self.silence_under(&ring);
        let hushing = silence.as_ref().map(|silence| self.store_silence(silence));
        let storing = async move {
            noting.await?;
            returning.await?;
            if let Some(hushing) = hushing {
                hushing.await?;
            }
            save(store, META_RING, encode_ring(&ring).ok())
                .await
                .map(|()| ring)
        };
        respond(storing.into_actor(self).map(|stored, act, _| {
            stored.map(|ring| {
                act.silence = silence.or(act.silence.take());
                act.put_in_force(ring)
            })
        }))
    }
}

impl Handler<Predict> for RingKeeper {
    type Result = Reply<PredictReply>;

    fn handle(&mut self, Predict(call): Predict, _ctx: &mut Self::Context) -> Self::Result {
        let ring = match self.votes_on() {
            Ok(ring) => ring,
            Err(why) => return ready(Err(why)),
        };
        let before = self.acceptor.clone();
        let reply = self
            .acceptor
            .predict(&ring, call.epoch, &call.ballot, &call.proposal);
        self.bound(before, reply)
    }
}

impl Handler<Accept> for RingKeeper {
    type Result = Reply<AcceptReply>;

    fn handle(&mut self, Accept(call): Accept, _ctx: &mut Self::Context) -> Self::Result {
        let ring = match self.votes_on() {
            Ok(ring) => ring,
            Err(why) => return ready(Err(why)),
        };
        let before = self.acceptor.clone();
        let reply = self
            .acceptor
            .accept(&ring, call.epoch, &call.ballot, &call.proposal);
        self.bound(before, reply)
    }
}

impl Handler<Vouched> for RingKeeper {
    type Result = ();

    fn handle(&mut self, _: Vouched, _ctx: &mut Self::Context) {
        let mut view = View::clone(&self.view());
        view.doubtful = false;
        self.publisher.publish(view);
    }
}

impl Handler<Announced> for RingKeeper {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, announced: Announced, _ctx: &mut Self::Context) -> Self::Result {
        let mut view = View::clone(&self.view());
        let known = view
            .ring
            .as_ref()
            .and_then(|ring| ring.member(&announced.id));
        let news = known.is_some_and(|member| member.addresses != announced.addresses);
        let Some(mut ring) = view.ring.as_deref().cloned().filter(|_| news) else {
            return AtomicResponse::new(Box::pin(actix::fut::ready(())));
        };
        for member in ring.members.iter_mut().filter(|m| m.id == announced.id) {
            member.addresses = announced.addresses.clone();
        }
        let storing = save(self.store.clone(), META_RING, encode_ring(&ring).ok());
        let stored = storing
            .into_actor(self)
            .map(move |stored, act: &mut Self, _| match stored {
                Ok(()) => {
                    info!(act.log, "a member is reached elsewhere"; "quorate.peer" => %announced.id,
                    "quorate.address.peer" => &announced.addresses.peer);
                    let ring = Arc::new(ring);
                    view.ring = Some(ring.clone());
                    act.publisher.publish(view);
                    // Whoever proposes the next ring goes by these addresses, and hands them on.
                    act.tell(&ring);
                }
                Err(error) => warn!(act.log, "addresses not stored"; "error.message" => %error),
            });
        AtomicResponse::new(Box::pin(stored))
    }
}
