//! The node's controller of background work: hints, repair, anti-entropy, reaping and transfers ask
//! it before each unit. When to let them go on is decided in `dynamo::pacing`.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::prelude::{
    Actor, Addr, ArbiterHandle, AsyncContext, Context, Handler, Message, MessageResult,
};
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::actors::peer_handle::GoingDown;
pub use crate::dynamo::pacing::Kind;
use crate::dynamo::pacing::{Foreground, LOOK_EVERY, Pacing, Tail};
use crate::metrics::histogram::{Histogram, MICROS};

/// Pause between two looks at who may go on.
const TICK: Duration = Duration::from_millis(100);
/// Units of one kind that may wait before [`Background::is_crowded`].
pub const CROWD: usize = 256;

/// The way to the controller; cheap to clone, and may go to any thread.
#[derive(Debug, Clone)]
pub struct Background {
    pacer: Addr<Pacer>,
    waiting: Arc<[AtomicUsize; Kind::ALL.len()]>,
    latency: Arc<Latency>,
}

/// Owns the pacing.
#[derive(Debug)]
pub struct Pacer {
    pacing: Pacing<oneshot::Sender<()>>,
    latency: Arc<Latency>,
    reads: Tail,
    writes: Tail,
    started: Instant,
    looked: Duration,
}

/// How long clients wait, as all worker threads tell it.
#[derive(Debug)]
struct Latency {
    reads: Histogram,
    writes: Histogram,
}

/// One kind of work, as `/status` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KindShown {
    /// The rate it may have now, in bytes per second.
    pub rate_bytes_s: u64,
    /// What the operator allows at most, in bytes per second.
    pub limit_bytes_s: Option<NonZeroU64>,
    /// Units that wait for their turn.
    pub waiting: usize,
    /// Bytes let through since the start.
    pub done_bytes: u64,
}

/// Every kind of work by its name.
pub type BackgroundStatus = BTreeMap<&'static str, KindShown>;

/// New limits of some kinds, in bytes per second; `None` takes a limit away.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "BackgroundStatus")]
pub struct SetLimits(pub Vec<(Kind, Option<NonZeroU64>)>);

/// Asks how background work is.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "BackgroundStatus")]
pub struct GetBackground;

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Ask {
    kind: Kind,
    bytes: u64,
    who: oneshot::Sender<()>,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Charge {
    kind: Kind,
    bytes: u64,
}

/// Counts one that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Background {
    /// Starts the controller on a thread.
    #[must_use]
    pub fn start(thread: &ArbiterHandle) -> Self {
        let [reads, writes] = [(); 2].map(|()| Histogram::of_durations());
        let latency = Arc::new(Latency { reads, writes });
        let seen = latency.clone();
        let pacer = Pacer::start_in_arbiter(thread, |_| Pacer {
            pacing: Pacing::default(),
            latency: seen,
            reads: Tail::new(MICROS),
            writes: Tail::new(MICROS),
            started: Instant::now(),
            looked: Duration::ZERO,
        });
        Self {
            pacer,
            waiting: Arc::default(),
            latency,
        }
    }

    /// Waits until a unit of work of about so many bytes may be done. Who waits here must be
    /// bounded by its caller; dropped, it gives its place up.
    pub async fn turn(&self, kind: Kind, bytes: u64) {
        let _waiting = self.counted(kind);
        let (who, turn) = oneshot::channel();
        self.pacer.do_send(Ask { kind, bytes, who });
        // A controller that is gone, because the node goes down, holds nobody up.
        drop(turn.await);
    }

    /// Tells what a unit of work cost, if that was not known when it asked for its turn: the next
    /// ones wait for it.
    pub fn charge(&self, kind: Kind, bytes: u64) {
        self.pacer.do_send(Charge { kind, bytes });
    }

    /// Whether so much of a kind waits already that a unit which may as well not be done should
    /// not be.
    #[must_use]
    pub fn is_crowded(&self, kind: Kind) -> bool {
        self.waiting_of(kind).load(Ordering::Relaxed) >= CROWD
    }

    /// A client's read was answered after this time.
    pub fn read_answered(&self, took: Duration) {
        self.latency.reads.took(took);
    }

    /// A client's write was answered after this time.
    pub fn write_answered(&self, took: Duration) {
        self.latency.writes.took(took);
    }

    /// How background work is.
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn status(&self) -> Result<BackgroundStatus, GoingDown> {
        self.pacer.send(GetBackground).await.or(Err(GoingDown))
    }

    /// Sets limits, and shows what is so now.
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn limit(&self, limits: SetLimits) -> Result<BackgroundStatus, GoingDown> {
        self.pacer.send(limits).await.or(Err(GoingDown))
    }

    fn counted(&self, kind: Kind) -> Waiting<'_> {
        let waiting = self.waiting_of(kind);
        waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(waiting)
    }

    #[expect(clippy::indexing_slicing, reason = "there is a number for each kind")]
    fn waiting_of(&self, kind: Kind) -> &AtomicUsize {
        &self.waiting[kind as usize]
    }
}

impl Pacer {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn grant(&mut self) {
        let now = self.now();
        for who in self.pacing.grant(now, oneshot::Sender::is_closed) {
            // Closed just now: that unit has cost something for nothing.
            let _sent = who.send(());
        }
    }

