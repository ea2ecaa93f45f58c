//! Lives the node's life: carries out what `dynamo::membership::lifecycle` decides, and tells it
//! what came of it.

mod changes;
mod errands;

pub use changes::ProposeChange;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::{
    Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, Recipient,
    ResponseFuture, WrapFuture,
};
use slog::{Logger, debug, error, info};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::handoff::{StartTransfers, TransfersDone};
use super::life_view::{Life, LifePublisher};
use super::link::Link;
use super::local_reader::LocalRecords;
use super::proposal::propose;
use super::ring_keeper::{BeginRecovery, EpochHeard, RingChanged, RingKeeper, Vouched};
use super::ring_view::RingView;
use super::starts::Starts;
use super::store_keeper::{RenewIncarnation, SaveMeta, StoreKeeper};
use crate::discovery::{PeersFound, Permitted};
use crate::dynamo::membership::boots::Boot;
use crate::dynamo::membership::lifecycle::{
    Effect, Event, FoundRefusal, Founding, Lifecycle as Rules, Me, Permission, Refusal,
};
use crate::dynamo::membership::promise::{Ballot, Loss};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{Change, Member, Ring, plan};
use crate::storage::{Engine, EngineError};
use crate::wire::hello::{FoundReply, HelloCall, HelloReply, Program};

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
    /// What this node may begin until it is told more.
    pub permitted: Permission,
    /// To other nodes.
    pub link: Link,
    /// Keeps the ring.
    pub ring_keeper: Addr<RingKeeper>,
    /// Shows what is to be recovered.
    pub view: RingView,
    /// Shows whether this node keeps anything for others.
    pub records: LocalRecords,
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
    life: Rules,
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
    starts: Starts,
    programs: BTreeMap<NodeId, Option<Program>>,
    /// What to do as soon as the actor runs.
    first: Vec<Effect>,
}

/// Another node greets.
#[derive(Debug, Clone, Message)]
#[rtype(result = "HelloReply")]
pub struct Greet(pub HelloCall);

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

/// Somebody has judged this node's start.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Judged {
    by: NodeId,
    boot: Boot,
    /// Of the ring that it has, if it has one.
    epoch: Option<u64>,
    rolled_back: Option<u64>,
    program: Option<Program>,
}

/// A proposal has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Ended(Result<(), Loss>);

/// What a life begins with that was on the disk.
#[derive(Debug)]
pub struct Past {
    founding: Option<Founding>,
    starts: Starts,
}

impl Past {
    /// Reads back what was stored; `own` is the start that begins now.
    ///
    /// # Errors
    /// [`EngineError`]; a past that is unreadable is one too.
    pub fn restore(engine: &dyn Engine, own: Boot, log: Logger) -> Result<Self, EngineError> {
        let founding = engine.meta(META_FOUNDING)?;
        let founding = founding
            .map(|bytes| rmp_serde::from_slice(&bytes))
            .transpose();
        Ok(Self {
            founding: founding.map_err(|unreadable| EngineError::Broken(Box::new(unreadable)))?,
            starts: Starts::restore(engine, own, log)?,
        })
    }

    /// Whether the others have yet to judge this start.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.starts.is_doubtful()
    }
}

impl Lifecycle {
    /// A life that begins with what is on the disk.
    #[must_use]
    pub fn new(
        me: Me,
        ring: Option<Arc<Ring>>,
        past: Past,
        publisher: LifePublisher,
        parts: LifecycleParts,
    ) -> Self {
        let member = me.member.clone();
        let (mut life, mut first) = Rules::start(me, ring.clone(), past.founding);
        first.extend(life.handle(Event::Permitted(parts.permitted)));
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
            starts: past.starts,
            programs: BTreeMap::new(),
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
            programs: self.programs.clone(),
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
            Effect::SayHello { known } => self.count_on_and_say_hello(known, ctx),
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
                "event.action" => "state-changed", "service.state" => %state),
            Effect::Exit(refusal) => {
                let why = refusal.to_string();
                match self.parts.exit.try_send(refusal) {
                    Ok(()) => error!(self.parts.log, "this node cannot take part";
                        "error.message" => why),
                    // Full means that an earlier reason is on its way.
                    Err(TrySendError::Full(_)) => {}
                    Err(TrySendError::Closed(_)) => {
                        debug!(self.parts.log, "the node is ending already");
                    }
                }
            }
        }
    }

    /// Ends the doubt of a node that has started again, once all others have judged its start, or
    /// have been silent for long enough.
    fn may_mint_now(&mut self) {
        let Some(ring) = &self.ring else { return };
        let others = ring
            .members
            .iter()
            .map(|m| &m.id)
            .filter(|id| **id != self.me.id);
        if self.starts.is_settled(others, self.started.elapsed()) {
            self.parts.ring_keeper.do_send(Vouched);
        }
    }

    /// Only who is no member any more waits for its hints to be gone.
    fn look_after_hints(&mut self, ctx: &mut Context<Self>) {
        let is_member = |ring: &Arc<Ring>| ring.member(&self.me.id).is_some();
        if self.ring.as_ref().is_some_and(is_member) {
            return;
        }
        let kept = self.parts.records.hint_targets();
        let keeps = !kept.is_ok_and(|targets| targets.is_empty());
        self.happened(Event::KeepsForOthers(keeps), ctx);
    }

    fn start_transfers(&self) {
        if let (Some(handoff), Some(transfers)) = (&self.handoff, self.transfers) {
            handoff.do_send(transfers);
        }
    }

    fn install_first(&self, change: &Change) {
        match plan(None, change) {
            Ok(ring) => {
                let parts = self.parts.clone();
                actix::spawn(async move { errands::install(&parts, ring).await });
            }
            Err(why) => error!(self.parts.log, "no first ring"; "error.message" => ?why),
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
        info!(self.parts.log, "proposing a change of the ring"; "quorate.ring.epoch" => epoch);
        let parts = self.proposal_parts();
        actix::spawn(async move {
            me.do_send(Ended(propose(parts, ring, ballot, change).await));
        });
    }

    fn heed_recovery(&mut self, ctx: &mut Context<Self>) {
        let recovering = self.parts.view.load().recovering.len();
        self.happened(Event::Recovering(recovering), ctx);
    }
}

