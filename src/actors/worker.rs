//! What one HTTP worker thread has at hand to coordinate requests: the ring's snapshot, the way to
//! every replica, and the defaults.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use slog::{Logger, o};

use super::background::Background;
use super::health::HealthBoard;
use super::read_counts::ReadCounts;
use super::replica::Replica;
use super::request::Options;
use super::ring_view::{RingView, View};
use crate::dynamo::health::Hedge;
use crate::dynamo::node_id::NodeId;
use crate::wire::trace::TraceId;

/// One read in this many asks every owner, so that repair sees every replica in time.
const ASK_ALL_EVERY: u64 = 10;

/// R and W, unless a request brings its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quorums {
    /// R.
    pub read: usize,
    /// W.
    pub write: usize,
}

/// What the workers of a node share.
#[derive(Debug, Clone)]
pub struct Means {
    /// How the other nodes do.
    pub health: HealthBoard,
    /// What reads did beside reading.
    pub counts: ReadCounts,
    /// Paces work that no client waits for.
    pub background: Background,
}

/// A handle to the thread's means; cheap to clone, not to be sent.
#[derive(Clone)]
pub struct Worker(Rc<Inner>);

struct Inner {
    view: RingView,
    quorums: Quorums,
    means: Means,
    hedge: RefCell<Hedge>,
    replicas: RefCell<BTreeMap<NodeId, Replica>>,
    connect: Box<dyn Fn(&NodeId) -> Replica>,
    reads: Cell<u64>,
    log: Logger,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("quorums", &self.0.quorums)
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// `connect` makes the replica of a node when it is first needed; that of this node itself
    /// among them.
    #[must_use]
    pub fn new(
        view: RingView,
        quorums: Quorums,
        means: Means,
        connect: Box<dyn Fn(&NodeId) -> Replica>,
        log: Logger,
    ) -> Self {
        let (replicas, reads) = (RefCell::default(), Cell::new(0));
        Self(Rc::new(Inner {
            view,
            quorums,
            means,
            hedge: RefCell::default(),
            replicas,
            connect,
            reads,
            log,
        }))
    }

    /// The ring as it is now.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.0.view.load()
    }

    /// The way to a node.
    #[must_use]
    pub fn replica(&self, node: &NodeId) -> Replica {
        if let Some(replica) = self.0.replicas.borrow().get(node) {
            return replica.clone();
        }
        let replica = (self.0.connect)(node);
        self.0
            .replicas
            .borrow_mut()
            .insert(node.clone(), replica.clone());
        replica
    }

    /// The nodes in the order to ask them: this one, then those that do well, the fastest first,
    /// then the slow ones, then those that do not answer.
    #[must_use]
    pub fn by_preference(&self, nodes: &[NodeId]) -> Vec<NodeId> {
        let me = &self.view().me;
        ranked(nodes, |id| {
            let health = self.0.means.health.of(id);
            // Coarse steps: noise of microseconds must not pin all load on one node.
            let slowness = health.latency().as_millis() / 4;
            (id != me, health.condition(), slowness)
        })
    }

    /// Whether the node answers in normal time, as far as is known.
    #[must_use]
    pub fn prefers(&self, node: &NodeId) -> bool {
        self.0.means.health.of(node).is_preferred()
    }

    /// The reachable nodes in the order of the ring, then the others: an order that all
    /// coordinators share, so that they meet at one node.
    #[must_use]
    pub fn in_ring_order(&self, nodes: &[NodeId]) -> Vec<NodeId> {
        let me = &self.view().me;
        ranked(nodes, |id| {
            id != me && !self.0.means.health.of(id).is_reachable()
        })
    }

    /// Whether this node reaches the other now, as far as it knows; itself it always does.
    #[must_use]
    pub fn reaches(&self, node: &NodeId) -> bool {
        *node == self.view().me || self.0.means.health.of(node).is_reachable()
    }

    /// R of a request.
    #[must_use]
    pub fn read_quorum(&self, asked: Option<usize>) -> usize {
        asked.unwrap_or(self.0.quorums.read)
    }

    /// W of a request.
    #[must_use]
    pub fn write_quorum(&self, asked: Option<usize>) -> usize {
        asked.unwrap_or(self.0.quorums.write)
    }

    /// What reads did beside reading.
    #[must_use]
    pub fn counts(&self) -> &ReadCounts {
        &self.0.means.counts
    }

    /// How long a read waits for a replica before it may ask one more.
    #[must_use]
    pub fn hedge_delay(&self) -> Duration {
        self.0.hedge.borrow().delay()
    }

    /// Whether a read may ask one replica more than it needs; if so, that is paid for.
    #[must_use]
    pub fn may_hedge(&self) -> bool {
        self.0.hedge.borrow_mut().spend()
    }

    /// Notes how long a remote replica took to reply to a read.
    pub fn replied(&self, took: Duration) {
        self.0.hedge.borrow_mut().note(took);
    }

    /// Whom to ask before work that no client waits for.
    #[must_use]
    pub fn background(&self) -> &Background {
        &self.0.means.background
    }

    /// Whether this read is one of those that ask every owner.
    #[must_use]
    pub fn asks_all(&self) -> bool {
        self.0.hedge.borrow_mut().earn();
        let reads = self.0.reads.get();
        self.0.reads.set(reads.wrapping_add(1));
        reads.is_multiple_of(ASK_ALL_EVERY)
    }

    /// The logger of one request.
    #[must_use]
    pub fn request_log(&self, options: &Options) -> RequestLog {
        RequestLog {
            parent: self.0.log.clone(),
            trace: options.trace,
        }
    }
}

/// The logger of one request, made when it is needed, since most requests write no line.
#[derive(Debug, Clone)]
pub struct RequestLog {
    parent: Logger,
    trace: TraceId,
}

impl RequestLog {
    /// A logger that names the request in every line.
    pub fn open(&self) -> Logger {
        let trace = self.trace.as_str().to_owned();
        self.parent.new(o!("trace.id" => trace))
    }

    /// The request's id.
    #[must_use]
    pub fn trace(&self) -> TraceId {
        self.trace
    }
}

fn ranked<R: Ord>(nodes: &[NodeId], rank: impl Fn(&NodeId) -> R) -> Vec<NodeId> {
    let mut ranked: Vec<_> = nodes.iter().map(|id| (rank(id), id)).collect();
    ranked.sort_by(|(a, _), (b, _)| a.cmp(b));
    ranked.into_iter().map(|(_, id)| id.clone()).collect()
}
