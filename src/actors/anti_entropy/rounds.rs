//! The side that looks: roots of all partitions shared with a peer, leaves of those that differ in
//! two looks, keys of the leaves that stand still, states of the keys that differ.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde::Serialize;
use serde::de::DeserializeOwned;
use slog::{debug, info};
use tokio::time::Instant;

use super::answers::keys_of;
use super::{EntropyParts, EntropyStatus, PairStatus};
use crate::actors::asking::{AskError, ask};
use crate::actors::background::Kind;
use crate::actors::merging::{MergeError, Merging};
use crate::actors::replica::Terms;
use crate::actors::store_keeper::{GetLeaves, GetRoots, RebuildDigests};
use crate::dynamo::entropy::Pair;
use crate::dynamo::key::{Key, Partition};
use crate::dynamo::merkle::{Digest, LEAVES, Leaf};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quorum::Fault;
use crate::dynamo::ring::{OwnerSet, Ring};
use crate::wire::entropy::{
    KeysCall, KeysReply, LeavesCall, LeavesReply, RootsCall, RootsReply, SyncCall, SyncReply,
    decode_leaves,
};

/// Partitions whose leaves are asked for in one message, 8 KiB each.
const LEAVES_AT_ONCE: usize = 32;
/// Records exchanged in one message.
const SYNC_RECORDS: usize = 128;
/// A message takes no further state once it holds so many bytes.
const SYNC_BYTES: usize = 512 * 1024;
/// How long one call may take.
const CALL_TIME: Duration = Duration::from_secs(5);

/// The looks of one node at all others.
pub(super) struct Rounds {
    parts: EntropyParts,
    pairs: BTreeMap<NodeId, (Pair, u64)>,
    count: u64,
    started: Instant,
}

/// One look at one peer.
struct Look<'a> {
    parts: &'a EntropyParts,
    ring: &'a Ring,
    peer: &'a NodeId,
    pair: &'a mut Pair,
    /// Counts the messages beyond the roots.
    exchanges: &'a mut u64,
}

/// Why a look ended early; the next one starts afresh.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Asked(#[from] AskError),
    #[error(transparent)]
    Merge(#[from] MergeError),
    #[error("this node's own store does not answer: {0:?}")]
    Store(Fault),
}

impl Rounds {
    pub(super) fn new(parts: EntropyParts) -> Self {
        Self {
            parts,
            pairs: BTreeMap::new(),
            count: 0,
            started: Instant::now(),
        }
    }

    pub(super) fn pause(&self) -> Duration {
        self.parts.pause
    }

    /// Looks once at every member that can be reached, all at the same time.
    pub(super) async fn round(&mut self) -> EntropyStatus {
        let view = self.parts.view.load();
        if let (Some(ring), Ok(roots)) = (&view.ring, self.parts.store.send(GetRoots).await) {
            self.meet(ring, &view.me);
            self.count += 1;
            let (parts, now) = (&self.parts, self.started.elapsed());
            let reached = |id: &NodeId| parts.health.of(id).is_reachable();
            let looks = self.pairs.iter_mut().filter(|(id, _)| reached(id));
            let looks = looks.map(|(peer, (pair, exchanges))| {
                let look = Look {
                    parts,
                    ring,
                    peer,
                    pair,
                    exchanges,
                };
                look.look(now, &roots)
            });
            join_all(looks).await;
        }
        self.status()
    }

    /// Begins with new members and ends with those that have left.
    fn meet(&mut self, ring: &Ring, me: &NodeId) {
        self.pairs.retain(|id, _| ring.member(id).is_some());
        for member in ring.members.iter().filter(|member| member.id != *me) {
            let pair = || (Pair::new(*me > member.id), 0);
            self.pairs.entry(member.id.clone()).or_insert_with(pair);
        }
    }

    fn status(&self) -> EntropyStatus {
        let now = self.started.elapsed();
        let pairs = self.pairs.iter().map(|(peer, (pair, _))| {
            let lag = pair.lag(now);
            PairStatus {
                peer: peer.to_string(),
                partitions_differing: lag.partitions,
                keys_repaired: lag.repaired,
                seconds_since_agreement: lag.since_agreement.map(|since| since.as_secs()),
            }
        });
        EntropyStatus {
            rounds: self.count,
            exchanges: self.pairs.values().map(|(_, exchanges)| exchanges).sum(),
            pairs: pairs.collect(),
        }
    }
}

