//! Replica operations between nodes: one POST carries a batch of them, MessagePack with named
//! fields. States and clocks travel as the bytes that `wire::state` makes.

#![expect(
    clippy::ref_option_ref,
    reason = "the signature that serde_bytes asks for"
)]

mod size;

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::state::{StateError, decode_state, encode_state};
use super::trace::TraceId;
use crate::dynamo::key::Key;
use crate::dynamo::quorum::Fault;
use crate::dynamo::ring::{MemberNumber, OwnerSet};
use crate::dynamo::version::{Body, Clock, Mint, Reason, RequestId, State, WriteKind};

/// Major version of the peer protocol; a node refuses peers of another one.
pub const PROTOCOL: &str = "1";
/// Minor version: what a node of a lower one says is understood, and what it does not know of a
/// higher one it passes over. What it must know first is a capability.
pub const PROTOCOL_MINOR: u32 = 1;
/// Understands changes of members that give nothing to some, or begin in the middle of a move.
pub const SPARES: &str = "spare";

/// Many operations of one node for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The epoch of the sender's ring.
    pub epoch: u64,
    /// What to do, in order.
    pub ops: Vec<Op>,
    /// Mints whose replies, in earlier batches, have reached their coordinators.
    pub heard: Vec<u128>,
}

/// One operation and the time left for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// Which record.
    pub key: Key,
    /// As what the node is addressed.
    pub set: OwnerSet,
    /// The answer is of no use after this.
    pub left: Duration,
    /// The request that it is part of.
    pub trace: Option<TraceId>,
    /// What to do.
    pub action: Action,
}

/// What a replica is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Give the state.
    Read,
    /// Merge this encoded state.
    Write(Bytes),
    /// Apply a client's write.
    Mint(Mint),
}

/// The answer to a [`Batch`]: one result an operation, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchReply {
    /// The epoch of the answering node's ring.
    pub epoch: u64,
    /// One an operation.
    pub results: Vec<Result<Done, Fault>>,
}

/// What a replica did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// The state, encoded.
    Read(Option<Bytes>),
    /// Merged and durable.
    Written,
    /// Minted and durable: the new state encoded, the clock of the answer, the live siblings.
    Minted(Bytes, Clock, usize),
    /// Refused; the state, encoded.
    AlreadyExists(Bytes),
    /// Refused; the state, encoded.
    NothingToDelete(Bytes),
    /// Refused; the state, encoded.
    TooManySiblings(Bytes),
    /// Refused.
    RequestReused,
}

/// Why bytes are not a message.
#[derive(Debug, thiserror::Error)]
pub enum PeerMessageError {
    /// Not MessagePack of this shape.
    #[error("malformed peer message: {0}")]
    Malformed(#[from] rmp_serde::decode::Error),
    /// A key that no client could have written.
    #[error("a peer message names an invalid key")]
    Key,
    /// A clock or state that does not decode.
    #[error("a peer message holds an invalid clock: {0}")]
    State(#[from] StateError),
}

#[derive(Serialize, Deserialize)]
struct BatchDto<'a> {
    epoch: u64,
    #[serde(borrow)]
    ops: Vec<OpDto<'a>>,
    /// Sixteen bytes each.
    #[serde(
        default,
        with = "serde_bytes",
        skip_serializing_if = "<[u8]>::is_empty"
    )]
    heard: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct OpDto<'a> {
    #[serde(with = "serde_bytes")]
    key: &'a [u8],
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    incoming: bool,
    /// The place of the owner that the node stands in for, in the list of the epoch's members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stands_for: Option<u16>,
    left_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<&'a str>,
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Option::is_none")]
    state: Option<&'a [u8]>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    mint: Option<MintDto<'a>>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindDto {
    Create,
    Put,
    Delete,
}

#[derive(Serialize, Deserialize)]
struct MintDto<'a> {
    kind: KindDto,
    #[serde(with = "serde_bytes")]
    seen: Vec<u8>,
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Option::is_none")]
    value: Option<&'a [u8]>,
    #[serde(with = "serde_bytes")]
    request: [u8; 16],
    fingerprint: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    remember: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    doubtful: bool,
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Option::is_none")]
    merged: Option<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
struct ReplyDto<'a> {
    epoch: u64,
    #[serde(borrow)]
    results: Vec<ResultDto<'a>>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Read,
    Written,
    Minted,
    AlreadyExists,
    NothingToDelete,
    TooManySiblings,
    RequestReused,
    StaleRing,
    RingBehind,
    NotOwner,
    NotReady,
    Flipped,
    Overloaded,
    Postponed,
    StorageFull,
    HintsFull,
    Damaged,
    Unreachable,
    Broken,
    TimedOut,
}

