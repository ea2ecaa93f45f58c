//! A member's side of the promise: what it has bound itself to for the next epoch.

use super::{Accepted, Ballot, Proposal};
use crate::dynamo::ring::{PlanError, Ring, RingHash, plan};

/// What a member has promised and accepted for one epoch. It turns to the next epoch by itself
/// when it is asked after the ring has moved on; store it when a call has changed it, before the
/// answer leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Acceptor {
    epoch: u64,
    promised: Option<Ballot>,
    accepted: Option<Accepted>,
}

/// Answer to a prediction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PredictReply {
    /// No lower ballot will be accepted here for this epoch.
    Promised {
        /// Of the ring as this member computed it; the proposer compares.
        hash: RingHash,
        /// What it accepted earlier and may have been chosen.
        accepted: Option<Accepted>,
    },
    /// A ballot at least as high was here before: perhaps this very one, in an earlier life of the
    /// proposer or in a copy of the message.
    Outbid(Ballot),
    /// This member's ring does not precede the proposed one.
    WrongEpoch {
        /// The epoch of its ring.
        current: u64,
    },
    /// The change cannot be made to this member's ring; nothing is promised.
    CannotFollow(PlanError),
}

/// Answer to a request to accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcceptReply {
    /// Done, durably.
    Accepted,
    /// A higher ballot was promised since.
    Outbid(Ballot),
    /// This member's ring does not precede the proposed one.
    WrongEpoch {
        /// The epoch of its ring.
        current: u64,
    },
    /// The change makes another ring here; nothing is accepted.
    HashDiffers {
        /// Of the ring as this member computed it.
        hash: RingHash,
    },
    /// The change cannot be made to this member's ring; nothing is accepted.
    CannotFollow(PlanError),
}

impl Acceptor {
    /// As it was stored.
    #[must_use]
    pub fn from_parts(epoch: u64, promised: Option<Ballot>, accepted: Option<Accepted>) -> Self {
        Self {
            epoch,
            promised,
            accepted,
        }
    }

    /// The epoch that it decides about.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The highest ballot promised.
    #[must_use]
    pub fn promised(&self) -> Option<&Ballot> {
        self.promised.as_ref()
    }

    /// What was accepted last.
    #[must_use]
    pub fn accepted(&self) -> Option<&Accepted> {
        self.accepted.as_ref()
    }

    /// Computes the ring that the change would make, and promises it this ballot. A ballot is
    /// promised once only, so two lives of a proposer never share a majority.
    pub fn predict(
        &mut self,
        ring: &Ring,
        epoch: u64,
        ballot: &Ballot,
        proposal: &Proposal,
    ) -> PredictReply {
        if let Err(current) = self.turn_to(ring, epoch) {
            return PredictReply::WrongEpoch { current };
        }
        let next = match plan(Some(ring), &proposal.change) {
            Ok(next) => next,
            Err(why) => return PredictReply::CannotFollow(why),
        };
        match &self.promised {
            Some(promised) if promised >= ballot => PredictReply::Outbid(promised.clone()),
            _ => {
                self.promised = Some(ballot.clone());
                PredictReply::Promised {
                    hash: next.hash(),
                    accepted: self.accepted.clone(),
                }
            }
        }
    }

    /// Accepts the proposal unless a higher ballot was promised, or it makes another ring here.
    pub fn accept(
        &mut self,
        ring: &Ring,
        epoch: u64,
        ballot: &Ballot,
        proposal: &Proposal,
    ) -> AcceptReply {
        if let Err(current) = self.turn_to(ring, epoch) {
            return AcceptReply::WrongEpoch { current };
        }
        match &self.promised {
            Some(promised) if promised > ballot => return AcceptReply::Outbid(promised.clone()),
            _ => {}
        }
        let hash = match plan(Some(ring), &proposal.change) {
            Ok(next) => next.hash(),
            Err(why) => return AcceptReply::CannotFollow(why),
        };
        if hash != proposal.hash {
            return AcceptReply::HashDiffers { hash };
        }
        self.promised = Some(ballot.clone());
        self.accepted = Some(Accepted {
            ballot: ballot.clone(),
            proposal: proposal.clone(),
        });
        AcceptReply::Accepted
    }

