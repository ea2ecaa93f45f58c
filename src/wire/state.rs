//! The state of a key as bytes: MessagePack with named fields, so that a newer node may add some.
//!
//! Equal states have equal bytes. What is read is checked: the lists are sorted, the counts are
//! possible, every sibling's dot is in the context. Values are not copied.

use bytes::Bytes;
use rmp_serde::decode::{Deserializer, Error as DecodeError};
use serde::de::IgnoredAny;
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::dynamo::node_id::Incarnation;
use crate::dynamo::version::{
    Actor, Body, Context, Dot, Reason, Remembered, RequestId, Sibling, State,
};

/// No actor writes a record this often; beyond it the sums of the core could overflow.
const MAX_COUNT: u64 = 1 << 62;

/// Deepest nesting that is read; a state has three levels, a newer one may have a few more.
const MAX_DEPTH: usize = 16;

/// Why bytes are not a state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Not MessagePack of the expected shape.
    #[error("not an encoded state: {0}")]
    Malformed(#[from] DecodeError),
    /// Something follows the state.
    #[error("bytes after the encoded state")]
    Trailing,
    /// A list is unsorted, repeats itself, or has an entry that belongs elsewhere.
    #[error("the {0} are not in canonical order")]
    NotCanonical(&'static str),
    /// A count is zero or larger than any actor reaches.
    #[error("a write is numbered {0}")]
    ImpossibleCount(u64),
    /// A sibling, or a remembered request, whose write the context does not know.
    #[error("a write is not in its own context")]
    NotInContext,
}

type DotFields = (u64, u64, u64);
type RequestFields = (u64, u64, u64);

#[derive(Serialize)]
struct StateOut<'a> {
    #[serde(serialize_with = "vector_out")]
    vector: &'a [(Actor, u64)],
    #[serde(serialize_with = "cloud_out", skip_serializing_if = "<[_]>::is_empty")]
    cloud: &'a [Dot],
    #[serde(serialize_with = "siblings_out")]
    siblings: &'a [Sibling],
    #[serde(
        serialize_with = "remembered_out",
        skip_serializing_if = "<[_]>::is_empty"
    )]
    remembered: &'a [Remembered],
}

#[derive(Serialize, Deserialize)]
struct SiblingFields<'a> {
    dot: DotFields,
    /// Nil for a tombstone; never left out, lest a sibling of a kind not known here read as one.
    #[serde(borrow, deserialize_with = "Option::deserialize")]
    value: Option<&'a serde_bytes::Bytes>,
    request: RequestFields,
}

#[derive(Serialize, Deserialize)]
struct RememberedFields {
    dot: DotFields,
    request: RequestFields,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    brief: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    doubtful: bool,
}

#[derive(Deserialize)]
struct StateIn<'a> {
    vector: Vec<DotFields>,
    #[serde(default)]
    cloud: Vec<DotFields>,
    #[serde(borrow)]
    siblings: Vec<SiblingFields<'a>>,
    #[serde(default)]
    remembered: Vec<RememberedFields>,
}

/// The state as bytes; equal states have equal bytes.
#[must_use]
pub fn encode_state(state: &State) -> Bytes {
    let mut out = Vec::with_capacity(size_hint(state));
    append_state(&mut out, state);
    out.into()
}

/// Appends what [`encode_state`] gives.
#[expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "writing to memory cannot fail, and every length is known"
)]
pub fn append_state(out: &mut Vec<u8>, state: &State) {
    let fields = StateOut {
        vector: state.context.vector(),
        cloud: state.context.cloud(),
        siblings: &state.siblings,
        remembered: &state.remembered,
    };
    rmp_serde::encode::write_named(out, &fields).expect("a state is encodable");
}

/// About how many bytes the encoded state has; rather too many than too few.
#[must_use]
pub fn size_hint(state: &State) -> usize {
    let context = &state.context;
    let values = state.siblings.iter().map(|s| match &s.body {
        Body::Value(value) => value.len() + 96,
        Body::Tombstone => 96,
    });
    let counts = context.vector().len() + context.cloud().len();
    40 + values.sum::<usize>() + 28 * counts + 72 * state.remembered.len()
}

/// The state that [`encode_state`] made the bytes of; its values are slices of them. Fields that
/// are not known here are skipped.
///
/// # Errors
/// [`StateError`]; never panics, whatever the bytes.
pub fn decode_state(bytes: &Bytes) -> Result<State, StateError> {
    let mut input = Deserializer::from_read_ref(bytes);
    input.set_max_depth(MAX_DEPTH);
    let fields = StateIn::deserialize(&mut input)?;
    // Only at the very end can no marker be read.
    let rest = IgnoredAny::deserialize(&mut input);
    if !matches!(rest, Err(DecodeError::InvalidMarkerRead(_))) {
        return Err(StateError::Trailing);
    }
    let context = context_in(fields.vector, fields.cloud)?;
    let siblings = fields.siblings.into_iter();
    let siblings: Vec<Sibling> = siblings.map(|s| sibling_in(bytes, &s)).collect();
    let remembered = fields.remembered.into_iter();
    let remembered: Vec<Remembered> = remembered.map(|r| remembered_in(&r)).collect();
    let state = State {
        context,
        siblings,
        remembered,
    };
    check(&state)?;
    Ok(state)
}

