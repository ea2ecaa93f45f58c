//! Mints whose coordinator has gone to the next owner: not done, or remembered.

use std::sync::{Arc, Mutex, mpsc};

use actix::Addr;
use futures_util::FutureExt;
use tokio::sync::mpsc::UnboundedReceiver;

use super::fixture::{self, Around, FakeEngine, apply, key, minted, put, write, written};
use crate::actors::store_keeper::{COMMIT_OPERATIONS, GetStatus, StoreKeeper, StoreOp};
use crate::dynamo::version::{Clock, State};
use crate::storage::Durability;
use crate::wire::state::decode_state;

/// A keeper on a thread of its own, which stops before each commit.
struct Held {
    keeper: Addr<StoreKeeper>,
    around: Around,
    commits: UnboundedReceiver<usize>,
    let_on: mpsc::Sender<()>,
}

impl Held {
    async fn start() -> Self {
        let (entered, mut commits) = tokio::sync::mpsc::unbounded_channel();
        let (let_on, go_on) = mpsc::channel();
        let_on.send(()).unwrap();
        let engine = Arc::new(FakeEngine {
            gate: Some((entered, Mutex::new(go_on))),
            ..FakeEngine::default()
        });
        let (parts, around) = fixture::parts(engine, Durability::Always);
        assert_eq!(commits.recv().await, Some(0), "the start itself");
        let keeper = StoreKeeper::start(parts).unwrap();
        Self {
            keeper,
            around,
            commits,
            let_on,
        }
    }

    /// Waits for a commit of so many records, and lets it go on only afterwards.
    async fn commit(&mut self, records: usize, meanwhile: impl FnOnce()) {
        assert_eq!(self.commits.recv().await, Some(records));
        meanwhile();
        self.let_on.send(()).unwrap();
    }

    /// The record, once nothing is left to be done.
    async fn state(&mut self, name: &str) -> Option<State> {
        let status = self.keeper.send(GetStatus).await.unwrap();
        assert_eq!(status.depth, 0);
        assert!(self.commits.try_recv().is_err(), "another commit");
        let encoded = self.around.0.peek(&key(name)).unwrap();
        encoded.map(|bytes| decode_state(&bytes).unwrap())
    }
}

#[actix::test]
async fn a_mint_that_is_durable_when_nobody_waits_any_more_is_remembered_at_once() {
    let mut held = Held::start().await;
    let request = put("k", "1", Clock::default());
    let expected = request.mint.request;
    let mut asked = Box::pin(held.keeper.send(request));
    assert!(asked.as_mut().now_or_never().is_none());
    held.commit(0, || ()).await;
    held.commit(1, || drop(asked)).await;
    // Whatever came next would find it remembered already.
    held.commit(1, || ()).await;
    let state = held.state("k").await.unwrap();
    let [sibling] = state.siblings.as_slice() else {
        panic!("not one: {state:?}")
    };
    let [remembered] = state.remembered.as_slice() else {
        panic!("not remembered: {state:?}")
    };
    assert_eq!(
        (sibling.dot, expected),
        (remembered.dot, remembered.request)
    );
}

#[actix::test]
async fn a_mint_that_is_heard_of_costs_no_second_commit_and_is_not_remembered() {
    let mut held = Held::start().await;
    let mut asked = Box::pin(held.keeper.send(put("k", "1", Clock::default())));
    assert!(asked.as_mut().now_or_never().is_none());
    held.commit(0, || ()).await;
    held.commit(1, || ()).await;
    minted(asked.await.unwrap().unwrap());
    let state = held.state("k").await.unwrap();
    assert_eq!((state.siblings.len(), state.remembered.len()), (1, 0));
}

#[actix::test]
async fn a_mint_is_not_done_when_nobody_waits_for_it() {
    let mut held = Held::start().await;
    let mut before = Box::pin(held.keeper.send(write("a", &written(7, 1, 1))));
    assert!(before.as_mut().now_or_never().is_none());
    assert_eq!(held.commits.recv().await, Some(1));
    // Both are taken from the mailbox together; the mint finds no room in the next commit.
    let op = |i: usize| StoreOp::Write(write(&format!("b{i}"), &written(7, 1, 1)));
    let ops = (0..COMMIT_OPERATIONS).map(op).collect();
    let mut filling = Box::pin(held.keeper.send(apply(ops)));
    assert!(filling.as_mut().now_or_never().is_none());
    let mut asked = Box::pin(held.keeper.send(put("k", "1", Clock::default())));
    assert!(asked.as_mut().now_or_never().is_none());
    held.let_on.send(()).unwrap();
    held.commit(COMMIT_OPERATIONS, || drop(asked)).await;
    filling.await.unwrap();
    let mut after = Box::pin(held.keeper.send(write("c", &written(7, 1, 1))));
    assert!(after.as_mut().now_or_never().is_none());
    held.commit(1, || ()).await;
    after.await.unwrap().unwrap();
    assert_eq!(held.state("k").await, None);
}
