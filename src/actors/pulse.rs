//! Says every few seconds in the log that the node is there, how it is, and what it holds.

use std::time::Duration;

use actix::prelude::{Actor, Addr, AsyncContext, Context, WrapFuture};
use slog::{Logger, Serde, error, info};

use super::action_log::KeyNames;
use super::health::HealthBoard;
use super::life_view::LifeView;
use super::local_reader::LocalRecords;
use super::ring_view::RingView;
use super::store_keeper::{GetStatus, StoreKeeper, StoreStatus};
use crate::dynamo::key::{Key, Partition};
use crate::dynamo::quorum::Fault;
use crate::logging::LogControl;
use crate::wire::state::decode_state;

/// Between two heartbeats.
pub const BEAT: Duration = Duration::from_secs(5);

/// Every so many heartbeats the keys are told of.
const BEATS_A_SAMPLE: u64 = 2;

/// How many keys are named.
const SAMPLE: usize = 20;

/// How many records are looked at for that: deletes lie among them.
const LOOKS: usize = 1024;

/// Everything the pulse needs.
#[derive(Debug, Clone)]
pub struct PulseParts {
    /// The ring in force.
    pub view: RingView,
    /// How far the node has come.
    pub life: LifeView,
    /// Whom it reaches.
    pub health: HealthBoard,
    /// Counts the keys.
    pub store: Addr<StoreKeeper>,
    /// Names some of them.
    pub records: LocalRecords,
    /// Counts what the log has lost.
    pub logs: LogControl,
    /// How keys are named.
    pub keys: KeyNames,
    /// Where it is told.
    pub log: Logger,
}

/// The actor; see the module.
#[derive(Debug)]
pub struct Pulse {
    parts: PulseParts,
    beats: u64,
}

impl Pulse {
    /// A pulse of one node.
    #[must_use]
    pub fn new(parts: PulseParts) -> Self {
        Self { parts, beats: 0 }
    }

    fn beat(&mut self, ctx: &mut Context<Self>) {
        let (parts, with_keys) = (
            self.parts.clone(),
            self.beats.is_multiple_of(BEATS_A_SAMPLE),
        );
        self.beats += 1;
        let told = async move {
            // A store that does not answer any more is on its way down, and says so itself.
            let Ok(store) = parts.store.send(GetStatus).await else {
                return;
            };
            parts.tell_state(&store);
            if with_keys {
                parts.tell_keys(&store);
            }
        };
        ctx.spawn(told.into_actor(self));
    }
}

impl Actor for Pulse {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.beat(ctx);
        ctx.run_interval(BEAT, Self::beat);
    }
}

impl PulseParts {
    fn tell_state(&self, store: &StoreStatus) {
        let (view, life) = (self.view.load(), self.life.load());
        let members = view.ring.iter().flat_map(|ring| &ring.members);
        let is_there = |id: &&_| **id == view.me || self.health.of(id).is_reachable();
        let reachable = members.clone().map(|member| &member.id).filter(is_there);
        let hints: u64 = store.hints.values().map(|hints| hints.count).sum();
        info!(self.log, "this node is there"; "event.action" => "heartbeat",
            "service.state" => view.state(life.state).to_string(),
            "quorate.ring.epoch" => view.epoch(),
            "quorate.ring.members" => members.count(),
            "quorate.ring.reachable" => reachable.count(),
            "quorate.hints.pending" => hints,
            "quorate.log.lost" => self.logs.lost());
    }

    fn tell_keys(&self, store: &StoreStatus) {
        match self.sample() {
            Ok(sample) => {
                let sample = sample.iter().map(|key| self.keys.show(key));
                info!(self.log, "keys stored here"; "event.action" => "keys-stored",
                    "quorate.keys.count" => store.keys,
                    "quorate.keys.sample" => Serde(sample.collect::<Vec<_>>()));
            }
            Err(fault) => error!(self.log, "the keys cannot be looked through";
                "quorate.fault" => ?fault),
        }
    }

    /// Some keys with a value, by partition; one record at a time, since records may be large.
    fn sample(&self) -> Result<Vec<Key>, Fault> {
        let mut places: Vec<(Partition, Option<Key>)> = Partition::all()
            .map(|partition| (partition, None))
            .collect();
        let (mut sample, mut looks) = (Vec::new(), 0);
        while !places.is_empty() {
            let mut further = Vec::new();
            for (partition, after) in places {
                looks += 1;
                if sample.len() == SAMPLE || looks > LOOKS {
                    return Ok(sample);
                }
                let page = self.records.scan(partition, after.as_ref(), 1)?;
                for (key, state) in page.entries {
                    if decode_state(&state).is_ok_and(|state| state.is_live()) {
                        sample.push(key);
                    }
                }
                further.extend(page.next_after.map(|after| (partition, Some(after))));
            }
            places = further;
        }
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;
    use tokio::time::{advance, pause};

    use super::*;
    use crate::actors::fake_node::FakeNode;
    use crate::actors::life_view::LifePublisher;
    use crate::config::LogLevel;
    use crate::logging::tests::Fixture;

    async fn turns() {
        for _ in 0..10 {
            yield_now().await;
        }
    }

    /// How often heartbeats and keys were told of, once the store has answered all it was asked
    /// before. Never idle, for then time would go on by itself.
    async fn told(log: &Fixture, store: &Addr<StoreKeeper>) -> (usize, usize) {
        turns().await;
        let asked = actix::spawn(store.send(GetStatus));
        while !asked.is_finished() {
            yield_now().await;
        }
        turns().await;
        (log.told("heartbeat"), log.told("keys-stored"))
    }

    #[actix::test]
    async fn a_sign_of_life_comes_every_5_s_and_the_keys_every_10_s() {
        let (node, log) = (FakeNode::new("a"), Fixture::start(LogLevel::Info));
        let parts = PulseParts {
            view: node.view.clone(),
            life: LifePublisher::default().view(),
            health: HealthBoard::default(),
            store: node.store.clone(),
            records: node.records.clone(),
            logs: LogControl::nowhere(),
            keys: KeyNames::Hashed,
            log: log.log.clone(),
        };
        pause();
        Pulse::new(parts).start();
        // A timer may be some milliseconds late, and the next one is set when it was.
        let rows = [
            (0, (1, 1)),
            (4990, (1, 1)),
            (20, (2, 1)),
            (4970, (2, 1)),
            (40, (3, 2)),
            (5010, (4, 2)),
            (5010, (5, 3)),
        ];
        let mut at = 0;
        for (further, lines) in rows {
            at += further;
            advance(Duration::from_millis(further)).await;
            assert_eq!(told(&log, &node.store).await, lines, "after {at} ms");
        }
    }
}
