//! Lives the node's life: carries out what `dynamo::membership::lifecycle` decides, and tells it
//! what came of it.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::{
    Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, MessageResult, Recipient,
    ResponseFuture, WrapFuture,
};
use slog::{Logger, debug, error, info, warn};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::handoff::{StartTransfers, TransfersDone};
use super::life_view::{Life, LifePublisher};
use super::link::{Link, LinkError};
use super::proposal::{ProposalParts, propose};
use super::ring_keeper::{Announced, InstallRing, RingChanged, RingKeeper};
use super::store_keeper::{SaveMeta, StoreKeeper};
use crate::dynamo::membership::lifecycle::{
    Effect, Event, FoundRefusal, Founding, Hello, Lifecycle as Life1, Me, Refusal,
};
use crate::dynamo::membership::promise::{Ballot, Loss};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{Change, Member, Ring, plan};
use crate::storage::{Engine, EngineError};
use crate::wire::hello::{FoundReply, HelloReply};
use crate::wire::ring::decode_ring;

/// Name of the stored founding.
const META_FOUNDING: &str = "founding";
/// How often the life goes on by itself.
const TICK: Duration = Duration::from_millis(100);
/// How long a node may take to answer a greeting.
const HELLO_TIME: Duration = Duration::from_secs(1);

/// What a life needs of its surroundings.
#[derive(Debug, Clone)]
pub struct LifecycleParts {
    /// Peer addresses to start from.
    pub seeds: Vec<String>,
    /// To other nodes.
    pub link: Link,
    /// Keeps the ring.
    pub ring_keeper: Addr<RingKeeper>,
    /// Keeps the founding.
    pub store: Addr<StoreKeeper>,
    /// Random numbers.
    pub dice: fn() -> u64,
    /// Told when this node cannot take part.
    pub exit: mpsc::Sender<Refusal>,
    /// Where news are told.
    pub log: Logger,
}

/// The actor; see the module.
#[derive(Debug)]
pub struct Lifecycle {
    life: Life1,
    parts: LifecycleParts,
    publisher: LifePublisher,
    handoff: Option<Recipient<StartTransfers>>,
    /// The last transfers asked for, in case the handoff is introduced after that.
    transfers: Option<StartTransfers>,
    ring: Option<Arc<Ring>>,
    me: Member,
    started: Instant,
    /// The highest ballot seen, to be outbid.
    ballot: Option<Ballot>,
    founder: Option<oneshot::Sender<FoundReply>>,
    /// What to do as soon as the actor runs.
    first: Vec<Effect>,
}

/// Another node greets.
#[derive(Debug, Clone, Message)]
#[rtype(result = "HelloReply")]
pub struct Greet(pub Hello);

/// A founder asks for a promise.
#[derive(Debug, Clone, Message)]
#[rtype(result = "FoundReply")]
pub struct Found(pub Founding);

/// Introduces the handoff, which is made after the lifecycle.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct MeetHandoff(pub Recipient<StartTransfers>);

/// The operator stops this node: it is no longer ready.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Drain;

/// Something came of an effect.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Happened(Event);

/// A proposal has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Ended(Result<(), Loss>);

/// Reads back the founding that was stored.
///
/// # Errors
/// [`EngineError`]; an unreadable founding is one too.
pub fn stored_founding(engine: &dyn Engine) -> Result<Option<Founding>, EngineError> {
    let stored = engine.meta(META_FOUNDING)?;
    let read = stored
        .map(|bytes| rmp_serde::from_slice(&bytes))
        .transpose();
    read.map_err(|unreadable| EngineError::Broken(Box::new(unreadable)))
}

impl Lifecycle {
    /// A life that begins with what is on the disk.
    #[must_use]
    pub fn new(
        me: Me,
        ring: Option<Arc<Ring>>,
        founding: Option<Founding>,
        publisher: LifePublisher,
        parts: LifecycleParts,
    ) -> Self {
        let member = me.member.clone();
        let (life, first) = Life1::start(me, ring.clone(), founding);
        Self {
            life,
            parts,
            publisher,
            handoff: None,
            transfers: None,
            ring,
            me: member,
            started: Instant::now(),
            ballot: None,
            founder: None,
            first,
        }
    }

    fn happened(&mut self, event: Event, ctx: &mut Context<Self>) {
        let effects = self.life.handle(event);
        self.perform(effects, ctx);
        let waiting = self.life.waiting_for().map(|waiting| waiting.to_string());
        self.publisher.publish(Life {
            state: self.life.state(),
            waiting,
        });
    }

    /// Carries out the effects in order; what follows a founding waits until that is stored.
    fn perform(&mut self, effects: Vec<Effect>, ctx: &mut Context<Self>) {
        let mut effects = effects.into_iter();
        while let Some(effect) = effects.next() {
            let Effect::KeepFounding(founding) = effect else {
                self.carry_out(effect, ctx);
                continue;
            };
            let rest: Vec<Effect> = effects.collect();
            let storing = self.store_founding(&founding);
            ctx.wait(storing.into_actor(self).map(|stored, act, ctx| {
                if stored {
                    act.perform(rest, ctx);
                } else {
                    error!(act.parts.log, "the founding was not stored; waiting");
                }
            }));
            return;
        }
    }

