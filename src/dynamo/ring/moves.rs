//! When a node that gains a partition holds all of it, when its old owners are out of the way, and
//! for how long what nodes note of a move holds.

use super::{Placement, Ring};

/// Of how many old owners a node has everything that they hold; it has its own, if it is one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pulls {
    /// Of so many.
    pub from: usize,
    /// Of so many of these that have lost nothing themselves.
    pub whole: usize,
}

impl Placement {
    /// Whether a node that has pulled from so many old owners holds all that was acknowledged with
    /// `write` replicas out of `replicas`: every such write is on one of as many. When nobody is
    /// left to ask, nobody knows more.
    #[must_use]
    pub fn is_whole_with(&self, replicas: usize, write: usize, pulls: Pulls) -> bool {
        pulls.whole >= self.whole_from(replicas, write) || pulls.from == self.owners.len()
    }

    /// Whether so many old owners refuse reads that the others are too few to answer one with `read`
    /// replies.
    #[must_use]
    pub fn is_handed_over_with(&self, read: usize, flipped: usize) -> bool {
        flipped >= self.flips_needed(read)
    }
}

impl Ring {
    /// Whether what nodes have noted of the move of the ring before holds in this one: it is the
    /// same move, whatever epochs came in its middle.
    #[must_use]
    pub fn goes_on_from(&self, before: &Ring) -> bool {
        self.move_epoch() == before.move_epoch()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamo::membership::fixture::{id, join, ring};
    use crate::dynamo::ring::{Change, plan};

    #[test]
    fn a_partition_is_whole_with_as_many_owners_as_a_write_cannot_have_missed() {
        let row = |owners: &[&str]| Placement {
            owners: owners.iter().map(|name| id(name)).collect(),
            incoming: None,
        };
        let (three, two) = (row(&["a", "b", "c"]), row(&["a", "b"]));
        let rows = [
            // of, W, from, whole, enough
            (&three, 2, 1, 1, false),
            (&three, 2, 2, 2, true),
            (&three, 2, 2, 1, false),
            (&three, 2, 3, 0, true),
            (&three, 3, 1, 1, true),
            (&three, 1, 2, 2, false),
            // One of three was forgotten: it may have been one of the two.
            (&two, 2, 1, 1, false),
            (&two, 2, 2, 2, true),
        ];
        for (at, (row, write, from, whole, enough)) in rows.into_iter().enumerate() {
            let pulls = Pulls { from, whole };
            assert_eq!(row.is_whole_with(3, write, pulls), enough, "row {at}");
        }
    }

    #[test]
    fn a_partition_is_handed_over_when_too_few_owners_are_left_for_a_read() {
        let row = Placement {
            owners: ["a", "b", "c"].map(id).to_vec(),
            incoming: None,
        };
        for (read, flipped, over) in [
            (2, 1, false),
            (2, 2, true),
            (1, 2, false),
            (1, 3, true),
            (3, 1, true),
            (3, 0, false),
        ] {
            let what = format!("R = {read}, {flipped} flipped");
            assert_eq!(row.is_handed_over_with(read, flipped), over, "{what}");
        }
    }

    #[test]
    fn what_is_noted_of_a_move_holds_until_it_ends() {
        let after = |ring: &Ring, change| plan(Some(ring), &change).unwrap();
        let rest = ring(&["n1", "n2", "n3"]);
        let moving = after(&rest, join("n4"));
        let (node, down) = (id("n1"), true);
        let steered = after(&moving, Change::Steer { node, down });
        assert!(steered.goes_on_from(&moving) && !moving.goes_on_from(&rest));
        assert!(!after(&steered, Change::Retire).goes_on_from(&steered));
    }
}
