//! Where other nodes are found, and when a new one may go ahead.
//!
//! What is found here are addresses to greet, no more: who is a member, and who owns what, the ring
//! alone says. So a catalogue that is empty, wrong or gone removes nobody and moves nothing.

pub mod consul;
pub mod seeds;

#[cfg(test)]
mod conformance;

use std::fmt;
use std::sync::Arc;

use actix::prelude::{Actor, Addr, ArbiterHandle, Context, Handler, Message, Recipient};
use slog::Logger;

use crate::dynamo::membership::lifecycle::{NodeState, Permission};

pub use self::consul::{Consul, ConsulSettings};
pub use self::seeds::{Seeds, SeedsSettings};

/// Peer addresses at which nodes of the cluster may be; all that are known now.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct PeersFound(pub Vec<String>);

/// What this node may begin has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct Permitted(pub Permission);

/// The node is about to end: take it out of rotation. Answered once nobody sends it new requests,
/// or cannot be kept from it.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Retire;

/// The node has finished its last request: forget it. Answered when that is done or has failed.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Depart;

/// A way to find other nodes.
pub trait Discovery: Actor<Context = Context<Self>> + Handler<Retire> + Handler<Depart> {
    /// What it has to be told by the operator.
    type Settings: Send + 'static;

    /// What a node may begin before this has found anything.
    const AT_FIRST: Permission;

    /// Makes it; once started, it tells the surroundings of what it finds until the node ends.
    fn new(settings: Self::Settings, surroundings: Surroundings) -> Self;
}

/// Who is told, and what there is to know about the node itself.
#[derive(Clone)]
pub struct Surroundings {
    /// Told of other nodes.
    pub peers: Recipient<PeersFound>,
    /// Told what the node may begin.
    pub permitted: Recipient<Permitted>,
    /// How far the node has come.
    pub state: Arc<dyn Fn() -> NodeState + Send + Sync>,
    /// Random numbers.
    pub dice: fn() -> u64,
    /// Where news are told.
    pub log: Logger,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Surroundings")
    }
}

/// The started discovery: how the node takes its leave of it.
#[derive(Debug, Clone)]
pub struct Presence {
    /// Out of rotation.
    pub retire: Recipient<Retire>,
    /// Gone.
    pub depart: Recipient<Depart>,
}

/// Starts a discovery on a thread of the node.
pub fn start<D: Discovery>(
    thread: &ArbiterHandle,
    settings: D::Settings,
    surroundings: Surroundings,
) -> Presence {
    let running: Addr<D> = D::start_in_arbiter(thread, |_| D::new(settings, surroundings));
    Presence {
        retire: running.clone().recipient(),
        depart: running.recipient(),
    }
}