impl Look<'_> {
    async fn look(mut self, now: Duration, roots: &[Option<Digest>]) {
        if let Err(error) = self.look_at_roots(now, roots).await {
            debug!(self.parts.log, "a comparison ended early"; "quorate.peer" => %self.peer,
                "error.message" => %error);
        }
    }

    async fn look_at_roots(
        &mut self,
        now: Duration,
        roots: &[Option<Digest>],
    ) -> Result<(), LookError> {
        let view = self.parts.view.load();
        let built = Partition::all().zip(roots);
        let shared = built.filter(|(p, _)| view.shares(*p, self.peer));
        let shared = shared.filter_map(|(p, root)| Some((p.number(), (*root)?.0)));
        let call = RootsCall {
            epoch: self.ring.epoch,
            roots: shared.collect(),
        };
        if call.roots.is_empty() {
            return Ok(());
        }
        let reply: RootsReply = self.ask("/peer/v1/merkle/roots", &call).await?;
        let set = |numbers: &[u16]| -> BTreeSet<Partition> {
            numbers.iter().filter_map(|n| Partition::new(*n)).collect()
        };
        let unknown = set(&reply.unknown);
        let compared = call.roots.iter().filter_map(|(p, _)| Partition::new(*p));
        let compared = compared.filter(|p| !unknown.contains(p)).collect();
        let due = self.pair.look(now, &compared, &set(&reply.differing));
        for some in due.chunks(LEAVES_AT_ONCE) {
            self.look_at_leaves(some).await?;
        }
        Ok(())
    }

    async fn look_at_leaves(&mut self, partitions: &[Partition]) -> Result<(), LookError> {
        let bytes = partitions.len() * LEAVES * 8;
        let background = &self.parts.background;
        background.turn(Kind::AntiEntropy, bytes as u64).await;
        let call = LeavesCall {
            epoch: self.ring.epoch,
            partitions: partitions.iter().map(|p| p.number()).collect(),
        };
        let reply: LeavesReply = self.exchange("/peer/v1/merkle/leaves", &call).await?;
        for (number, theirs) in reply.leaves {
            let partition = Partition::new(number).ok_or(AskError::Damaged)?;
            let theirs = decode_leaves(&theirs).ok_or(AskError::Damaged)?;
            let ours = self.parts.store.send(GetLeaves(partition)).await;
            let Some(ours) = ours.or(Err(LookError::Store(Fault::Broken)))? else {
                continue;
            };
            let real = self.pair.look_at_leaves(partition, &ours, &theirs);
            if !real.is_empty() {
                self.repair(partition, &real).await?;
            }
        }
        Ok(())
    }

    /// Brings the keys of these leaves into agreement.
    async fn repair(&mut self, partition: Partition, leaves: &[Leaf]) -> Result<(), LookError> {
        let call = KeysCall {
            epoch: self.ring.epoch,
            partition: partition.number(),
            leaves: leaves.iter().map(|leaf| leaf.number()).collect(),
        };
        let reply: KeysReply = self.exchange("/peer/v1/merkle/keys", &call).await?;
        let mut keys = BTreeMap::new();
        for (key, digest) in reply.keys {
            let key = Key::new(key).or(Err(AskError::Damaged))?;
            keys.insert(key, digest);
        }
        let ours = keys_of(&self.parts.records, partition, leaves).map_err(LookError::Store)?;
        for (key, digest) in ours {
            if keys.get(&key) == Some(&digest) {
                keys.remove(&key);
            } else {
                keys.insert(key, digest);
            }
        }
        let differing: Vec<Key> = keys.into_keys().collect();
        if differing.is_empty() {
            // Equal records and unequal digests: one of the digests is wrong.
            self.parts.store.do_send(RebuildDigests(partition));
            return Ok(());
        }
        let mut rest = differing.as_slice();
        while !rest.is_empty() {
            rest = self.exchange_states(rest).await?;
        }
        info!(self.parts.log, "brought owners into agreement"; "quorate.peer" => %self.peer,
            "event.action" => "repair", "quorate.partition" => partition.number(),
            "quorate.keys.count" => differing.len());
        Ok(())
    }

    /// Exchanges the states of as many keys as fit one message; gives the others.
    async fn exchange_states<'k>(&mut self, keys: &'k [Key]) -> Result<&'k [Key], LookError> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        for key in keys.iter().take(SYNC_RECORDS) {
            let ours = self.parts.records.peek(key).map_err(LookError::Store)?;
            bytes += key.as_bytes().len() + ours.as_ref().map_or(0, Bytes::len);
            records.push((key.as_bytes().clone(), ours));
            if bytes >= SYNC_BYTES {
                break;
            }
        }
        let background = &self.parts.background;
        background.turn(Kind::AntiEntropy, bytes as u64).await;
        let (these, rest) = keys.split_at(records.len());
        let call = SyncCall::new(self.ring.epoch, records);
        let reply: SyncReply = self.exchange("/peer/v1/merkle/sync", &call).await?;
        if !reply.is_intact() || reply.states.len() != these.len() {
            return Err(AskError::Damaged.into());
        }
        let answered = these.iter().cloned().zip(reply.states);
        let given = answered.filter(|(_, state)| state.is_some());
        let merging = Merging {
            records: self.parts.records.clone(),
            store: self.parts.store.clone(),
        };
        merging.merge(given.collect(), self.terms()).await?;
        self.pair.repaired(these.len() as u64);
        Ok(rest)
    }

    fn terms(&self) -> Terms {
        Terms {
            epoch: self.ring.epoch,
            set: OwnerSet::Current,
            deadline: Instant::now() + CALL_TIME,
            trace: None,
        }
    }

    /// A call that is made only because something differs.
    async fn exchange<Q: Serialize, A: DeserializeOwned>(
        &mut self,
        path: &str,
        question: &Q,
    ) -> Result<A, AskError> {
        *self.exchanges += 1;
        self.ask(path, question).await
    }

    async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        path: &str,
        question: &Q,
    ) -> Result<A, AskError> {
        let to = (self.ring, self.peer);
        ask(&self.parts.link, to, path, question, CALL_TIME).await
    }
}
