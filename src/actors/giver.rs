//! The giving side of a move: answers pulls and digests straight from the engine, on a thread that
//! serves no client.

use actix::prelude::{Actor, Context, Handler, Message};
use serde_bytes::ByteBuf;

use super::local_reader::LocalRecords;
use super::ring_view::RingView;
use crate::dynamo::key::{Key, Partition};
use crate::dynamo::merkle::{Digest, record_digest};
use crate::dynamo::quorum::Fault;
use crate::wire::transfer::{DigestReply, PullCall, PullReply};

/// A page is cut once it holds so many bytes, whatever the number of records.
const PAGE_BYTES: usize = 1 << 20;
/// Records read at once for a digest.
const DIGEST_PAGE: usize = 1024;

/// Reads the engine for other nodes.
#[derive(Debug)]
pub struct Giver {
    records: LocalRecords,
    view: RingView,
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
    pub fn new(records: LocalRecords, view: RingView) -> Self {
        Self { records, view }
    }

    fn page(&self, call: PullCall) -> Result<PullReply, Fault> {
        // A receiver must know that everything acknowledged under the ring before is in what it
        // pulls, so this node must be at the receiver's epoch itself.
        self.view.load().check_epoch(call.epoch)?;
        let partition = Partition::new(call.partition).ok_or(Fault::NotOwner)?;
        let after = call
            .after
            .and_then(|key| Key::new(key.into_vec().into()).ok());
        let limit = call.limit.clamp(1, 4096);
        let mut page = self.records.scan(partition, after.as_ref(), limit)?;
        // Damaged records are left out; a page without any other would read as the end.
        while page.entries.is_empty() && page.next_after.is_some() {
            page = (self.records).scan(partition, page.next_after.as_ref(), limit)?;
        }
        let (mut records, mut bytes) = (Vec::new(), 0);
        let mut last = page.next_after.is_none();
        for (key, state) in page.entries {
            if bytes >= PAGE_BYTES {
                last = false;
                break;
            }
            bytes += key.as_bytes().len() + state.len();
            records.push((
                ByteBuf::from(key.as_bytes().to_vec()),
                ByteBuf::from(state.to_vec()),
            ));
        }
        Ok(PullReply::new(records, last))
    }
}

/// The digest of a partition as this node holds it.
///
/// # Errors
/// [`Fault::Broken`] when the engine cannot tell.
pub fn digest(records: &LocalRecords, partition: Partition) -> Result<DigestReply, Fault> {
    let (mut digest, mut count, mut after) = (Digest::default(), 0, None);
    loop {
        let page = records.scan(partition, after.as_ref(), DIGEST_PAGE)?;
        for (key, state) in &page.entries {
            digest.toggle(record_digest(key.as_bytes(), state));
            count += 1;
        }
        after = page.next_after;
        if after.is_none() {
            return Ok(DigestReply {
                root: digest.0,
                records: count,
            });
        }
    }
}

impl Actor for Giver {
    type Context = Context<Self>;
}

impl Handler<GivePage> for Giver {
    type Result = Result<PullReply, Fault>;

    fn handle(&mut self, GivePage(call): GivePage, _ctx: &mut Self::Context) -> Self::Result {
        self.page(call)
    }
}

impl Handler<GiveDigest> for Giver {
    type Result = Result<DigestReply, Fault>;

    fn handle(&mut self, ask: GiveDigest, _ctx: &mut Self::Context) -> Self::Result {
        self.view.load().check_epoch(ask.epoch)?;
        digest(&self.records, ask.partition)
    }
}
