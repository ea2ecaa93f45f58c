//! The side of the promise that wants a change: it predicts, compares, and only then has the
//! change accepted.

use std::fmt;
use std::sync::Arc;

use super::{AcceptReply, Accepted, Ballot, PredictReply, Proposal};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{Change, Member, PlanError, Ring, RingHash, plan};

/// No answer came in time. Whoever talks to the acceptors reports it, so every proposal ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreachable;

/// What to do after an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Wait,
    /// A majority has promised: ask every acceptor to accept this, under the same ballot. It is
    /// somebody else's proposal if that may have been chosen already.
    Accept(Proposal),
    /// The epoch is decided, for good.
    Committed {
        /// The new ring.
        ring: Box<Ring>,
        /// False when an earlier proposal was finished instead of the proposer's own.
        mine: bool,
    },
    /// No majority any more. The change may still be finished later by somebody else.
    Lost(Loss),
}

/// Why a proposal did not get its majority; the most telling reason of those that were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// Too few acceptors answered, or they have an older ring.
    NoMajority,
    /// Another proposer has a higher ballot: wait, then outbid it.
    Outbid(Ballot),
    /// The change does not fit the acceptors' ring.
    CannotFollow(PlanError),
    /// An acceptor computes another ring from the same change.
    HashesDiffer {
        /// Who.
        node: NodeId,
        /// The proposer's ring.
        own: RingHash,
        /// That acceptor's.
        theirs: RingHash,
    },
    /// The epoch was decided without this proposal: take the newer ring first.
    WrongEpoch {
        /// The newest epoch heard of.
        current: u64,
    },
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMajority => f.write_str("too few members answered"),
            Self::Outbid(by) => write!(f, "outbid by {} in round {}", by.proposer, by.round),
            Self::CannotFollow(why) => write!(f, "the change does not fit the ring: {why}"),
            Self::HashesDiffer { node, own, theirs } => {
                write!(f, "{node} predicts ring {theirs}, not {own}")
            }
            Self::WrongEpoch { current } => write!(f, "the ring is at epoch {current} already"),
        }
    }
}

/// One attempt to change the ring. Send [`Proposer::proposal`] as a prediction to all acceptors,
/// feed every answer in, and follow the steps.
#[derive(Debug, Clone)]
pub struct Proposer {
    ring: Arc<Ring>,
    ballot: Ballot,
    own: Proposal,
    next: Ring,
    phase: Phase,
    poll: Poll,
    dissent: Vec<(NodeId, RingHash)>,
}

#[derive(Debug, Clone)]
enum Phase {
    Predicting { earlier: Option<Accepted> },
    Accepting { mine: bool },
    Ended,
}

impl Proposer {
    /// Wants this change to follow this ring.
    ///
    /// # Errors
    /// [`PlanError`] when it cannot.
    pub fn new(ring: Arc<Ring>, ballot: Ballot, change: Change) -> Result<Self, PlanError> {
        let next = plan(Some(&ring), &change)?;
        let hash = next.hash();
        Ok(Self {
            own: Proposal { change, hash },
            phase: Phase::Predicting { earlier: None },
            poll: Poll::of(ring.voters()),
            dissent: Vec::new(),
            ring,
            ballot,
            next,
        })
    }

