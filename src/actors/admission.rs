//! The door of a worker: takes in as many requests as the node allows, and gives each a
//! coordinator of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::prelude::{Actor, Context, Handler, ResponseFuture};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::action_log::{Action, ActionLog};
use super::background::Background;
use super::read_coordinator::ReadCoordinator;
use super::request::{Applied, Failure, Read, ReadAnswer, Write, WriteAnswer};
use super::worker::Worker;
use super::write_coordinator::WriteCoordinator;
use crate::dynamo::version::{RequestId, WriteKind};
use crate::metrics::operations::{Operation, OperationCounts, Outcome};

/// Counts the requests in flight on a node, over all its workers, and how they ended.
#[derive(Debug, Clone)]
pub struct InFlight {
    shared: Arc<Shared>,
    most: usize,
}

#[derive(Debug, Default)]
struct Shared {
    now: AtomicUsize,
    counts: OperationCounts,
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
struct Place(Arc<Shared>);

impl InFlight {
    /// At most so many at once.
    #[must_use]
    pub fn at_most(most: usize) -> Self {
        Self {
            shared: Arc::default(),
            most,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.now.load(Ordering::Relaxed)
    }

    /// What became of all requests so far.
    #[must_use]
    pub fn counts(&self) -> &OperationCounts {
        &self.shared.counts
    }

    /// How many there may be.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.most
    }

    fn take(&self) -> Option<Place> {
        let place = Place(self.shared.clone());
        let before = self.shared.now.fetch_add(1, Ordering::Relaxed);
        (before < self.most).then_some(place)
    }
}

impl Place {
    /// Counts how the request ended that had the place, and gives it back.
    fn leave<T: Answered>(self, operation: Operation, answer: &Result<T, Failure>, took: Duration) {
        let counts = &self.0.counts;
        counts.took(operation, took);
        match answer {
            Ok(answer) => answer.count(operation, counts),
            Err(failure) => counts.ended(operation, failure.outcome()),
        }
    }
}

/// An answer that met its quorum, as it is counted.
trait Answered {
    fn count(&self, operation: Operation, counts: &OperationCounts);
}

impl Answered for ReadAnswer {
    fn count(&self, operation: Operation, counts: &OperationCounts) {
        let siblings = self.state.live().len();
        counts.showed(siblings);
        if self.acks.hinted > 0 {
            counts.hinted(operation);
        }
        let outcome = if siblings > 0 {
            Outcome::Done
        } else {
            Outcome::NotFound
        };
        counts.ended(operation, outcome);
    }
}

impl Answered for WriteAnswer {
    fn count(&self, operation: Operation, counts: &OperationCounts) {
        if self.acks.hinted > 0 {
            counts.hinted(operation);
        }
        counts.ended(operation, Outcome::Done);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One per worker thread.
#[derive(Debug)]
pub struct Admission {
    worker: Worker,
    in_flight: InFlight,
    deadlines: Deadlines,
    background: Background,
    actions: ActionLog,
    /// Distinguishes the requests that brought no `Idempotency-Key`: random, then counted up.
    next_request: u128,
}

impl Admission {
    /// Admits requests to this worker, tells background work how long they took, and the log what
    /// became of them; `salt` is random.
    #[must_use]
    pub fn new(
        worker: Worker,
        in_flight: InFlight,
        deadlines: Deadlines,
        (background, actions): (Background, ActionLog),
        salt: u128,
    ) -> Self {
        Self {
            worker,
            in_flight,
            deadlines,
            background,
            actions,
            next_request: salt,
        }
    }

    #[expect(
        clippy::result_large_err,
        reason = "a refusal is moved once, to whoever waits for it"
    )]
    fn take_place(&self, operation: Operation) -> Result<Place, Failure> {
        let place = if self.worker.view().ring_to_serve().is_none() {
            Err(Failure::NotServing)
        } else {
            self.in_flight.take().ok_or(Failure::Overloaded)
        };
        if let Err(failure) = &place {
            self.in_flight.counts().ended(operation, failure.outcome());
        }
        place
    }
}

impl Actor for Admission {
    type Context = Context<Self>;
}

impl Handler<Read> for Admission {
    type Result = ResponseFuture<Result<ReadAnswer, Failure>>;

