//! Pulls a partition from another owner, by sync and in checksummed pages: what a move brings, and
//! what a lost store gets back.

use std::time::Duration;

use actix::Addr;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::asking::{AskError, ask};
use super::background::{Background, Kind};
use super::giver::{CALL_COST, digest};
use super::link::Link;
use super::local_reader::LocalRecords;
use super::merging::{MergeError, Merging};
use super::replica::Terms;
use super::store_keeper::StoreKeeper;
use crate::dynamo::key::{Key, Partition};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{OwnerSet, Ring};
use crate::wire::transfer::{DigestReply, PartitionCall, PullCall, PullReply};

/// Records asked for in one page.
pub const PAGE_RECORDS: usize = 256;
/// How long one call may take.
const CALL_TIME: Duration = Duration::from_secs(10);

/// What pulling works with.
#[derive(Debug, Clone)]
pub struct Pulling {
    /// To the other owners.
    pub link: Link,
    /// What is here already.
    pub records: LocalRecords,
    /// Takes what is missing.
    pub store: Addr<StoreKeeper>,
    /// Tells when to go on.
    pub background: Background,
}

/// Why a partition was not pulled, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The owner gave no answer that makes sense.
    #[error(transparent)]
    Asked(#[from] AskError),
    /// What it has, it gave.
    #[error("the owner holds {0} damaged records, which it cannot give")]
    NotWhole(usize),
    /// The store does not answer.
    #[error("this node's own store did not take a record")]
    NotStored,
    /// The store did not take what came.
    #[error(transparent)]
    NotMerged(#[from] MergeError),
}

/// How far a pass over an owner's records has come. One that is cut short goes on from there, and
/// has seen every record when it is through: what was behind it was here already by then.
#[derive(Debug, Default)]
pub(super) struct Pass {
    after: Option<Bytes>,
    missing: usize,
    damaged: usize,
    /// Records looked at.
    pub(super) seen: u64,
}

/// Everything that an owner had is here now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulled {
    /// Whether that owner itself has lost nothing.
    pub whole: bool,
}

impl Pulling {
    /// Pulls from one owner until it holds nothing that is not here; shows every page. What the pass
    /// has come to when that fails is where to go on.
    pub(super) async fn pull_all(
        &self,
        ring: &Ring,
        partition: Partition,
        owner: &NodeId,
        pass: &mut Pass,
        seen: &impl Fn(&PullReply),
    ) -> Result<Pulled, TransferError> {
        loop {
            self.go_on(ring, partition, owner, pass, seen).await?;
            let Pass {
                missing, damaged, ..
            } = std::mem::take(pass);
            if damaged > 0 {
                return Err(TransferError::NotWhole(damaged));
            }
            self.background.turn(Kind::Transfers, CALL_COST).await;
            let theirs = self.digest_of(ring, partition, owner).await?;
            // Equal digests, or a whole pass in which every record was here already: another
            // owner, or a write under way, may have given this node more than that one has.
            if self.agrees(partition, &theirs)? || missing == 0 {
                return Ok(Pulled {
                    whole: !theirs.recovering,
                });
            }
        }
    }

    /// Whether this node holds exactly what an owner's digest stands for.
    pub(super) fn agrees(
        &self,
        partition: Partition,
        theirs: &DigestReply,
    ) -> Result<bool, TransferError> {
        let ours = digest(&self.records, partition);
        let (ours, cost) = ours.or(Err(TransferError::NotStored))?;
        self.background.charge(Kind::Transfers, cost);
        Ok(ours.agrees(theirs))
    }

    /// The digest of what an owner holds.
    pub(super) async fn digest_of(
        &self,
        ring: &Ring,
        partition: Partition,
        owner: &NodeId,
    ) -> Result<DigestReply, AskError> {
        let call = PartitionCall {
            epoch: ring.epoch,
            partition: partition.number(),
        };
        self.ask(ring, owner, "/peer/v1/digest", &call).await
    }

    /// Takes a pass over the owner's records to its end. An owner with damaged records gives what it
    /// has, and does not count as pulled from.
    async fn go_on(
        &self,
        ring: &Ring,
        partition: Partition,
        owner: &NodeId,
        pass: &mut Pass,
        seen: &impl Fn(&PullReply),
    ) -> Result<(), TransferError> {
        loop {
            self.background.turn(Kind::Transfers, CALL_COST).await;
            let call = PullCall {
                epoch: ring.epoch,
                partition: partition.number(),
                after: pass.after.clone(),
                limit: PAGE_RECORDS,
            };
            let page: PullReply = self.ask(ring, owner, "/peer/v1/pull", &call).await?;
            if !page.is_intact() {
                return Err(AskError::Damaged.into());
            }
            self.background.charge(Kind::Transfers, page.bytes());
            seen(&page);
            let (last, damaged, records) = (page.last, page.damaged, page.records.len());
            let after = page.records.last().map(|(key, _)| key.clone());
            // Only what has been taken in is behind the pass.
            pass.missing += self.take_in(ring, page).await?;
            pass.damaged += damaged;
            pass.seen += records as u64;
            if last || after.is_none() {
                return Ok(());
            }
            pass.after = after;
        }
    }

    async fn take_in(&self, ring: &Ring, page: PullReply) -> Result<usize, TransferError> {
        let terms = Terms {
            epoch: ring.epoch,
            // Whoever pulls a partition may merge into it, as an owner or as one to be.
            set: OwnerSet::Current,
            deadline: Instant::now() + CALL_TIME,
            trace: None,
        };
        let mut given = Vec::with_capacity(page.records.len());
        for (key, state) in page.records {
            let key = Key::new(key).or(Err(AskError::Damaged))?;
            given.push((key, Some(state)));
        }
        let merging = Merging {
            records: self.records.clone(),
            store: self.store.clone(),
        };
        Ok(merging.merge(given, terms).await?.missing)
    }

    pub(super) async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        ring: &Ring,
        owner: &NodeId,
        path: &str,
        question: &Q,
    ) -> Result<A, AskError> {
        ask(&self.link, (ring, owner), path, question, CALL_TIME).await
    }
}
