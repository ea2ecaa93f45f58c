//! Mints for other nodes whose coordinators have not said yet that they heard so.
//!
//! One that does not hear asks the next owner, and the two attempts must be told for one however
//! late the second comes to light. So a record must not forget such a mint as soon as the others.

use std::collections::{HashSet, VecDeque};

/// How many of the last mints are looked at, in bytes about forty times as much.
const MOST: usize = 1 << 16;

/// The ids of the requests.
#[derive(Debug, Default)]
pub(super) struct Unheard {
    ids: HashSet<u128>,
    /// In the order of their mints; some have been heard of since.
    order: VecDeque<u128>,
}

impl Unheard {
    pub(super) fn add(&mut self, id: u128) {
        if self.ids.insert(id) {
            self.order.push_back(id);
        }
        while let Some(oldest) = self.order.front()
            && (self.order.len() > MOST || !self.ids.contains(oldest))
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
        self.ids.contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_heard_of_leaves_and_what_is_not_stays_until_too_much_has_followed() {
        let mut unheard = Unheard::default();
        (0..9).for_each(|id| unheard.add(id));
        unheard.heard(&[0, 1, 5, 77]);
        assert!([2, 3, 4, 6, 7, 8].into_iter().all(|id| unheard.holds(id)));
        assert!([0, 1, 5, 77].into_iter().all(|id| !unheard.holds(id)));
        unheard.add(9);
        assert_eq!(
            unheard.order.len(),
            8,
            "the front is cleared of what is heard of"
        );
        (10..).take(MOST).for_each(|id| unheard.add(id));
        assert!(!unheard.holds(9) && unheard.holds(10));
        assert_eq!((unheard.ids.len(), unheard.order.len()), (MOST, MOST));
    }

    #[test]
    fn an_id_that_comes_again_is_kept_once() {
        let mut unheard = Unheard::default();
        unheard.add(1);
        unheard.add(1);
        assert_eq!(unheard.order.len(), 1);
        unheard.heard(&[1]);
        assert!(!unheard.holds(1));
    }
}