impl Actor for Lifecycle {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let first = std::mem::take(&mut self.first);
        self.perform(first, ctx);
        ctx.run_interval(TICK, |act, ctx| {
            let (now, dice) = (act.started.elapsed(), (act.parts.dice)());
            act.heed_recovery(ctx);
            act.look_after_hints(ctx);
            act.happened(Event::Tick { now, dice }, ctx);
            act.may_mint_now();
        });
    }
}

impl Handler<Happened> for Lifecycle {
    type Result = ();

    fn handle(&mut self, Happened(event): Happened, ctx: &mut Self::Context) {
        self.happened(event, ctx);
    }
}

impl Handler<Judged> for Lifecycle {
    type Result = ();

    fn handle(&mut self, judged: Judged, ctx: &mut Self::Context) {
        self.runs(&judged.by, judged.program);
        let heard = judged.epoch.map(|epoch| EpochHeard {
            from: judged.by.clone(),
            epoch,
        });
        let Some(boot) = self
            .starts
            .judged(judged.by, judged.boot, judged.rolled_back)
        else {
            if let Some(heard) = heard.filter(|_| self.parts.view.load().forgetful) {
                self.parts.ring_keeper.do_send(heard);
            }
            return;
        };
        let (store, keeper) = (self.parts.store.clone(), self.parts.ring_keeper.clone());
        let renewing = async move {
            // First of all what the old records mean is noted: a crash must not forget it.
            let noted = keeper.send(BeginRecovery).await;
            if let Some(heard) = heard {
                keeper.do_send(heard);
            }
            let renewed = store.send(RenewIncarnation { boot }).await;
            noted.is_ok_and(|noted| noted.is_ok()) && renewed.is_ok_and(|done| done.is_ok())
        };
        ctx.spawn(renewing.into_actor(self).map(move |renewed, act, _| {
            // A store that could not do it has ended the node.
            if renewed {
                act.starts.renewed(boot);
            }
        }));
    }
}

impl Handler<Ended> for Lifecycle {
    type Result = ();

    fn handle(&mut self, Ended(end): Ended, ctx: &mut Self::Context) {
        if let Err(loss) = &end {
            info!(self.parts.log, "the proposal did not win"; "error.message" => %loss);
        }
        if let Err(Loss::Outbid(by)) = &end {
            self.ballot = self.ballot.take().max(Some(by.clone()));
        }
        self.happened(Event::ProposalEnded(end), ctx);
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
        // First of all: a ring that makes this node a member may find it without its records.
        self.heed_recovery(ctx);
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

/// More addresses to greet; who answers there is decided by the greeting.
impl Handler<PeersFound> for Lifecycle {
    type Result = ();

    fn handle(&mut self, PeersFound(peers): PeersFound, _ctx: &mut Self::Context) {
        self.parts.seeds = peers;
    }
}

impl Handler<Permitted> for Lifecycle {
    type Result = ();

    fn handle(&mut self, Permitted(permission): Permitted, ctx: &mut Self::Context) {
        self.happened(Event::Permitted(permission), ctx);
    }
}

impl Handler<Drain> for Lifecycle {
    type Result = ();

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) {
        self.happened(Event::Drain, ctx);
    }
}
