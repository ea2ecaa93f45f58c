//! The door of a worker: takes in as many requests as the node allows, and gives each a
//! coordinator of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::prelude::{Actor, Context, Handler, ResponseFuture};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::read_coordinator::ReadCoordinator;
use super::request::{Applied, Failure, Read, ReadAnswer, Write, WriteAnswer};
use super::worker::Worker;
use super::write_coordinator::WriteCoordinator;
use crate::dynamo::version::RequestId;

/// Counts the requests in flight on a node, over all its workers.
#[derive(Debug, Clone)]
pub struct InFlight {
    now: Arc<AtomicUsize>,
    most: usize,
}

/// How long a client waits at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// For a read.
    pub read: Duration,
    /// For a write.
    pub write: Duration,
}

/// One request's place; given back when dropped.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl InFlight {
    /// At most so many at once.
    #[must_use]
    pub fn at_most(most: usize) -> Self {
        Self {
            now: Arc::default(),
            most,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// How many there may be.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.most
    }

    fn take(&self) -> Option<Place> {
        let place = Place(self.now.clone());
        let before = self.now.fetch_add(1, Ordering::Relaxed);
        (before < self.most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One per worker thread.
#[derive(Debug)]
pub struct Admission {
    worker: Worker,
    in_flight: InFlight,
    deadlines: Deadlines,
    /// Distinguishes the requests that brought no `Idempotency-Key`: random, then counted up.
    next_request: u128,
}

impl Admission {
    /// Admits requests to this worker; `salt` is random.
    #[must_use]
    pub fn new(worker: Worker, in_flight: InFlight, deadlines: Deadlines, salt: u128) -> Self {
        Self {
            worker,
            in_flight,
            deadlines,
            next_request: salt,
        }
    }

    fn is_serving(&self) -> bool {
        self.worker.view().ring.is_some()
    }
}

impl Actor for Admission {
    type Context = Context<Self>;
}

impl Handler<Read> for Admission {
    type Result = ResponseFuture<Result<ReadAnswer, Failure>>;

    fn handle(&mut self, read: Read, _ctx: &mut Self::Context) -> Self::Result {
        if !self.is_serving() {
            return refuse(Failure::NotServing);
        }
        let Some(place) = self.in_flight.take() else {
            return refuse(Failure::Overloaded);
        };
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + self.deadlines.read;
        ReadCoordinator::new(self.worker.clone(), read, deadline, reply).start();
        await_answer(answer, place, Applied::No)
    }
}

impl Handler<Write> for Admission {
    type Result = ResponseFuture<Result<WriteAnswer, Failure>>;

    fn handle(&mut self, write: Write, _ctx: &mut Self::Context) -> Self::Result {
        if !self.is_serving() {
            return refuse(Failure::NotServing);
        }
        let Some(place) = self.in_flight.take() else {
            return refuse(Failure::Overloaded);
        };
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + self.deadlines.write;
        self.next_request = self.next_request.wrapping_add(1);
        let anonymous = RequestId {
            id: self.next_request,
            fingerprint: 0,
        };
        WriteCoordinator::new(self.worker.clone(), write, anonymous, deadline, reply).start();
        await_answer(answer, place, Applied::Unknown)
    }
}

fn refuse<T: 'static>(failure: Failure) -> ResponseFuture<Result<T, Failure>> {
    Box::pin(std::future::ready(Err(failure)))
}

/// The place is held until the answer, not until the last replica's word: what comes after the
/// answer is bounded by the peers' queues.
fn await_answer<T: 'static>(
    answer: oneshot::Receiver<Result<T, Failure>>,
    place: Place,
    if_lost: Applied,
) -> ResponseFuture<Result<T, Failure>> {
    Box::pin(async move {
        let answer = answer.await;
        drop(place);
        answer.unwrap_or(Err(Failure::DeadlineExceeded(if_lost)))
    })
}
