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