#[derive(Serialize, Deserialize)]
struct ResultDto<'a> {
    verdict: Verdict,
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Option::is_none")]
    state: Option<&'a [u8]>,
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Option::is_none")]
    clock: Option<Vec<u8>>,
    #[serde(default, skip_serializing_if = "is_zero")]
    siblings: usize,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Batch {
    /// The message as bytes.
    ///
    /// # Errors
    /// Only if the encoder fails, which a vector as its target does not.
    pub fn encode(&self) -> Result<Vec<u8>, rmp_serde::encode::Error> {
        let ops = self.ops.iter().map(Op::to_dto).collect();
        rmp_serde::to_vec_named(&BatchDto {
            epoch: self.epoch,
            ops,
            heard: self.heard.iter().flat_map(|id| id.to_be_bytes()).collect(),
        })
    }

    /// Reads a message; values and states are slices of it.
    ///
    /// # Errors
    /// [`PeerMessageError`].
    pub fn decode(bytes: &Bytes) -> Result<Self, PeerMessageError> {
        let dto: BatchDto<'_> = rmp_serde::from_slice(bytes)?;
        let ops = dto.ops.into_iter().map(|op| Op::from_dto(op, bytes));
        Ok(Self {
            epoch: dto.epoch,
            ops: ops.collect::<Result<_, _>>()?,
            heard: dto
                .heard
                .as_chunks()
                .0
                .iter()
                .copied()
                .map(u128::from_be_bytes)
                .collect(),
        })
    }
}

impl Op {
    fn to_dto(&self) -> OpDto<'_> {
        let (state, mint) = match &self.action {
            Action::Read => (None, None),
            Action::Write(state) => (Some(&state[..]), None),
            Action::Mint(mint) => (None, Some(mint_to_dto(mint))),
        };
        OpDto {
            key: self.key.as_bytes(),
            incoming: self.set == OwnerSet::Incoming,
            stands_for: match self.set {
                OwnerSet::Current | OwnerSet::Incoming => None,
                OwnerSet::Fallback(MemberNumber(place)) => Some(place),
            },
            left_ms: u64::try_from(self.left.as_millis()).unwrap_or(u64::MAX),
            trace: self.trace.as_ref().map(TraceId::as_str),
            state,
            mint,
        }
    }

    fn from_dto(dto: OpDto<'_>, message: &Bytes) -> Result<Self, PeerMessageError> {
        // A copy of the key: it outlives the message in maps and queues, and is short.
        let key = Key::new(Bytes::copy_from_slice(dto.key)).or(Err(PeerMessageError::Key))?;
        let action = match (dto.mint, dto.state) {
            (Some(mint), _) => Action::Mint(mint_from_dto(mint, message)?),
            (None, Some(state)) => Action::Write(message.slice_ref(state)),
            (None, None) => Action::Read,
        };
        let set = match (dto.stands_for, dto.incoming) {
            (Some(place), _) => OwnerSet::Fallback(MemberNumber(place)),
            (None, true) => OwnerSet::Incoming,
            (None, false) => OwnerSet::Current,
        };
        Ok(Self {
            key,
            set,
            left: Duration::from_millis(dto.left_ms),
            trace: dto.trace.and_then(TraceId::new),
            action,
        })
    }
}

impl BatchReply {
    /// The message as bytes.
    ///
    /// # Errors
    /// Only if the encoder fails, which a vector as its target does not.
    pub fn encode(&self) -> Result<Vec<u8>, rmp_serde::encode::Error> {
        let results = self.results.iter().map(result_to_dto).collect();
        rmp_serde::to_vec_named(&ReplyDto {
            epoch: self.epoch,
            results,
        })
    }

    /// Reads a message; states are slices of it.
    ///
    /// # Errors
    /// [`PeerMessageError`].
    pub fn decode(bytes: &Bytes) -> Result<Self, PeerMessageError> {
        let dto: ReplyDto<'_> = rmp_serde::from_slice(bytes)?;
        let results = dto.results.into_iter().map(|r| result_from_dto(&r, bytes));
        Ok(Self {
            epoch: dto.epoch,
            results: results.collect::<Result<_, _>>()?,
        })
    }
}

fn mint_to_dto(mint: &Mint) -> MintDto<'_> {
    MintDto {
        kind: match mint.kind {
            WriteKind::Create => KindDto::Create,
            WriteKind::Put => KindDto::Put,
            WriteKind::Delete => KindDto::Delete,
        },
        seen: encode_clock(&mint.seen),
        value: match &mint.body {
            Body::Value(value) => Some(value),
            Body::Tombstone => None,
        },
        request: mint.request.id.to_be_bytes(),
        fingerprint: mint.request.fingerprint,
        remember: mint.remember.is_some(),
        doubtful: mint.remember == Some(Reason::Doubtful),
        merged: mint
            .merged
            .as_ref()
            .map(|state| encode_state(state).to_vec()),
    }
}

