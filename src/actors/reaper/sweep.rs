//! One sweep: the tombstones of each partition, whether all owners hold them too, whether every
//! member allows it, and their end.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde::Serialize;
use serde::de::DeserializeOwned;
use slog::{debug, info};
use tokio::time::Instant;

use super::{ReaperParts, ReapingStatus};
use crate::actors::asking::{AskError, ask};
use crate::actors::background::Kind;
use crate::actors::merging::{MergeError, Merging};
use crate::actors::replica::Terms;
use crate::actors::ring_view::View;
use crate::actors::store_keeper::{GetStatus, Reap};
use crate::dynamo::key::{Key, Partition};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quorum::Fault;
use crate::dynamo::reaping::{Blocked, Candidates, FOLLOWED, Word, allowed};
use crate::dynamo::ring::{OwnerSet, Ring};
use crate::mutant::Mutant;
use crate::wire::entropy::{SyncCall, SyncReply};
use crate::wire::reaping::{ReapCall, ReapReply, SteadyCall, SteadyReply};
use crate::wire::state::decode_state;

/// Records read at once.
const PAGE: usize = 256;
/// How long one call may take.
const CALL_TIME: Duration = Duration::from_secs(5);

/// The sweeps of one node.
pub(super) struct Sweeps {
    parts: ReaperParts,
    candidates: Candidates,
    started: Instant,
    reaped: u64,
}

/// Why a partition's tombstones stay for now.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Asked(#[from] AskError),
    #[error(transparent)]
    Merge(#[from] MergeError),
    #[error("{0:?}")]
    Blocked(Blocked),
    #[error("this node's own store does not answer: {0:?}")]
    Store(Fault),
}

type Words = BTreeMap<NodeId, Option<Word>>;
type Records = Vec<(Key, Bytes)>;

impl Sweeps {
    pub(super) fn new(parts: ReaperParts) -> Self {
        Self {
            parts,
            candidates: Candidates::default(),
            started: Instant::now(),
            reaped: 0,
        }
    }

    /// Sweeps all partitions of this node, which has been steady for so long.
    pub(super) async fn sweep(&mut self, steady: Duration) -> ReapingStatus {
        let view = self.parts.view.load();
        let mut blocked = BTreeMap::new();
        // To find them takes a look at every record, which is too much for finding none.
        let held = self.parts.store.send(GetStatus).await;
        if held.is_ok_and(|store| store.tombstones == 0) {
            self.candidates = Candidates::default();
        } else if let Some(ring) = view.ring.clone() {
            let owned = |p: &Partition| ring.placement(*p).owners.contains(&view.me);
            for partition in Partition::all().filter(owned) {
                if let Err(why) = self.sweep_one(&view, &ring, partition, steady).await {
                    debug!(self.parts.log, "tombstones stay for now";
                        "quorate.partition" => partition.number(), "error.message" => %why);
                    *blocked.entry(why.shown()).or_default() += 1;
                }
            }
        }
        ReapingStatus {
            candidates: self.candidates.len(),
            reaped: self.reaped,
            blocked,
            ..ReapingStatus::default()
        }
    }

    async fn sweep_one(
        &mut self,
        view: &View,
        ring: &Ring,
        partition: Partition,
        steady: Duration,
    ) -> Result<(), SweepError> {
        let tombstones = self.parts.tombstones(partition).await?;
        if tombstones.is_empty() {
            self.candidates.forget(partition);
            return Ok(());
        }
        if let Some(why) = unfit(view, partition) {
            self.candidates.forget(partition);
            return Err(SweepError::Blocked(why));
        }
        let owners = &ring.placement(partition).owners;
        let agreed = self.agree(ring, owners, tombstones).await?;
        let now = self.started.elapsed();
        self.candidates.agreed(now, partition, agreed);
        let place = owners.iter().position(|id| *id == view.me).unwrap_or(0);
        let wait = self.parts.grace * (1 + u32::try_from(place).unwrap_or(u32::MAX - 1));
        let due = self.candidates.due(now, wait, partition);
        if due.is_empty() {
            return Err(SweepError::Blocked(Blocked::Grace));
        }
        let words = self.parts.words(view, ring, partition, steady).await;
        allowed(self.parts.grace, partition, &words).map_err(SweepError::Blocked)?;
        self.reap(ring, partition, owners, due).await
    }

    /// The tombstones that every other owner holds exactly so. An owner that held something else
    /// has merged this node's state, and this node has merged that one's.
    async fn agree(
        &self,
        ring: &Ring,
        owners: &[NodeId],
        mut tombstones: Records,
    ) -> Result<Records, SweepError> {
        let me = &self.parts.view.load().me;
        let asked = if Mutant::ReapAtTwoOfThree.is_chosen() {
            1
        } else {
            owners.len()
        };
        for owner in owners.iter().filter(|id| *id != me).take(asked) {
            let bytes = tombstones.iter().map(|(k, s)| k.as_bytes().len() + s.len());
            let background = &self.parts.background;
            background
                .turn(Kind::Reaping, bytes.sum::<usize>() as u64)
                .await;
            let sent = (tombstones.iter())
                .map(|(key, state)| (key.as_bytes().clone(), Some(state.clone())));
            let call = SyncCall::new(ring.epoch, sent.collect());
            let reply: SyncReply = self
                .parts
                .ask(ring, owner, "/peer/v1/merkle/sync", &call)
                .await?;
            if !reply.is_intact() || reply.states.len() != tombstones.len() {
                return Err(AskError::Damaged.into());
            }
            let (mut same, mut other) = (Records::new(), Vec::new());
            for ((key, state), theirs) in tombstones.into_iter().zip(reply.states) {
                match theirs {
                    None => same.push((key, state)),
                    theirs => other.push((key, theirs)),
                }
            }
            self.parts.merge(ring, other).await?;
            tombstones = same;
        }
        Ok(tombstones)
    }

