//! Replicas that ask the test what to answer, and the worker that coordinates them.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Context, Handler, ResponseFuture};
use bytes::Bytes;
use slog::{Discard, Logger, o};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::background::tests::background;
use super::fake_node::member;
use super::health::HealthBoard;
use super::read_counts::ReadCounts;
use super::replica::ReplicaWrite;
use super::replica::{MintReply, Minted, ReadReply, Replica, ReplicaMint, ReplicaRead};
use super::request::{Options, Read, Write};
use super::ring_view::tests::{id, ring};
use super::ring_view::{RingPublisher, View};
use super::worker::{Means, Quorums, Worker};
use crate::dynamo::key::{Key, Partition};
use crate::dynamo::node_id::{Incarnation, NodeId};
use crate::dynamo::quorum::{Acks, Fault};
use crate::dynamo::ring::Ring;
use crate::dynamo::version::{
    Actor as Writer, Body, Clock, Context as Seen, Decided, Dot, RequestId, Sibling, State,
    WriteKind, decide,
};
use crate::wire::state::encode_state;
use crate::wire::trace::TraceId;

/// Where a replica's answer goes. One that is kept back never comes, like that of a store whose
/// disk hangs; a read's times out, as a silent peer's does.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, Fault>>;

/// What a replica was asked.
#[derive(Debug)]
pub(crate) enum Asked {
    Read(ReplicaRead, Answer<ReadReply>),
    Write(ReplicaWrite, Answer<()>),
    Mint(ReplicaMint, Answer<MintReply>),
}

type Log = mpsc::UnboundedSender<(NodeId, Asked)>;

/// One replica.
struct Fake(NodeId, Log);

impl Actor for Fake {
    type Context = Context<Self>;
}

impl Fake {
    fn ask<T: 'static>(
        &self,
        asked: impl FnOnce(Answer<T>) -> Asked,
    ) -> ResponseFuture<Result<T, Fault>> {
        let (answer, outcome) = oneshot::channel();
        // A test that has ended asks nobody any more.
        drop(self.1.send((self.0.clone(), asked(answer))));
        Box::pin(async move { outcome.await.unwrap_or(Err(Fault::Broken)) })
    }
}

impl Handler<ReplicaRead> for Fake {
    type Result = ResponseFuture<Result<ReadReply, Fault>>;

    fn handle(&mut self, read: ReplicaRead, _: &mut Self::Context) -> Self::Result {
        let deadline = read.terms.deadline;
        let outcome = self.ask(|answer| Asked::Read(read, answer));
        Box::pin(async move {
            let outcome = timeout_at(deadline, outcome).await;
            outcome.unwrap_or(Err(Fault::TimedOut))
        })
    }
}

impl Handler<ReplicaWrite> for Fake {
    type Result = ResponseFuture<Result<(), Fault>>;

    fn handle(&mut self, write: ReplicaWrite, _: &mut Self::Context) -> Self::Result {
        self.ask(|answer| Asked::Write(write, answer))
    }
}

impl Handler<ReplicaMint> for Fake {
    type Result = ResponseFuture<Result<MintReply, Fault>>;

    fn handle(&mut self, mint: ReplicaMint, _: &mut Self::Context) -> Self::Result {
        self.ask(|answer| Asked::Mint(mint, answer))
    }
}

/// A worker on node `a` whose replicas are all fakes.
pub(crate) struct Stage {
    pub(crate) worker: Worker,
    pub(crate) health: HealthBoard,
    publisher: RingPublisher,
    asked: mpsc::UnboundedReceiver<(NodeId, Asked)>,
}

impl Stage {
    /// At epoch 5 every partition has these owners; R and W are 2.
    pub(crate) fn new(owners: &[&str], incoming: Option<&[&str]>) -> Self {
        let publisher = RingPublisher::new(View::without_ring(id("a")));
        let (log, asked) = mpsc::unbounded_channel();
        let connect = move |node: &NodeId| {
            let fake = Fake(node.clone(), log.clone()).start();
            Replica {
                read: fake.clone().recipient(),
                write: fake.clone().recipient(),
                mint: fake.recipient(),
            }
        };
        let health = HealthBoard::default();
        let quorums = Quorums { read: 2, write: 2 };
        let (view, board) = (publisher.view(), health.clone());
        let worker = Worker::new(
            view,
            quorums,
            Means {
                health: board,
                counts: ReadCounts::default(),
                background: background(),
            },
            Box::new(connect),
            quiet(),
        );
        let stage = Self {
            worker,
            health,
            publisher,
            asked,
        };
        stage.publish(ring(owners, incoming));
        stage
    }

    /// Puts a ring in force.
    pub(crate) fn publish(&self, ring: Ring) {
        let mut view = View::without_ring(id("a"));
        view.ring = Some(Arc::new(ring));
        self.publisher.publish(view);
    }

    /// This node has flipped all that moves.
    pub(crate) fn flip(&self) {
        let mut view = View::clone(&self.worker.view());
        view.flipped = Partition::all().collect();
        self.publisher.publish(view);
    }

    /// Five members, a to e: at epoch 5 `k` has these owners, and the others as its fallbacks, in
    /// this order.
    pub(crate) fn sloppy(owners: &[&str], fallbacks: &[&str]) -> Self {
        Self::sloppy_move(owners, None, fallbacks)
    }

