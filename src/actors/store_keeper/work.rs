//! What waits for a commit, and how its sender is answered afterwards.

use bytes::Bytes;

use super::batch::{Answer, Batch, Committed};
use super::store::Place;
use super::{DropHints, Recover, SaveMeta, StoreOp, StoreReply};
use crate::actors::deferred::Reply;
use crate::actors::replica::{MintReply, ReplicaMint, ReplicaWrite};
use crate::dynamo::key::Key;
use crate::dynamo::quorum::Fault;
use crate::dynamo::version::{Body, Reason};
use crate::storage::EngineError;
use crate::wire::state::size_hint;

type Replies = Vec<Result<StoreReply, Fault>>;

/// Something to be done in the next commit.
pub(super) enum Work {
    Write(ReplicaWrite, Reply<Result<(), Fault>>),
    Mint(Box<ReplicaMint>, Reply<Result<MintReply, Fault>>),
    Batch(Vec<StoreOp>, Reply<Replies>),
    Meta(SaveMeta, Reply<Result<(), Fault>>),
    DropHints(DropHints, Reply<Result<(), Fault>>),
    Recover(Box<Recover>, Reply<Result<(), Fault>>),
    /// A mint that is durable, whose coordinator went on to the next owner before it heard so: the
    /// two attempts must be told for one even when the value of this one has been replaced.
    Remember(Box<ReplicaMint>, Place),
}

/// The same, decided and not yet answered.
pub(super) enum Decided {
    Write(Answer<()>, Reply<Result<(), Fault>>),
    Mint(Box<Tried>, Reply<Result<MintReply, Fault>>),
    Batch(Vec<Answer<StoreReply>>, Reply<Replies>),
    Meta(Reply<Result<(), Fault>>),
    DropHints(Vec<Answer<()>>, Reply<Result<(), Fault>>),
    /// Nobody waits for it.
    Nothing,
}

/// A mint and what became of it, and where.
pub(super) struct Tried {
    mint: Box<ReplicaMint>,
    place: Place,
    answer: Answer<MintReply>,
}

impl Work {
    pub(super) fn operations(&self) -> usize {
        match self {
            Self::Write(..)
            | Self::Mint(..)
            | Self::Meta(..)
            | Self::Recover(..)
            | Self::Remember(..) => 1,
            Self::Batch(ops, _) => ops.len(),
            Self::DropHints(drop, _) => drop.acknowledged.len(),
        }
    }

    /// About how much of the engine's batch it makes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Write(write, _) => write.state.len(),
            Self::Mint(mint, _) | Self::Remember(mint, _) => mint_bytes(mint),
            Self::Batch(ops, _) => ops.iter().map(op_bytes).sum(),
            Self::Meta(meta, _) => meta.value.len(),
            Self::DropHints(drop, _) => drop
                .acknowledged
                .iter()
                .map(|(k, _)| k.as_bytes().len())
                .sum(),
            Self::Recover(recover, _) => size_hint(&recover.state),
        }
    }

    /// Decides on top of what is in the batch already.
    pub(super) fn decide(self, batch: &mut Batch<'_>) -> Result<Decided, EngineError> {
        Ok(match self {
            Self::Write(write, reply) => Decided::Write(batch.write(&write)?, reply),
            // Whoever asked has gone to the next owner: one attempt less to be told for the same.
            Self::Mint(_, reply) if !reply.is_awaited() => Decided::Nothing,
            Self::Mint(mint, reply) => {
                let (place, answer) = (batch.place(&mint.terms), batch.mint(&mint, false)?);
                let tried = Tried {
                    mint,
                    place,
                    answer,
                };
                Decided::Mint(Box::new(tried), reply)
            }
            Self::Batch(ops, reply) => {
                let answers: Result<Vec<_>, EngineError> =
                    ops.iter().map(|op| decide_op(op, batch)).collect();
                Decided::Batch(answers?, reply)
            }
            Self::Meta(meta, reply) => {
                batch.save_meta(meta.name, meta.value);
                Decided::Meta(reply)
            }
            Self::DropHints(drop, reply) => {
                let one = |(key, state): &(Key, Bytes)| batch.drop_hint(&drop.target, key, state);
                let answers: Result<Vec<_>, EngineError> =
                    drop.acknowledged.iter().map(one).collect();
                Decided::DropHints(answers?, reply)
            }
            Self::Recover(recover, reply) => Decided::Write(batch.recover(*recover)?, reply),
            Self::Remember(mint, place) => {
                batch.remember(&mint, place)?;
                Decided::Nothing
            }
        })
    }

    /// Answers that nothing was done.
    pub(super) fn refuse(self) {
        match self {
            Self::Write(_, reply)
            | Self::Meta(_, reply)
            | Self::DropHints(_, reply)
            | Self::Recover(_, reply) => {
                reply.send(Err(Fault::Overloaded));
            }
            Self::Mint(_, reply) => reply.send(Err(Fault::Overloaded)),
            Self::Batch(ops, reply) => {
                reply.send(ops.iter().map(|_| Err(Fault::Overloaded)).collect());
            }
            Self::Remember(..) => {}
        }
    }
}

impl Decided {
    /// Answers, now that the batch has been committed. Returns what is still to be done because
    /// nobody heard the answer.
    pub(super) fn answer(self, committed: Committed) -> Option<Work> {
        match self {
            Self::Write(answer, reply) => reply.send(answer.after(committed)),
            Self::Mint(tried, reply) => return tried.answer(committed, reply),
            Self::Batch(answers, reply) => {
                let answers = answers.into_iter().map(|answer| answer.after(committed));
                reply.send(answers.collect());
            }
            Self::Meta(reply) => reply.send(Ok(())),
            Self::DropHints(answers, reply) => {
                let mut answers = answers.into_iter().map(|answer| answer.after(committed));
                reply.send(answers.find(Result::is_err).unwrap_or(Ok(())));
            }
            Self::Nothing => {}
        }
        None
    }
}

impl Tried {
    fn answer(self, committed: Committed, reply: Reply<Result<MintReply, Fault>>) -> Option<Work> {
        match reply.deliver(self.answer.after(committed)) {
            Err(Ok(MintReply::Minted(_))) if self.mint.mint.remember != Some(Reason::Doubtful) => {
                Some(Work::Remember(self.mint, self.place))
            }
            Ok(()) | Err(_) => None,
        }
    }
}

fn decide_op(op: &StoreOp, batch: &mut Batch<'_>) -> Result<Answer<StoreReply>, EngineError> {
    Ok(match op {
        StoreOp::Write(write) => batch.write(write)?.map(|()| StoreReply::Written),
        StoreOp::Mint(mint) => batch.mint(mint, true)?.map(StoreReply::Minted),
    })
}

fn op_bytes(op: &StoreOp) -> usize {
    match op {
        StoreOp::Write(write) => write.state.len(),
        StoreOp::Mint(mint) => mint_bytes(mint),
    }
}

fn mint_bytes(mint: &ReplicaMint) -> usize {
    let value = match &mint.mint.body {
        Body::Value(value) => value.len(),
        Body::Tombstone => 0,
    };
    value + mint.mint.merged.as_deref().map_or(0, size_hint)
}