    fn store_founding(&self, founding: &Founding) -> impl Future<Output = bool> + use<> {
        let store = self.parts.store.clone();
        let bytes = rmp_serde::to_vec_named(founding);
        async move {
            let Ok(value) = bytes else { return false };
            let save = SaveMeta {
                name: META_FOUNDING,
                value: value.into(),
            };
            matches!(store.send(save).await, Ok(Ok(())))
        }
    }

    fn carry_out(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::SayHello { known } => self.say_hello(&known, ctx),
            Effect::FetchRing { from } => self.fetch_ring(from, ctx),
            // Stored by `perform`, before whatever follows it.
            Effect::KeepFounding(_) => {}
            Effect::AskToFound { founding, of } => {
                for node in of {
                    self.ask_to_found(&founding, node, ctx);
                }
            }
            Effect::AnswerFounder(answer) => {
                let reply = answer.map_or_else(FoundReply::Refused, |()| FoundReply::Promised);
                if self
                    .founder
                    .take()
                    .is_some_and(|founder| founder.send(reply).is_err())
                {
                    debug!(self.parts.log, "the founder does not wait for its answer");
                }
            }
            Effect::InstallFirstRing(change) => self.install_first(&change),
            Effect::Propose { epoch, change } => self.propose(epoch, change, ctx),
            Effect::StartTransfers { epoch } => {
                self.transfers = Some(StartTransfers { epoch });
                self.start_transfers();
            }
            Effect::EnterState(state) => info!(self.parts.log, "state changed";
                "event.action" => "state-changed", "quorate.state" => %state),
            Effect::Exit(refusal) => {
                error!(self.parts.log, "this node cannot take part"; "error" => %refusal);
                // Full means that an earlier reason is on its way.
                if let Err(TrySendError::Closed(_)) = self.parts.exit.try_send(refusal) {
                    debug!(self.parts.log, "the node is ending already");
                }
            }
        }
    }

    fn start_transfers(&self) {
        if let (Some(handoff), Some(transfers)) = (&self.handoff, self.transfers) {
            handoff.do_send(transfers);
        }
    }

    fn say_hello(&self, known: &[Member], ctx: &mut Context<Self>) {
        let mut addresses: Vec<&String> = known.iter().map(|m| &m.addresses.peer).collect();
        addresses.extend(&self.parts.seeds);
        addresses.sort_unstable();
        addresses.dedup();
        addresses.retain(|address| **address != self.me.addresses.peer);
        let Ok(body) = rmp_serde::to_vec_named(&self.life.hello()) else {
            return;
        };
        for address in addresses {
            let (link, address, body) = (self.parts.link.clone(), address.clone(), body.clone());
            let (log, me) = (self.parts.log.clone(), ctx.address());
            actix::spawn(async move {
                let answer = link
                    .post(&address, "/peer/v1/hello", body, None, HELLO_TIME)
                    .await;
                match understood::<HelloReply>(answer) {
                    Ok(HelloReply::Hello(hello)) => me.do_send(Happened(Event::Heard(hello))),
                    Ok(HelloReply::Refused(why)) => me.do_send(Happened(Event::Refused(why))),
                    Err(LinkError::Refused { message, .. }) => {
                        warn!(log, "a node does not talk to this one";
                            "quorate.peer" => address, "error" => message);
                    }
                    Err(error) => {
                        debug!(log, "no answer to a hello"; "quorate.peer" => address,
                            "error" => %error);
                    }
                }
            });
        }
    }

    fn fetch_ring(&self, from: Member, _ctx: &mut Context<Self>) {
        let (parts, peer) = (self.parts.clone(), from.addresses.peer);
        actix::spawn(async move {
            let path = "/peer/v1/ring/get";
            let answer = parts
                .link
                .post(&peer, path, Vec::new(), None, HELLO_TIME)
                .await;
            let ring = answer.and_then(|bytes| decode_ring(&bytes).or(Err(LinkError::Broken)));
            match ring {
                Ok(ring) => install(&parts, ring).await,
                Err(error) => debug!(parts.log, "no ring came"; "quorate.peer" => peer,
                    "error" => %error),
            }
        });
    }

    fn ask_to_found(&self, founding: &Founding, node: Member, ctx: &mut Context<Self>) {
        let Ok(body) = rmp_serde::to_vec_named(founding) else {
            return;
        };
        let (link, me, attempt) = (self.parts.link.clone(), ctx.address(), founding.attempt);
        actix::spawn(async move {
            let peer = &node.addresses.peer;
            let answer = link
                .post(peer, "/peer/v1/found", body, None, HELLO_TIME)
                .await;
            let answer: Result<(), FoundRefusal> = match understood(answer) {
                Ok(FoundReply::Promised) => Ok(()),
                Ok(FoundReply::Refused(why)) => Err(why),
                // It is asked again with the next hello.
                Err(_silent) => return,
            };
            let from: NodeId = node.id;
            me.do_send(Happened(Event::FoundAnswered {
                from,
                attempt,
                answer,
            }));
        });
    }

    fn install_first(&self, change: &Change) {
        match plan(None, change) {
            Ok(ring) => {
                let parts = self.parts.clone();
                actix::spawn(async move { install(&parts, ring).await });
            }
            Err(why) => error!(self.parts.log, "no first ring"; "error" => ?why),
        }
    }

    fn propose(&mut self, epoch: u64, change: Change, ctx: &mut Context<Self>) {
        let me = ctx.address();
        let Some(ring) = self.ring.clone().filter(|ring| ring.epoch + 1 == epoch) else {
            let current = self.ring.as_ref().map_or(0, |ring| ring.epoch);
            return me.do_send(Ended(Err(Loss::WrongEpoch { current })));
        };
        let ballot = Ballot::above(self.ballot.as_ref(), self.me.id.clone());
        self.ballot = Some(ballot.clone());
        info!(self.parts.log, "proposing a change of the ring"; "quorate.epoch" => epoch);
        let parts = ProposalParts {
            me: self.me.id.clone(),
            link: self.parts.link.clone(),
            ring_keeper: self.parts.ring_keeper.clone(),
            log: self.parts.log.clone(),
        };
        actix::spawn(async move {
            me.do_send(Ended(propose(parts, ring, ballot, change).await));
        });
    }
}