    /// The epoch it is about.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.ring.epoch + 1
    }

    /// Its rank.
    #[must_use]
    pub fn ballot(&self) -> &Ballot {
        &self.ballot
    }

    /// What it wants.
    #[must_use]
    pub fn proposal(&self) -> &Proposal {
        &self.own
    }

    /// Who decides: the members of the epoch before, save those on their way out.
    #[must_use]
    pub fn acceptors(&self) -> Vec<Member> {
        self.ring.voters().cloned().collect()
    }

    /// Acceptors that computed another ring, which is worth an alarm even if a majority agreed.
    #[must_use]
    pub fn dissent(&self) -> &[(NodeId, RingHash)] {
        &self.dissent
    }

    /// Takes an acceptor's answer to the prediction; only its first one counts.
    pub fn on_predict(&mut self, from: &NodeId, reply: Result<PredictReply, Unreachable>) -> Step {
        let Phase::Predicting { earlier } = &mut self.phase else {
            return Step::Wait;
        };
        if !self.poll.admits(from) {
            return Step::Wait;
        }
        let vote = match reply {
            Ok(PredictReply::Promised { hash, accepted }) => {
                let vote = agree(from, self.own.hash, hash, &mut self.dissent);
                if vote.is_ok() && ballot_of(accepted.as_ref()) > ballot_of(earlier.as_ref()) {
                    *earlier = accepted;
                }
                vote
            }
            Ok(PredictReply::Outbid(by)) => Err(Loss::Outbid(by)),
            Ok(PredictReply::WrongEpoch { current }) => Err(Loss::WrongEpoch { current }),
            Ok(PredictReply::CannotFollow(why)) => Err(Loss::CannotFollow(why)),
            Err(Unreachable) => Err(Loss::NoMajority),
        };
        match self.poll.count(vote, self.ring.epoch) {
            Verdict::Open => Step::Wait,
            Verdict::Carried => self.start_accepting(),
            Verdict::Lost(why) => self.end(Step::Lost(why)),
        }
    }

    /// Takes an acceptor's answer to the request to accept; only its first one counts.
    pub fn on_accept(&mut self, from: &NodeId, reply: Result<AcceptReply, Unreachable>) -> Step {
        let Phase::Accepting { mine } = self.phase else {
            return Step::Wait;
        };
        if !self.poll.admits(from) {
            return Step::Wait;
        }
        let vote = match reply {
            Ok(AcceptReply::Accepted) => Ok(()),
            Ok(AcceptReply::Outbid(by)) => Err(Loss::Outbid(by)),
            Ok(AcceptReply::WrongEpoch { current }) => Err(Loss::WrongEpoch { current }),
            Ok(AcceptReply::HashDiffers { hash }) => {
                agree(from, self.next.hash(), hash, &mut self.dissent)
            }
            Ok(AcceptReply::CannotFollow(why)) => Err(Loss::CannotFollow(why)),
            Err(Unreachable) => Err(Loss::NoMajority),
        };
        match self.poll.count(vote, self.ring.epoch) {
            Verdict::Open => Step::Wait,
            Verdict::Carried => self.end(Step::Committed {
                ring: Box::new(self.next.clone()),
                mine,
            }),
            Verdict::Lost(why) => self.end(Step::Lost(why)),
        }
    }

    /// A majority has promised. What one of them accepted earlier may have been chosen, so it is
    /// finished before anything new.
    fn start_accepting(&mut self) -> Step {
        let phase = std::mem::replace(&mut self.phase, Phase::Ended);
        let chosen = match phase {
            Phase::Predicting {
                earlier: Some(earlier),
            } => match self.adopt(earlier) {
                Ok(proposal) => proposal,
                Err(why) => return Step::Lost(why),
            },
            Phase::Predicting { earlier: None } | Phase::Accepting { .. } | Phase::Ended => {
                self.own.clone()
            }
        };
        self.poll = Poll::of(self.ring.voters());
        self.phase = Phase::Accepting {
            mine: chosen == self.own,
        };
        Step::Accept(chosen)
    }

    fn adopt(&mut self, earlier: Accepted) -> Result<Proposal, Loss> {
        let Accepted { ballot, proposal } = earlier;
        self.next = plan(Some(&self.ring), &proposal.change).map_err(Loss::CannotFollow)?;
        let own = self.next.hash();
        agree(&ballot.proposer, own, proposal.hash, &mut self.dissent)?;
        Ok(proposal)
    }

    fn end(&mut self, step: Step) -> Step {
        self.phase = Phase::Ended;
        step
    }
}

fn ballot_of(accepted: Option<&Accepted>) -> Option<&Ballot> {
    accepted.map(|a| &a.ballot)
}

fn agree(
    node: &NodeId,
    own: RingHash,
    theirs: RingHash,
    dissent: &mut Vec<(NodeId, RingHash)>,
) -> Result<(), Loss> {
    if own == theirs {
        return Ok(());
    }
    dissent.push((node.clone(), theirs));
    Err(Loss::HashesDiffer {
        node: node.clone(),
        own,
        theirs,
    })
}

