//! Operations that travel together. One batch at a time, since more would only make the batches
//! smaller; but one that is not answered soon does not hold up the next, up to a small number.
//! Every operation is answered by its own deadline, whatever becomes of its batch.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::actors::deferred::Reply;
use crate::actors::replica::{MintReply, Minted, ReadReply, Terms};
use crate::dynamo::key::Key;
use crate::dynamo::quorum::Fault;
use crate::limits::{
    MAX_BATCH_BYTES, MAX_BATCH_OPS, MAX_PEER_FLIGHTS, MAX_PEER_QUEUE, MAX_PEER_QUEUE_BYTES,
};
use crate::wire::peer::{Action, Batch, Done, Op};

/// A batch that is out for so long no longer holds up the next one.
const STALLED_AFTER: Duration = Duration::from_millis(250);

/// How long a batch may take that nobody waits for.
const NEWS_TIME: Duration = Duration::from_secs(1);

/// The operations of one kind for one node.
#[derive(Debug, Default)]
pub(super) struct Lane {
    queue: VecDeque<Queued>,
    /// In the queue.
    bytes: usize,
    flights: Vec<Flight>,
    next_number: u64,
    /// Mints whose replies were heard since the last departure.
    heard: Vec<u128>,
}

/// An operation, and whom to tell what became of it.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) key: Key,
    pub(super) action: Action,
    pub(super) terms: Terms,
    pub(super) reply: ReplyTo,
}

/// A batch that is out.
#[derive(Debug)]
struct Flight {
    number: u64,
    since: Instant,
    waiting: Vec<Waiting>,
}

/// Who waits for an operation that is out, until its deadline.
#[derive(Debug)]
struct Waiting {
    terms: Terms,
    reply: Option<ReplyTo>,
}

/// A batch to be sent.
#[derive(Debug)]
pub(super) struct Departure {
    pub(super) number: u64,
    pub(super) batch: Batch,
    /// When the answer is of no use to any of its operations.
    pub(super) deadline: Instant,
}

/// Whom to give the outcome.
#[derive(Debug)]
pub(super) enum ReplyTo {
    Read(Reply<Result<ReadReply, Fault>>),
    Write(Reply<Result<(), Fault>>),
    Mint(Reply<Result<MintReply, Fault>>),
}

impl Lane {
    /// Takes an operation in, or refuses it when too much waits already.
    pub(super) fn push(&mut self, queued: Queued) {
        let bytes = self.bytes + queued.action.size();
        let fits = bytes <= MAX_PEER_QUEUE_BYTES || self.queue.is_empty();
        if !fits || self.queue.len() >= MAX_PEER_QUEUE {
            queued.reply.give(Err(Fault::Overloaded));
            return;
        }
        self.bytes = bytes;
        self.queue.push_back(queued);
    }

    /// Whether some batch has been out for too long.
    pub(super) fn is_stalled(&self, now: Instant) -> bool {
        self.flights.iter().any(|flight| flight.is_stalled(now))
    }