fn check(state: &State) -> Result<(), StateError> {
    if !state.siblings.is_sorted_by(|a, b| a.dot < b.dot) {
        return Err(StateError::NotCanonical("siblings"));
    }
    let remembered = &state.remembered;
    let crowded = Reason::ALL.into_iter().any(|reason| {
        let kind = remembered.iter().filter(|r| r.reason == reason);
        let actors: Vec<Actor> = kind.map(|r| r.dot.actor).collect();
        let mut runs = actors.windows(reason.most() + 1);
        runs.any(|run| run.first() == run.last())
    });
    if crowded || !remembered.is_sorted_by(|a, b| (a.dot, a.reason) < (b.dot, b.reason)) {
        return Err(StateError::NotCanonical("remembered requests"));
    }
    let siblings = state.siblings.iter().map(|s| s.dot);
    let mut dots = siblings.chain(remembered.iter().map(|r| r.dot));
    if !dots.all(|dot| dot.n > 0 && state.context.covers(dot)) {
        return Err(StateError::NotInContext);
    }
    Ok(())
}

fn context_in(vector: Vec<DotFields>, cloud: Vec<DotFields>) -> Result<Context, StateError> {
    let mut counts = vector.iter().chain(&cloud).map(|d| d.2);
    if let Some(n) = counts.find(|n| !(1..=MAX_COUNT).contains(n)) {
        return Err(StateError::ImpossibleCount(n));
    }
    let sorted = vector.is_sorted_by(|a, b| (a.0, a.1) < (b.0, b.1)) && cloud.is_sorted();
    let lengths = (vector.len(), cloud.len());
    let entry = |(incarnation, epoch, n)| (actor_in(incarnation, epoch), n);
    let context = Context::from_parts(
        vector.into_iter().map(entry).collect(),
        cloud.into_iter().map(dot_in).collect(),
    );
    // Whatever is repeated, or belongs into the vector, has been dropped from its list.
    if !sorted || (context.vector().len(), context.cloud().len()) != lengths {
        return Err(StateError::NotCanonical("context's entries"));
    }
    Ok(context)
}

fn actor_in(incarnation: u64, epoch: u64) -> Actor {
    let incarnation = Incarnation(incarnation);
    Actor { incarnation, epoch }
}

fn dot_in((incarnation, epoch, n): DotFields) -> Dot {
    let actor = actor_in(incarnation, epoch);
    Dot { actor, n }
}

fn request_in((high, low, fingerprint): RequestFields) -> RequestId {
    RequestId {
        id: (u128::from(high) << 64) | u128::from(low),
        fingerprint,
    }
}

fn sibling_in(whole: &Bytes, fields: &SiblingFields<'_>) -> Sibling {
    Sibling {
        dot: dot_in(fields.dot),
        body: match fields.value {
            Some(value) => Body::Value(whole.slice_ref(value)),
            None => Body::Tombstone,
        },
        request: request_in(fields.request),
    }
}

fn remembered_in(fields: &RememberedFields) -> Remembered {
    Remembered {
        dot: dot_in(fields.dot),
        reason: match (fields.brief, fields.doubtful) {
            (_, true) => Reason::Doubtful,
            (true, false) => Reason::Afar,
            (false, false) => Reason::Keyed,
        },
        request: request_in(fields.request),
    }
}

fn dot_out(dot: Dot) -> DotFields {
    (dot.actor.incarnation.0, dot.actor.epoch, dot.n)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the two halves of the number"
)]
fn request_out(request: RequestId) -> RequestFields {
    let RequestId { id, fingerprint } = request;
    ((id >> 64) as u64, id as u64, fingerprint)
}

fn vector_out<S: Serializer>(list: &[(Actor, u64)], out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(list.iter().map(|&(actor, n)| dot_out(Dot { actor, n })))
}

fn cloud_out<S: Serializer>(list: &[Dot], out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(list.iter().copied().map(dot_out))
}

fn siblings_out<S: Serializer>(list: &[Sibling], out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(list.iter().map(|s| SiblingFields {
        dot: dot_out(s.dot),
        value: match &s.body {
            Body::Value(value) => Some(serde_bytes::Bytes::new(value)),
            Body::Tombstone => None,
        },
        request: request_out(s.request),
    }))
}

fn remembered_out<S: Serializer>(list: &[Remembered], out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(list.iter().map(|r| RememberedFields {
        dot: dot_out(r.dot),
        request: request_out(r.request),
        brief: r.reason == Reason::Afar,
        doubtful: r.reason == Reason::Doubtful,
    }))
}

#[cfg(test)]
pub(crate) mod tests;