/// One phase's votes.
#[derive(Debug, Clone)]
struct Poll {
    silent: Vec<NodeId>,
    majority: usize,
    votes: usize,
    loss: Loss,
}

enum Verdict {
    Open,
    Carried,
    Lost(Loss),
}

impl Poll {
    fn of<'a>(voters: impl Iterator<Item = &'a Member>) -> Self {
        let silent: Vec<NodeId> = voters.map(|m| m.id.clone()).collect();
        Self {
            majority: silent.len() / 2 + 1,
            silent,
            votes: 0,
            loss: Loss::NoMajority,
        }
    }

    /// Whether this is an acceptor's first word.
    fn admits(&mut self, from: &NodeId) -> bool {
        let known = self.silent.iter().position(|id| id == from);
        known.map(|i| self.silent.swap_remove(i)).is_some()
    }

    fn count(&mut self, vote: Result<(), Loss>, epoch: u64) -> Verdict {
        match vote {
            Ok(()) => self.votes += 1,
            Err(Loss::WrongEpoch { current }) if current > epoch => {
                return Verdict::Lost(Loss::WrongEpoch { current });
            }
            Err(Loss::WrongEpoch { .. }) => {}
            Err(loss) if rank(&loss) > rank(&self.loss) => self.loss = loss,
            Err(_less_telling) => {}
        }
        if self.votes >= self.majority {
            Verdict::Carried
        } else if self.votes + self.silent.len() < self.majority {
            Verdict::Lost(self.loss.clone())
        } else {
            Verdict::Open
        }
    }
}