    /// Forgets what was promised for an epoch that is decided; refuses, with the current epoch, to
    /// speak about any but the next.
    fn turn_to(&mut self, ring: &Ring, epoch: u64) -> Result<(), u64> {
        let current = ring.epoch.max(self.epoch.saturating_sub(1));
        if epoch != current + 1 || ring.epoch != current {
            return Err(current);
        }
        if self.epoch < epoch {
            *self = Self::from_parts(epoch, None, None);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamo::membership::fixture::{id, join, member, ring};
    use crate::dynamo::ring::Change;

    fn ballot(round: u64, proposer: &str) -> Ballot {
        Ballot {
            round,
            proposer: id(proposer),
        }
    }

    fn proposal(ring: &Ring, change: Change) -> Proposal {
        let hash = plan(Some(ring), &change).unwrap().hash();
        Proposal { change, hash }
    }

    #[test]
    fn a_ballot_is_promised_once_and_accepted_unless_outbid() {
        let ring = ring(&["n1", "n2", "n3"]);
        let wanted = proposal(&ring, join("n4"));
        let cases = [
            // promised before, asked, promised now?, accepted now?
            (None, ballot(1, "n4"), true, true),
            (Some(ballot(1, "n4")), ballot(1, "n4"), false, true),
            (Some(ballot(1, "n4")), ballot(1, "n5"), true, true),
            (Some(ballot(1, "n5")), ballot(1, "n4"), false, false),
            (Some(ballot(2, "n4")), ballot(1, "n5"), false, false),
        ];
        for (before, asked, promises, accepts) in cases {
            let row = format!("{before:?} then {asked:?}");
            let start = Acceptor::from_parts(2, before.clone(), None);
            let predicted = start.clone().predict(&ring, 2, &asked, &wanted);
            let accepted = start.clone().accept(&ring, 2, &asked, &wanted);
            match before.clone() {
                Some(b) if !promises => assert_eq!(predicted, PredictReply::Outbid(b), "{row}"),
                _ => assert!(matches!(predicted, PredictReply::Promised { .. }), "{row}"),
            }
            match before {
                Some(b) if !accepts => assert_eq!(accepted, AcceptReply::Outbid(b), "{row}"),
                _ => assert_eq!(accepted, AcceptReply::Accepted, "{row}"),
            }
        }
    }

    #[test]
    fn a_promise_tells_what_was_accepted_and_its_own_hash() {
        let ring = ring(&["n1", "n2", "n3"]);
        let (first, second) = (proposal(&ring, join("n4")), proposal(&ring, join("n5")));
        let mut acceptor = Acceptor::default();
        acceptor.accept(&ring, 2, &ballot(1, "n4"), &first);
        let lied = Proposal {
            change: second.change.clone(),
            hash: RingHash(1),
        };
        assert_eq!(
            acceptor.predict(&ring, 2, &ballot(2, "n5"), &lied),
            PredictReply::Promised {
                hash: second.hash,
                accepted: Some(Accepted {
                    ballot: ballot(1, "n4"),
                    proposal: first
                }),
            }
        );
        assert_eq!(
            acceptor.accept(&ring, 2, &ballot(2, "n5"), &lied),
            AcceptReply::HashDiffers { hash: second.hash }
        );
    }

    #[test]
    fn only_the_next_epoch_is_spoken_about_and_an_old_promise_does_not_bind_it() {
        let ring = ring(&["n1", "n2", "n3"]);
        let wanted = proposal(&ring, join("n4"));
        let high = ballot(9, "n9");
        for (stored, asked, current) in [(0, 1, Some(1)), (0, 3, Some(1)), (3, 2, Some(2))] {
            let mut acceptor = Acceptor::from_parts(stored, Some(high.clone()), None);
            let before = acceptor.clone();
            let got = acceptor.predict(&ring, asked, &ballot(1, "n4"), &wanted);
            let current = current.unwrap();
            assert_eq!(
                got,
                PredictReply::WrongEpoch { current },
                "{stored} {asked}"
            );
            let got = acceptor.accept(&ring, asked, &ballot(1, "n4"), &wanted);
            assert_eq!(got, AcceptReply::WrongEpoch { current }, "{stored} {asked}");
            assert_eq!(acceptor, before);
        }
        let mut acceptor = Acceptor::from_parts(1, Some(high), None);
        let got = acceptor.predict(&ring, 2, &ballot(1, "n4"), &wanted);
        assert!(matches!(got, PredictReply::Promised { .. }), "{got:?}");
        assert_eq!(acceptor.epoch(), 2);
    }

    #[test]
    fn a_change_that_cannot_follow_is_neither_promised_nor_accepted() {
        let ring = ring(&["n1", "n2", "n3"]);
        let twice = Proposal {
            change: Change::Join(member("n1")),
            hash: RingHash(0),
        };
        let mut acceptor = Acceptor::default();
        let why = plan(Some(&ring), &twice.change).unwrap_err();
        assert_eq!(
            acceptor.predict(&ring, 2, &ballot(1, "n1"), &twice),
            PredictReply::CannotFollow(why.clone())
        );
        assert_eq!(
            acceptor.accept(&ring, 2, &ballot(1, "n1"), &twice),
            AcceptReply::CannotFollow(why)
        );
        assert_eq!((acceptor.promised(), acceptor.accepted()), (None, None));
    }
}
