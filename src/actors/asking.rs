//! A question to another member, and its answer: what moves, anti-entropy and reaping are made of.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::link::{Link, LinkError};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::Ring;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The member did not answer, or refused to.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The ring has no such member any more.
    #[error("the ring has changed")]
    RingChanged,
    /// What came is not what was sent.
    #[error("an answer was damaged on the way")]
    Damaged,
}

/// Asks a member of the ring, within this time.
///
/// # Errors
/// [`AskError`].
pub(super) async fn ask<Q: Serialize, A: DeserializeOwned>(
    link: &Link,
    (ring, member): (&Ring, &NodeId),
    path: &str,
    question: &Q,
    time: Duration,
) -> Result<A, AskError> {
    let member = ring.member(member).ok_or(AskError::RingChanged)?;
    let body = rmp_serde::to_vec_named(question).or(Err(AskError::Damaged))?;
    let (address, cluster) = (&member.addresses.peer, Some(ring.cluster));
    let answer = link.post(address, path, body, cluster, time).await?;
    rmp_serde::from_slice(&answer).or(Err(AskError::Damaged))
}