fn understood<T: serde::de::DeserializeOwned>(
    answer: Result<bytes::Bytes, LinkError>,
) -> Result<T, LinkError> {
    rmp_serde::from_slice(&answer?).or(Err(LinkError::Broken))
}

async fn install(parts: &LifecycleParts, ring: Ring) {
    match parts.ring_keeper.send(InstallRing(ring)).await {
        Ok(Ok(epoch)) => debug!(parts.log, "a ring is in force"; "quorate.epoch" => epoch),
        Ok(Err(why)) => warn!(parts.log, "a ring was refused"; "error" => %why),
        Err(_closed) => debug!(parts.log, "the ring keeper is gone"),
    }
}

impl Actor for Lifecycle {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let first = std::mem::take(&mut self.first);
        self.perform(first, ctx);
        ctx.run_interval(TICK, |act, ctx| {
            let (now, dice) = (act.started.elapsed(), (act.parts.dice)());
            act.happened(Event::Tick { now, dice }, ctx);
        });
    }
}

impl Handler<Happened> for Lifecycle {
    type Result = ();

    fn handle(&mut self, Happened(event): Happened, ctx: &mut Self::Context) {
        self.happened(event, ctx);
    }
}

impl Handler<Ended> for Lifecycle {
    type Result = ();

    fn handle(&mut self, Ended(end): Ended, ctx: &mut Self::Context) {
        if let Err(loss) = &end {
            info!(self.parts.log, "the proposal did not win"; "reason" => %loss);
        }
        if let Err(Loss::Outbid(by)) = &end {
            self.ballot = self.ballot.take().max(Some(by.clone()));
        }
        self.happened(Event::ProposalEnded(end), ctx);
    }
}

impl Handler<Greet> for Lifecycle {
    type Result = MessageResult<Greet>;

    fn handle(&mut self, Greet(hello): Greet, ctx: &mut Self::Context) -> Self::Result {
        if let Err(refusal) = self.life.admit(&hello) {
            return MessageResult(HelloReply::Refused(refusal));
        }
        let (id, addresses) = (hello.from.id.clone(), hello.from.addresses.clone());
        self.parts.ring_keeper.do_send(Announced { id, addresses });
        self.happened(Event::Heard(Box::new(hello)), ctx);
        MessageResult(HelloReply::Hello(Box::new(self.life.hello())))
    }
}

impl Handler<Found> for Lifecycle {
    type Result = ResponseFuture<FoundReply>;

    fn handle(&mut self, Found(founding): Found, ctx: &mut Self::Context) -> Self::Result {
        let (founder, answer) = oneshot::channel();
        self.founder = Some(founder);
        self.happened(Event::FoundAsked(founding), ctx);
        Box::pin(async move {
            // Not stored means not promised; the founder asks again.
            answer
                .await
                .unwrap_or(FoundReply::Refused(FoundRefusal::NotNamed))
        })
    }
}

impl Handler<RingChanged> for Lifecycle {
    type Result = ();

    fn handle(&mut self, RingChanged(ring): RingChanged, ctx: &mut Self::Context) {
        self.ring = Some(ring.clone());
        self.happened(Event::RingChanged(ring), ctx);
    }
}

impl Handler<TransfersDone> for Lifecycle {
    type Result = ();

    fn handle(&mut self, TransfersDone { epoch }: TransfersDone, ctx: &mut Self::Context) {
        self.happened(Event::TransfersDone { epoch }, ctx);
    }
}

impl Handler<MeetHandoff> for Lifecycle {
    type Result = ();

    fn handle(&mut self, MeetHandoff(handoff): MeetHandoff, _ctx: &mut Self::Context) {
        self.handoff = Some(handoff);
        self.start_transfers();
    }
}

impl Handler<Drain> for Lifecycle {
    type Result = ();

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) {
        self.happened(Event::Drain, ctx);
    }
}
