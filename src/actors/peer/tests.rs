//! A peer against a listener whose answers each test makes. Sockets do not know of paused time, so
//! it goes on here; every wait is for an event.

mod stalls;

use actix::MailboxError;
use bytes::Bytes;

use super::*;
use crate::actors::fake::{key, minted, state};
use crate::actors::fake_node::{Call, FakeNode, PATIENCE, Wire, proof, ring_of};
use crate::actors::health::HealthBoard;
use crate::actors::replica::Terms;
use crate::actors::ring_view::tests::id;
use crate::dynamo::ring::{OwnerSet, Ring};
use crate::dynamo::version::{Body, Clock, Mint, RequestId, State, WriteKind};
use crate::limits::{MAX_BATCH_OPS, MAX_PEER_FLIGHTS, MAX_PEER_QUEUE};
use crate::wire::peer::{Batch, BatchReply, Done};
use crate::wire::ring::{decode_ring, encode_ring};
use crate::wire::state::encode_state;

const BATCH: &str = "/peer/v1/batch";

/// Node `a` with a peer for `b`, which is what the test makes of it.
struct Bench {
    wire: Wire,
    node: FakeNode,
    peer: Addr<Peer>,
    board: HealthBoard,
    health: Arc<Health>,
}

fn ring_with(b: &str) -> Ring {
    ring_of(&[("a", "127.0.0.1:1"), ("b", b)], &["a", "b"], None)
}

impl Bench {
    async fn new() -> Self {
        let (wire, node) = (Wire::new().await, FakeNode::new("a"));
        node.install(ring_with(&wire.address)).await;
        let board = HealthBoard::default();
        let health = board.of(&id("b"));
        let parts = PeerParts {
            view: node.view.clone(),
            link: Link::new(proof()),
            ring_keeper: node.ring_keeper.clone(),
            log: crate::actors::fake::quiet(),
        };
        let peer = Peer::new(id("b"), parts, health.clone()).start();
        Self {
            wire,
            node,
            peer,
            board,
            health,
        }
    }

    /// Asks for a write on the way, as an operation that is polled by itself.
    fn write(&self, name: &str, time: Duration) -> Pending<()> {
        let write = ReplicaWrite {
            key: key(name),
            state: encode_state(&state(&[7])),
            terms: terms(time),
        };
        actix::spawn(self.peer.send(write))
    }

    fn mint(&self) -> Pending<MintReply> {
        let mint = Mint {
            kind: WriteKind::Put,
            seen: Clock::default(),
            body: Body::Value(Bytes::from_static(b"1")),
            request: RequestId {
                id: 1,
                fingerprint: 1,
            },
            remember: None,
            merged: None,
        };
        let terms = terms(PATIENCE);
        let key = key("k");
        actix::spawn(self.peer.send(ReplicaMint { key, mint, terms }))
    }

    async fn batch(&mut self) -> (Batch, Call) {
        let call = self.wire.call(BATCH).await;
        (Batch::decode(&call.body).unwrap(), call)
    }
}

type Pending<T> = tokio::task::JoinHandle<Result<Result<T, Fault>, MailboxError>>;

async fn outcome<T>(pending: Pending<T>) -> Result<T, Fault> {
    let done = tokio::time::timeout(PATIENCE, pending).await;
    done.unwrap().unwrap().unwrap()
}

fn terms(time: Duration) -> Terms {
    Terms {
        epoch: 5,
        set: OwnerSet::Current,
        deadline: Instant::now() + time,
        trace: None,
    }
}

fn results(epoch: u64, results: Vec<Result<Done, Fault>>) -> Vec<u8> {
    BatchReply { epoch, results }.encode().unwrap()
}

fn all_written(batch: &Batch) -> Vec<u8> {
    results(5, batch.ops.iter().map(|_| Ok(Done::Written)).collect())
}

#[actix::test]
async fn operations_that_arrive_while_a_batch_is_out_travel_in_one() {
    let mut bench = Bench::new().await;
    let mut pending = vec![bench.write("1", PATIENCE)];
    let (first, one) = bench.batch().await;
    assert_eq!(first.ops.len(), 1);
    for n in 2..9 {
        pending.push(bench.write(&n.to_string(), PATIENCE));
    }
    crate::actors::fake::settle().await;
    one.answer(200, all_written(&first));
    let (second, two) = bench.batch().await;
    let names: Vec<_> = second.ops.iter().map(|op| op.key.clone()).collect();
    assert_eq!(names, ["2", "3", "4", "5", "6", "7", "8"].map(key));
    two.answer(200, all_written(&second));
    for pending in pending {
        assert_eq!(outcome(pending).await, Ok(()));
    }
    bench.wire.assert_quiet();
    assert!(bench.health.is_reachable());
}

