//! Counting and merging the replies to a read.

use super::{Acks, Decision, Fault, Shortfall, WriteQuorum};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::Placement;
use crate::dynamo::version::{State, sync};
use crate::mutant::Mutant;

/// The quorum of one read.
#[derive(Debug)]
pub struct ReadQuorum {
    /// Owners, and the fallbacks that may be asked beside them.
    owners: usize,
    needed: usize,
    replies: Vec<(NodeId, State)>,
    /// Replies of fallbacks.
    hinted: usize,
    faults: Vec<Fault>,
    merged: State,
}

/// What a read leaves to do when all its replies are in.
#[derive(Debug, PartialEq, Eq)]
pub enum ReadFollowUp {
    /// Every replica that answered holds the merged state.
    Nothing,
    /// These do not.
    Repair {
        /// Replicas to bring up to date.
        stale: Vec<NodeId>,
        /// The state they miss.
        merged: State,
    },
}

/// What a strict read owes before it answers: so many owners must hold what it shows that every
/// later strict read of as many replicas meets one of them.
#[derive(Debug)]
pub struct WriteBack {
    /// Counts the owners that hold it, those that replied with it among them.
    pub quorum: WriteQuorum,
    /// The owners, old and new, that are not known to hold it.
    pub missing: Vec<NodeId>,
    /// What they must hold.
    pub merged: State,
}

impl ReadQuorum {
    /// R of so many owners; R is clamped to their number.
    #[must_use]
    pub fn new(owners: usize, r: usize) -> Self {
        let needed = if Mutant::FirstReplyAnswersRead.is_chosen() {
            1
        } else {
            r.clamp(1, owners.max(1))
        };
        Self {
            owners,
            needed,
            replies: Vec::with_capacity(owners),
            hinted: 0,
            faults: Vec::new(),
            merged: State::default(),
        }
    }

    /// How many replies are needed.
    #[must_use]
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// Lets so many fallbacks be asked beside the owners.
    pub fn stand_by(&mut self, fallbacks: usize) {
        self.owners += fallbacks;
    }

    /// Notes the one outcome of an owner.
    pub fn record(&mut self, node: &NodeId, outcome: Result<State, Fault>) -> Decision {
        match outcome {
            Ok(state) => {
                self.merge(&state);
                self.replies.push((node.clone(), state));
            }
            Err(fault) => self.faults.push(fault),
        }
        self.decide()
    }

    /// Notes the one outcome of a fallback. It is no replica to repair: what it has are hints.
    pub fn record_hint(&mut self, outcome: Result<State, Fault>) -> Decision {
        match outcome {
            Ok(state) => {
                self.merge(&state);
                self.hinted += 1;
            }
            Err(fault) => self.faults.push(fault),
        }
        self.decide()
    }

    fn merge(&mut self, state: &State) {
        if self.replies.is_empty() && self.hinted == 0 {
            self.merged = state.clone();
        } else if *state != self.merged {
            self.merged = sync(&self.merged, state);
        }
    }

    /// Whether the quorum is met, out of reach, or open.
    #[must_use]
    pub fn decide(&self) -> Decision {
        let got = self.replies.len() + self.hinted;
        if got >= self.needed {
            Decision::Done
        } else if self.owners.saturating_sub(self.faults.len()) < self.needed {
            Decision::Failed(self.shortfall())
        } else {
            Decision::Wait
        }
    }

    /// The merged state of the replies so far.
    #[must_use]
    pub fn merged(&self) -> &State {
        &self.merged
    }

    /// Who answered so far.
    #[must_use]
    pub fn acks(&self) -> Acks {
        Acks {
            home: self.replies.len(),
            hinted: self.hinted,
        }
    }

    /// How far it got.
    #[must_use]
    pub fn shortfall(&self) -> Shortfall {
        Shortfall {
            needed: self.needed,
            got: self.replies.len() + self.hinted,
        }
    }

