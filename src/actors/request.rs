//! What a client asks of the cluster, and what it is told: the contract between `http` and the
//! coordinators.

use actix::Message;
use bytes::Bytes;

use crate::dynamo::key::Key;
use crate::dynamo::quorum::{Acks, Shortfall};
use crate::dynamo::version::{Clock, RequestId, State, WriteKind};
use crate::metrics::operations::Outcome;
use crate::wire::trace::TraceId;

/// How one request wants to be served.
#[derive(Debug, Clone)]
pub struct Options {
    /// Replaces R or W for this request; clamped to the number of owners.
    pub quorum: Option<usize>,
    /// Owners only, and fresh reads.
    pub strict: bool,
    /// Follows the request through every node and log line.
    pub trace: TraceId,
}

/// A client's read.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<ReadAnswer, Failure>")]
pub struct Read {
    /// Which record.
    pub key: Key,
    /// How.
    pub options: Options,
}

/// A client's create, put or delete.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<WriteAnswer, Failure>")]
pub struct Write {
    /// Which record.
    pub key: Key,
    /// Which rule.
    pub kind: WriteKind,
    /// The clock it sent: always for a put, never for a create, perhaps for a delete.
    pub clock: Option<Clock>,
    /// The raw JSON value; `None` exactly for a delete.
    pub value: Option<Bytes>,
    /// From the `Idempotency-Key`, if it has one.
    pub request: Option<RequestId>,
    /// How.
    pub options: Options,
}

/// A read that met its quorum. A state without live values is a 404, with its clock.
#[derive(Debug, Clone)]
pub struct ReadAnswer {
    /// The merged state of the replies.
    pub state: State,
    /// Who stands behind it.
    pub acks: Acks,
}

/// A write that met its quorum.
#[derive(Debug, Clone)]
pub struct WriteAnswer {
    /// What the client had seen, and this write.
    pub clock: Clock,
    /// Live values a read would now show, as far as the minter knows.
    pub siblings: usize,
    /// Who stands behind it.
    pub acks: Acks,
}

/// Whether something that failed may become visible later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It never will.
    No,
    /// It may, at most once and never in part.
    Unknown,
}

/// Why a request was not done.
#[derive(Debug, Clone)]
pub enum Failure {
    /// A create found a live value: the state a read would show.
    AlreadyExists(State, Acks),
    /// A delete found nothing to delete: the clock of what was seen.
    NotFound(Clock, Acks),
    /// One more sibling would be too many: the state to merge.
    TooManySiblings(State, Acks),
    /// The `Idempotency-Key` was used for a different request.
    RequestReused,
    /// Too few replicas agreed.
    QuorumNotMet(Shortfall, Applied),
    /// The deadline passed.
    DeadlineExceeded(Applied),
    /// This node has as many requests in flight as it allows; nothing was sent.
    Overloaded,
    /// This node is not, or no longer, a serving member of a ring.
    NotServing,
    /// The disks of too many owners are full.
    StorageFull(Applied),
}

impl Failure {
    /// Its stable name: the code that a client is told.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::AlreadyExists(..) => "already_exists",
            Self::NotFound(..) => "not_found",
            Self::TooManySiblings(..) => "too_many_siblings",
            Self::RequestReused => "idempotency_key_reused",
            Self::QuorumNotMet(..) => "quorum_not_met",
            Self::DeadlineExceeded(_) => "deadline_exceeded",
            Self::Overloaded => "overloaded",
            Self::NotServing => "not_ready",
            Self::StorageFull(_) => "storage_full",
        }
    }

    /// How it is counted.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::AlreadyExists(..) => Outcome::AlreadyExists,
            Self::NotFound(..) => Outcome::NotFound,
            Self::TooManySiblings(..) => Outcome::TooManySiblings,
            Self::RequestReused => Outcome::RequestReused,
            Self::QuorumNotMet(..) => Outcome::QuorumNotMet,
            Self::DeadlineExceeded(_) => Outcome::DeadlineExceeded,
            Self::Overloaded => Outcome::Overloaded,
            Self::NotServing => Outcome::NotServing,
            Self::StorageFull(_) => Outcome::StorageFull,
        }
    }

    /// Whether it tells its client that nothing was done, and nothing ever will be.
    #[must_use]
    pub fn says_not_applied(&self) -> bool {
        self.applied() == Applied::No
    }

    /// Whether the request may become visible all the same.
    #[must_use]
    pub fn applied(&self) -> Applied {
        match self {
            Self::QuorumNotMet(_, applied)
            | Self::DeadlineExceeded(applied)
            | Self::StorageFull(applied) => *applied,
            Self::AlreadyExists(..)
            | Self::NotFound(..)
            | Self::TooManySiblings(..)
            | Self::RequestReused
            | Self::Overloaded
            | Self::NotServing => Applied::No,
        }
    }
}
