//! How the other nodes do, as this one sees it: from its own traffic and its probes. Steers whom
//! to ask first, and nothing else. What the calls mean is decided in [`crate::dynamo::health`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::dynamo::health::{Call, Condition, Detector, review};
use crate::dynamo::node_id::NodeId;
use crate::metrics::calls::{CallCounts, CallKind, CallOutcome};

/// A review that comes later than this after the one before tells of this node's own standstill.
const STANDSTILL: Duration = Duration::from_millis(500);

/// What is known of one node.
#[derive(Debug)]
pub struct Health {
    began: Instant,
    /// Touched once a call, not once an operation; what is read for every request is beside it.
    detector: Mutex<Detector>,
    condition: AtomicU8,
    latency_us: AtomicU64,
    queued: AtomicUsize,
    avoided: AtomicBool,
    calls: CallCounts,
}

/// One call to a node; dropped without an outcome, it was given up.
#[derive(Debug)]
pub struct Attempt {
    health: Arc<Health>,
    call: Call,
    started: Instant,
    kind: CallKind,
    outcome: CallOutcome,
}

/// A node does otherwise than at the last review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub node: NodeId,
    /// How it did.
    pub before: Condition,
    /// How it does.
    pub now: Condition,
}

impl Health {
    fn new(began: Instant) -> Self {
        Self {
            began,
            detector: Mutex::default(),
            condition: AtomicU8::new(0),
            latency_us: AtomicU64::new(0),
            queued: AtomicUsize::new(0),
            avoided: AtomicBool::new(false),
            calls: CallCounts::default(),
        }
    }

    /// A call is about to be made.
    #[must_use]
    pub fn attempt(self: &Arc<Self>, call: Call) -> Attempt {
        let kind = match call {
            Call::Light => CallKind::Read,
            Call::Durable => CallKind::Write,
        };
        self.attempt_of(call, kind)
    }

    /// A call is about to be made that carries nothing.
    #[must_use]
    pub fn probe(self: &Arc<Self>) -> Attempt {
        self.attempt_of(Call::Light, CallKind::Probe)
    }

    fn attempt_of(self: &Arc<Self>, call: Call, kind: CallKind) -> Attempt {
        let started = Instant::now();
        self.tell(|detector, now| detector.sent(call, now));
        Attempt {
            health: Arc::clone(self),
            call,
            started,
            kind,
            outcome: CallOutcome::GivenUp,
        }
    }

    /// What became of all calls to the node.
    #[must_use]
    pub fn calls(&self) -> &CallCounts {
        &self.calls
    }

    /// Notes an answer to a light call, and how long it took.
    pub fn answered(&self, took: Duration) {
        self.tell(|detector, now| detector.answered(Call::Light, now, took));
    }

    /// Notes that no call could be made.
    pub fn failed(&self) {
        self.tell(Detector::failed);
    }

    /// How the node does.
    #[must_use]
    pub fn condition(&self) -> Condition {
        match self.condition.load(Ordering::Relaxed) {
            0 => Condition::Preferred,
            1 => Condition::Slow,
            _ => Condition::Unreachable,
        }
    }

    /// Whether it is not known to be dead, nor avoided; a node never tried counts as reachable.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.condition() != Condition::Unreachable && !self.is_avoided()
    }

    /// Whether it answers, and in normal time.
    #[must_use]
    pub fn is_preferred(&self) -> bool {
        self.condition() == Condition::Preferred && !self.is_avoided()
    }

    /// Whether an operator has requests steered round it.
    #[must_use]
    pub fn is_avoided(&self) -> bool {
        self.avoided.load(Ordering::Relaxed)
    }

    /// Has requests steered round it, or to it again.
    pub fn avoid(&self, avoided: bool) {
        self.avoided.store(avoided, Ordering::Relaxed);
    }

    /// The smoothed time of recent answers; zero before the first.
    #[must_use]
    pub fn latency(&self) -> Duration {
        Duration::from_micros(self.latency_us.load(Ordering::Relaxed))
    }

    /// Operations that wait for this node, or for its answer, on all workers.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Corrects [`Self::queued`] by one worker's share of it.
    pub fn requeued(&self, before: usize, now: usize) {
        if now >= before {
            self.queued.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.queued.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    fn tell(&self, event: impl FnOnce(&mut Detector, Duration)) {
        let mut detector = self.detector();
        event(&mut detector, self.began.elapsed());
        self.show(&detector);
    }

    fn detector(&self) -> MutexGuard<'_, Detector> {
        // No code that could panic runs under the lock.
        self.detector.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, detector: &Detector) {
        let condition = match detector.condition() {
            Condition::Preferred => 0,
            Condition::Slow => 1,
            Condition::Unreachable => 2,
        };
        self.condition.store(condition, Ordering::Relaxed);
        let pace = detector.pace(Call::Light).unwrap_or_default();
        let pace = u64::try_from(pace.as_micros()).unwrap_or(u64::MAX);
        self.latency_us.store(pace, Ordering::Relaxed);
    }
}

impl Attempt {
    /// An answer came.
    pub fn answered(mut self) {
        self.outcome = CallOutcome::Answered;
        let (call, took) = (self.call, self.started.elapsed());
        self.health.tell(|node, now| node.answered(call, now, took));
    }

    /// No connection came about, or it broke.
    pub fn failed(mut self) {
        self.outcome = CallOutcome::Failed;
        self.health.failed();
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let (call, took) = (self.call, self.started.elapsed());
        self.health.calls.ended(self.kind, self.outcome, took);
        self.health.tell(|detector, now| detector.ended(call, now));
    }
}