/// How telling a reason is; of two that outbid, the higher ballot.
fn rank(loss: &Loss) -> (u8, Option<&Ballot>) {
    match loss {
        Loss::NoMajority => (0, None),
        Loss::Outbid(by) => (1, Some(by)),
        Loss::CannotFollow(_) => (2, None),
        Loss::HashesDiffer { .. } => (3, None),
        Loss::WrongEpoch { .. } => (4, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamo::membership::fixture::{id, join, ring};

    fn ballot(round: u64, proposer: &str) -> Ballot {
        Ballot {
            round,
            proposer: id(proposer),
        }
    }

    fn proposer(change: Change) -> Proposer {
        let ring = Arc::new(ring(&["n1", "n2", "n3"]));
        Proposer::new(ring, ballot(2, "n5"), change).unwrap()
    }

    fn promised(hash: RingHash) -> PredictReply {
        let accepted = None;
        PredictReply::Promised { hash, accepted }
    }

    #[test]
    fn an_attempt_ends_as_soon_as_its_majority_is_certain_or_impossible() {
        let own = proposer(join("n5")).own;
        let yes = || Ok(promised(own.hash));
        let outbid = |round| Ok(PredictReply::Outbid(ballot(round, "n9")));
        let epoch = |current| Ok(PredictReply::WrongEpoch { current });
        let silent = || Err(Unreachable);
        let unfit = || Ok(PredictReply::CannotFollow(PlanError::StillMoving));
        let fails = |why| Step::Lost(why);
        let cases = [
            (vec![yes()], Step::Wait),
            (vec![yes(), yes()], Step::Accept(own.clone())),
            (vec![yes(), outbid(3), yes()], Step::Accept(own.clone())),
            (vec![silent()], Step::Wait),
            (vec![silent(), silent()], fails(Loss::NoMajority)),
            (
                vec![silent(), outbid(3)],
                fails(Loss::Outbid(ballot(3, "n9"))),
            ),
            (
                vec![outbid(4), outbid(3)],
                fails(Loss::Outbid(ballot(4, "n9"))),
            ),
            (vec![epoch(0), epoch(0)], fails(Loss::NoMajority)),
            (vec![epoch(5)], fails(Loss::WrongEpoch { current: 5 })),
            (
                vec![unfit(), outbid(3)],
                fails(Loss::CannotFollow(PlanError::StillMoving)),
            ),
        ];
        for (replies, expected) in cases {
            let row = format!("{replies:?}");
            let mut proposer = proposer(join("n5"));
            let mut last = Step::Wait;
            for (from, reply) in ["n1", "n2", "n3"].into_iter().zip(replies) {
                assert_eq!(last, Step::Wait, "{row}");
                last = proposer.on_predict(&id(from), reply);
            }
            assert_eq!(last, expected, "{row}");
        }
    }

    #[test]
    fn only_the_first_answer_of_an_acceptor_counts_and_nobody_elses() {
        let mut p = proposer(join("n5"));
        let hash = p.proposal().hash;
        for from in ["n1", "n1", "n4", "n5"] {
            assert_eq!(p.on_predict(&id(from), Ok(promised(hash))), Step::Wait);
        }
        let accept = Step::Accept(p.proposal().clone());
        assert_eq!(p.on_predict(&id("n2"), Ok(promised(hash))), accept);
        assert_eq!(p.on_predict(&id("n3"), Ok(promised(hash))), Step::Wait);
        for from in ["n1", "n1", "n4"] {
            assert_eq!(
                p.on_accept(&id(from), Ok(AcceptReply::Accepted)),
                Step::Wait
            );
        }
        let step = p.on_accept(&id("n3"), Ok(AcceptReply::Accepted));
        assert!(
            matches!(step, Step::Committed { mine: true, .. }),
            "{step:?}"
        );
        assert_eq!(p.on_accept(&id("n2"), Err(Unreachable)), Step::Wait);
    }

    #[test]
    fn the_proposal_with_the_highest_accepted_ballot_is_finished_first() {
        let mut p = proposer(join("n5"));
        let hash = p.proposal().hash;
        let accepted = |round, name: &str| {
            let proposal = proposer(join(name)).own;
            let ballot = ballot(round, name);
            Some(Accepted { ballot, proposal })
        };
        let (old, new) = (accepted(1, "n7"), accepted(1, "n8"));
        for (from, accepted) in [("n1", new), ("n2", old)] {
            let step = p.on_predict(&id(from), Ok(PredictReply::Promised { hash, accepted }));
            if from == "n2" {
                assert_eq!(step, Step::Accept(proposer(join("n8")).own));
            }
        }
        p.on_accept(&id("n1"), Ok(AcceptReply::Accepted));
        let step = p.on_accept(&id("n2"), Ok(AcceptReply::Accepted));
        let Step::Committed { ring, mine } = step else {
            panic!("{step:?}")
        };
        assert!(!mine && ring.member(&id("n8")).is_some());
    }

    #[test]
    fn seed_defect_18_a_failed_or_different_prediction_never_counts_as_equal() {
        for replies in [
            [Err(Unreachable), Err(Unreachable)],
            [Ok(promised(RingHash(0))), Ok(promised(RingHash(0)))],
            [Err(Unreachable), Ok(promised(RingHash(0)))],
        ] {
            let row = format!("{replies:?}");
            let mut p = proposer(join("n5"));
            let own = p.proposal().hash;
            let differs = replies.iter().filter(|r| r.is_ok()).count();
            let [first, second] = replies;
            assert_eq!(p.on_predict(&id("n1"), first), Step::Wait, "{row}");
            let step = p.on_predict(&id("n2"), second);
            let theirs = RingHash(0);
            match &step {
                Step::Lost(Loss::NoMajority) => assert_eq!(differs, 0, "{row}"),
                Step::Lost(Loss::HashesDiffer {
                    own: o, theirs: t, ..
                }) => {
                    assert_eq!((*o, *t), (own, theirs), "{row}");
                }
                Step::Wait | Step::Accept(_) | Step::Committed { .. } | Step::Lost(_) => {
                    panic!("{row}: {step:?}")
                }
            }
            assert_eq!(p.dissent().len(), differs, "{row}");
        }
    }

    #[test]
    fn an_acceptor_that_computes_another_ring_does_not_accept() {
        let mut p = proposer(join("n5"));
        let own = p.proposal().hash;
        p.on_predict(&id("n1"), Ok(promised(own)));
        p.on_predict(&id("n2"), Ok(promised(own)));
        let theirs = RingHash(0);
        let reply = Ok(AcceptReply::HashDiffers { hash: theirs });
        p.on_accept(&id("n1"), reply);
        let node = id("n1");
        assert_eq!(
            p.on_accept(&id("n2"), Err(Unreachable)),
            Step::Lost(Loss::HashesDiffer { node, own, theirs })
        );
    }
}