    fn handle(&mut self, read: Read, _ctx: &mut Self::Context) -> Self::Result {
        let action = self.actions.read(&read.key, read.options.trace);
        let place = match self.take_place(Operation::Get) {
            Ok(place) => place,
            Err(failure) => return refuse(action.as_ref(), Action::read_ends, failure),
        };
        let (reply, answer) = oneshot::channel();
        let (began, background) = (Instant::now(), self.background.clone());
        let deadline = began + self.deadlines.read;
        ReadCoordinator::new(self.worker.clone(), read, deadline, reply).start();
        Box::pin(async move {
            let answer = await_answer(answer, Applied::No).await;
            let took = began.elapsed();
            place.leave(Operation::Get, &answer, took);
            if counts_as_served(&answer) {
                background.read_answered(took);
            }
            if let Some(action) = action {
                action.read_ends(&answer, took);
            }
            answer
        })
    }
}

impl Handler<Write> for Admission {
    type Result = ResponseFuture<Result<WriteAnswer, Failure>>;

    fn handle(&mut self, write: Write, _ctx: &mut Self::Context) -> Self::Result {
        let (kind, trace) = (write.kind, write.options.trace);
        let operation = match kind {
            WriteKind::Create => Operation::Create,
            WriteKind::Put => Operation::Put,
            WriteKind::Delete => Operation::Delete,
        };
        let action = self.actions.write(kind, &write.key, trace);
        let place = match self.take_place(operation) {
            Ok(place) => place,
            Err(failure) => return refuse(action.as_ref(), Action::write_ends, failure),
        };
        let (reply, answer) = oneshot::channel();
        let (began, background) = (Instant::now(), self.background.clone());
        let deadline = began + self.deadlines.write;
        self.next_request = self.next_request.wrapping_add(1);
        let anonymous = RequestId {
            id: self.next_request,
            fingerprint: 0,
        };
        WriteCoordinator::new(self.worker.clone(), write, anonymous, deadline, reply).start();
        Box::pin(async move {
            let answer = await_answer(answer, Applied::Unknown).await;
            let took = began.elapsed();
            place.leave(operation, &answer, took);
            if counts_as_served(&answer) {
                background.write_answered(took);
            }
            if let Some(action) = action {
                action.write_ends(&answer, took);
            }
            answer
        })
    }
}

fn refuse<T: 'static>(
    action: Option<&Action>,
    ends: fn(&Action, &Result<T, Failure>, Duration),
    failure: Failure,
) -> ResponseFuture<Result<T, Failure>> {
    let answer = Err(failure);
    if let Some(action) = action {
        ends(action, &answer, Duration::ZERO);
    }
    Box::pin(std::future::ready(answer))
}

/// A place is held until the answer, not until the last replica's word: what comes after the
/// answer is bounded by the peers' queues.
async fn await_answer<T>(
    answer: oneshot::Receiver<Result<T, Failure>>,
    if_lost: Applied,
) -> Result<T, Failure> {
    (answer.await).unwrap_or(Err(Failure::DeadlineExceeded(if_lost)))
}

/// Whether the time it took says how clients fare: a refusal is quick however busy the node is.
fn counts_as_served<T>(answer: &Result<T, Failure>) -> bool {
    matches!(answer, Ok(_) | Err(Failure::DeadlineExceeded(_)))
}

#[cfg(test)]
mod tests {
    use tokio::time::pause;

    use super::*;
    use crate::actors::background::tests::background;
    use crate::actors::fake::{Stage, a_read, a_write, held, minted, settle};
    use crate::dynamo::quorum::Fault;
    use crate::dynamo::version::{State, WriteKind};