    /// Has them removed by the other owners, and only then by this one, which would otherwise not
    /// know any more what is left elsewhere.
    async fn reap(
        &mut self,
        ring: &Ring,
        partition: Partition,
        owners: &[NodeId],
        due: Records,
    ) -> Result<(), SweepError> {
        let me = self.parts.view.load().me.clone();
        let sent = due
            .iter()
            .map(|(key, state)| (key.as_bytes().clone(), state.clone()));
        let call = ReapCall {
            epoch: ring.epoch,
            partition: partition.number(),
            records: sent.collect(),
        };
        for owner in owners.iter().filter(|id| **id != me) {
            let reply: ReapReply = self.parts.ask(ring, owner, "/peer/v1/reap", &call).await?;
            debug!(self.parts.log, "an owner forgot deletes"; "quorate.peer" => %owner,
                "quorate.keys.count" => reply.gone);
        }
        let gone = self.parts.store.send(Reap(due)).await;
        let gone = gone.or(Err(SweepError::Store(Fault::Broken)))?;
        let gone = gone.map_err(SweepError::Store)?;
        self.reaped += gone;
        self.candidates.forget(partition);
        info!(self.parts.log, "forgot deletes that nobody needs"; "event.action" => "reaped",
            "quorate.partition" => partition.number(), "quorate.keys.count" => gone);
        Ok(())
    }
}

impl ReaperParts {
    /// Keys of which only the delete is left, with their encoded states; not more than are
    /// followed.
    async fn tombstones(&self, partition: Partition) -> Result<Records, SweepError> {
        let (mut found, mut after) = (Records::new(), None);
        loop {
            let page = self.records.scan(partition, after.as_ref(), PAGE);
            let page = page.map_err(SweepError::Store)?;
            let bytes: usize = page.entries.iter().map(|(_, state)| state.len()).sum();
            let is_tombstone = |(_, state): &(Key, Bytes)| {
                decode_state(state).is_ok_and(|s| !s.is_live() && !s.is_empty())
            };
            found.extend(page.entries.into_iter().filter(is_tombstone));
            after = page.next_after;
            if after.is_none() || found.len() >= FOLLOWED {
                found.truncate(FOLLOWED);
                return Ok(found);
            }
            self.background.turn(Kind::Reaping, bytes as u64).await;
        }
    }

    async fn merge(&self, ring: &Ring, given: Vec<(Key, Option<Bytes>)>) -> Result<(), MergeError> {
        let merging = Merging {
            records: self.records.clone(),
            store: self.store.clone(),
        };
        let terms = Terms {
            epoch: ring.epoch,
            set: OwnerSet::Current,
            deadline: Instant::now() + CALL_TIME,
            trace: None,
        };
        merging.merge(given, terms).await.map(|_| ())
    }

    /// What every member says, this one included.
    async fn words(
        &self,
        view: &View,
        ring: &Ring,
        partition: Partition,
        steady: Duration,
    ) -> Words {
        let call = SteadyCall {
            epoch: ring.epoch,
            partitions: vec![partition.number()],
        };
        let asked = ring.members.iter().map(|member| async {
            if member.id == view.me {
                let left = self.leftovers(view, &[partition]).await.ok();
                let own = left.map(|leftovers| Word { steady, leftovers });
                return (member.id.clone(), own);
            }
            let said = self.ask(ring, &member.id, "/peer/v1/steady", &call).await;
            (member.id.clone(), said.ok().map(word))
        });
        join_all(asked).await.into_iter().collect()
    }

    async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        ring: &Ring,
        member: &NodeId,
        path: &str,
        question: &Q,
    ) -> Result<A, AskError> {
        ask(&self.link, (ring, member), path, question, CALL_TIME).await
    }
}

fn word(reply: SteadyReply) -> Word {
    let leftovers = reply.leftovers.into_iter().filter_map(Partition::new);
    Word {
        steady: Duration::from_millis(reply.steady_ms),
        leftovers: leftovers.collect(),
    }
}

/// What in this node's own view keeps the partition's tombstones.
fn unfit(view: &View, partition: Partition) -> Option<Blocked> {
    if view.is_moving(partition) {
        return Some(Blocked::Moving);
    }
    (!view.shares(partition, &view.me)).then_some(Blocked::Recovering)
}

impl SweepError {
    /// As the status shows it.
    fn shown(&self) -> String {
        let Self::Blocked(why) = self else {
            return "an owner did not answer".into();
        };
        match why {
            Blocked::Moving => "partition is moving".into(),
            Blocked::Recovering => "partition is recovering".into(),
            Blocked::Silent(id) => format!("{id} does not answer"),
            Blocked::Unsteady(id) => format!("{id} is not steady for the grace"),
            Blocked::Leftovers(id) => format!("{id} has records that it does not own"),
            Blocked::Grace => "waiting for the grace".into(),
        }
    }
}
