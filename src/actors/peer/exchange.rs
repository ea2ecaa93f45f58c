//! One batch, there and back. When the two nodes are at different epochs, the one behind gets the
//! ring; all of it within the time that the batch has.

use std::time::Duration;

use bytes::Bytes;
use slog::debug;
use tokio::time::Instant;

use super::PeerParts;
use crate::actors::health::Attempt;
use crate::actors::link::LinkError;
use crate::actors::ring_keeper::InstallRing;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quorum::Fault;
use crate::wire::peer::{Batch, BatchReply, Done};
use crate::wire::ring::{decode_ring, encode_ring};

/// How long the exchange of a ring may take, beside an operation.
const RING_TIME: Duration = Duration::from_secs(1);

impl PeerParts {
    /// Sends a batch, notes how that went, and gives one result an operation.
    pub(super) async fn exchange(
        &self,
        id: &NodeId,
        batch: &Batch,
        deadline: Instant,
        attempt: Attempt,
    ) -> Vec<Result<Done, Fault>> {
        match self.send(id, batch, deadline, attempt).await {
            Ok(results) => results,
            Err(error) => {
                debug!(self.log, "a batch failed"; "quorate.peer" => %id,
                    "error.message" => %error);
                vec![Err(Fault::from(&error)); batch.ops.len()]
            }
        }
    }

    async fn send(
        &self,
        id: &NodeId,
        batch: &Batch,
        deadline: Instant,
        attempt: Attempt,
    ) -> Result<Vec<Result<Done, Fault>>, LinkError> {
        let outcome = self.send_once(id, batch, deadline).await;
        match &outcome {
            Ok(_) => attempt.answered(),
            // Its silence is measured by the board, and goes on.
            Err(LinkError::TimedOut) => drop(attempt),
            Err(LinkError::Unreachable | LinkError::Broken | LinkError::Refused { .. }) => {
                attempt.failed();
            }
        }
        let reply = outcome?;
        // What was done is done, whatever becomes of the rings.
        if reply.epoch > batch.epoch
            && let Err(error) = self.fetch_ring(id, deadline).await
        {
            debug!(self.log, "a newer ring was not fetched"; "quorate.peer" => %id,
                "error.message" => %error);
        }
        let behind = |result: &Result<Done, Fault>| matches!(result, Err(Fault::RingBehind));
        if !reply.results.iter().any(behind) || !self.push_ring(id, deadline).await {
            return Ok(reply.results);
        }
        let again = match self.send_once(id, batch, deadline).await {
            Ok(again) => again.results,
            Err(error) => vec![Err(Fault::from(&error)); reply.results.len()],
        };
        let both = reply.results.into_iter().zip(again);
        Ok(both
            .map(|(first, again)| if behind(&first) { again } else { first })
            .collect())
    }

    async fn send_once(
        &self,
        id: &NodeId,
        batch: &Batch,
        deadline: Instant,
    ) -> Result<BatchReply, LinkError> {
        let body = batch.encode().or(Err(LinkError::Unreachable))?;
        let answer = self.post(id, "/peer/v1/batch", body, deadline).await?;
        let reply = BatchReply::decode(&answer).or(Err(LinkError::Broken))?;
        if reply.results.len() == batch.ops.len() {
            Ok(reply)
        } else {
            Err(LinkError::Broken)
        }
    }

    async fn fetch_ring(&self, id: &NodeId, deadline: Instant) -> Result<(), LinkError> {
        let deadline = deadline.min(Instant::now() + RING_TIME);
        let answer = self
            .post(id, "/peer/v1/ring/get", Vec::new(), deadline)
            .await?;
        let ring = decode_ring(&answer).or(Err(LinkError::Broken))?;
        match self.ring_keeper.send(InstallRing(ring)).await {
            Ok(Ok(_epoch)) => Ok(()),
            Ok(Err(refused)) => {
                debug!(self.log, "a peer's ring was refused"; "quorate.peer" => %id,
                    "error.message" => ?refused);
                Ok(())
            }
            Err(_closed) => Err(LinkError::Broken),
        }
    }

    /// Whether the node has taken the ring in force here.
    async fn push_ring(&self, id: &NodeId, deadline: Instant) -> bool {
        let ring = self.view.load().ring.clone();
        let Some(Ok(body)) = ring.map(|ring| encode_ring(&ring)) else {
            return false;
        };
        let deadline = deadline.min(Instant::now() + RING_TIME);
        let pushed = self.post(id, "/peer/v1/ring", body, deadline).await;
        if let Err(error) = &pushed {
            debug!(self.log, "a ring was not taken"; "quorate.peer" => %id,
                "error.message" => %error);
        }
        pushed.is_ok()
    }

    async fn post(
        &self,
        id: &NodeId,
        path: &str,
        body: Vec<u8>,
        deadline: Instant,
    ) -> Result<Bytes, LinkError> {
        let view = self.view.load();
        let ring = view.ring.as_ref();
        let member = ring
            .and_then(|ring| ring.member(id))
            .ok_or(LinkError::Unreachable)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let cluster = ring.map(|ring| ring.cluster);
        self.link
            .post(&member.addresses.peer, path, body, cluster, left)
            .await
    }
}
