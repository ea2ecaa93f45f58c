//! The giving side of a move: answers pulls and digests straight from the engine, on a thread that
//! serves no client.

use std::time::Duration;

use actix::prelude::{Actor, Context, Handler, Message, ResponseFuture};
use tokio::time::timeout;

use super::background::{Background, Kind};
use super::local_reader::LocalRecords;
use super::ring_view::RingView;
use crate::dynamo::key::{Key, Partition};
use crate::dynamo::merkle::{Digest, record_digest};
use crate::dynamo::quorum::Fault;
use crate::wire::transfer::{DigestReply, PullCall, PullReply};

/// What a call costs at either end, beside the bytes that it brings.
pub(super) const CALL_COST: u64 = 16 << 10;
/// A page is cut once it holds so many bytes, whatever the number of records.
const PAGE_BYTES: usize = 1 << 20;
/// A page whose turn did not come in time is cut here: slow, and not stuck.
const SMALL_PAGE_BYTES: usize = 32 << 10;
/// How long a call waits for its turn, well within what its caller waits.
const TURN_TIME: Duration = Duration::from_secs(4);
/// What is only read here costs this part of what is sent.
const READING: u64 = 8;
/// Records read at once for a digest.
const DIGEST_PAGE: usize = 1024;

/// Reads the engine for other nodes.
#[derive(Debug, Clone)]
pub struct Giver {
    records: LocalRecords,
    view: RingView,
    background: Background,
}

/// Asks for a page of a partition.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<PullReply, Fault>")]
pub struct GivePage(pub PullCall);

/// Asks for a partition's digest.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<DigestReply, Fault>")]
pub struct GiveDigest {
    /// The epoch that the caller knows.
    pub epoch: u64,
    /// Which partition.
    pub partition: Partition,
}

impl Giver {
    /// A giver of these records.
    #[must_use]
    pub fn new(records: LocalRecords, view: RingView, background: Background) -> Self {
        Self {
            records,
            view,
            background,
        }
    }

    /// Whether the turn came in time. What the call costs beyond is charged once it is known.
    async fn turn(&self) -> bool {
        let turn = self.background.turn(Kind::Transfers, CALL_COST);
        timeout(TURN_TIME, turn).await.is_ok()
    }

    /// A receiver must know that everything acknowledged under the ring before is in what it
    /// pulls, so this node must be at the receiver's epoch itself. What is to be discarded here
    /// must not get there.
    fn check(&self, epoch: u64, partition: Partition) -> Result<(), Fault> {
        let view = self.view.load();
        view.check_epoch(epoch)?;
        if view.stranger || view.doubtful || view.has_old_copy(partition) {
            return Err(Fault::NotReady);
        }
        Ok(())
    }

    fn page(&self, call: PullCall, most_bytes: usize) -> Result<PullReply, Fault> {
        let partition = Partition::new(call.partition).ok_or(Fault::NotOwner)?;
        self.check(call.epoch, partition)?;
        let after = call.after.and_then(|key| Key::new(key).ok());
        let limit = call.limit.clamp(1, 4096);
        let mut page = self.records.scan(partition, after.as_ref(), limit)?;
        let mut damaged = page.damaged;
        // Damaged records are left out; a page without any other would read as the end.
        while page.entries.is_empty() && page.next_after.is_some() {
            page = (self.records).scan(partition, page.next_after.as_ref(), limit)?;
            damaged += page.damaged;
        }
        let (mut records, mut bytes) = (Vec::new(), 0);
        let mut last = page.next_after.is_none();
        for (key, state) in page.entries {
            if bytes >= most_bytes {
                last = false;
                break;
            }
            bytes += key.as_bytes().len() + state.len();
            records.push((key.as_bytes().clone(), state));
        }
        Ok(PullReply {
            damaged,
            ..PullReply::new(records, last)
        })
    }
}

/// The digest of a partition as this node holds it, and what it cost to work it out.
///
/// # Errors
/// [`Fault::Broken`] when the engine cannot tell.
pub fn digest(records: &LocalRecords, partition: Partition) -> Result<(DigestReply, u64), Fault> {
    let (mut digest, mut count, mut after, mut bytes) = (Digest::default(), 0, None, 0);
    loop {
        let page = records.scan(partition, after.as_ref(), DIGEST_PAGE)?;
        for (key, state) in &page.entries {
            digest.toggle(record_digest(key.as_bytes(), state));
            count += 1;
            bytes += (key.as_bytes().len() + state.len()) as u64;
        }
        after = page.next_after;
        if after.is_none() {
            let digest = DigestReply {
                root: digest.0,
                records: count,
                recovering: false,
            };
            return Ok((digest, bytes / READING));
        }
    }
}

impl Actor for Giver {
    type Context = Context<Self>;
}

impl Handler<GivePage> for Giver {
    type Result = ResponseFuture<Result<PullReply, Fault>>;

    fn handle(&mut self, GivePage(call): GivePage, _ctx: &mut Self::Context) -> Self::Result {
        let giver = self.clone();
        Box::pin(async move {
            let most_bytes = if giver.turn().await {
                PAGE_BYTES
            } else {
                SMALL_PAGE_BYTES
            };
            let page = giver.page(call, most_bytes)?;
            giver.background.charge(Kind::Transfers, page.bytes());
            Ok(page)
        })
    }
}

impl Handler<GiveDigest> for Giver {
    type Result = ResponseFuture<Result<DigestReply, Fault>>;

    fn handle(&mut self, ask: GiveDigest, _ctx: &mut Self::Context) -> Self::Result {
        let giver = self.clone();
        Box::pin(async move {
            // Without its turn it goes on all the same: it is all that the caller waits for.
            giver.turn().await;
            giver.check(ask.epoch, ask.partition)?;
            let view = giver.view.load();
            let (digest, cost) = digest(&giver.records, ask.partition)?;
            giver.background.charge(Kind::Transfers, cost);
            Ok(DigestReply {
                recovering: view.recovering.contains(ask.partition),
                ..digest
            })
        })
    }
}
