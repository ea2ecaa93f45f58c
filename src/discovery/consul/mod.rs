//! Consul: the node registers itself with the agent of its machine, finds its peers there, and
//! waits there for its turn to join.
//!
//! Three tasks that know little of each other: the [`registrar`] keeps the registration, the
//! [`catalogue`] tells of peers, the [`turns`] hold the lock while the node is new. What Consul does
//! not answer they ask again; until then the node goes on with what it knew.

pub mod agent;
mod blocking;
mod catalogue;
mod complaint;
mod entry;
mod registrar;
mod turns;
pub mod upstream;

#[cfg(test)]
pub(in crate::discovery) mod tests;

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::{Actor, Context, Handler, ResponseFuture};
use slog::{info, warn};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use self::agent::Agent;
use self::catalogue::{Catalogue, Seen};
use self::registrar::Registrar;
use self::turns::Turns;
use super::{Depart, Discovery, Retire, Surroundings};
use crate::dynamo::membership::lifecycle::Permission;

/// A task looks again after this long, and up to a quarter longer, so that nodes do not march in step.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Consul, and the node as it is to appear there.
#[derive(Debug, Clone)]
pub struct ConsulSettings {
    /// How to reach the agent.
    pub access: Access,
    /// The service whose instances are the cluster's nodes.
    pub service: String,
    /// The tags that each of them has.
    pub tags: Vec<String>,
    /// Whether the node registers itself; if not, something else does.
    pub registers: bool,
    /// The node.
    pub node: NodeCard,
    /// Peer addresses that are known without Consul.
    pub seeds: Vec<String>,
    /// How long a balancer may take to hear that the node is out of rotation, and to send its last
    /// requests to it.
    pub balancer_time: Duration,
}

/// The agent's address and what it wants to see.
#[derive(Debug, Clone)]
pub struct Access {
    /// `host:port`.
    pub address: String,
    /// Shown with every request.
    pub token: Option<Token>,
}

/// What others are told of the node; addresses as it advertises them.
#[derive(Debug, Clone, Default)]
pub struct NodeCard {
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// Where clients reach it.
    pub client: String,
    /// Where operators reach it.
    pub admin: String,
    /// Where other nodes reach it.
    pub peer: String,
}

/// A secret that does not show up in a log.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Wraps what was read from the token's file.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The actor; see the module.
#[derive(Debug)]
pub struct Consul {
    settings: ConsulSettings,
    surroundings: Surroundings,
    seen: watch::Sender<Seen>,
    leaving: watch::Sender<bool>,
    registering: Option<JoinHandle<()>>,
}

impl Discovery for Consul {
    type Settings = ConsulSettings;

    const AT_FIRST: Permission = Permission::NONE;

    fn new(settings: ConsulSettings, surroundings: Surroundings) -> Self {
        Self {
            settings,
            surroundings,
            seen: watch::Sender::default(),
            leaving: watch::Sender::new(false),
            registering: None,
        }
    }
}

impl Actor for Consul {
    type Context = Context<Self>;

    fn started(&mut self, _ctx: &mut Self::Context) {
        let agent = Rc::new(Agent::new(self.settings.access.clone()));
        let (settings, surroundings) = (self.settings.clone(), self.surroundings.clone());
        let catalogue = Catalogue::new(agent.clone(), settings.clone(), surroundings.clone());
        actix::spawn(catalogue.follow(self.seen.clone()));
        let turns = Turns::new(
            settings.clone(),
            surroundings.clone(),
            self.seen.subscribe(),
        );
        actix::spawn(turns.take());
        if self.settings.registers {
            let registrar = Registrar::new(agent, &settings, surroundings);
            self.registering = Some(actix::spawn(registrar.keep(self.leaving.subscribe())));
        }
    }
}

impl Consul {
    /// What the node is called in the catalogue; `None` if it is not there.
    fn own_id(&self) -> Option<String> {
        if self.settings.registers {
            return Some(entry::id(&self.settings));
        }
        self.seen.borrow().own.clone()
    }
}

/// The balancer hears from Consul that the node is out of rotation; where Consul cannot tell it,
/// nothing is gained by waiting.
impl Handler<Retire> for Consul {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Retire, _ctx: &mut Self::Context) -> Self::Result {
        let agent = Agent::new(self.settings.access.clone());
        let (id, log) = (self.own_id(), self.surroundings.log.clone());
        let balancer_time = self.settings.balancer_time;
        let registering = self.registering.take();
        self.leaving.send_replace(true);
        Box::pin(async move {
            if let Some(task) = registering
                && let Err(failed) = task.await
            {
                warn!(log, "the registration has failed"; "error.message" => %failed);
            }
            let Some(id) = id else { return };
            let path = format!(
                "/v1/agent/service/maintenance/{id}?enable=true&reason=The+node+shuts+down"
            );
            match agent.put(&path).await {
                Ok(()) => {
                    info!(log, "out of rotation; waiting for the load balancer");
                    sleep(balancer_time).await;
                }
                Err(error) => warn!(log, "not taken out of rotation"; "error.message" => %error),
            }
        })
    }
}

/// Whoever registered the node takes it away again.
impl Handler<Depart> for Consul {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Depart, _ctx: &mut Self::Context) -> Self::Result {
        let agent = Agent::new(self.settings.access.clone());
        let (settings, log) = (self.settings.clone(), self.surroundings.log.clone());
        Box::pin(async move {
            if !settings.registers {
                return;
            }
            let path = format!("/v1/agent/service/deregister/{}", entry::id(&settings));
            if let Err(error) = agent.put(&path).await {
                warn!(log, "still registered in Consul"; "error.message" => %error);
            }
        })
    }
}

/// Between two looks of one task.
async fn rest(dice: fn() -> u64) {
    let quarter = u64::try_from(LOOK_EVERY.as_millis()).unwrap_or(u64::MAX) / 4;
    sleep(LOOK_EVERY + Duration::from_millis(dice() % quarter)).await;
}
