//! Asks every other member once a second whether it is there, so that a node without traffic still
//! knows whom it can reach.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::{Actor, AsyncContext, Context};
use slog::{Logger, info, warn};

use super::health::{Change, Health, HealthBoard};
use super::link::{Link, LinkError};
use super::ring_view::RingView;
use crate::dynamo::health::Condition;
use crate::dynamo::ring::{ClusterId, Member};

/// Between two probes of a member.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long an answer may take; shorter than the interval, so that probes never pile up.
const PROBE_TIME: Duration = Duration::from_millis(900);
/// Between two reviews of who is silent or slow.
pub const REVIEW_INTERVAL: Duration = Duration::from_millis(100);

/// The actor; see the module.
#[derive(Debug)]
pub struct Prober {
    view: RingView,
    health: HealthBoard,
    link: Link,
    log: Logger,
}

impl Prober {
    /// Probes the members of the ring in force, and notes on the board how they do.
    #[must_use]
    pub fn new(view: RingView, health: HealthBoard, link: Link, log: Logger) -> Self {
        Self {
            view,
            health,
            link,
            log,
        }
    }

    fn probe_all(&self) {
        let view = self.view.load();
        let Some(ring) = &view.ring else { return };
        for member in ring.members.iter().filter(|member| member.id != view.me) {
            let health = self.health.of(&member.id);
            actix::spawn(probe(
                self.link.clone(),
                health,
                member.clone(),
                ring.cluster,
            ));
        }
    }

    /// Has requests steered round whom the ring says.
    fn steer(&self) {
        let view = self.view.load();
        let Some(ring) = &view.ring else { return };
        for member in ring.members.iter().filter(|member| member.id != view.me) {
            let (health, avoided) = (self.health.of(&member.id), ring.is_down(&member.id));
            if health.is_avoided() != avoided {
                health.avoid(avoided);
                info!(self.log, "requests are steered by an operator's will";
                    "quorate.peer" => %member.id, "quorate.avoided" => avoided);
            }
        }
    }

    /// The one place that tells of changes, so that each is told once.
    fn review(&self) {
        self.steer();
        for Change { node, before, now } in self.health.review() {
            let latency = self.health.of(&node).latency();
            let latency_ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
            let facts = slog::o!("quorate.peer" => node.to_string(),
                "quorate.latency_ms" => latency_ms);
            let log = self.log.new(facts);
            match (before, now) {
                (_, Condition::Unreachable) => {
                    warn!(log, "a member does not answer"; "event.action" => "peer-down");
                }
                (Condition::Unreachable, _) => {
                    info!(log, "a member answers again"; "event.action" => "peer-up");
                }
                (_, Condition::Slow) => {
                    info!(log, "a member is slow and asked last"; "event.action" => "peer-slow");
                }
                (_, Condition::Preferred) => {
                    info!(log, "a member is as fast as the others";
                        "event.action" => "peer-preferred");
                }
            }
        }
    }
}

async fn probe(link: Link, health: Arc<Health>, member: Member, cluster: ClusterId) {
    let (peer, attempt) = (&member.addresses.peer, health.probe());
    let answer = link
        .post(peer, "/peer/v1/ping", Vec::new(), Some(cluster), PROBE_TIME)
        .await;
    match answer {
        Ok(_) => attempt.answered(),
        // Its silence is measured by the board, and goes on.
        Err(LinkError::TimedOut) => drop(attempt),
        Err(LinkError::Unreachable | LinkError::Broken | LinkError::Refused { .. }) => {
            attempt.failed();
        }
    }
}

impl Actor for Prober {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.probe_all();
        ctx.run_interval(INTERVAL, |act, _| act.probe_all());
        ctx.run_interval(REVIEW_INTERVAL, |act, _| act.review());
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::actors::fake::quiet;
    use crate::actors::fake_node::{FakeNode, PATIENCE, Wire, proof, ring_of};
    use crate::actors::ring_view::tests::id;

    const PING: &str = "/peer/v1/ping";

    async fn until(is_true: impl Fn() -> bool) {
        let looking = async {
            while !is_true() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, looking).await.unwrap();
    }

    /// Seed defect 21, the part that belongs here: a hung process never left the ring of those
    /// that are asked.
    #[actix::test]
    async fn seed_defect_21_a_hung_node_is_unreachable_within_two_seconds_and_comes_back() {
        let (mut wire, node) = (Wire::new().await, FakeNode::new("a"));
        let members = [("a", "127.0.0.1:1"), ("b", wire.address.as_str())];
        node.install(ring_of(&members, &["a", "b"], None)).await;
        let (board, link) = (HealthBoard::default(), Link::new(proof()));
        let began = Instant::now();
        Prober::new(node.view.clone(), board.clone(), link, quiet()).start();
        let _silent = wire.call(PING).await;
        let hung = board.of(&id("b"));
        assert!(hung.is_reachable(), "nothing is known yet");
        until(|| !hung.is_preferred()).await;
        until(|| !hung.is_reachable()).await;
        assert!(began.elapsed() < 2 * INTERVAL, "{:?}", began.elapsed());
        wire.call(PING).await.answer(200, Vec::new());
        until(|| hung.is_reachable()).await;
        assert!(!hung.is_preferred(), "one answer is not yet a calm");
        wire.call(PING).await.answer(200, Vec::new());
        wire.call(PING).await.answer(200, Vec::new());
        until(|| hung.is_preferred()).await;
        assert!(board.of(&id("a")).is_preferred(), "nobody probes itself");
    }
}