    /// The same, while `k` moves.
    pub(crate) fn sloppy_move(
        owners: &[&str],
        incoming: Option<&[&str]>,
        fallbacks: &[&str],
    ) -> Self {
        let stage = Self::new(owners, incoming);
        let mut ring = ring(owners, incoming);
        ring.members = ["a", "b", "c", "d", "e"]
            .map(|name| member(name, "peer:1"))
            .into();
        let own = key("k").hash().partition().index();
        let others = fallbacks.iter().map(|name| id(name)).collect::<Vec<_>>();
        for (partition, row) in ring.placements.iter_mut().enumerate() {
            if partition != own {
                row.owners.clone_from(&others);
            }
        }
        stage.publish(ring);
        stage
    }

    /// The nodes do not answer any more, and that is known.
    pub(crate) fn lose(&self, nodes: &[&str]) {
        for node in nodes {
            self.health.of(&id(node)).failed();
        }
    }

    /// Takes the node out of its ring.
    pub(crate) fn forget_ring(&self) {
        self.publisher.publish(View::without_ring(id("a")));
    }

    /// Puts a ring of the next epoch in force.
    pub(crate) fn move_on(&self, owners: &[&str], incoming: Option<&[&str]>) {
        let mut next = ring(owners, incoming);
        next.epoch = self.worker.view().epoch() + 1;
        self.publish(next);
    }

    /// Uses up the reads that ask everybody: the next nine do not.
    pub(crate) fn past_the_tenth(&self) {
        assert!(self.worker.asks_all());
    }

    async fn next(&mut self) -> (String, Asked) {
        let (node, asked) = self.asked.recv().await.unwrap();
        (node.as_str().to_owned(), asked)
    }

    /// The next thing that a replica is asked must be a read.
    pub(crate) async fn read(&mut self) -> (String, ReplicaRead, Answer<ReadReply>) {
        match self.next().await {
            (node, Asked::Read(read, answer)) => (node, read, answer),
            other => panic!("not a read: {other:?}"),
        }
    }

    /// The next thing that a replica is asked must be a merge.
    pub(crate) async fn write(&mut self) -> (String, ReplicaWrite, Answer<()>) {
        match self.next().await {
            (node, Asked::Write(write, answer)) => (node, write, answer),
            other => panic!("not a write: {other:?}"),
        }
    }

    /// The next thing that a replica is asked must be a mint.
    pub(crate) async fn mint(&mut self) -> (String, ReplicaMint, Answer<MintReply>) {
        match self.next().await {
            (node, Asked::Mint(mint, answer)) => (node, mint, answer),
            other => panic!("not a mint: {other:?}"),
        }
    }

    /// Nobody is asked anything more without time going on.
    #[track_caller]
    pub(crate) fn assert_quiet(&mut self) {
        if let Ok(more) = self.asked.try_recv() {
            panic!("one thing too many: {more:?}");
        }
    }
}

/// A logger that says nothing.
pub(crate) fn quiet() -> Logger {
    Logger::root(Discard, o!())
}

/// Lets everything run that can, without time going on.
pub(crate) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Whether the actor has stopped once everything has run.
pub(crate) async fn has_stopped<A: Actor>(actor: &Addr<A>) -> bool {
    settle().await;
    !actor.connected()
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

pub(crate) fn options() -> Options {
    Options {
        quorum: None,
        strict: false,
        trace: TraceId::new("test").unwrap(),
    }
}

pub(crate) fn a_read() -> Read {
    Read {
        key: key("k"),
        options: options(),
    }
}

pub(crate) fn a_write(kind: WriteKind) -> Write {
    Write {
        key: key("k"),
        kind,
        clock: (kind == WriteKind::Put).then(Clock::default),
        value: (kind != WriteKind::Delete).then(|| Bytes::from_static(b"\"new\"")),
        request: None,
        options: options(),
    }
}

pub(crate) fn in_time(millis: u64) -> Instant {
    Instant::now() + Duration::from_millis(millis)
}

/// Who acknowledged while nothing moves.
pub(crate) fn at_rest(home: usize, hinted: usize) -> Acks {
    Acks {
        home,
        incoming: None,
        hinted,
    }
}

/// The first writes of some lives, each of a value that says whose it is.
pub(crate) fn state(lives: &[u64]) -> State {
    let dot = |life: u64| Dot {
        actor: Writer {
            incarnation: Incarnation(life),
            epoch: 1,
        },
        n: 1,
    };
    let sibling = |life: &u64| Sibling {
        dot: dot(*life),
        body: Body::Value(format!("\"{life}\"").into()),
        request: RequestId {
            id: u128::from(*life) << 32,
            fingerprint: 0,
        },
    };
    let vector = lives.iter().map(|life| (dot(*life).actor, 1)).collect();
    State {
        context: Seen::from_parts(vector, Vec::new()),
        siblings: lives.iter().map(sibling).collect(),
        remembered: Vec::new(),
    }
}

/// A reply to a read.
pub(crate) fn held(lives: &[u64]) -> ReadReply {
    (!lives.is_empty()).then(|| encode_state(&state(lives)))
}

/// What a replica with this record would answer to a mint, in its life 9.
pub(crate) fn minted(record: &State, asked: &ReplicaMint) -> MintReply {
    let open = || Writer {
        incarnation: Incarnation(9),
        epoch: 1,
    };
    let Decided { state, answer, .. } = decide(record, None, &asked.mint, 100, open).unwrap();
    MintReply::Minted(Minted {
        siblings: state.live().len(),
        state: encode_state(&state),
        answer,
    })
}
