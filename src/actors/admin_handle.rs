//! What an operator may ask of a node, as `http` sees it.

use std::time::Instant;

use actix::{Addr, Handler, Message};
use slog::{Logger, info};

use super::admission::InFlight;
use super::anti_entropy::{self, AntiEntropy, EntropyStatus};
use super::background::Background;
use super::custodian::{self, Custodian, QuarantineStatus};
use super::health::{Health, HealthBoard};
use super::life_view::{Life, LifeView};
use super::lifecycle::{Lifecycle, ProposeChange};
use super::local_reader::LocalRecords;
use super::peer_handle::GoingDown;
use super::read_counts::{ReadCounts, ReadTotals};
use super::reaper::{self, Reaper, ReapingStatus};
use super::ring_view::{RingView, View};
use super::store_keeper::{GetLeaves, GetRoots, GetStatus, StoreKeeper, StoreStatus};
use super::surveyor::Surveyor;
use crate::dynamo::key::{Key, Partition};
use crate::dynamo::membership::lifecycle::NodeState;
use crate::dynamo::membership::promise::Loss;
use crate::dynamo::merkle::{Digest, LeafDigests};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quorum::Fault;
use crate::dynamo::ring::{Change, Ring};
use crate::dynamo::version::State;
use crate::logging::{LevelName, LogControl};
use crate::wire::state::decode_state;

/// The operators' side of a node; cheap to clone and to send to worker threads.
#[derive(Debug, Clone)]
pub struct AdminHandle {
    /// The ring in force.
    pub view: RingView,
    /// How far the node has come.
    pub life: LifeView,
    /// Whom it reaches.
    pub health: HealthBoard,
    /// When it began.
    pub started: Instant,
    /// What its reads did beside reading.
    pub reads: ReadCounts,
    /// Its client requests.
    pub in_flight: InFlight,
    /// Its work in the background.
    pub background: Background,
    /// Its store.
    pub store: Addr<StoreKeeper>,
    /// Its records.
    pub records: LocalRecords,
    /// Its comparisons with the other owners.
    pub entropy: Addr<AntiEntropy>,
    /// Its reaping of deletes.
    pub reaper: Addr<Reaper>,
    /// Its old copies.
    pub custodian: Addr<Custodian>,
    /// Its way to all members.
    pub surveyor: Addr<Surveyor>,
    /// Its part in changes of the ring.
    pub lifecycle: Addr<Lifecycle>,
    /// Its log.
    pub logs: LogControl,
    /// For what operators change.
    pub log: Logger,
}

impl AdminHandle {
    /// The ring and this node's part in it.
    #[must_use]
    pub fn view(&self) -> std::sync::Arc<View> {
        self.view.load()
    }

    /// How far the node has come.
    #[must_use]
    pub fn life(&self) -> std::sync::Arc<Life> {
        self.life.load()
    }

    /// Client requests under way, and how many there may be.
    #[must_use]
    pub fn in_flight(&self) -> (usize, usize) {
        (self.in_flight.count(), self.in_flight.capacity())
    }

    /// How the store is.
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn store(&self) -> Result<StoreStatus, GoingDown> {
        self.store.send(GetStatus).await.or(Err(GoingDown))
    }

    /// How far this node and the other owners are apart.
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn entropy(&self) -> Result<EntropyStatus, GoingDown> {
        let status = self.entropy.send(anti_entropy::GetStatus).await;
        status.or(Err(GoingDown))
    }

    /// How the copies are that this node keeps of what others own now.
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn quarantine(&self) -> Result<QuarantineStatus, GoingDown> {
        let status = self.custodian.send(custodian::GetStatus).await;
        status.or(Err(GoingDown))
    }

    /// What all members say.
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn survey<M>(&self, question: M) -> Result<M::Result, GoingDown>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        Surveyor: Handler<M>,
        <Surveyor as actix::Actor>::Context: actix::dev::ToEnvelope<Surveyor, M>,
    {
        self.surveyor.send(question).await.or(Err(GoingDown))
    }

    /// Proposes a change of the ring of this epoch; gives the epoch that it made.
    ///
    /// # Errors
    /// [`Loss`], and [`GoingDown`].
    pub async fn propose(
        &self,
        epoch: u64,
        change: Change,
    ) -> Result<Result<u64, Loss>, GoingDown> {
        let proposal = ProposeChange { epoch, change };
        self.lifecycle.send(proposal).await.or(Err(GoingDown))
    }

    /// How far the reaping of deletes is.
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn reaping(&self) -> Result<ReapingStatus, GoingDown> {
        let status = self.reaper.send(reaper::GetStatus).await;
        status.or(Err(GoingDown))
    }

    /// The digests of the partitions that this node owns; `None` for one not built yet.
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn roots(&self) -> Result<Vec<(Partition, Option<Digest>)>, GoingDown> {
        let roots = self.store.send(GetRoots).await.or(Err(GoingDown))?;
        let view = self.view.load();
        let owned = Partition::all().zip(roots).filter(|(partition, _)| {
            let ring = view.ring.as_ref();
            ring.is_some_and(|ring| ring.placement(*partition).involves(&view.me))
        });
        Ok(owned.collect())
    }

    /// The digests of a partition's leaves; `None` if they are not built yet.
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn leaves(&self, partition: Partition) -> Result<Option<LeafDigests>, GoingDown> {
        let leaves = self.store.send(GetLeaves(partition)).await;
        leaves.or(Err(GoingDown))
    }

    /// What reads did beside reading.
    #[must_use]
    pub fn reads(&self) -> ReadTotals {
        self.reads.totals()
    }

    /// Sets the level of the log. That is told at whichever level tells more.
    pub fn set_log_level(&self, level: LevelName) {
        let tell = || {
            info!(self.log, "the log level is set"; "event.action" => "log-level-set",
                "quorate.log.level" => level.as_str());
        };
        if level.0 < self.logs.level() {
            tell();
            self.logs.set_level(level.0);
        } else {
            self.logs.set_level(level.0);
            tell();
        }
    }

    /// How another node does, as this one sees it; none for this node itself.
    #[must_use]
    pub fn health_of(&self, id: &NodeId) -> Option<std::sync::Arc<Health>> {
        (*id != self.view.load().me).then(|| self.health.of(id))
    }

    /// How far a member has come, as far as the ring tells.
    #[must_use]
    pub fn state_of(&self, ring: &Ring, id: &NodeId) -> NodeState {
        let owns = || ring.placements.iter().any(|row| row.owners.contains(id));
        match ring.gains(id).next() {
            _ if ring.is_leaving(id) => NodeState::Leaving,
            _ if *id == self.view.load().me => self.life.load().state,
            Some(_) if !owns() => NodeState::Pending,
            Some(_) | None => NodeState::Ready,
        }
    }

    /// This node's own state of a key; `None` if it holds nothing.
    ///
    /// # Errors
    /// [`Fault::Broken`] when the engine cannot tell.
    pub fn replica(&self, key: &Key) -> Result<Option<State>, Fault> {
        let held = self.records.peek(key)?;
        held.map(|bytes| decode_state(&bytes).or(Err(Fault::Broken)))
            .transpose()
    }
}
