//! Asks every other member once a second whether it is there, so that a node without traffic still
//! knows whom it can reach.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::{Actor, AsyncContext, Context};
use tokio::time::Instant;

use super::health::{Health, HealthBoard};
use super::link::Link;
use super::ring_view::RingView;
use crate::dynamo::ring::{ClusterId, Member};

/// Between two probes of a member.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long an answer may take; shorter than the interval, so that probes never pile up.
const PROBE_TIME: Duration = Duration::from_millis(800);

/// The actor; see the module.
#[derive(Debug)]
pub struct Prober {
    view: RingView,
    health: HealthBoard,
    link: Link,
}

impl Prober {
    /// Probes the members of the ring in force, and notes on the board how they do.
    #[must_use]
    pub fn new(view: RingView, health: HealthBoard, link: Link) -> Self {
        Self { view, health, link }
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
}

async fn probe(link: Link, health: Arc<Health>, member: Member, cluster: ClusterId) {
    let (peer, started) = (&member.addresses.peer, Instant::now());
    let answer = link
        .post(peer, "/peer/v1/ping", Vec::new(), Some(cluster), PROBE_TIME)
        .await;
    match answer {
        Ok(_) => health.answered(started.elapsed()),
        Err(_) => health.failed(),
    }
}

impl Actor for Prober {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.probe_all();
        ctx.run_interval(INTERVAL, |act, _| act.probe_all());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::fake_node::{FakeNode, Wire, proof, ring_of};
    use crate::actors::ring_view::tests::id;

    const PING: &str = "/peer/v1/ping";

    #[actix::test]
    async fn a_silent_node_is_unreachable_within_two_seconds_and_reachable_after_an_answer() {
        let (mut wire, node) = (Wire::new().await, FakeNode::new("a"));
        let members = [("a", "127.0.0.1:1"), ("b", wire.address.as_str())];
        node.install(ring_of(&members, &["a", "b"], None)).await;
        let (health, link) = (HealthBoard::default(), Link::new(proof()));
        let began = Instant::now();
        Prober::new(node.view.clone(), health.clone(), link).start();
        let _silent = wire.call(PING).await;
        assert!(health.of(&id("b")).is_reachable(), "nothing is known yet");
        let second = wire.call(PING).await;
        assert!(!health.of(&id("b")).is_reachable());
        assert!(began.elapsed() < 2 * INTERVAL);
        second.answer(200, Vec::new());
        wire.call(PING).await.answer(200, Vec::new());
        assert!(health.of(&id("b")).is_reachable());
        assert!(health.of(&id("a")).is_reachable(), "nobody probes itself");
    }
}
