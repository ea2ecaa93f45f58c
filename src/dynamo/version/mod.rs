//! Causality: dots, contexts, and the two operations on a record, `sync` and `update`.
//!
//! Dotted version vectors (Preguiça et al. 2012) with an exact cloud of single dots. An actor is
//! one writer's serial order on one record; `n` counts its writes to that record without gaps,
//! which is what lets a vector entry claim "all of 1..n".

#[cfg(test)]
mod algebra;
mod clock;
mod context;
#[cfg(test)]
mod laws;
mod state;
mod sync;
#[cfg(test)]
mod tests;
mod update;

pub use clock::Clock;
pub use context::Context;
pub use state::{Body, Reason, Remembered, RequestId, Sibling, State};
pub use sync::sync;
pub use update::{Decided, Mint, Refused, WriteKind, decide, is_amnesia};

use super::node_id::Incarnation;

/// One writer's serial order on one record: a life of a node, and the epoch it opened for the
/// record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Actor {
    /// The life of the node that mints.
    pub incarnation: Incarnation,
    /// Drawn from the node's durable counter when it first mints on the record; never reused.
    pub epoch: u64,
}

/// One write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dot {
    /// Who minted it.
    pub actor: Actor,
    /// The how-manieth write of this actor to the record, from 1.
    pub n: u64,
}
