//! What reads do beside reading, counted over all workers, for operators.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Counters that all workers of a node share.
#[derive(Debug, Clone, Default)]
pub struct ReadCounts(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    hedged: AtomicU64,
    written_back: AtomicU64,
    repaired: AtomicU64,
    repairs_dropped: AtomicU64,
}

/// One kind of what is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// A replica was asked because another took too long.
    Hedge,
    /// A strict read wrote what it had merged before it answered.
    WriteBack,
    /// A replica that was behind was sent the merged state.
    Repair,
    /// One was not, because too many waited for their turn.
    RepairDropped,
}

/// The counts since the node's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ReadTotals {
    /// Replicas asked because another took too long.
    pub hedged: u64,
    /// Strict reads that wrote what they had merged before they answered.
    pub written_back: u64,
    /// Replicas sent the merged state because they were behind.
    pub repaired: u64,
    /// Replicas that were behind and were left so because too many waited.
    pub repairs_dropped: u64,
}

impl ReadCounts {
    /// Counts one.
    pub fn count(&self, what: Counted) {
        let counter = match what {
            Counted::Hedge => &self.0.hedged,
            Counted::WriteBack => &self.0.written_back,
            Counted::Repair => &self.0.repaired,
            Counted::RepairDropped => &self.0.repairs_dropped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts now.
    #[must_use]
    pub fn totals(&self) -> ReadTotals {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ReadTotals {
            hedged: load(&self.0.hedged),
            written_back: load(&self.0.written_back),
            repaired: load(&self.0.repaired),
            repairs_dropped: load(&self.0.repairs_dropped),
        }
    }
}
