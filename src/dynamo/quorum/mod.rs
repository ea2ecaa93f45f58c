//! Counting replicas: outcomes in, one decision out, and at the end what is left to do.

mod read;
mod write;

pub use read::{ReadFollowUp, ReadQuorum, WriteBack};
pub use write::{WriteFollowUp, WriteQuorum};

/// Why a replica did not do what it was asked. Only [`Fault::Broken`] and [`Fault::TimedOut`] leave
/// open whether it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The request was made with an older ring than the replica's.
    StaleRing,
    /// The replica has an older ring and could not take the newer one.
    RingBehind,
    /// The replica does not own the partition in the set that was asked.
    NotOwner,
    /// The replica is an owner to be and does not hold the partition yet.
    NotReady,
    /// The partition has flipped to its incoming owners: ask them.
    Flipped,
    /// The replica, or the way to it, has more to do than its bounds allow.
    Overloaded,
    /// The replica did nothing yet, because its answer to many operations had no room for this one.
    Postponed,
    /// The replica's disk is full.
    StorageFull,
    /// The replica keeps as many hints for other nodes as it may.
    HintsFull,
    /// The replica's record is damaged: it answers nothing and takes nothing until it is mended.
    Damaged,
    /// Nothing could be sent.
    Unreachable,
    /// The request was sent and the connection broke.
    Broken,
    /// The request was sent and no answer came in time.
    TimedOut,
}

impl Fault {
    /// Whether the replica may have applied the request all the same.
    #[must_use]
    pub fn may_have_applied(self) -> bool {
        matches!(self, Self::Broken | Self::TimedOut)
    }

    /// Whether the replica gave no sign of life.
    #[must_use]
    pub fn is_silence(self) -> bool {
        matches!(self, Self::Unreachable | Self::Broken | Self::TimedOut)
    }

    /// Whether a newer ring, or the other owner set, may answer what this one could not.
    #[must_use]
    pub fn is_about_the_ring(self) -> bool {
        matches!(
            self,
            Self::StaleRing | Self::Flipped | Self::NotOwner | Self::NotReady
        )
    }
}

/// Whether a quorum is still open, met, or out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// More outcomes are needed.
    Wait,
    /// Enough replicas agree.
    Done,
    /// The outcomes still to come cannot be enough.
    Failed(Shortfall),
}

/// How far a quorum got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortfall {
    /// Replicas that had to agree.
    pub needed: usize,
    /// Replicas that did.
    pub got: usize,
}

/// Who stands behind an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Acks {
    /// Owners; while the partition moves, those before.
    pub home: usize,
    /// While the partition moves: incoming owners. Who owns it before and after counts in both. None
    /// where the quorum is of the owners before alone, as in a read until the flip.
    pub incoming: Option<usize>,
    /// Fallbacks that hold a hint for an owner that did not acknowledge itself.
    pub hinted: usize,
}