#[actix::test]
async fn a_read_does_not_wait_for_the_writes_before_it() {
    let mut bench = Bench::new().await;
    let write = bench.write("k", PATIENCE);
    let (batch, writes) = bench.batch().await;
    let terms = terms(PATIENCE);
    let read = actix::spawn(bench.peer.send(ReplicaRead {
        key: key("k"),
        terms,
    }));
    let (asked, reads) = bench.batch().await;
    assert_eq!(asked.ops.len(), 1);
    let held = Bytes::from_static(b"held");
    reads.answer(200, results(5, vec![Ok(Done::Read(Some(held.clone())))]));
    assert_eq!(outcome(read).await, Ok(Some(held)));
    writes.answer(200, all_written(&batch));
    assert_eq!(outcome(write).await, Ok(()));
}

#[actix::test]
async fn each_operation_gets_its_own_result() {
    let mut bench = Bench::new().await;
    let (write, mint) = (bench.write("k", PATIENCE), bench.mint());
    let (batch, call) = bench.batch().await;
    assert_eq!(batch.ops.len(), 2, "all that was in the mailbox");
    let Action::Mint(asked) = batch.ops[1].action.clone() else {
        panic!("not a mint: {batch:?}")
    };
    let asked = ReplicaMint {
        key: key("k"),
        mint: asked,
        terms: terms(PATIENCE),
    };
    let MintReply::Minted(done) = minted(&State::default(), &asked) else {
        panic!("a put on nothing is minted")
    };
    let replies = vec![
        Err(Fault::StorageFull),
        Ok(Done::Minted(done.state.clone(), done.answer.clone(), 1)),
    ];
    call.answer(200, results(5, replies));
    assert_eq!(outcome(write).await, Err(Fault::StorageFull));
    assert_eq!(outcome(mint).await, Ok(MintReply::Minted(done)));
}

/// The minter must know, for as long as it may be asked by the next coordinator.
#[actix::test]
async fn the_next_batch_tells_which_mints_were_heard_of() {
    let mut bench = Bench::new().await;
    let mint = bench.mint();
    let (first, one) = bench.batch().await;
    assert!(first.heard.is_empty());
    let write = bench.write("w", PATIENCE);
    crate::actors::fake::settle().await;
    one.answer(200, results(5, vec![Ok(Done::RequestReused)]));
    assert_eq!(outcome(mint).await, Ok(MintReply::RequestReused));
    let (second, two) = bench.batch().await;
    assert_eq!((second.ops.len(), second.heard), (1, vec![1]));
    // Neither a fault nor an answer that nobody waits for is heard.
    let (failed, gone) = (bench.mint(), bench.mint());
    crate::actors::fake::settle().await;
    two.answer(200, results(5, vec![Ok(Done::Written)]));
    assert_eq!(outcome(write).await, Ok(()));
    let (third, three) = bench.batch().await;
    assert_eq!((third.ops.len(), third.heard), (2, Vec::new()));
    gone.abort();
    let last = bench.write("w", PATIENCE);
    crate::actors::fake::settle().await;
    three.answer(
        200,
        results(5, vec![Err(Fault::TimedOut), Ok(Done::RequestReused)]),
    );
    assert_eq!(outcome(failed).await, Err(Fault::TimedOut));
    let (fourth, four) = bench.batch().await;
    assert_eq!((fourth.ops.len(), fourth.heard), (1, Vec::new()));
    four.answer(200, results(5, vec![Ok(Done::Written)]));
    assert_eq!(outcome(last).await, Ok(()));
}

#[actix::test]
async fn what_was_heard_travels_alone_when_nothing_follows() {
    let mut bench = Bench::new().await;
    let mint = bench.mint();
    let (_, call) = bench.batch().await;
    call.answer(200, results(5, vec![Ok(Done::RequestReused)]));
    assert_eq!(outcome(mint).await, Ok(MintReply::RequestReused));
    let (batch, call) = bench.batch().await;
    assert_eq!((batch.ops.len(), batch.heard), (0, vec![1]));
    call.answer(200, results(5, Vec::new()));
    let write = bench.write("w", PATIENCE);
    let (batch, call) = bench.batch().await;
    assert_eq!((batch.ops.len(), batch.heard), (1, Vec::new()));
    call.answer(200, results(5, vec![Ok(Done::Written)]));
    assert_eq!(outcome(write).await, Ok(()));
}

