//! How far each partition of a move is, for whoever watches.

use std::collections::BTreeMap;

use actix::Addr;
use actix::prelude::{Context, Handler, Message, MessageResult};
use tokio::time::Instant;

use super::Handoff;
use crate::dynamo::key::Partition;
use crate::dynamo::node_id::NodeId;
use crate::wire::transfer::PullReply;
pub use crate::wire::transfers::{Step, Transfer};

/// The partitions that this node gains, of the last move that it took part in.
#[derive(Debug, Default)]
pub(super) struct Board {
    epoch: u64,
    transfers: BTreeMap<u16, (Transfer, Instant)>,
}

/// The transfers of a move begin, or go on.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Begun {
    pub(super) epoch: u64,
    pub(super) me: NodeId,
    pub(super) partitions: Vec<Partition>,
}

/// Something has come of a partition.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct News {
    partition: Partition,
    what: What,
}

#[derive(Debug)]
enum What {
    From {
        owner: NodeId,
        total: u64,
        done: u64,
    },
    Page {
        records: u64,
        bytes: u64,
    },
    Step(Step),
    Waits(String),
}

/// Asks how far the partitions are that this node gains.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<Transfer>")]
pub struct GetTransfers;

/// Where the news of one partition go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch<'a> {
    pub(super) partition: Partition,
    pub(super) board: &'a Addr<Handoff>,
}

impl Watch<'_> {
    fn tell(self, what: What) {
        let partition = self.partition;
        self.board.do_send(News { partition, what });
    }

    /// So many records are to be pulled from this owner, of which so many have been.
    pub(super) fn pulls_from(self, owner: &NodeId, total: u64, done: u64) {
        let owner = owner.clone();
        self.tell(What::From { owner, total, done });
    }

    pub(super) fn pulled(self, page: &PullReply) {
        self.tell(What::Page {
            records: page.records.len() as u64,
            bytes: page.bytes(),
        });
    }

    pub(super) fn is_at(self, step: Step) {
        self.tell(What::Step(step));
    }

    pub(super) fn waits_for(self, what: String) {
        self.tell(What::Waits(what));
    }
}

impl Handler<Begun> for Handoff {
    type Result = ();

    fn handle(&mut self, begun: Begun, _ctx: &mut Context<Self>) {
        let board = &mut self.board;
        if board.epoch != begun.epoch {
            *board = Board {
                epoch: begun.epoch,
                transfers: BTreeMap::new(),
            };
        }
        for partition in begun.partitions {
            let fresh = Transfer::of(partition, &begun.me);
            let entry = (fresh, Instant::now());
            board.transfers.entry(partition.number()).or_insert(entry);
        }
    }
}

impl Handler<News> for Handoff {
    type Result = ();

    fn handle(&mut self, News { partition, what }: News, _ctx: &mut Context<Self>) {
        let Some((transfer, since)) = self.board.transfers.get_mut(&partition.number()) else {
            return;
        };
        match what {
            What::From { owner, total, done } => {
                transfer.from = Some(owner.to_string());
                (transfer.step, transfer.done, transfer.total) = (Step::Pulling, done, total);
                (transfer.bytes, *since) = (0, Instant::now());
            }
            What::Page { records, bytes } => {
                transfer.done += records;
                transfer.bytes += bytes;
                transfer.total = transfer.total.max(transfer.done);
                let millis = since.elapsed().as_millis().max(1);
                let rate = u128::from(transfer.bytes) * 1000 / millis;
                transfer.rate_bytes_s = u64::try_from(rate).unwrap_or(u64::MAX);
            }
            What::Step(step) => {
                // What the last attempt waited for the next one may wait for too, in silence.
                if transfer.step != step {
                    transfer.waiting_for = None;
                }
                transfer.step = step;
                transfer.done = transfer.total;
            }
            What::Waits(reason) => transfer.waiting_for = Some(reason),
        }
    }
}

impl Handler<GetTransfers> for Handoff {
    type Result = MessageResult<GetTransfers>;

    fn handle(&mut self, _: GetTransfers, _ctx: &mut Context<Self>) -> Self::Result {
        let view = self.parts.view.load();
        let moves = |ring: &std::sync::Arc<crate::dynamo::ring::Ring>| {
            ring.is_moving() && ring.move_epoch() == self.board.epoch
        };
        let current = view.ring.as_ref().is_some_and(moves);
        let transfers = self.board.transfers.values().filter(|_| current);
        MessageResult(transfers.map(|(transfer, _)| transfer.clone()).collect())
    }
}
