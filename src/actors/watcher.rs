//! Watches the node and tells whoever listens what has become otherwise, as the console's list of
//! events. It looks at what every part shows anyway, so that no part has to know of it; what comes
//! and goes between two looks is not told.

mod sight;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, MessageResult, WrapFuture,
};
use serde_json::{Value, json};
use tokio::sync::broadcast;

use self::sight::Sight;
use super::admin_handle::AdminHandle;
use crate::clock;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How many of the last events a new listener is told.
const REMEMBERED: usize = 200;
/// How far a listener may be behind before it misses some.
const QUEUED: usize = 256;
/// How many may listen at once.
pub const LISTENERS: usize = 32;

/// Something that happened, numbered from 1.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its number.
    pub seq: u64,
    /// What happened, as a JSON object on one line.
    pub text: Arc<str>,
}

/// What happened since, and what is yet to happen.
#[derive(Debug)]
pub struct Subscription {
    /// The last events beyond the one that was named.
    pub recent: Vec<Event>,
    /// Those to come; it ends when the node stops.
    pub coming: broadcast::Receiver<Event>,
}

/// Asks to be told of events; refused when too many listen, or when the node is about to stop.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Option<Subscription>")]
pub struct Subscribe {
    /// The number of the last event that is known already.
    pub after: u64,
}

/// The node is about to stop: nobody may be kept waiting for events.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Drain;

/// The actor; see the module.
#[derive(Debug)]
pub struct Watcher {
    node: AdminHandle,
    before: Option<Sight>,
    told: VecDeque<Event>,
    next: u64,
    tell: Option<broadcast::Sender<Event>>,
}

impl Watcher {
    /// Watches from its start on.
    #[must_use]
    pub fn new(node: AdminHandle) -> Self {
        Self {
            node,
            before: None,
            told: VecDeque::new(),
            next: 1,
            tell: Some(broadcast::Sender::new(QUEUED)),
        }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        let node = self.node.clone();
        let looked = async move { Sight::of(&node).await };
        ctx.spawn(looked.into_actor(self).map(|sight, act, ctx| {
            if let Ok(now) = sight {
                act.saw(now);
            }
            ctx.run_later(LOOK_EVERY, Self::look);
        }));
    }

    fn saw(&mut self, now: Sight) {
        let news = match &self.before {
            None => vec![("started", json!({}))],
            Some(before) => before.changes(&now),
        };
        for (action, facts) in news {
            self.publish(action, facts);
        }
        self.before = Some(now);
    }

    fn publish(&mut self, action: &'static str, facts: Value) {
        let mut event = json!({
            "seq": self.next,
            "at": clock::stamp().to_string(),
            "node": self.node.view().me.as_str(),
            "action": action,
        });
        if let (Value::Object(event), Value::Object(facts)) = (&mut event, facts) {
            event.extend(facts);
        }
        let event = Event {
            seq: self.next,
            text: event.to_string().into(),
        };
        self.next += 1;
        if let Some(tell) = &self.tell {
            // Without a listener it is only remembered.
            let _listeners = tell.send(event.clone());
        }
        self.told.push_back(event);
        if self.told.len() > REMEMBERED {
            self.told.pop_front();
        }
    }
}

impl Actor for Watcher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.look(ctx);
    }
}

impl Handler<Subscribe> for Watcher {
    type Result = MessageResult<Subscribe>;

    fn handle(&mut self, Subscribe { after }: Subscribe, _: &mut Self::Context) -> Self::Result {
        let tell = self.tell.as_ref();
        let tell = tell.filter(|tell| tell.receiver_count() < LISTENERS);
        MessageResult(tell.map(|tell| {
            // Who knows of later ones than there are has heard them before a restart.
            let after = if after >= self.next { 0 } else { after };
            let recent = self.told.iter().filter(|event| event.seq > after);
            Subscription {
                recent: recent.cloned().collect(),
                coming: tell.subscribe(),
            }
        }))
    }
}

impl Handler<Drain> for Watcher {
    type Result = ();

    fn handle(&mut self, _: Drain, _: &mut Self::Context) {
        self.publish("draining", json!({}));
        self.tell = None;
    }
}
