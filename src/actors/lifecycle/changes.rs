//! Changes of the ring that an operator asks for: the same promise, with the node's own ballots.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::{AsyncContext, Context, Handler, Message, ResponseFuture};
use tokio::time::sleep;

use super::Lifecycle;
use crate::actors::proposal::{ProposalParts, propose};
use crate::actors::ring_view::RingView;
use crate::dynamo::membership::promise::{Ballot, Loss};
use crate::dynamo::ring::{Change, Ring};

/// Attempts at an epoch that others want too, before the operator is told.
const ATTEMPTS: u32 = 5;

/// Asks for a change of the ring of this epoch; gives the epoch that it made.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<u64, Loss>")]
pub struct ProposeChange {
    /// The epoch of the ring that is to change; another one is not changed.
    pub epoch: u64,
    /// What is to change.
    pub change: Change,
}

/// A ballot that outbids what this node has seen.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Option<Ballot>")]
struct NextBallot;

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct OutbidBy(Ballot);

impl Lifecycle {
    pub(super) fn proposal_parts(&self) -> ProposalParts {
        ProposalParts {
            me: self.me.id.clone(),
            link: self.parts.link.clone(),
            ring_keeper: self.parts.ring_keeper.clone(),
            log: self.parts.log.clone(),
        }
    }
}

impl Handler<NextBallot> for Lifecycle {
    type Result = Option<Ballot>;

    fn handle(&mut self, _: NextBallot, _ctx: &mut Context<Self>) -> Self::Result {
        let ballot = Ballot::above(self.ballot.as_ref(), self.me.id.clone());
        self.ballot = Some(ballot.clone());
        Some(ballot)
    }
}

impl Handler<OutbidBy> for Lifecycle {
    type Result = ();

    fn handle(&mut self, OutbidBy(by): OutbidBy, _ctx: &mut Context<Self>) {
        self.ballot = self.ballot.take().max(Some(by));
    }
}

impl Handler<ProposeChange> for Lifecycle {
    type Result = ResponseFuture<Result<u64, Loss>>;

    fn handle(&mut self, wanted: ProposeChange, ctx: &mut Context<Self>) -> Self::Result {
        let (parts, view, dice) = (
            self.proposal_parts(),
            self.parts.view.clone(),
            self.parts.dice,
        );
        let me = ctx.address();
        Box::pin(async move {
            let mut lost = Loss::NoMajority;
            for _attempt in 0..ATTEMPTS {
                let ring = at(&view, wanted.epoch)?;
                let Ok(Some(ballot)) = me.send(NextBallot).await else {
                    break;
                };
                lost = match attempt(&parts, ring, ballot, wanted.change.clone()).await {
                    Ok(()) => return Ok(wanted.epoch + 1),
                    Err(Loss::Outbid(by)) => {
                        me.do_send(OutbidBy(by.clone()));
                        Loss::Outbid(by)
                    }
                    Err(other) => return Err(other),
                };
                sleep(Duration::from_millis(100 + dice() % 400)).await;
            }
            Err(lost)
        })
    }
}

async fn attempt(
    parts: &ProposalParts,
    ring: Arc<Ring>,
    ballot: Ballot,
    change: Change,
) -> Result<(), Loss> {
    propose(parts.clone(), ring, ballot, change).await
}

fn at(view: &RingView, epoch: u64) -> Result<Arc<Ring>, Loss> {
    let view = view.load();
    let current = view.epoch();
    let ring = view.ring.clone().filter(|ring| ring.epoch == epoch);
    ring.ok_or(Loss::WrongEpoch { current })
}
