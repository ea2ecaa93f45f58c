//! Keeps what the listeners need to know at every request: whether this node is ready, and the
//! codec of the cluster's clocks.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::{Actor, Addr, AsyncContext, Context, Handler};
use arc_swap::ArcSwapOption;
use slog::{Logger, error, info};
use tokio::sync::watch;

use super::handle::Readiness;
use super::health::HealthBoard;
use super::life_view::LifeView;
use super::lifecycle::Drain;
use super::ring_keeper::RingChanged;
use super::ring_view::{RingView, View};
use super::store_keeper::{NoteCluster, StoreKeeper};
use super::worker::Quorums;
use crate::dynamo::membership::lifecycle::NodeState;
use crate::wire::clock::ClockCodec;

/// How often readiness is looked at; health checks come once a second.
const INTERVAL: Duration = Duration::from_millis(200);

/// The actor; see the module.
pub struct ReadinessKeeper {
    parts: ReadinessParts,
    draining: bool,
}

/// What readiness follows from, and where it goes.
pub struct ReadinessParts {
    /// The ring.
    pub view: RingView,
    /// How far the node has come.
    pub life: LifeView,
    /// Whom it reaches.
    pub health: HealthBoard,
    /// How many owners a request needs.
    pub quorums: Quorums,
    /// Notes the cluster for good.
    pub store: Addr<StoreKeeper>,
    /// The cluster's secret.
    pub secret: Box<[u8]>,
    /// Where the codec goes.
    pub clocks: Arc<ArcSwapOption<ClockCodec>>,
    /// Where readiness goes.
    pub readiness: watch::Sender<Readiness>,
    /// Where changes are told.
    pub log: Logger,
}

impl ReadinessKeeper {
    /// A keeper that says NEW until it knows better.
    #[must_use]
    pub fn new(parts: ReadinessParts) -> Self {
        Self {
            parts,
            draining: false,
        }
    }

    fn look(&self) {
        let now = self.readiness();
        let changed = self.parts.readiness.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
        if changed {
            info!(self.parts.log, "readiness changed";
                "event.action" => "readiness-changed", "quorate.readiness" => now.as_str());
        }
    }

    fn readiness(&self) -> Readiness {
        match self.parts.life.load().state {
            _ if self.draining => Readiness::Draining,
            NodeState::New => Readiness::New,
            NodeState::Pending => Readiness::Pending,
            NodeState::Leaving => Readiness::Leaving,
            NodeState::Ready if !self.is_whole() => Readiness::Pending,
            NodeState::Ready if self.reaches_quorums() => Readiness::Ready,
            NodeState::Ready => Readiness::NoQuorum,
        }
    }

    /// Whether the others have judged this start, and nothing is to be recovered.
    fn is_whole(&self) -> bool {
        let view = self.parts.view.load();
        !view.doubtful && view.recovering.is_empty()
    }

    /// Whether a quorum is within reach for most of the keys. With some owners dead every node of a
    /// larger ring misses some keys' quorums; taking all of them out of rotation would help nobody.
    fn reaches_quorums(&self) -> bool {
        let view = self.parts.view.load();
        let Some(ring) = &view.ring else { return false };
        let quorums = self.parts.quorums;
        let reached = |owners: &[_]| {
            let needed = quorums.read.max(quorums.write).min(owners.len());
            owners.iter().filter(|id| self.reaches(&view, id)).count() >= needed
        };
        let within = ring
            .placements
            .iter()
            .filter(|row| reached(&row.owners))
            .count();
        within * 2 > ring.placements.len()
    }

    fn reaches(&self, view: &View, id: &crate::dynamo::node_id::NodeId) -> bool {
        *id == view.me || self.parts.health.of(id).is_reachable()
    }
}

impl Actor for ReadinessKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(INTERVAL, |act, _| act.look());
    }
}

impl Handler<RingChanged> for ReadinessKeeper {
    type Result = ();

    fn handle(&mut self, RingChanged(ring): RingChanged, _ctx: &mut Self::Context) {
        if self.parts.clocks.load().is_some() {
            return;
        }
        let codec = ClockCodec::new(&self.parts.secret, ring.cluster);
        self.parts.clocks.store(Some(Arc::new(codec)));
        let noting = self.parts.store.send(NoteCluster {
            cluster: ring.cluster,
        });
        let log = self.parts.log.clone();
        actix::spawn(async move {
            if let Ok(Err(refused)) = noting.await {
                error!(log, "the cluster was not noted"; "error.message" => %refused);
            }
        });
    }
}

impl Handler<Drain> for ReadinessKeeper {
    type Result = ();

    fn handle(&mut self, _: Drain, _ctx: &mut Self::Context) {
        self.draining = true;
        self.look();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::fake::quiet;
    use crate::actors::fake_node::{FakeNode, ring_of};
    use crate::actors::life_view::{Life, LifePublisher};
    use crate::actors::ring_view::tests::id;

    #[actix::test]
    async fn readiness_follows_life_reach_and_the_end() {
        let node = FakeNode::new("a");
        let members = ["a", "b", "c"].map(|name| (name, "127.0.0.1:1"));
        let ring = ring_of(&members, &["a", "b", "c"], None);
        node.install(ring.clone()).await;
        let (life, health) = (LifePublisher::default(), HealthBoard::default());
        let (tell, mut readiness) = watch::channel(Readiness::Draining);
        let clocks = Arc::new(ArcSwapOption::empty());
        let keeper = ReadinessKeeper::new(ReadinessParts {
            view: node.view.clone(),
            life: life.view(),
            health: health.clone(),
            quorums: Quorums { read: 2, write: 2 },
            store: node.store.clone(),
            secret: b"secret".as_slice().into(),
            clocks: clocks.clone(),
            readiness: tell,
            log: quiet(),
        });
        let keeper = keeper.start();
        let enter = |state| {
            life.publish(Life {
                state,
                waiting: None,
                programs: std::collections::BTreeMap::new(),
            });
        };
        let steps: [(&dyn Fn(), Readiness); 6] = [
            (&|| enter(NodeState::New), Readiness::New),
            (&|| enter(NodeState::Pending), Readiness::Pending),
            (&|| enter(NodeState::Ready), Readiness::Ready),
            (
                &|| ["b", "c"].iter().for_each(|n| health.of(&id(n)).failed()),
                Readiness::NoQuorum,
            ),
            (&|| health.of(&id("c")).answered(INTERVAL), Readiness::Ready),
            (&|| enter(NodeState::Leaving), Readiness::Leaving),
        ];
        for (row, (change, expected)) in steps.into_iter().enumerate() {
            change();
            readiness.changed().await.unwrap();
            assert_eq!(*readiness.borrow_and_update(), expected, "step {row}");
        }
        assert!(clocks.load().is_none());
        keeper.send(RingChanged(Arc::new(ring))).await.unwrap();
        assert!(clocks.load().is_some());
        keeper.send(Drain).await.unwrap();
        assert_eq!(*readiness.borrow(), Readiness::Draining);
    }
}