fn mint_from_dto(dto: MintDto<'_>, message: &Bytes) -> Result<Mint, PeerMessageError> {
    let value = dto.value.map(|value| Body::Value(message.slice_ref(value)));
    Ok(Mint {
        kind: match dto.kind {
            KindDto::Create => WriteKind::Create,
            KindDto::Put => WriteKind::Put,
            KindDto::Delete => WriteKind::Delete,
        },
        seen: decode_clock(dto.seen)?,
        body: value.unwrap_or(Body::Tombstone),
        request: RequestId {
            id: u128::from_be_bytes(dto.request),
            fingerprint: dto.fingerprint,
        },
        remember: match (dto.remember, dto.doubtful) {
            (false, _) => None,
            (true, false) => Some(Reason::Keyed),
            (true, true) => Some(Reason::Doubtful),
        },
        merged: dto
            .merged
            .map(|state| decode_state(&Bytes::from(state)).map(Box::new))
            .transpose()?,
    })
}

fn result_to_dto(result: &Result<Done, Fault>) -> ResultDto<'_> {
    let plain = |verdict| ResultDto {
        verdict,
        state: None,
        clock: None,
        siblings: 0,
    };
    let with = |verdict, state| ResultDto {
        state: Some(state),
        ..plain(verdict)
    };
    match result {
        Ok(Done::Read(state)) => ResultDto {
            state: state.as_deref(),
            ..plain(Verdict::Read)
        },
        Ok(Done::Written) => plain(Verdict::Written),
        Ok(Done::Minted(state, answer, siblings)) => ResultDto {
            clock: Some(encode_clock(answer)),
            siblings: *siblings,
            ..with(Verdict::Minted, state)
        },
        Ok(Done::AlreadyExists(state)) => with(Verdict::AlreadyExists, state),
        Ok(Done::NothingToDelete(state)) => with(Verdict::NothingToDelete, state),
        Ok(Done::TooManySiblings(state)) => with(Verdict::TooManySiblings, state),
        Ok(Done::RequestReused) => plain(Verdict::RequestReused),
        Err(fault) => plain(verdict_of(*fault)),
    }
}

fn result_from_dto(
    dto: &ResultDto<'_>,
    message: &Bytes,
) -> Result<Result<Done, Fault>, PeerMessageError> {
    let state = dto.state.map(|state| message.slice_ref(state));
    let or_empty = |state: Option<Bytes>| state.unwrap_or_else(|| encode_state(&State::default()));
    Ok(Ok(match dto.verdict {
        Verdict::Read => Done::Read(state),
        Verdict::Written => Done::Written,
        Verdict::Minted => {
            let clock = dto.clock.clone().map(decode_clock).transpose()?;
            Done::Minted(or_empty(state), clock.unwrap_or_default(), dto.siblings)
        }
        Verdict::AlreadyExists => Done::AlreadyExists(or_empty(state)),
        Verdict::NothingToDelete => Done::NothingToDelete(or_empty(state)),
        Verdict::TooManySiblings => Done::TooManySiblings(or_empty(state)),
        Verdict::RequestReused => Done::RequestReused,
        Verdict::StaleRing => return Ok(Err(Fault::StaleRing)),
        Verdict::RingBehind => return Ok(Err(Fault::RingBehind)),
        Verdict::NotOwner => return Ok(Err(Fault::NotOwner)),
        Verdict::NotReady => return Ok(Err(Fault::NotReady)),
        Verdict::Flipped => return Ok(Err(Fault::Flipped)),
        Verdict::Overloaded => return Ok(Err(Fault::Overloaded)),
        Verdict::Postponed => return Ok(Err(Fault::Postponed)),
        Verdict::StorageFull => return Ok(Err(Fault::StorageFull)),
        Verdict::HintsFull => return Ok(Err(Fault::HintsFull)),
        Verdict::Damaged => return Ok(Err(Fault::Damaged)),
        Verdict::Unreachable => return Ok(Err(Fault::Unreachable)),
        Verdict::Broken => return Ok(Err(Fault::Broken)),
        Verdict::TimedOut => return Ok(Err(Fault::TimedOut)),
    }))
}

fn verdict_of(fault: Fault) -> Verdict {
    match fault {
        Fault::StaleRing => Verdict::StaleRing,
        Fault::RingBehind => Verdict::RingBehind,
        Fault::NotOwner => Verdict::NotOwner,
        Fault::NotReady => Verdict::NotReady,
        Fault::Flipped => Verdict::Flipped,
        Fault::Overloaded => Verdict::Overloaded,
        Fault::Postponed => Verdict::Postponed,
        Fault::StorageFull => Verdict::StorageFull,
        Fault::HintsFull => Verdict::HintsFull,
        Fault::Damaged => Verdict::Damaged,
        Fault::Unreachable => Verdict::Unreachable,
        Fault::Broken => Verdict::Broken,
        Fault::TimedOut => Verdict::TimedOut,
    }
}

/// A clock is what a state would be that has forgotten its siblings.
fn encode_clock(clock: &Clock) -> Vec<u8> {
    encode_state(&State {
        context: clock.seen.clone(),
        siblings: Vec::new(),
        remembered: clock.remembered.clone(),
    })
    .to_vec()
}

fn decode_clock(bytes: Vec<u8>) -> Result<Clock, StateError> {
    let state = decode_state(&Bytes::from(bytes))?;
    Ok(Clock {
        seen: state.context,
        remembered: state.remembered,
    })
}

#[cfg(test)]
mod tests;