#[actix::test]
async fn what_does_not_fit_the_queue_is_refused() {
    let mut bench = Bench::new().await;
    let _first = bench.write("1", PATIENCE);
    let _one = bench.wire.call(BATCH).await;
    for n in 0..MAX_PEER_QUEUE + MAX_PEER_FLIGHTS * MAX_BATCH_OPS {
        bench.peer.do_send(ReplicaWrite {
            key: key(&n.to_string()),
            state: Bytes::new(),
            terms: terms(PATIENCE),
        });
    }
    let refused = outcome(bench.write("3", PATIENCE)).await;
    assert_eq!(refused, Err(Fault::Overloaded));
    assert!(bench.health.queued() >= MAX_PEER_QUEUE);
}

#[actix::test]
async fn an_operation_that_expired_while_it_waited_is_not_sent() {
    let mut bench = Bench::new().await;
    let held = bench.write("1", PATIENCE);
    let (first, one) = bench.batch().await;
    let expiry = Instant::now() + Duration::from_millis(50);
    let brief = bench.write("brief", Duration::from_millis(50));
    let live = bench.write("live", PATIENCE);
    while Instant::now() <= expiry {
        tokio::task::yield_now().await;
    }
    one.answer(200, all_written(&first));
    let (next, call) = bench.batch().await;
    assert_eq!((next.ops.len(), &next.ops[0].key), (1, &key("live")));
    call.answer(200, all_written(&next));
    assert_eq!(outcome(brief).await, Err(Fault::Overloaded), "never sent");
    assert_eq!(outcome(live).await, Ok(()));
    assert_eq!(outcome(held).await, Ok(()));
}

#[actix::test]
async fn a_connection_found_dead_is_replaced_once() {
    let mut bench = Bench::new().await;
    let first = bench.write("1", PATIENCE);
    let (batch, call) = bench.batch().await;
    let pooled = call.connection;
    call.answer(200, all_written(&batch));
    assert_eq!(outcome(first).await, Ok(()));

    let second = bench.write("2", PATIENCE);
    let (lost, call) = bench.batch().await;
    assert_eq!(call.connection, pooled, "connections are kept");
    drop(call);
    let (again, call) = bench.batch().await;
    assert_eq!(lost.ops[0].key, again.ops[0].key);
    assert_ne!(call.connection, pooled);
    call.answer(200, all_written(&again));
    assert_eq!(outcome(second).await, Ok(()));

    let third = bench.write("3", PATIENCE);
    for _ in 0..2 {
        drop(bench.batch().await);
    }
    assert_eq!(outcome(third).await, Err(Fault::Broken));
    bench.wire.assert_quiet();
}

#[actix::test]
async fn a_newer_ring_is_in_force_before_the_refusal_for_the_older_is_told() {
    let mut bench = Bench::new().await;
    let write = bench.write("1", PATIENCE);
    let (_, call) = bench.batch().await;
    call.answer(200, results(6, vec![Err(Fault::StaleRing)]));
    let call = bench.wire.call("/peer/v1/ring/get").await;
    assert_eq!(bench.node.view.load().epoch(), 5);
    let mut newer = ring_with(&bench.wire.address);
    newer.epoch = 6;
    call.answer(200, encode_ring(&newer).unwrap());
    assert_eq!(outcome(write).await, Err(Fault::StaleRing));
    assert_eq!(bench.node.view.load().epoch(), 6);
}

/// What was done is done, whatever becomes of the ring that the other node is ahead with.
#[actix::test]
async fn an_acknowledgement_outlives_a_ring_that_could_not_be_fetched() {
    for status in [409, 503] {
        let mut bench = Bench::new().await;
        let (write, mint) = (bench.write("1", PATIENCE), bench.mint());
        let (_, call) = bench.batch().await;
        let done = vec![Ok(Done::Written), Ok(Done::RequestReused)];
        call.answer(200, results(6, done));
        let call = bench.wire.call("/peer/v1/ring/get").await;
        call.answer(status, Vec::new());
        assert_eq!(outcome(write).await, Ok(()), "{status}");
        assert_eq!(outcome(mint).await, Ok(MintReply::RequestReused));
    }
}