    fn tick(&mut self) {
        if self.now() >= self.looked + LOOK_EVERY {
            self.looked = self.now();
            self.pacing.heed(Foreground {
                reads: self.reads.look(&self.latency.reads.shown().steps),
                writes: self.writes.look(&self.latency.writes.shown().steps),
            });
        }
        self.grant();
    }

    fn status(&self) -> BackgroundStatus {
        let shown = |kind: Kind| {
            let status = self.pacing.status(kind);
            let shown = KindShown {
                rate_bytes_s: status.rate,
                limit_bytes_s: status.limit,
                waiting: status.waiting,
                done_bytes: status.done,
            };
            (kind.as_str(), shown)
        };
        Kind::ALL.into_iter().map(shown).collect()
    }
}

impl Actor for Pacer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(TICK, |pacer, _| pacer.tick());
    }
}

impl Handler<Ask> for Pacer {
    type Result = ();

    fn handle(&mut self, Ask { kind, bytes, who }: Ask, _: &mut Self::Context) {
        self.pacing.ask(self.now(), kind, bytes, who);
        self.grant();
    }
}

impl Handler<SetLimits> for Pacer {
    type Result = MessageResult<SetLimits>;

    fn handle(&mut self, SetLimits(limits): SetLimits, _: &mut Self::Context) -> Self::Result {
        for (kind, limit) in limits {
            self.pacing.limit(kind, limit);
        }
        self.grant();
        MessageResult(self.status())
    }
}

impl Handler<Charge> for Pacer {
    type Result = ();

    fn handle(&mut self, Charge { kind, bytes }: Charge, _: &mut Self::Context) {
        let now = self.now();
        self.pacing.charge(now, kind, bytes);
    }
}

impl Handler<GetBackground> for Pacer {
    type Result = MessageResult<GetBackground>;

    fn handle(&mut self, _: GetBackground, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.status())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use actix::Arbiter;
    use tokio::time::timeout;

    use super::*;
    use crate::actors::fake::settle;
    use crate::dynamo::pacing::{FIRST, FIRST_TO_MEND, SLOWEST};

    /// A controller on the test's own thread.
    pub(crate) fn background() -> Background {
        Background::start(&Arbiter::current())
    }

    #[actix::test]
    async fn units_wait_once_the_rate_is_used_up_and_show_it() {
        tokio::time::pause();
        let background = background();
        let started = Instant::now();
        for _ in 0..4 {
            background.turn(Kind::Hints, FIRST_TO_MEND).await;
        }
        let took = started.elapsed().as_millis();
        assert!((1500..3000).contains(&took), "{took} ms");
        let waits = tokio::spawn({
            let background = background.clone();
            async move { background.turn(Kind::Hints, 1).await }
        });
        settle().await;
        let shown = background.status().await.unwrap()["hints"];
        assert_eq!((shown.waiting, shown.done_bytes), (1, 4 * FIRST_TO_MEND));
        waits.abort();
        settle().await;
        tokio::time::sleep(TICK).await;
        assert_eq!(background.status().await.unwrap()["hints"].waiting, 0);
    }

    #[actix::test]
    async fn a_limit_set_at_run_time_is_felt_by_those_who_wait() {
        tokio::time::pause();
        let background = background();
        let limits = |rate| SetLimits(vec![(Kind::Repair, NonZeroU64::new(rate))]);
        let shown = background.limit(limits(1000)).await.unwrap();
        assert_eq!(shown["repair"].rate_bytes_s, 1000);
        assert_eq!(shown["hints"].limit_bytes_s, None);
        background.turn(Kind::Repair, 20_000).await;
        let second = background.turn(Kind::Repair, 20_000);
        tokio::pin!(second);
        let early = timeout(Duration::from_secs(10), &mut second).await;
        assert!(early.is_err(), "20 s of bytes");
        background.limit(limits(0)).await.unwrap();
        timeout(TICK, second).await.unwrap();
    }

    #[actix::test]
    async fn slow_answers_to_clients_slow_the_background_down() {
        tokio::time::pause();
        let background = background();
        let rate = async || background.status().await.unwrap()["transfers"].rate_bytes_s;
        let crowd: Vec<_> = (0..1000)
            .map(|_| {
                let background = background.clone();
                tokio::spawn(async move { background.turn(Kind::Transfers, 1 << 20).await })
            })
            .collect();
        for _ in 0..3 {
            background.read_answered(Duration::from_millis(1));
            background.write_answered(Duration::from_millis(5));
            tokio::time::sleep(LOOK_EVERY).await;
        }
        assert!(rate().await > FIRST);
        for _ in 0..20 {
            background.write_answered(Duration::from_millis(300));
            tokio::time::sleep(LOOK_EVERY).await;
        }
        assert_eq!(rate().await, SLOWEST);
        crowd.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[actix::test]
    async fn a_crowd_is_known_as_one_and_parts() {
        tokio::time::pause();
        let background = background();
        let mut crowd = Vec::new();
        background.turn(Kind::Repair, FIRST_TO_MEND * 10).await;
        for _ in 0..CROWD {
            assert!(!background.is_crowded(Kind::Repair));
            let background = background.clone();
            crowd.push(tokio::spawn(async move {
                background.turn(Kind::Repair, 1).await;
            }));
            tokio::task::yield_now().await;
        }
        assert!(background.is_crowded(Kind::Repair));
        assert!(!background.is_crowded(Kind::Hints));
        for one in crowd {
            one.abort();
        }
        settle().await;
        assert!(!background.is_crowded(Kind::Repair));
    }
}