    fn admit(stage: &Stage, most: usize) -> (actix::Addr<Admission>, InFlight) {
        let in_flight = InFlight::at_most(most);
        let deadlines = Deadlines {
            read: Duration::from_secs(2),
            write: Duration::from_secs(4),
        };
        let worker = stage.worker.clone();
        let means = (background(), ActionLog::off());
        let door = Admission::new(worker, in_flight.clone(), deadlines, means, u128::MAX);
        (door.start(), in_flight)
    }

    fn put() -> Write {
        a_write(WriteKind::Put)
    }

    #[actix::test]
    async fn one_request_too_many_is_refused_before_anything_is_sent() {
        pause();
        let mut stage = Stage::new(&["a"], None);
        let (door, in_flight) = admit(&stage, 1);
        let first = actix::spawn(door.send(put()));
        let (_, mint, answer) = stage.mint().await;
        assert_eq!((in_flight.count(), in_flight.capacity()), (1, 1));
        let write = door.send(put()).await.unwrap();
        assert!(matches!(write, Err(Failure::Overloaded)), "{write:?}");
        let read = door.send(a_read()).await.unwrap();
        assert!(matches!(read, Err(Failure::Overloaded)), "{read:?}");
        settle().await;
        stage.assert_quiet();
        assert_eq!(in_flight.count(), 1, "a refusal gives nothing back");
        answer.send(Ok(minted(&State::default(), &mint))).unwrap();
        assert!(first.await.unwrap().unwrap().is_ok());
        assert_eq!(in_flight.count(), 0);
        let read = actix::spawn(door.send(a_read()));
        let (_, _, answer) = stage.read().await;
        answer.send(Ok(held(&[]))).unwrap();
        assert!(read.await.unwrap().unwrap().is_ok());
        assert_eq!(in_flight.count(), 0);
        let counts = in_flight.counts();
        let ended = [
            (Operation::Put, Outcome::Done, 1),
            (Operation::Put, Outcome::Overloaded, 1),
            (Operation::Get, Outcome::Overloaded, 1),
            (Operation::Get, Outcome::NotFound, 1),
            (Operation::Get, Outcome::Done, 0),
        ];
        for (operation, outcome, times) in ended {
            let counted = counts.outcomes(operation, outcome);
            assert_eq!(counted, times, "{operation:?} {outcome:?}");
        }
        assert_eq!(
            counts.durations(Operation::Put).count(),
            1,
            "of those let in"
        );
        assert_eq!(counts.siblings().steps.first(), Some(&1));
    }

    #[actix::test]
    async fn the_place_of_a_client_that_went_away_is_given_back_with_the_answer() {
        pause();
        let mut stage = Stage::new(&["a"], None);
        let (door, in_flight) = admit(&stage, 1);
        let client = actix::spawn(door.send(put()));
        let (_, _, answer) = stage.mint().await;
        client.abort();
        settle().await;
        assert_eq!(in_flight.count(), 1, "the write goes on");
        answer.send(Err(Fault::Unreachable)).unwrap();
        settle().await;
        assert_eq!(in_flight.count(), 0);
    }

    #[actix::test]
    async fn a_node_without_a_ring_serves_nobody() {
        pause();
        let mut stage = Stage::new(&["a"], None);
        stage.forget_ring();
        let (door, in_flight) = admit(&stage, 1);
        let write = door.send(put()).await.unwrap();
        assert!(matches!(write, Err(Failure::NotServing)), "{write:?}");
        let read = door.send(a_read()).await.unwrap();
        assert!(matches!(read, Err(Failure::NotServing)), "{read:?}");
        assert_eq!(in_flight.count(), 0);
        stage.assert_quiet();
    }

    #[actix::test]
    async fn requests_without_a_key_of_their_own_are_told_apart() {
        pause();
        let mut stage = Stage::new(&["a"], None);
        let (door, _) = admit(&stage, 9);
        let _pending = [put(), put()].map(|write| actix::spawn(door.send(write)));
        let (first, second) = (stage.mint().await.1, stage.mint().await.1);
        assert_ne!(first.mint.request.id, second.mint.request.id);
        assert!(first.mint.remember.is_none() && second.mint.remember.is_none());
    }
}