    /// The faults so far.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Whether the replies so far differ.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.replies.iter().any(|(_, state)| *state != self.merged)
    }

    /// Brings the merged replies to W owners, and to as many that R later replies cannot miss them
    /// all (the second phase of an atomic register's read: Attiya, Bar-Noy and Dolev, 1995). While
    /// the partition moves, that holds for the incoming owners as well.
    #[must_use]
    pub fn write_back(&self, placement: &Placement, w: usize) -> WriteBack {
        let meeting = (placement.owners.len() + 1).saturating_sub(self.needed);
        let mut quorum = WriteQuorum::new(placement, w.max(meeting));
        let holds = |id: &&NodeId| {
            self.replies
                .iter()
                .any(|(n, s)| n == *id && *s == self.merged)
        };
        let (holders, missing): (Vec<_>, Vec<_>) = placement.writers().partition(holds);
        for id in holders {
            quorum.record(id, Ok(()));
        }
        WriteBack {
            quorum,
            missing: missing.into_iter().cloned().collect(),
            merged: self.merged.clone(),
        }
    }

    /// What is left to do, once every outcome that will come has come.
    #[must_use]
    pub fn finish(self) -> ReadFollowUp {
        let merged = self.merged;
        let behind = self
            .replies
            .into_iter()
            .filter(|(_, state)| *state != merged);
        let stale: Vec<NodeId> = behind.map(|(node, _)| node).collect();
        if stale.is_empty() {
            ReadFollowUp::Nothing
        } else {
            ReadFollowUp::Repair { stale, merged }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::dynamo::node_id::Incarnation;
    use crate::dynamo::version::{Actor, Body, Context, Dot, RequestId, Sibling};

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn written(by: u64) -> State {
        let dot = Dot {
            actor: Actor {
                incarnation: Incarnation(by),
                epoch: 1,
            },
            n: 1,
        };
        let request = RequestId {
            id: by.into(),
            fingerprint: 0,
        };
        let sibling = Sibling {
            dot,
            body: Body::Value(Bytes::from_static(b"1")),
            request,
        };
        let context = Context::from_parts(Vec::new(), vec![dot]);
        State {
            context,
            siblings: vec![sibling],
            remembered: Vec::new(),
        }
    }

    #[test]
    fn a_fault_is_no_reply_and_an_absent_record_is_one() {
        let mut quorum = ReadQuorum::new(3, 2);
        assert_eq!(
            quorum.record(&id("a"), Err(Fault::TimedOut)),
            Decision::Wait
        );
        assert_eq!(
            quorum.record(&id("b"), Ok(State::default())),
            Decision::Wait
        );
        assert_eq!(
            quorum.record(&id("c"), Ok(State::default())),
            Decision::Done
        );
    }

    #[test]
    fn a_quorum_out_of_reach_fails_before_the_last_outcome() {
        let mut quorum = ReadQuorum::new(3, 2);
        quorum.record(&id("a"), Err(Fault::Unreachable));
        let failed = Decision::Failed(Shortfall { needed: 2, got: 0 });
        assert_eq!(quorum.record(&id("b"), Err(Fault::NotReady)), failed);
    }

    /// Owners, incoming owners, R, W, who replied with the merged state; who misses it, and
    /// whether these already are enough.
    #[test]
    fn a_write_back_reaches_every_later_quorum() {
        let ids = |names: &str| -> Vec<NodeId> {
            names.chars().map(|name| id(&name.to_string())).collect()
        };
        let rows = [
            ("abc", "", 2, 2, "a", "bc", 1),
            ("abc", "", 2, 2, "ab", "c", 0),
            ("abc", "", 2, 1, "a", "bc", 1),
            ("abc", "", 3, 1, "a", "bc", 0),
            ("abc", "", 1, 1, "a", "bc", 2),
            ("abc", "abd", 2, 2, "ab", "cd", 0),
            ("abc", "ade", 2, 2, "ab", "cde", 1),
        ];
        for (owners, incoming, r, w, held, missing, more) in rows {
            let placement = Placement {
                owners: ids(owners),
                incoming: (!incoming.is_empty()).then(|| ids(incoming)),
            };
            let mut read = ReadQuorum::new(owners.len(), r);
            for node in &ids(held) {
                read.record(node, Ok(written(1)));
            }
            for node in ids(owners).iter().filter(|n| !held.contains(n.as_str())) {
                read.record(node, Ok(State::default()));
            }
            let mut back = read.write_back(&placement, w);
            let row = format!("{owners}/{incoming} R={r} W={w}");
            assert_eq!(back.missing, ids(missing), "{row}");
            let mut needed = 0;
            for node in back.missing.iter().rev() {
                if back.quorum.decide() == Decision::Done {
                    break;
                }
                needed += 1;
                back.quorum.record(node, Ok(()));
            }
            assert_eq!(needed, more, "{row}");
        }
    }

    #[test]
    fn fallbacks_count_beside_owners_and_are_not_repaired() {
        let mut quorum = ReadQuorum::new(3, 2);
        quorum.record(&id("a"), Ok(State::default()));
        quorum.record(&id("b"), Err(Fault::Unreachable));
        quorum.stand_by(1);
        let dead = Err(Fault::Unreachable);
        assert_eq!(quorum.record(&id("c"), dead), Decision::Wait);
        assert_eq!(quorum.record_hint(Ok(written(1))), Decision::Done);
        let (home, hinted) = (1, 1);
        assert_eq!(quorum.acks(), Acks { home, hinted });
        let expected = ReadFollowUp::Repair {
            stale: vec![id("a")],
            merged: written(1),
        };
        assert_eq!(quorum.finish(), expected);

        let mut quorum = ReadQuorum::new(3, 2);
        quorum.stand_by(2);
        for name in ["a", "b", "c"] {
            quorum.record(&id(name), Err(Fault::TimedOut));
        }
        assert_eq!(quorum.record_hint(Ok(State::default())), Decision::Wait);
        let failed = Decision::Failed(Shortfall { needed: 2, got: 1 });
        assert_eq!(quorum.record_hint(Err(Fault::TimedOut)), failed);
    }

    #[test]
    fn replies_are_merged_and_those_that_lack_something_are_repaired() {
        let mut quorum = ReadQuorum::new(3, 9);
        assert_eq!(quorum.needed(), 3);
        quorum.record(&id("a"), Ok(written(1)));
        quorum.record(&id("b"), Ok(written(2)));
        let both = sync(&written(1), &written(2));
        assert_eq!(quorum.record(&id("c"), Ok(both.clone())), Decision::Done);
        assert_eq!(quorum.merged(), &both);
        let expected = ReadFollowUp::Repair {
            stale: vec![id("a"), id("b")],
            merged: both,
        };
        assert_eq!(quorum.finish(), expected);
    }
}
