//! What every replica holds of a key, side by side: for an operator who wants to see a conflict, or
//! why a read answers what it does. Nothing is merged, and nothing repaired.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::replica::{ReplicaRead, Terms};
use super::worker::Worker;
use crate::dynamo::key::Key;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quorum::Fault;
use crate::dynamo::ring::{OwnerSet, Ring};
use crate::dynamo::version::State;
use crate::wire::state::decode_state;

/// How long a replica may take to show what it holds.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why a node is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It owns the partition.
    Owner,
    /// It is about to own it.
    Incoming,
    /// It does not own it, and may keep a hint for an owner.
    Fallback,
}

/// What one node holds.
#[derive(Debug)]
pub struct Holding {
    /// Which node.
    pub node: NodeId,
    /// Why it was asked.
    pub role: Role,
    /// Its state of the key, empty if it has none.
    pub state: Result<State, Fault>,
}

impl Worker {
    /// Asks all owners, present and incoming, and all fallbacks; these are left out if they keep
    /// nothing.
    pub async fn holdings(&self, key: &Key, ring: &Ring) -> Vec<Holding> {
        let partition = key.hash().partition();
        let row = ring.placement(partition);
        let incoming = row.incoming.iter().flatten();
        let incoming = incoming.filter(|id| !row.owners.contains(id));
        let fallbacks = ring.fallbacks(partition);
        let stands_for = row.owners.first().and_then(|owner| ring.number_of(owner));
        let owners = (row.owners.iter()).map(|id| (id, Role::Owner, Some(OwnerSet::Current)));
        let incoming = incoming.map(|id| (id, Role::Incoming, Some(OwnerSet::Incoming)));
        let fallbacks = fallbacks
            .iter()
            .map(|id| (id, Role::Fallback, stands_for.map(OwnerSet::Fallback)));
        let all = owners.chain(incoming).chain(fallbacks);
        let asked = all.filter_map(|(id, role, set)| {
            let terms = Terms {
                epoch: ring.epoch,
                set: set?,
                deadline: Instant::now() + PATIENCE,
                trace: None,
            };
            Some(self.holding(key.clone(), id.clone(), role, terms))
        });
        let mut holdings = join_all(asked).await;
        holdings.retain(|holding| {
            let keeps = holding.state.as_ref().is_ok_and(|state| !state.is_empty());
            holding.role != Role::Fallback || keeps
        });
        holdings
    }

    async fn holding(&self, key: Key, node: NodeId, role: Role, terms: Terms) -> Holding {
        let sent = self.replica(&node).read.send(ReplicaRead { key, terms });
        let reply = match timeout_at(terms.deadline, sent).await {
            Ok(reply) => reply.unwrap_or(Err(Fault::Broken)),
            Err(_elapsed) => Err(Fault::TimedOut),
        };
        let state = reply.and_then(|held| match held {
            None => Ok(State::default()),
            Some(bytes) => decode_state(&bytes).or(Err(Fault::Broken)),
        });
        Holding { node, role, state }
    }
}
