//! Mints for other nodes whose coordinators have not said yet that they heard so.
//!
//! One that does not hear asks the next owner, and the two attempts must be told for one however
//! late the second comes to light. So a record must not forget such a mint as soon as the others.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// How many of the last mints are looked at, in bytes about sixty times as much.
const MOST: usize = 1 << 16;

/// A coordinator that has heard says so long before.
const OVERDUE_AFTER: Duration = Duration::from_secs(1);

/// The ids of the requests.
#[derive(Debug, Default)]
pub(super) struct Unheard {
    ids: HashMap<u128, Instant>,
    /// In the order of their mints; some have been heard of since.
    order: VecDeque<u128>,
}

impl Unheard {
    pub(super) fn add(&mut self, id: u128, now: Instant) {
        if self.ids.insert(id, now).is_none() {
            self.order.push_back(id);
        }
        while let Some(oldest) = self.order.front()
            && (self.order.len() > MOST || !self.ids.contains_key(oldest))
        {
            self.ids.remove(oldest);
            self.order.pop_front();
        }
    }

    pub(super) fn heard(&mut self, ids: &[u128]) {
        for id in ids {
            self.ids.remove(id);
        }
    }

    pub(super) fn holds(&self, id: u128) -> bool {
        self.ids.contains_key(&id)
    }

    /// Whether its coordinator should have said by now that it has heard.
    pub(super) fn is_overdue(&self, id: u128, now: Instant) -> bool {
        let since = self.ids.get(&id);
        since.is_some_and(|since| now.saturating_duration_since(*since) >= OVERDUE_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_heard_of_leaves_and_what_is_not_stays_until_too_much_has_followed() {
        let mut unheard = Unheard::default();
        let now = Instant::now();
        (0..9).for_each(|id| unheard.add(id, now));
        unheard.heard(&[0, 1, 5, 77]);
        assert!([2, 3, 4, 6, 7, 8].into_iter().all(|id| unheard.holds(id)));
        assert!([0, 1, 5, 77].into_iter().all(|id| !unheard.holds(id)));
        unheard.add(9, now);
        assert_eq!(
            unheard.order.len(),
            8,
            "the front is cleared of what is heard of"
        );
        (10..).take(MOST).for_each(|id| unheard.add(id, now));
        assert!(!unheard.holds(9) && unheard.holds(10));
        assert_eq!((unheard.ids.len(), unheard.order.len()), (MOST, MOST));
    }

    #[test]
    fn an_id_that_comes_again_is_kept_once() {
        let mut unheard = Unheard::default();
        let now = Instant::now();
        unheard.add(1, now);
        let later = now + OVERDUE_AFTER;
        assert!(!unheard.is_overdue(1, later - Duration::from_millis(1)));
        assert!(unheard.is_overdue(1, later) && !unheard.is_overdue(2, later));
        unheard.add(1, now);
        assert_eq!(unheard.order.len(), 1);
        unheard.heard(&[1]);
        assert!(!unheard.holds(1));
    }
}
