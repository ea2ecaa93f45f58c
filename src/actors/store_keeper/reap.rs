//! Removes what is left of deleted keys, each only if it is exactly what all owners agreed on.

use actix::{Context, Handler, Message};
use bytes::Bytes;

use super::StoreKeeper;
use super::store::{Place, Store};
use super::upkeep::Redigest;
use crate::dynamo::key::Key;
use crate::dynamo::merkle::Mark;
use crate::dynamo::quorum::Fault;
use crate::storage::{Change, EngineError, Presence};
use crate::wire::state::encode_state;

/// Removes records whose encoded states are exactly these; gives how many of the keys have no
/// record any more. Durable when answered.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<u64, Fault>")]
pub struct Reap(pub Vec<(Key, Bytes)>);

impl Store {
    fn reap(&mut self, records: Vec<(Key, Bytes)>) -> Result<u64, EngineError> {
        let (mut gone, mut counts) = (0, self.counts);
        let (mut changes, mut digests) = (Vec::new(), Vec::new());
        for (key, state) in records {
            let held = self.load(&Place::Record, &key)?;
            let absent = held.was == Presence::Absent && !held.damaged;
            let exact = held.was == Presence::Deleted && encode_state(&held.state) == state;
            gone += u64::from(absent || exact);
            if exact {
                counts.shift(Presence::Deleted, Presence::Absent);
                digests.push(Redigest::of(&key, &held, Mark::NOTHING));
                changes.push(Change::Remove(key.hash().partition(), key));
            }
        }
        if !changes.is_empty() {
            changes.push(counts.change());
            self.commit_synced(changes)?;
            self.counts = counts;
            for digest in digests {
                digest.apply(&mut self.tree);
            }
        }
        Ok(gone)
    }
}

impl Handler<Reap> for StoreKeeper {
    type Result = Result<u64, Fault>;

    fn handle(&mut self, Reap(records): Reap, _: &mut Context<Self>) -> Self::Result {
        self.finish_pending()?;
        self.store.reap(records).map_err(|error| {
            self.end_broken(&error);
            Fault::Broken
        })
    }
}
