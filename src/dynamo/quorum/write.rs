//! Counting the acknowledgements of a write, in both owner sets while a partition moves.

use super::{Acks, Decision, Fault, Shortfall};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::Placement;

/// The quorum of one write.
#[derive(Debug)]
pub struct WriteQuorum {
    sets: Vec<OwnerCount>,
    outcomes: Vec<(NodeId, Result<(), Fault>)>,
}

#[derive(Debug)]
struct OwnerCount {
    owners: Vec<NodeId>,
    needed: usize,
}

impl WriteQuorum {
    /// W of the owners and, while the partition moves, W of the incoming owners too; W is clamped
    /// to the size of each set.
    #[must_use]
    pub fn new(placement: &Placement, w: usize) -> Self {
        let sets = std::iter::once(&placement.owners).chain(placement.incoming.as_ref());
        let count = |owners: &Vec<NodeId>| OwnerCount {
            owners: owners.clone(),
            needed: w.clamp(1, owners.len().max(1)),
        };
        Self {
            sets: sets.map(count).collect(),
            outcomes: Vec::new(),
        }
    }

    /// Notes a replica's outcome. A later outcome of the same replica replaces a fault, never an
    /// acknowledgement.
    pub fn record(&mut self, node: &NodeId, outcome: Result<(), Fault>) -> Decision {
        match self.outcomes.iter_mut().find(|(id, _)| id == node) {
            Some((_, known)) if known.is_err() => *known = outcome,
            Some(_acked) => {}
            None => self.outcomes.push((node.clone(), outcome)),
        }
        self.decide()
    }

    /// Whether the quorum is met, out of reach, or open.
    #[must_use]
    pub fn decide(&self) -> Decision {
        let mut decision = Decision::Done;
        for set in &self.sets {
            let got = self.count(set, Result::is_ok);
            let lost = self.count(set, Result::is_err);
            if set.owners.len() - lost < set.needed {
                return Decision::Failed(Shortfall {
                    needed: set.needed,
                    got,
                });
            }
            if got < set.needed {
                decision = Decision::Wait;
            }
        }
        decision
    }

    /// Who acknowledged so far.
    #[must_use]
    pub fn acks(&self) -> Acks {
        Acks {
            home: self.outcomes.iter().filter(|(_, o)| o.is_ok()).count(),
            hinted: 0,
        }
    }

    /// The faults so far.
    pub fn faults(&self) -> impl Iterator<Item = Fault> + '_ {
        self.outcomes.iter().filter_map(|(_, o)| o.err())
    }

    /// How far the set that lags most has got.
    #[must_use]
    pub fn shortfall(&self) -> Shortfall {
        let of = |s: &OwnerCount| Shortfall {
            needed: s.needed,
            got: self.count(s, Result::is_ok),
        };
        let missing = |s: &Shortfall| s.needed.saturating_sub(s.got);
        self.sets
            .iter()
            .map(of)
            .max_by_key(missing)
            .unwrap_or(Shortfall { needed: 1, got: 0 })
    }

    fn count(&self, set: &OwnerCount, which: impl Fn(&Result<(), Fault>) -> bool) -> usize {
        self.outcomes
            .iter()
            .filter(|(id, o)| set.owners.contains(id) && which(o))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &str) -> Vec<NodeId> {
        names
            .chars()
            .map(|name| NodeId::new(&name.to_string()).unwrap())
            .collect()
    }

    fn quorum(owners: &str, incoming: &str, w: usize) -> WriteQuorum {
        let incoming = (!incoming.is_empty()).then(|| ids(incoming));
        WriteQuorum::new(
            &Placement {
                owners: ids(owners),
                incoming,
            },
            w,
        )
    }

    fn failed(needed: usize, got: usize) -> Decision {
        Decision::Failed(Shortfall { needed, got })
    }

    /// Owners, incoming owners, W, outcomes in order (`+` acknowledged, `-` failed), decision.
    #[test]
    fn decisions_follow_the_table() {
        let rows = [
            ("abc", "", 2, "a+", Decision::Wait),
            ("abc", "", 2, "a+a+", Decision::Wait),
            ("abc", "", 2, "a+b+", Decision::Done),
            ("abc", "", 2, "a-b+", Decision::Wait),
            ("abc", "", 2, "a-b-", failed(2, 0)),
            ("abc", "", 2, "a-a+b+", Decision::Done),
            ("abc", "", 9, "a+b+", Decision::Wait),
            ("abc", "", 2, "x+y+", Decision::Wait),
            ("a", "", 2, "a+", Decision::Done),
            // A move needs both sets: c acknowledges only for the old one, d only for the new.
            ("abc", "abd", 2, "a+c+", Decision::Wait),
            ("abc", "abd", 2, "a+b+", Decision::Done),
            ("abc", "abd", 2, "a-d-", failed(2, 0)),
        ];
        for (owners, incoming, w, outcomes, expected) in rows {
            let mut quorum = quorum(owners, incoming, w);
            let mut last = quorum.decide();
            for outcome in outcomes.as_bytes().chunks(2) {
                let node = ids(&char::from(outcome[0]).to_string()).remove(0);
                let acked = outcome[1] == b'+';
                last = quorum.record(&node, acked.then_some(()).ok_or(Fault::Unreachable));
            }
            assert_eq!(last, expected, "{owners}/{incoming} W={w} {outcomes}");
        }
    }

    /// Seed defect 2: any HTTP answer counted, 404, 409 and 500 too.
    #[test]
    fn seed_defect_02_no_fault_counts_as_an_acknowledgement() {
        let all = [
            Fault::StaleRing,
            Fault::RingBehind,
            Fault::NotOwner,
            Fault::NotReady,
            Fault::Flipped,
            Fault::Overloaded,
            Fault::Postponed,
            Fault::StorageFull,
            Fault::Damaged,
            Fault::Unreachable,
            Fault::Broken,
            Fault::TimedOut,
        ];
        for fault in all {
            let mut quorum = quorum("abc", "", 2);
            quorum.record(&ids("a")[0], Err(fault));
            let second = quorum.record(&ids("b")[0], Err(fault));
            assert_eq!(second, failed(2, 0), "{fault:?}");
        }
    }
}