/// The health of every node met so far; shared by all workers of this one.
#[derive(Debug, Clone)]
pub struct HealthBoard(Arc<Board>);

#[derive(Debug)]
struct Board {
    began: Instant,
    nodes: ArcSwap<BTreeMap<NodeId, Arc<Health>>>,
    last: Mutex<Last>,
}

/// What the last review found.
#[derive(Debug)]
struct Last {
    at: Instant,
    conditions: BTreeMap<NodeId, Condition>,
}

impl Default for HealthBoard {
    fn default() -> Self {
        let began = Instant::now();
        Self(Arc::new(Board {
            began,
            nodes: ArcSwap::default(),
            last: Mutex::new(Last {
                at: began,
                conditions: BTreeMap::new(),
            }),
        }))
    }
}

impl HealthBoard {
    /// The entry of a node, made when first asked for.
    #[must_use]
    pub fn of(&self, node: &NodeId) -> Arc<Health> {
        if let Some(known) = self.0.nodes.load().get(node) {
            return known.clone();
        }
        let fresh = Arc::new(Health::new(self.0.began));
        self.0.nodes.rcu(|nodes| {
            let mut nodes = BTreeMap::clone(nodes);
            nodes.entry(node.clone()).or_insert_with(|| fresh.clone());
            nodes
        });
        // Somebody may have been faster: theirs is then on the board.
        self.0.nodes.load().get(node).cloned().unwrap_or(fresh)
    }

    /// Judges all nodes by the time that has passed and by each other's pace, and gives what has
    /// changed since the last time. To be done every [`super::prober::REVIEW_INTERVAL`] or so.
    #[must_use]
    pub fn review(&self) -> Vec<Change> {
        let nodes = self.0.nodes.load();
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        let stood_still = last.at.elapsed() > STANDSTILL;
        last.at = Instant::now();
        let now = self.0.began.elapsed();
        let mut guards: Vec<_> = nodes.values().map(|node| node.detector()).collect();
        let mut detectors: Vec<&mut Detector> =
            guards.iter_mut().map(|guard| &mut **guard).collect();
        if stood_still {
            for node in &mut detectors {
                node.excuse(now);
            }
        }
        review(&mut detectors, now);
        let mut changes = Vec::new();
        for ((id, node), detector) in nodes.iter().zip(detectors) {
            node.show(detector);
            let now = detector.condition();
            let before = last.conditions.insert(id.clone(), now);
            let before = before.unwrap_or(Condition::Preferred);
            if before != now {
                let node = id.clone();
                changes.push(Change { node, before, now });
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, pause};

    use super::*;
    use crate::metrics::counter::Label;

    const MILLI: Duration = Duration::from_millis(1);

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    #[actix::test]
    async fn one_answer_makes_a_node_reachable_and_a_calm_makes_it_preferred() {
        pause();
        let board = HealthBoard::default();
        let node = board.of(&id("n2"));
        assert!(node.is_reachable() && node.is_preferred(), "never tried");
        node.failed();
        assert!(!node.is_reachable());
        board.of(&id("n2")).answered(MILLI * 8);
        assert!(node.is_reachable() && !node.is_preferred());
        assert_eq!(node.latency(), MILLI * 8);
        advance(Duration::from_secs(3)).await;
        node.answered(MILLI * 8);
        assert!(node.is_preferred());
    }

    #[actix::test]
    async fn a_silent_node_is_found_out_by_reviews_and_told_of_once() {
        pause();
        let board = HealthBoard::default();
        let (silent, well) = (board.of(&id("b")), board.of(&id("c")));
        let _out = silent.attempt(Call::Light);
        well.attempt(Call::Light).answered();
        let mut told = Vec::new();
        for _ in 0..20 {
            advance(MILLI * 100).await;
            told.extend(board.review());
        }
        let b = |before, now| {
            let node = id("b");
            Change { node, before, now }
        };
        let expected = [
            b(Condition::Preferred, Condition::Slow),
            b(Condition::Slow, Condition::Unreachable),
        ];
        assert_eq!(told, expected);
        assert!(!silent.is_reachable() && well.is_preferred());
    }

    #[actix::test]
    async fn who_has_stood_still_itself_blames_nobody() {
        pause();
        let board = HealthBoard::default();
        let _out = board.of(&id("b")).attempt(Call::Light);
        advance(Duration::from_secs(9)).await;
        assert_eq!(board.review(), Vec::new());
    }

    #[actix::test]
    async fn a_call_that_is_dropped_is_over() {
        pause();
        let node = HealthBoard::default().of(&id("b"));
        drop(node.attempt(Call::Light));
        advance(Duration::from_secs(9)).await;
        node.attempt(Call::Durable).answered();
        assert!(node.is_preferred());
        node.probe().failed();
        let counted = [
            (CallKind::Read, CallOutcome::GivenUp),
            (CallKind::Write, CallOutcome::Answered),
            (CallKind::Probe, CallOutcome::Failed),
        ];
        for kind in CallKind::ALL {
            for outcome in CallOutcome::ALL {
                let expected = u64::from(counted.contains(&(*kind, *outcome)));
                let is = node.calls().outcomes(*kind, *outcome);
                assert_eq!(is, expected, "{kind:?} {outcome:?}");
            }
        }
        assert_eq!(node.calls().durations(CallKind::Write).count(), 1);
    }
}
