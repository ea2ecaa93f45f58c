//! How many partitions may be pulled at the same time. All that move wait in one queue, so fewer
//! slots are had by giving back none, not by waiting at its end.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Slots, of which there may be more or fewer at any time.
#[derive(Debug)]
pub(super) struct Slots {
    free: Semaphore,
    /// Slots in use that are not to be used again.
    surplus: AtomicUsize,
}

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        Self {
            free: Semaphore::new(count),
            surplus: AtomicUsize::new(0),
        }
    }

    /// A slot, once it is this one's turn.
    pub(super) async fn take(&self) -> Option<SemaphorePermit<'_>> {
        self.free.acquire().await.ok()
    }

    pub(super) fn give_back(&self, slot: SemaphorePermit<'_>) {
        if self.settle(1) == 1 {
            slot.forget();
        }
    }

    pub(super) fn add(&self, count: usize) {
        self.free.add_permits(count - self.settle(count));
    }

    pub(super) fn remove(&self, count: usize) {
        let in_use = count - self.free.forget_permits(count);
        self.surplus.fetch_add(in_use, Ordering::Relaxed);
    }

    /// Takes so many off the surplus, or as many as there are.
    fn settle(&self, count: usize) -> usize {
        let less = |surplus: usize| Some(surplus.saturating_sub(count));
        let before = (self.surplus).fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        before.unwrap_or_default().min(count)
    }
}
