//! How the other nodes do, as this one sees it: from its own traffic and its probes. Steers whom
//! to ask first, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::dynamo::node_id::NodeId;

/// What is known of one node.
#[derive(Debug, Default)]
pub struct Health {
    failures: AtomicU32,
    latency_us: AtomicU64,
}

impl Health {
    /// Notes an answer and how long it took.
    pub fn answered(&self, took: Duration) {
        self.failures.store(0, Ordering::Relaxed);
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let before = self.latency_us.load(Ordering::Relaxed);
        let after = if before == 0 {
            took
        } else {
            before - before / 8 + took / 8
        };
        self.latency_us.store(after, Ordering::Relaxed);
    }

    /// Notes that no answer came.
    pub fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the last attempt was answered; a node never tried counts as reachable.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.failures.load(Ordering::Relaxed) == 0
    }

    /// The smoothed time of recent answers.
    #[must_use]
    pub fn latency(&self) -> Duration {
        Duration::from_micros(self.latency_us.load(Ordering::Relaxed))
    }
}

/// The health of every node met so far; shared by all workers of this one.
#[derive(Debug, Clone, Default)]
pub struct HealthBoard(Arc<ArcSwap<BTreeMap<NodeId, Arc<Health>>>>);

impl HealthBoard {
    /// The entry of a node, made when first asked for.
    #[must_use]
    pub fn of(&self, node: &NodeId) -> Arc<Health> {
        if let Some(known) = self.0.load().get(node) {
            return known.clone();
        }
        let fresh = Arc::new(Health::default());
        let board = self.0.rcu(|board| {
            let mut board = BTreeMap::clone(board);
            board.entry(node.clone()).or_insert_with(|| fresh.clone());
            board
        });
        // Somebody may have been faster: theirs is then on the board.
        self.0
            .load()
            .get(node)
            .or_else(|| board.get(node))
            .cloned()
            .unwrap_or(fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_makes_a_node_reachable_again() {
        let board = HealthBoard::default();
        let node = NodeId::new("n2").unwrap();
        assert!(board.of(&node).is_reachable(), "never tried");
        board.of(&node).failed();
        board.of(&node).failed();
        assert!(!board.of(&node).is_reachable());
        board.of(&node).answered(Duration::from_micros(800));
        assert!(board.of(&node).is_reachable());
        assert_eq!(board.of(&node).latency(), Duration::from_micros(800));
    }
}
