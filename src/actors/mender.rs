//! Mends damaged records: gets what the other owners hold of them, and has the store keeper put
//! that in their place. Until then they answer nothing and take nothing.
//!
//! What the damaged record held and nobody else has was never acknowledged: an acknowledged write
//! is on W of the N owners, so on one of any N − W + 1, and so many others are heard.

use std::time::Duration;

use actix::prelude::{Actor, Addr, AsyncContext, Context, WrapFuture};
use futures_util::future::join_all;
use slog::{Logger, debug, info};
use tokio::time::{Instant, sleep};

use super::background::{Background, Kind};
use super::link::Link;
use super::local_reader::LocalRecords;
use super::replica::Terms;
use super::ring_view::RingView;
use super::store_keeper::{Recover, StoreKeeper};
use super::worker::Quorums;
use crate::dynamo::key::Key;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quorum::Fault;
use crate::dynamo::ring::{OwnerSet, Ring};
use crate::dynamo::version::{State, sync};
use crate::wire::peer::{Action, Batch, BatchReply, Done, Op};
use crate::wire::state::decode_state;

/// What mending one record is taken to cost.
const MEND_COST: u64 = 16 << 10;
/// How long the other owners may take to answer.
const READ_TIME: Duration = Duration::from_secs(2);
/// Pause before a record that could not be mended is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Works through the damaged records, one at a time.
#[derive(Debug)]
pub struct Mender(MenderParts);

/// What the mender works with.
#[derive(Debug, Clone)]
pub struct MenderParts {
    /// Who else owns a record.
    pub view: RingView,
    /// To the other owners.
    pub link: Link,
    /// Knows the damage.
    pub records: LocalRecords,
    /// Takes what was recovered.
    pub store: Addr<StoreKeeper>,
    /// How many owners must be heard.
    pub quorums: Quorums,
    /// Tells when to go on.
    pub background: Background,
    /// Where it is told.
    pub log: Logger,
}

/// Why a record could not be mended yet.
#[derive(Debug, thiserror::Error)]
enum MendError {
    #[error("there is no ring")]
    NoRing,
    #[error("{got} of {needed} other owners told what they hold")]
    TooFew { got: usize, needed: usize },
    #[error("this node's store refuses: {0:?}")]
    Refused(Fault),
    #[error("this node is going down")]
    GoingDown,
}

/// What came of a record.
enum Mended {
    Whole,
    /// It is not this node's any more; nobody asks for it.
    NotOurs,
}

impl Mender {
    /// A mender of these records.
    #[must_use]
    pub fn new(parts: MenderParts) -> Self {
        Self(parts)
    }
}

impl Actor for Mender {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let parts = self.0.clone();
        ctx.spawn(async move { parts.mend_all().await }.into_actor(self));
    }
}

impl MenderParts {
    async fn mend_all(&self) {
        let board = self.records.damage();
        loop {
            let key = board.next().await;
            self.background.turn(Kind::Repair, MEND_COST).await;
            let hash = format!("{:016x}", key.hash().as_u64());
            match self.mend(&key).await {
                Ok(Mended::Whole) => {
                    board.done(&key, true);
                    info!(self.log, "a damaged record is mended"; "event.action" => "mended",
                        "quorate.key.hash" => hash);
                }
                Ok(Mended::NotOurs) => board.done(&key, false),
                Err(why) => {
                    debug!(self.log, "a damaged record waits"; "quorate.key.hash" => hash,
                        "error.message" => %why);
                    board.postpone(key);
                    sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    async fn mend(&self, key: &Key) -> Result<Mended, MendError> {
        let view = self.view.load();
        let ring = view.ring.as_deref().ok_or(MendError::NoRing)?;
        let placement = ring.placement(key.hash().partition());
        if !placement.involves(&view.me) {
            return Ok(Mended::NotOurs);
        }
        let owners = &placement.owners;
        let others: Vec<&NodeId> = owners.iter().filter(|id| **id != view.me).collect();
        let write = self.quorums.write.clamp(1, owners.len().max(1));
        let needed = (owners.len() + 1 - write).min(others.len()).max(1);
        let replies = join_all(others.iter().map(|owner| self.ask(ring, owner, key))).await;
        let states: Vec<State> = replies.into_iter().flatten().collect();
        let got = states.len();
        if got < needed {
            return Err(MendError::TooFew { got, needed });
        }
        let state = states.iter().fold(State::default(), |a, b| sync(&a, b));
        let recover = Recover {
            key: key.clone(),
            state,
            terms: Terms {
                epoch: ring.epoch,
                set: OwnerSet::Current,
                deadline: Instant::now() + READ_TIME,
                trace: None,
            },
        };
        let recovered = self
            .store
            .send(recover)
            .await
            .or(Err(MendError::GoingDown))?;
        recovered.map_err(MendError::Refused)?;
        Ok(Mended::Whole)
    }

    /// What another owner holds, if it tells.
    async fn ask(&self, ring: &Ring, owner: &NodeId, key: &Key) -> Option<State> {
        let member = ring.member(owner)?;
        let read = Op {
            key: key.clone(),
            set: OwnerSet::Current,
            left: READ_TIME,
            trace: None,
            action: Action::Read,
        };
        let batch = Batch {
            epoch: ring.epoch,
            ops: vec![read],
            heard: Vec::new(),
        };
        let body = batch.encode().ok()?;
        let (peer, cluster) = (&member.addresses.peer, Some(ring.cluster));
        let answer = self
            .link
            .post(peer, "/peer/v1/batch", body, cluster, READ_TIME);
        let reply = BatchReply::decode(&answer.await.ok()?).ok()?;
        match reply.results.into_iter().next()? {
            Ok(Done::Read(None)) => Some(State::default()),
            Ok(Done::Read(Some(bytes))) => decode_state(&bytes).ok(),
            Ok(_other_answer) => None,
            Err(_fault) => None,
        }
    }
}

#[cfg(test)]
mod tests;
