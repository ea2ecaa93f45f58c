//! The promise of a ring epoch: each epoch is decided once, by single-decree Paxos among the
//! members of the epoch before (Lamport, "Paxos Made Simple"). A *prediction* is its first phase.
//! In the seed a predicted ring was only a read, so two joiners could both be told yes; here it
//! binds whoever gave it.
//!
//! A [`Proposer`] lives in memory and may be dropped at any time. An [`Acceptor`] must be stored
//! whenever a call has changed it, before the answer is sent.

mod acceptor;
mod proposer;
mod silence;

#[cfg(test)]
mod model;

pub use acceptor::{AcceptReply, Acceptor, PredictReply};
pub use proposer::{Loss, Proposer, Step, Unreachable};
pub use silence::Silence;

use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{Change, RingHash};

/// The rank of an attempt: the higher round wins, and the proposer's name tells equal rounds
/// apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// Rises with every attempt.
    pub round: u64,
    /// Who proposes.
    pub proposer: NodeId,
}

impl Ballot {
    /// The lowest ballot of this proposer that outbids the one seen; its first if none was.
    #[must_use]
    pub fn above(seen: Option<&Self>, proposer: NodeId) -> Self {
        Self {
            round: seen.map_or(1, |b| b.round.saturating_add(1)),
            proposer,
        }
    }
}

/// A change of the ring, and the ring that it makes according to whoever proposes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Proposal {
    /// What is to change.
    pub change: Change,
    /// The fingerprint of the ring with the change made.
    pub hash: RingHash,
}

/// A proposal that an acceptor has accepted, and under which ballot. It may have been chosen, so
/// whoever learns of it finishes it first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Accepted {
    /// The highest ballot under which it was accepted.
    pub ballot: Ballot,
    /// What was accepted.
    pub proposal: Proposal,
}
