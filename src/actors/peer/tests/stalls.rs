//! Nodes that take a batch and keep silent.

use super::*;
use crate::actors::link::LinkError;
use crate::limits::MAX_PEER_QUEUE_BYTES;

const MILLI: Duration = Duration::from_millis(1);

impl Bench {
    fn read(&self, name: &str, time: Duration) -> Pending<ReadReply> {
        let (key, terms) = (key(name), terms(time));
        actix::spawn(self.peer.send(ReplicaRead { key, terms }))
    }

    async fn until_reachable(&self) {
        self.until(true).await;
    }

    /// Lets time go on until reviews have found the node out.
    async fn until_unreachable(&self) {
        self.until(false).await;
    }

    async fn until(&self, reachable: bool) {
        let looking = async {
            while self.health.is_reachable() != reachable {
                drop(self.board.review());
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.unwrap();
    }
}

/// P6. One batch may hold operations of very different deadlines.
#[actix::test]
async fn p6_each_operation_is_answered_at_its_own_deadline_and_leaves_the_others_their_time() {
    let mut bench = Bench::new().await;
    let began = Instant::now();
    let (brief, patient) = (bench.write("1", MILLI * 100), bench.write("2", PATIENCE));
    let (batch, call) = bench.batch().await;
    assert_eq!(batch.ops.len(), 2);
    assert_eq!(outcome(brief).await, Err(Fault::TimedOut));
    assert!(began.elapsed() < MILLI * 600, "{:?}", began.elapsed());
    call.answer(200, all_written(&batch));
    assert_eq!(outcome(patient).await, Ok(()));
    assert!(bench.health.is_reachable());
}

#[actix::test]
async fn a_batch_that_is_stuck_holds_up_the_next_for_a_moment_only() {
    let mut bench = Bench::new().await;
    let first = bench.write("1", PATIENCE);
    let (stuck, kept_back) = bench.batch().await;
    let second = bench.write("2", PATIENCE);
    let (batch, call) = bench.batch().await;
    assert_eq!(batch.ops[0].key, key("2"));
    assert_ne!(call.connection, kept_back.connection);
    call.answer(200, all_written(&batch));
    assert_eq!(outcome(second).await, Ok(()));
    kept_back.answer(200, all_written(&stuck));
    assert_eq!(outcome(first).await, Ok(()));
}

/// What waits for a stopped process is bounded, and told at once when it is known to be stopped.
#[actix::test]
async fn operations_for_a_silent_node_end_at_once_until_it_answers() {
    let mut bench = Bench::new().await;
    let mut open = Vec::new();
    for n in 0..MAX_PEER_FLIGHTS {
        let read = bench.read(&n.to_string(), PATIENCE);
        open.push((read, bench.batch().await));
    }
    let waiting = bench.read("waits", PATIENCE);
    bench.until_unreachable().await;
    assert_eq!(outcome(waiting).await, Err(Fault::Unreachable));
    let next = bench.read("next", PATIENCE);
    assert_eq!(outcome(next).await, Err(Fault::Unreachable));
    bench.wire.assert_quiet();
    let mut calls = Vec::new();
    for (read, (_, call)) in open {
        assert_eq!(outcome(read).await, Err(Fault::TimedOut), "it was sent");
        calls.push(call);
    }
    assert_eq!(bench.health.queued(), 0);

    for call in calls {
        call.answer(200, results(5, vec![Ok(Done::Read(None))]));
    }
    bench.until_reachable().await;
    let after = bench.read("after", PATIENCE);
    let (_, call) = bench.batch().await;
    call.answer(200, results(5, vec![Ok(Done::Read(None))]));
    assert_eq!(outcome(after).await, Ok(None));
    assert_eq!(bench.health.queued(), 0);
}

#[actix::test]
async fn the_bytes_that_wait_are_bounded_too() {
    let mut bench = Bench::new().await;
    let _first = bench.write("1", PATIENCE);
    let _kept_back = bench.batch().await;
    let state = Bytes::from(vec![0; MAX_PEER_QUEUE_BYTES / 4]);
    let write = |n: usize| {
        let key = key(&n.to_string());
        let (state, terms) = (state.clone(), terms(PATIENCE));
        actix::spawn(bench.peer.send(ReplicaWrite { key, state, terms }))
    };
    let mut pending: Vec<_> = (0..4 + MAX_PEER_FLIGHTS).map(write).collect();
    let refused = outcome(pending.pop().unwrap()).await;
    assert_eq!(refused, Err(Fault::Overloaded));
}

#[actix::test]
async fn what_an_answer_had_no_room_for_is_asked_for_again() {
    let mut bench = Bench::new().await;
    let reads = ["1", "2", "3"].map(|name| bench.read(name, PATIENCE));
    let (first, call) = bench.batch().await;
    assert_eq!(first.ops.len(), 3);
    let held = Bytes::from_static(b"held");
    let found = || Ok(Done::Read(Some(held.clone())));
    let full = vec![found(), Err(Fault::Postponed), Err(Fault::Postponed)];
    call.answer(200, results(5, full));
    let (again, call) = bench.batch().await;
    let asked: Vec<_> = again.ops.iter().map(|op| op.key.clone()).collect();
    assert_eq!(asked, [key("2"), key("3")]);
    call.answer(200, results(5, vec![found(), found()]));
    for read in reads {
        assert_eq!(outcome(read).await, Ok(Some(held.clone())));
    }
}

/// The second attempt after a broken connection has what the first has left.
#[actix::test]
async fn a_retry_gets_only_the_time_that_is_left() {
    let mut wire = Wire::new().await;
    let (link, address) = (Link::new(proof()), wire.address.clone());
    let (began, time) = (Instant::now(), MILLI * 400);
    let asking = actix::spawn(async move {
        let answer = link.post(&address, BATCH, Vec::new(), None, time);
        answer.await
    });
    let first = wire.call(BATCH).await;
    while began.elapsed() < time * 3 / 4 {
        tokio::task::yield_now().await;
    }
    drop(first);
    let _silent = wire.call(BATCH).await;
    assert_eq!(asking.await.unwrap(), Err(LinkError::TimedOut));
    let took = began.elapsed();
    assert!(took < time * 3 / 2, "{took:?}");
}
