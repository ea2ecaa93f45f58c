//! One other node, as a replica. Operations that arrive while a batch is in flight are sent
//! together as the next one: no timer, no added wait when idle, few calls when busy.
//!
//! Reads have a lane of their own, because a batch of writes is answered only after a sync. While
//! anything is out, a look every now and then answers what has waited until its deadline, sends
//! past a batch that is stuck, and gives up what is stuck at a node that does not answer at all.

mod exchange;
mod lane;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::{
    Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, WrapFuture,
};
use slog::Logger;
use tokio::time::Instant;

use self::lane::{Departure, Lane, Queued, ReplyTo};
use super::deferred::Deferred;
use super::health::Health;
use super::link::Link;
use super::replica::{MintReply, ReadReply, ReplicaMint, ReplicaRead, ReplicaWrite};
use super::ring_keeper::RingKeeper;
use super::ring_view::RingView;
use super::timely::is_belated;
use crate::dynamo::health::Call;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quorum::Fault;
use crate::wire::peer::Action;

/// Between two looks at what is out; deadlines are kept to this.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long what was heard waits for a batch that it can travel with.
const TELL_AFTER: Duration = Duration::from_millis(500);

/// Everything a peer needs besides its name.
#[derive(Debug, Clone)]
pub struct PeerParts {
    /// Where addresses and epochs come from.
    pub view: RingView,
    /// This thread's client.
    pub link: Link,
    /// Takes the rings that other nodes are ahead with.
    pub ring_keeper: Addr<RingKeeper>,
    /// The parent of the peer's logger.
    pub log: Logger,
}

/// A remote replica; see [`super::replica`] for what it understands.
#[derive(Debug)]
pub struct Peer {
    id: NodeId,
    parts: PeerParts,
    health: Arc<Health>,
    reads: Lane,
    writes: Lane,
    flush_is_due: bool,
    look_is_due: bool,
    news_is_due: bool,
    /// What this peer has added to [`Health::queued`].
    shown: usize,
}

/// Sends what is queued, once the mailbox has been emptied into the queue.
#[derive(Message)]
#[rtype(result = "()")]
struct Flush;

impl Peer {
    /// A replica on the node of this name.
    #[must_use]
    pub fn new(id: NodeId, parts: PeerParts, health: Arc<Health>) -> Self {
        Self {
            id,
            parts,
            health,
            reads: Lane::default(),
            writes: Lane::default(),
            flush_is_due: false,
            look_is_due: false,
            news_is_due: false,
            shown: 0,
        }
    }

    fn lane(&mut self, call: Call) -> &mut Lane {
        match call {
            Call::Light => &mut self.reads,
            Call::Durable => &mut self.writes,
        }
    }

    fn enqueue(&mut self, call: Call, queued: Queued, ctx: &mut Context<Self>) {
        let reachable = self.health.is_reachable();
        let lane = self.lane(call);
        // What is out tells soon enough whether it has come back.
        if !reachable && lane.is_stalled(Instant::now()) {
            queued.reply.give(Err(Fault::Unreachable));
            return;
        }
        lane.push(queued);
        if !self.flush_is_due {
            self.flush_is_due = true;
            ctx.notify(Flush);
        }
    }

    fn send_next(&mut self, call: Call, ctx: &mut Context<Self>) {
        if let Some(departure) = self.lane(call).depart(Instant::now()) {
            self.send(call, departure, ctx);
        }
    }

    fn send(&mut self, call: Call, departure: Departure, ctx: &mut Context<Self>) {
        let (parts, id, attempt) = (
            self.parts.clone(),
            self.id.clone(),
            self.health.attempt(call),
        );
        let (number, batch, deadline) = (departure.number, departure.batch, departure.deadline);
        let sent = async move {
            let results = parts.exchange(&id, &batch, deadline, attempt).await;
            (batch, results)
        };
        let landed = sent
            .into_actor(self)
            .map(move |(batch, results), act, ctx| {
                act.lane(call).land(number, batch, results);
                act.send_next(call, ctx);
                act.show_depth();
                act.tell_later(ctx);
            });
        ctx.spawn(landed);
        self.look_later(ctx);
    }

