//! What keeps a member from voting that has gone back in time, and so has forgotten promises.
//!
//! A member votes about epoch E + 1 only with ring E in force. So what it has forgotten is about
//! epochs up to X + 1 if no ring after X had been decided by then. It knows such an X once enough
//! voters of ring X have told it, since it started, of an older ring: none of them had voted about
//! X + 1 when it forgot, and without one of them there is no majority.

use std::collections::BTreeMap;

use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::Ring;

/// The silence of one member. Store it whenever it has changed, and begin it before anything else
/// is done about the store that is older.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Silence {
    heard: BTreeMap<NodeId, u64>,
    through: Option<u64>,
}

impl Silence {
    /// As it was stored.
    #[must_use]
    pub fn from_parts(
        heard: impl IntoIterator<Item = (NodeId, u64)>,
        through: Option<u64>,
    ) -> Self {
        Self {
            heard: heard.into_iter().collect(),
            through,
        }
    }

    /// The first epoch that each node has told of since this began.
    pub fn heard(&self) -> impl Iterator<Item = (&NodeId, u64)> {
        self.heard.iter().map(|(node, epoch)| (node, *epoch))
    }

    /// The last epoch about which there may be a forgotten vote, once that is known.
    #[must_use]
    pub fn through(&self) -> Option<u64> {
        self.through
    }

    /// Takes a node's word on which epoch is in force there.
    pub fn hear(&mut self, from: NodeId, epoch: u64) {
        self.heard.entry(from).or_insert(epoch);
    }

    /// Takes note of a ring that is in force here, at the member `me`.
    pub fn follow(&mut self, me: &NodeId, ring: &Ring) {
        let voters = ring.voters().count();
        let was_behind = |id: &NodeId| self.heard.get(id).is_some_and(|epoch| *epoch < ring.epoch);
        let others = ring.voters().map(|m| &m.id).filter(|id| *id != me);
        // Every majority has one of so many others.
        let enough = voters - voters / 2;
        if self.through.is_none() && others.filter(|id| was_behind(id)).count() >= enough {
            self.through = Some(ring.epoch + 1);
        }
    }

    /// Whether nothing that was forgotten can matter any more.
    #[must_use]
    pub fn is_over(&self, ring: &Ring) -> bool {
        self.through.is_some_and(|through| ring.epoch >= through)
    }

    /// Whether the member may not vote about the ring after this one. Of two voters both decide
    /// everything, so what one has forgotten is remembered by the other one; and without the member
    /// nothing would ever be decided there.
    #[must_use]
    pub fn binds(&self, ring: &Ring) -> bool {
        !self.is_over(ring) && ring.voters().count() > 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamo::membership::fixture::{id, ring};

    fn at(epoch: u64, members: &[&str]) -> Ring {
        Ring {
            epoch,
            ..ring(members)
        }
    }

    /// Told this at first, `n1` is silent until the ring of that epoch is in force.
    #[test]
    fn a_member_votes_again_when_no_forgotten_promise_can_be_about_the_next_ring() {
        const THREE: &[&str] = &["n1", "n2", "n3"];
        const FOUR: &[&str] = &["n1", "n2", "n3", "n4"];
        const FIVE: &[&str] = &["n1", "n2", "n3", "n4", "n5"];
        type Row<'a> = (&'a [&'a str], &'a [(&'a str, u64)], Option<u64>);
        let rows: [Row; 9] = [
            (THREE, &[("n2", 5), ("n3", 5)], Some(7)),
            (THREE, &[("n2", 5), ("n3", 8)], Some(10)),
            (THREE, &[("n2", 5)], None),
            // Its own word does not count, nor that of somebody without a vote.
            (THREE, &[("n2", 5), ("n1", 5), ("n9", 5)], None),
            (FOUR, &[("n2", 5), ("n4", 6)], Some(8)),
            (FIVE, &[("n2", 5), ("n3", 5)], None),
            (FIVE, &[("n2", 5), ("n3", 5), ("n4", 6)], Some(8)),
            // Only the first word counts.
            (THREE, &[("n2", 5), ("n3", 5), ("n3", 9)], Some(7)),
            (THREE, &[], None),
        ];
        for (members, heard, votes_at) in rows {
            let row = format!("{} members, {heard:?}", members.len());
            let mut silence = Silence::default();
            for (node, epoch) in heard {
                silence.hear(id(node), *epoch);
            }
            let votes = (3..15).find(|epoch| {
                let ring = at(*epoch, members);
                silence.follow(&id("n1"), &ring);
                !silence.binds(&ring)
            });
            assert_eq!(votes, votes_at, "{row}");
            let again = Silence::from_parts(
                silence.heard().map(|(node, epoch)| (node.clone(), epoch)),
                silence.through(),
            );
            assert_eq!(again, silence, "{row}");
        }
    }

    #[test]
    fn of_two_voters_one_that_forgets_is_needed_and_does_no_harm() {
        let silence = Silence::default();
        assert!(!silence.binds(&at(5, &["n1", "n2"])));
        assert!(silence.binds(&at(5, &["n1", "n2", "n3"])));
        assert!(!silence.is_over(&at(5, &["n1", "n2"])));
    }
}
