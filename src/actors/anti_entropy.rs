//! Keeps the owners of a partition equal without anybody reading or writing it: compares digests
//! with every other owner all the time, and exchanges the states of what differs. While nothing
//! does, one small message a peer and round is all that is sent.

mod answers;
mod rounds;
#[cfg(test)]
mod tests;

use std::time::Duration;

use actix::prelude::{Actor, Addr, AsyncContext, Context, Handler, Message, MessageResult};
use actix::{ActorFutureExt, WrapFuture};
use serde::Serialize;
use slog::Logger;

pub use answers::{AnswerKeys, AnswerLeaves, AnswerRoots, AnswerSync};

use super::background::Background;
use super::health::HealthBoard;
use super::link::Link;
use super::local_reader::LocalRecords;
use super::ring_view::RingView;
use super::store_keeper::StoreKeeper;
use rounds::Rounds;

/// Between two looks at the other owners.
pub const ROUND: Duration = Duration::from_secs(1);

/// What anti-entropy works with.
#[derive(Debug, Clone)]
pub struct EntropyParts {
    /// Which partitions to compare, and with whom.
    pub view: RingView,
    /// To the other owners.
    pub link: Link,
    /// Whom it is worth asking.
    pub health: HealthBoard,
    /// What is here.
    pub records: LocalRecords,
    /// Has the digests, and takes what is missing.
    pub store: Addr<StoreKeeper>,
    /// Paces what is sent beyond the roots.
    pub background: Background,
    /// Between two looks; [`ROUND`].
    pub pause: Duration,
    /// Where progress is told.
    pub log: Logger,
}

/// Asks how far the owners are apart.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "EntropyStatus")]
pub struct GetStatus;

/// How far the owners are apart, as this node sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EntropyStatus {
    /// Looks at the other owners since the start.
    pub rounds: u64,
    /// Messages beyond the roots: leaves, keys and states. Rests while nothing differs.
    pub exchanges: u64,
    /// One for each other member.
    pub pairs: Vec<PairStatus>,
}

/// How far one other owner is away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PairStatus {
    /// Which.
    pub peer: String,
    /// Partitions that differed in the last look.
    pub partitions_differing: usize,
    /// Keys brought into agreement since the start.
    pub keys_repaired: u64,
    /// Seconds since everything compared was equal; null if it never was.
    pub seconds_since_agreement: Option<u64>,
}

/// The actor; see the module.
#[derive(Debug)]
pub struct AntiEntropy {
    parts: EntropyParts,
    status: EntropyStatus,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Looked(EntropyStatus);

impl AntiEntropy {
    /// Compares from its start on.
    #[must_use]
    pub fn new(parts: EntropyParts) -> Self {
        Self {
            parts,
            status: EntropyStatus::default(),
        }
    }
}

impl Actor for AntiEntropy {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (mut rounds, me) = (Rounds::new(self.parts.clone()), ctx.address().downgrade());
        let looking = async move {
            // Ends with the actor.
            while let Some(me) = me.upgrade() {
                me.do_send(Looked(rounds.round().await));
                drop(me);
                tokio::time::sleep(rounds.pause()).await;
            }
        };
        ctx.spawn(looking.into_actor(self).map(|(), _, _| ()));
    }
}

impl Handler<Looked> for AntiEntropy {
    type Result = ();

    fn handle(&mut self, Looked(status): Looked, _: &mut Self::Context) {
        self.status = status;
    }
}

impl Handler<GetStatus> for AntiEntropy {
    type Result = MessageResult<GetStatus>;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.status.clone())
    }
}
