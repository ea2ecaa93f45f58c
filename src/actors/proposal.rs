//! Carries one proposal of a ring change to the members and back.

use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use futures_util::future::join;
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use slog::{Logger, debug, error};

use super::link::Link;
use super::ring_keeper::{Accept, InstallRing, Predict, RingKeeper};
use crate::dynamo::membership::promise::{Ballot, Loss, Proposal, Proposer, Step, Unreachable};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{Change, Member, Ring};
use crate::wire::membership::{AcceptCall, PredictCall};
use crate::wire::ring::encode_ring;

/// How long a member may take to promise or accept, which it stores first.
const PHASE_TIME: Duration = Duration::from_secs(3);

/// What a proposal needs of its surroundings.
#[derive(Debug, Clone)]
pub struct ProposalParts {
    /// Who proposes.
    pub me: NodeId,
    /// To the members.
    pub link: Link,
    /// This node's own vote, and where the new ring goes.
    pub ring_keeper: Addr<RingKeeper>,
    /// Where alarms go.
    pub log: Logger,
}

/// Has the change predicted, accepted, and made known; `Ok` when it is in force here. An earlier
/// proposal that had to be finished first ends this one with the epoch that it made.
///
/// # Errors
/// [`Loss`].
pub async fn propose(
    parts: ProposalParts,
    ring: Arc<Ring>,
    ballot: Ballot,
    change: Change,
) -> Result<(), Loss> {
    let mut proposer = Proposer::new(ring.clone(), ballot, change).map_err(Loss::CannotFollow)?;
    let accepted = parts.predict(&mut proposer).await?;
    let (next, mine) = parts.accept(&mut proposer, accepted).await?;
    for (node, theirs) in proposer.dissent() {
        error!(parts.log, "a member computes another ring"; "quorate.peer" => %node,
            "quorate.ring.refused_hash" => %theirs);
    }
    let current = next.epoch;
    parts.make_known(&ring, next).await;
    if mine {
        Ok(())
    } else {
        Err(Loss::WrongEpoch { current })
    }
}

impl ProposalParts {
    async fn predict(&self, proposer: &mut Proposer) -> Result<Proposal, Loss> {
        let call = PredictCall {
            epoch: proposer.epoch(),
            ballot: proposer.ballot().clone(),
            proposal: proposer.proposal().clone(),
        };
        let mut replies: FuturesUnordered<_> = proposer
            .acceptors()
            .into_iter()
            .map(|member| {
                let call = &call;
                async move {
                    let reply = if member.id == self.me {
                        let own = self.ring_keeper.send(Predict(call.clone())).await;
                        own.ok().and_then(Result::ok).ok_or(Unreachable)
                    } else {
                        self.ask(&member, "/peer/v1/predict", call).await
                    };
                    (member.id, reply)
                }
            })
            .collect();
        while let Some((node, reply)) = replies.next().await {
            match proposer.on_predict(&node, reply) {
                Step::Accept(proposal) => return Ok(proposal),
                Step::Lost(loss) => return Err(loss),
                Step::Wait | Step::Committed { .. } => {}
            }
        }
        Err(Loss::NoMajority)
    }

    async fn accept(
        &self,
        proposer: &mut Proposer,
        proposal: Proposal,
    ) -> Result<(Ring, bool), Loss> {
        let (epoch, ballot) = (proposer.epoch(), proposer.ballot().clone());
        let call = AcceptCall {
            epoch,
            ballot,
            proposal,
        };
        let mut replies: FuturesUnordered<_> = proposer
            .acceptors()
            .into_iter()
            .map(|member| {
                let call = &call;
                async move {
                    let reply = if member.id == self.me {
                        let own = self.ring_keeper.send(Accept(call.clone())).await;
                        own.ok().and_then(Result::ok).ok_or(Unreachable)
                    } else {
                        self.ask(&member, "/peer/v1/accept", call).await
                    };
                    (member.id, reply)
                }
            })
            .collect();
        while let Some((node, reply)) = replies.next().await {
            match proposer.on_accept(&node, reply) {
                Step::Committed { ring, mine } => return Ok((*ring, mine)),
                Step::Lost(loss) => return Err(loss),
                Step::Wait | Step::Accept(_) => {}
            }
        }
        Err(Loss::NoMajority)
    }

    async fn ask<T: Serialize, R: DeserializeOwned>(
        &self,
        member: &Member,
        path: &str,
        call: &T,
    ) -> Result<R, Unreachable> {
        let body = rmp_serde::to_vec_named(call).or(Err(Unreachable))?;
        let peer = &member.addresses.peer;
        let answer = self
            .link
            .post(peer, path, body, None, PHASE_TIME)
            .await
            .map_err(|error| {
                debug!(self.log, "no vote"; "quorate.peer" => %member.id,
                    "error.message" => %error);
                Unreachable
            })?;
        rmp_serde::from_slice(&answer).or(Err(Unreachable))
    }

    /// Puts the committed ring in force here and tells every member, old and new, at the same time:
    /// what nodes with different rings ask each other in between is asked again. Whoever does not
    /// hear it learns it from the next batch or hello.
    async fn make_known(&self, before: &Ring, next: Ring) {
        let body = encode_ring(&next);
        let gone = before
            .members
            .iter()
            .filter(|m| next.member(&m.id).is_none());
        let members: Vec<Member> = next.members.iter().chain(gone).cloned().collect();
        let own = self.ring_keeper.send(InstallRing(next));
        let (own, ()) = join(own, self.tell(before, &members, body.ok())).await;
        if let Ok(Err(why)) = own {
            error!(self.log, "the committed ring is not in force here"; "error.message" => %why);
        }
    }

    async fn tell(&self, before: &Ring, members: &[Member], body: Option<Vec<u8>>) {
        let Some(body) = body else { return };
        let told: FuturesUnordered<_> = members
            .iter()
            .filter(|member| member.id != self.me)
            .map(|member| {
                let (peer, body) = (&member.addresses.peer, body.clone());
                self.link.post(
                    peer,
                    "/peer/v1/ring",
                    body,
                    Some(before.cluster),
                    PHASE_TIME,
                )
            })
            .collect();
        let heard = told
            .filter(|answer| std::future::ready(answer.is_ok()))
            .count()
            .await;
        debug!(self.log, "told the members of a ring"; "quorate.ring.reachable" => heard);
    }
}