    /// What was heard travels with the next batch; if there is none for a while, alone.
    fn tell_later(&mut self, ctx: &mut Context<Self>) {
        if self.writes.has_news() && !self.news_is_due {
            self.news_is_due = true;
            ctx.run_later(TELL_AFTER, |act, ctx| {
                act.news_is_due = false;
                if act.writes.has_news() {
                    let epoch = act.parts.view.load().epoch();
                    let departure = act.writes.depart_with_news(epoch, Instant::now());
                    act.send(Call::Durable, departure, ctx);
                }
            });
        }
    }

    fn look_later(&mut self, ctx: &mut Context<Self>) {
        if !self.look_is_due {
            self.look_is_due = true;
            let due = Instant::now() + LOOK_EVERY;
            ctx.run_later(LOOK_EVERY, move |act, ctx| {
                act.look_is_due = false;
                if is_belated(due) {
                    // Before anybody is given up, what has arrived meanwhile is heard.
                    act.look_later(ctx);
                } else {
                    act.look(ctx);
                }
            });
        }
    }

    /// Keeps deadlines, and does not let what is stuck hold up the rest.
    fn look(&mut self, ctx: &mut Context<Self>) {
        let (now, reachable) = (Instant::now(), self.health.is_reachable());
        for call in [Call::Light, Call::Durable] {
            let lane = self.lane(call);
            lane.expire(now);
            if !reachable && lane.is_stalled(now) {
                lane.give_up(now);
            }
            self.send_next(call, ctx);
        }
        self.show_depth();
        if !self.reads.is_idle() || !self.writes.is_idle() {
            self.look_later(ctx);
        }
    }

    fn show_depth(&mut self) {
        let depth = self.reads.depth() + self.writes.depth();
        self.health.requeued(self.shown, depth);
        self.shown = depth;
    }
}

impl Actor for Peer {
    type Context = Context<Self>;
}

impl Handler<Flush> for Peer {
    type Result = ();

    fn handle(&mut self, _: Flush, ctx: &mut Self::Context) {
        self.flush_is_due = false;
        self.send_next(Call::Light, ctx);
        self.send_next(Call::Durable, ctx);
        self.show_depth();
    }
}

impl Handler<ReplicaRead> for Peer {
    type Result = Deferred<Result<ReadReply, Fault>>;

    fn handle(&mut self, msg: ReplicaRead, ctx: &mut Self::Context) -> Self::Result {
        let (reply, deferred) = Deferred::new();
        let queued = Queued {
            key: msg.key,
            action: Action::Read,
            terms: msg.terms,
            reply: ReplyTo::Read(reply),
        };
        self.enqueue(Call::Light, queued, ctx);
        deferred
    }
}

impl Handler<ReplicaWrite> for Peer {
    type Result = Deferred<Result<(), Fault>>;

    fn handle(&mut self, msg: ReplicaWrite, ctx: &mut Self::Context) -> Self::Result {
        let (reply, deferred) = Deferred::new();
        let queued = Queued {
            key: msg.key,
            action: Action::Write(msg.state),
            terms: msg.terms,
            reply: ReplyTo::Write(reply),
        };
        self.enqueue(Call::Durable, queued, ctx);
        deferred
    }
}

impl Handler<ReplicaMint> for Peer {
    type Result = Deferred<Result<MintReply, Fault>>;

    fn handle(&mut self, msg: ReplicaMint, ctx: &mut Self::Context) -> Self::Result {
        let (reply, deferred) = Deferred::new();
        let queued = Queued {
            key: msg.key,
            action: Action::Mint(msg.mint),
            terms: msg.terms,
            reply: ReplyTo::Mint(reply),
        };
        self.enqueue(Call::Durable, queued, ctx);
        deferred
    }
}
