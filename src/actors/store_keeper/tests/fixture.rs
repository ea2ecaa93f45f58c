//! An engine that can be held up, made to fail, and counted; and a keeper on top of it.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Actor, Addr};
use bytes::Bytes;
use slog::{Discard, Logger, o};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use crate::actors::local_reader::LocalRecords;
use crate::actors::replica::{MintReply, Minted, ReplicaMint, ReplicaWrite, Terms};
use crate::actors::ring_view::tests::{id, ring};
use crate::actors::ring_view::{RingPublisher, View};
use crate::actors::store_keeper::{Apply, StoreKeeper, StoreOp, StoreParts};
use crate::dynamo::key::{Key, Partition};
use crate::dynamo::node_id::{Incarnation, NodeId};
use crate::dynamo::quorum::Fault;
use crate::dynamo::ring::OwnerSet;
use crate::dynamo::version::{
    Actor as Writer, Body, Clock, Context, Dot, Mint, RequestId, Sibling, State, WriteKind,
};
use crate::storage::{
    Change, Counts, Durability, Engine, EngineError, Entry, EpochLease, Found, HintTally, Identity,
    MemoryEngine, Sync,
};
use crate::wire::state::{decode_state, encode_state};

/// Bytes that the hints of a fixture's store may come to.
pub(super) const HINT_LIMIT: u64 = 1000;

/// Blocks each synced commit: tells of it, and waits to be let on.
pub(super) type Gate = (UnboundedSender<usize>, Mutex<Receiver<()>>);

#[derive(Default)]
pub(super) struct FakeEngine {
    pub(super) inner: MemoryEngine,
    pub(super) synced: AtomicUsize,
    pub(super) unsynced: AtomicUsize,
    pub(super) syncs: AtomicUsize,
    /// 0: works; 1: no space for records; 2: broken.
    pub(super) failure: AtomicU8,
    pub(super) gate: Option<Gate>,
}

impl Engine for FakeEngine {
    fn get(&self, partition: Partition, key: &Key) -> Result<Option<Bytes>, EngineError> {
        self.inner.get(partition, key)
    }