    /// Whether nothing waits and nothing is out.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.flights.is_empty()
    }

    /// Operations that somebody still waits for.
    pub(super) fn depth(&self) -> usize {
        let out = self.flights.iter().flat_map(|flight| &flight.waiting);
        self.queue.len() + out.filter(|waiting| waiting.reply.is_some()).count()
    }

    /// The next batch, if one may be sent: operations of one epoch whose answer is still of use.
    pub(super) fn depart(&mut self, now: Instant) -> Option<Departure> {
        let stalled = self.flights.iter().all(|flight| flight.is_stalled(now));
        if !stalled || self.flights.len() >= MAX_PEER_FLIGHTS {
            return None;
        }
        let load = self.load(now);
        let epoch = load.first()?.terms.epoch;
        let (mut ops, mut waiting) = (
            Vec::with_capacity(load.len()),
            Vec::with_capacity(load.len()),
        );
        let mut deadline = now;
        for Queued {
            key,
            action,
            terms,
            reply,
        } in load
        {
            deadline = deadline.max(terms.deadline);
            ops.push(Op {
                key,
                set: terms.set,
                left: terms.deadline.saturating_duration_since(now),
                trace: terms.trace,
                action,
            });
            let reply = Some(reply);
            waiting.push(Waiting { terms, reply });
        }
        Some(self.take_off(epoch, (ops, waiting), now, deadline))
    }

    /// Whether the node waits to be told what was heard, and no batch is about to tell it.
    pub(super) fn has_news(&self) -> bool {
        !self.heard.is_empty() && self.is_idle()
    }

    /// A batch of nothing but what was heard.
    pub(super) fn depart_with_news(&mut self, epoch: u64, now: Instant) -> Departure {
        self.take_off(epoch, (Vec::new(), Vec::new()), now, now + NEWS_TIME)
    }

    fn take_off(
        &mut self,
        epoch: u64,
        (ops, waiting): (Vec<Op>, Vec<Waiting>),
        now: Instant,
        deadline: Instant,
    ) -> Departure {
        let heard = std::mem::take(&mut self.heard);
        self.next_number += 1;
        let number = self.next_number;
        self.flights.push(Flight {
            number,
            since: now,
            waiting,
        });
        Departure {
            number,
            batch: Batch { epoch, ops, heard },
            deadline,
        }
    }

    /// Takes from the queue what fits into one message.
    fn load(&mut self, now: Instant) -> Vec<Queued> {
        let (mut load, mut bytes) = (Vec::new(), 0);
        while let Some(next) = self.queue.front() {
            let same = load
                .first()
                .is_none_or(|first: &Queued| first.terms.epoch == next.terms.epoch);
            if !same || load.len() >= MAX_BATCH_OPS || bytes >= MAX_BATCH_BYTES {
                break;
            }
            let Some(next) = self.pop() else { break };
            if next.terms.deadline > now {
                bytes += next.action.size();
                load.push(next);
            } else {
                next.reply.give(Err(Fault::Overloaded));
            }
        }
        load
    }

    fn pop(&mut self) -> Option<Queued> {
        let next = self.queue.pop_front()?;
        self.bytes = self.bytes.saturating_sub(next.action.size());
        Some(next)
    }

    /// A batch is back: tells its operations, and queues again those that the answer had no room
    /// for.
    pub(super) fn land(&mut self, number: u64, batch: Batch, results: Vec<Result<Done, Fault>>) {
        let Some(at) = self.flights.iter().position(|f| f.number == number) else {
            return;
        };
        let waiting = self.flights.swap_remove(at).waiting;
        let mut again = Vec::new();
        for ((Waiting { terms, reply }, op), result) in
            waiting.into_iter().zip(batch.ops).zip(results)
        {
            let Some(reply) = reply else { continue };
            if result == Err(Fault::Postponed) {
                let (key, action) = (op.key, op.action);
                again.push(Queued {
                    key,
                    action,
                    terms,
                    reply,
                });
            } else if reply.give(result)
                && let Action::Mint(mint) = op.action
            {
                self.heard.push(mint.request.id);
            }
        }
        for queued in again.into_iter().rev() {
            self.bytes += queued.action.size();
            self.queue.push_front(queued);
        }
    }

    /// Answers what has waited until its deadline; what was never sent was not applied.
    pub(super) fn expire(&mut self, now: Instant) {
        for waiting in self.flights.iter_mut().flat_map(|f| &mut f.waiting) {
            if waiting.terms.deadline <= now
                && let Some(reply) = waiting.reply.take()
            {
                reply.give(Err(Fault::TimedOut));
            }
        }
        if self.queue.iter().any(|queued| queued.terms.deadline <= now) {
            for _ in 0..self.queue.len() {
                let Some(queued) = self.pop() else { break };
                if queued.terms.deadline <= now {
                    queued.reply.give(Err(Fault::Overloaded));
                } else {
                    self.bytes += queued.action.size();
                    self.queue.push_back(queued);
                }
            }
        }
    }

    /// Gives up, for a node that does not answer, what is stuck and what waits to be sent.
    pub(super) fn give_up(&mut self, now: Instant) {
        let stuck = self.flights.iter_mut().filter(|f| f.is_stalled(now));
        for reply in stuck
            .flat_map(|f| &mut f.waiting)
            .filter_map(|w| w.reply.take())
        {
            reply.give(Err(Fault::TimedOut));
        }
        while let Some(queued) = self.pop() {
            queued.reply.give(Err(Fault::Unreachable));
        }
    }
}

impl Flight {
    fn is_stalled(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= STALLED_AFTER
    }
}

impl ReplyTo {
    /// An answer to another question than the one asked is none. Says whether the node's word was
    /// heard.
    pub(super) fn give(self, outcome: Result<Done, Fault>) -> bool {
        let spoke = outcome.is_ok();
        let heard = match self {
            Self::Read(reply) => reply
                .deliver(match outcome {
                    Ok(Done::Read(state)) => Ok(state),
                    other => Err(other.err().unwrap_or(Fault::Broken)),
                })
                .is_ok(),
            Self::Write(reply) => reply
                .deliver(match outcome {
                    Ok(Done::Written) => Ok(()),
                    other => Err(other.err().unwrap_or(Fault::Broken)),
                })
                .is_ok(),
            Self::Mint(reply) => reply.deliver(outcome.and_then(mint_reply)).is_ok(),
        };
        spoke && heard
    }
}

fn mint_reply(done: Done) -> Result<MintReply, Fault> {
    match done {
        Done::Minted(state, answer, siblings) => Ok(MintReply::Minted(Minted {
            state,
            answer,
            siblings,
        })),
        Done::AlreadyExists(state) => Ok(MintReply::AlreadyExists(state)),
        Done::NothingToDelete(state) => Ok(MintReply::NothingToDelete(state)),
        Done::TooManySiblings(state) => Ok(MintReply::TooManySiblings(state)),
        Done::RequestReused => Ok(MintReply::RequestReused),
        Done::Read(_) | Done::Written => Err(Fault::Broken),
    }
}