#[actix::test]
async fn a_node_that_is_behind_is_given_the_ring_and_asked_again() {
    let mut bench = Bench::new().await;
    let write = bench.write("1", PATIENCE);
    let (first, call) = bench.batch().await;
    call.answer(200, results(4, vec![Err(Fault::RingBehind)]));
    let call = bench.wire.call("/peer/v1/ring").await;
    assert_eq!(decode_ring(&call.body).unwrap().epoch, 5);
    call.answer(200, Vec::new());
    let (again, call) = bench.batch().await;
    assert_eq!(again.ops[0].key, first.ops[0].key);
    call.answer(200, all_written(&again));
    assert_eq!(outcome(write).await, Ok(()));
}

#[actix::test]
async fn a_node_that_stays_behind_leaves_what_it_did_and_refused_as_it_said() {
    let mut bench = Bench::new().await;
    let (done, refused) = (bench.write("1", PATIENCE), bench.write("2", PATIENCE));
    let (_, call) = bench.batch().await;
    let mixed = vec![Ok(Done::Written), Err(Fault::RingBehind)];
    call.answer(200, results(4, mixed));
    let call = bench.wire.call("/peer/v1/ring").await;
    call.answer(409, Vec::new());
    assert_eq!(outcome(done).await, Ok(()));
    assert_eq!(outcome(refused).await, Err(Fault::RingBehind));

    let (done, lost) = (bench.write("1", PATIENCE), bench.write("2", PATIENCE));
    let (_, call) = bench.batch().await;
    let mixed = vec![Ok(Done::Written), Err(Fault::RingBehind)];
    call.answer(200, results(4, mixed));
    bench
        .wire
        .call("/peer/v1/ring")
        .await
        .answer(200, Vec::new());
    for _ in 0..2 {
        drop(bench.batch().await);
    }
    assert_eq!(outcome(done).await, Ok(()));
    assert_eq!(outcome(lost).await, Err(Fault::Broken), "asked twice");
}

/// Only a refusal that cannot follow an attempt says that nothing was applied.
#[actix::test]
async fn a_status_tells_whether_the_operation_may_have_been_applied() {
    let rows = [
        (400, Fault::Unreachable),
        (401, Fault::Unreachable),
        (421, Fault::Unreachable),
        (426, Fault::Unreachable),
        (500, Fault::Broken),
        (503, Fault::Broken),
    ];
    for (status, fault) in rows {
        let mut bench = Bench::new().await;
        let mint = bench.mint();
        let call = bench.wire.call(BATCH).await;
        call.answer(status, Vec::new());
        assert_eq!(outcome(mint).await, Err(fault), "{status}");
    }
}

#[actix::test]
async fn an_answer_that_is_none_leaves_the_outcome_open() {
    let two = vec![Ok(Done::Written), Ok(Done::Written)];
    let rows = [
        ("noise", b"\xc1".to_vec()),
        ("too many results", results(5, two)),
        ("no result", results(5, Vec::new())),
        ("another kind", results(5, vec![Ok(Done::Read(None))])),
    ];
    for (name, body) in rows {
        let mut bench = Bench::new().await;
        let write = bench.write("1", PATIENCE);
        bench.wire.call(BATCH).await.answer(200, body);
        assert_eq!(outcome(write).await, Err(Fault::Broken), "{name}");
    }
}

#[actix::test]
async fn a_node_without_address_or_listener_is_unreachable() {
    let bench = Bench::new().await;
    let mut alone = ring_of(&[("a", "127.0.0.1:1")], &["a"], None);
    alone.epoch = 6;
    bench.node.install(alone).await;
    let unknown = outcome(bench.write("1", PATIENCE)).await;
    assert_eq!(unknown, Err(Fault::Unreachable));
    let (socket, closed) = crate::actors::fake_node::socket();
    drop(socket);
    let mut elsewhere = ring_with(&closed);
    elsewhere.epoch = 7;
    bench.node.install(elsewhere).await;
    let dead = outcome(bench.write("1", PATIENCE)).await;
    assert_eq!(dead, Err(Fault::Unreachable));
    assert!(!bench.health.is_reachable());
}