    fn page(
        &self,
        partition: Partition,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Entry>, EngineError> {
        self.inner.page(partition, after, limit)
    }

    fn hint(&self, target: &NodeId, key: &Key) -> Result<Option<Bytes>, EngineError> {
        self.inner.hint(target, key)
    }

    fn hints(
        &self,
        target: &NodeId,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Entry>, EngineError> {
        self.inner.hints(target, after, limit)
    }

    fn hint_targets(&self) -> Result<Vec<NodeId>, EngineError> {
        self.inner.hint_targets()
    }

    fn meta(&self, name: &'static str) -> Result<Option<Bytes>, EngineError> {
        self.inner.meta(name)
    }

    fn commit(&self, changes: Vec<Change>, sync: Sync) -> Result<(), EngineError> {
        let grows = |c: &&Change| matches!(c, Change::Put(..) | Change::PutHint(..));
        let records = changes.iter().filter(grows);
        let records = records.count();
        if let (Some((entered, go_on)), Sync::Disk) = (&self.gate, sync) {
            entered.send(records).unwrap();
            go_on.lock().unwrap().recv().unwrap();
        }
        match self.failure.load(Ordering::SeqCst) {
            1 if records > 0 => return Err(EngineError::Full),
            2 => return Err(EngineError::Broken("a torn sector".into())),
            _ => {}
        }
        let counter = match sync {
            Sync::Disk => &self.synced,
            Sync::Os => &self.unsynced,
        };
        counter.fetch_add(1, Ordering::SeqCst);
        self.inner.commit(changes, sync)
    }

    fn sync(&self) -> Result<(), EngineError> {
        if self.failure.load(Ordering::SeqCst) == 2 {
            return Err(EngineError::Broken("a torn sector".into()));
        }
        self.syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }
}

impl FakeEngine {
    /// Commits that waited for the disk, commits that did not, and syncs in between.
    pub(super) fn counted(&self) -> (usize, usize, usize) {
        let read = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        (read(&self.synced), read(&self.unsynced), read(&self.syncs))
    }
}

/// One run of a node's store.
pub(super) struct Run {
    pub(super) keeper: Addr<StoreKeeper>,
    pub(super) records: LocalRecords,
    pub(super) publisher: RingPublisher,
    pub(super) identity: Identity,
    pub(super) found: Found,
    /// What the keeper said when it ended the process.
    pub(super) fatal: Arc<Mutex<Vec<String>>>,
}

pub(super) fn parts(engine: Arc<dyn Engine>, durability: Durability) -> (StoreParts, Around) {
    let mut last = engine
        .meta("identity")
        .unwrap()
        .map_or(1, |m| u64::from(m[24]) * 1000);
    let mut random = move || {
        last += 1;
        last
    };
    let (identity, found) = Identity::begin(&*engine, durability, &mut random).unwrap();
    let log = Logger::root(Discard, o!());
    let records = LocalRecords::new(Arc::clone(&engine), log.clone());
    let mut view = View::without_ring(id("n1"));
    view.ring = Some(Arc::new(ring(&["n1", "n2", "n3"], None)));
    let publisher = RingPublisher::new(view);
    let fatal = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&fatal);
    let parts = StoreParts {
        engine,
        records: records.clone(),
        view: publisher.view(),
        identity,
        hint_bytes: HINT_LIMIT,
        random: Box::new(random),
        on_fatal: Box::new(move |why| told.lock().unwrap().push(why.to_owned())),
        log,
    };
    (parts, (records, publisher, identity, found, fatal))
}

/// What a keeper's parts share with the test.
pub(super) type Around = (
    LocalRecords,
    RingPublisher,
    Identity,
    Found,
    Arc<Mutex<Vec<String>>>,
);

/// Starts a keeper on the test's own thread.
pub(super) fn run(engine: Arc<dyn Engine>, durability: Durability) -> Run {
    let lease = EpochLease::resume(&*engine).unwrap();
    let counts = Counts::read(&*engine).unwrap();
    let hints = HintTally::read(&*engine).unwrap();
    let (parts, (records, publisher, identity, found, fatal)) = parts(engine, durability);
    Run {
        keeper: StoreKeeper::new(parts, lease, counts, hints).start(),
        records,
        publisher,
        identity,
        found,
        fatal,
    }
}

pub(super) fn key(text: &str) -> Key {
    Key::new(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

pub(super) fn terms() -> Terms {
    Terms {
        epoch: 5,
        set: OwnerSet::Current,
        deadline: Instant::now() + Duration::from_secs(4),
        trace: None,
    }
}

/// A put of a value that has seen what the context says.
pub(super) fn put(text: &str, value: &'static str, seen: Clock) -> ReplicaMint {
    static LAST: AtomicUsize = AtomicUsize::new(0);
    let id = LAST.fetch_add(1, Ordering::SeqCst) as u128;
    ReplicaMint {
        key: key(text),
        mint: Mint {
            kind: WriteKind::Put,
            seen,
            body: Body::Value(Bytes::from(value)),
            request: RequestId { id, fingerprint: 0 },
            remember: None,
            merged: None,
        },
        terms: terms(),
    }
}

pub(super) fn apply(ops: Vec<StoreOp>) -> Apply {
    Apply {
        ops,
        ..Apply::default()
    }
}

pub(super) fn delete(text: &str, seen: Clock) -> ReplicaMint {
    let mut request = put(text, "", seen);
    request.mint.kind = WriteKind::Delete;
    request.mint.body = Body::Tombstone;
    request
}

/// A write of another node's state.
pub(super) fn write(text: &str, state: &State) -> ReplicaWrite {
    ReplicaWrite {
        key: key(text),
        state: encode_state(state),
        terms: terms(),
    }
}

/// The state after the n-th write of an actor, which saw those before it.
pub(super) fn written(incarnation: u64, epoch: u64, n: u64) -> State {
    let incarnation = Incarnation(incarnation);
    let actor = Writer { incarnation, epoch };
    let sibling = Sibling {
        dot: Dot { actor, n },
        body: Body::Value(Bytes::from_static(b"1")),
        request: RequestId {
            id: u128::from(epoch) << 64,
            fingerprint: n,
        },
    };
    State {
        context: Context::from_parts(vec![(actor, n)], Vec::new()),
        siblings: vec![sibling],
        remembered: Vec::new(),
    }
}

impl Run {
    pub(super) async fn mint(&self, request: ReplicaMint) -> Result<MintReply, Fault> {
        self.keeper.send(request).await.unwrap()
    }

    /// A put that must succeed, and the dot it got.
    pub(super) async fn put(&self, text: &str, seen: Clock) -> (Minted, Dot) {
        let reply = self.mint(put(text, "1", seen.clone())).await.unwrap();
        let minted = minted(reply);
        let state = decode_state(&minted.state).unwrap();
        let mut dots = state.siblings.iter().map(|s| s.dot);
        let own = |dot: &Dot| minted.answer.seen.covers(*dot) && !seen.seen.covers(*dot);
        let dot = dots.find(own).unwrap();
        (minted, dot)
    }

    pub(super) fn state(&self, text: &str) -> Option<State> {
        let encoded = self.records.peek(&key(text)).unwrap();
        encoded.map(|bytes| decode_state(&bytes).unwrap())
    }
}

#[track_caller]
pub(super) fn minted(reply: MintReply) -> Minted {
    let MintReply::Minted(minted) = reply else {
        panic!("not minted: {reply:?}")
    };
    minted
}
