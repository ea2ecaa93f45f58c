//! A list of addresses from the operator. Names in it are looked up again and again: an orchestrator
//! may give one name to all nodes, and a node that moves takes its name along.

use std::collections::BTreeSet;
use std::time::Duration;

use actix::prelude::{Actor, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use slog::{debug, warn};
use tokio::net::lookup_host;

use super::{Depart, Discovery, PeersFound, Retire, Surroundings};
use crate::dynamo::membership::lifecycle::Permission;

/// How often names are looked up.
const ROUND: Duration = Duration::from_secs(5);

/// The addresses, as the operator wrote them.
#[derive(Debug, Clone)]
pub struct SeedsSettings {
    /// `host:port` each.
    pub seeds: Vec<String>,
}

/// The actor; see the module.
#[derive(Debug)]
pub struct Seeds {
    addresses: Vec<String>,
    surroundings: Surroundings,
    told: Option<Vec<String>>,
}

impl Seeds {
    fn look_up(&self, ctx: &mut Context<Self>) {
        let (seeds, log) = (self.addresses.clone(), self.surroundings.log.clone());
        let looking = async move {
            let mut found = BTreeSet::new();
            for seed in &seeds {
                match lookup_host(seed).await {
                    Ok(addresses) => found.extend(addresses.map(|a| a.to_string())),
                    Err(error) => debug!(log, "a seed's name is unknown";
                        "quorate.seed" => seed, "error.message" => %error),
                }
            }
            found.into_iter().collect()
        };
        ctx.spawn(looking.into_actor(self).map(|found, act, ctx| {
            act.tell(found);
            ctx.run_later(ROUND, |act, ctx| act.look_up(ctx));
        }));
    }

    /// A round in which no name is known takes nothing back: it is the resolver that is away.
    fn tell(&mut self, found: Vec<String>) {
        if found.is_empty() && !self.addresses.is_empty() {
            warn!(self.surroundings.log, "no seed has an address");
            return;
        }
        if self.told.as_ref() != Some(&found) {
            self.surroundings.peers.do_send(PeersFound(found.clone()));
            self.told = Some(found);
        }
    }
}

impl Discovery for Seeds {
    type Settings = SeedsSettings;

    const AT_FIRST: Permission = Permission::ALL;

    fn new(settings: SeedsSettings, surroundings: Surroundings) -> Self {
        Self {
            addresses: settings.seeds,
            surroundings,
            told: None,
        }
    }
}

impl Actor for Seeds {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.look_up(ctx);
    }
}

/// Nobody was told of this node, so nobody has to be told that it goes.
impl Handler<Retire> for Seeds {
    type Result = ();

    fn handle(&mut self, _: Retire, _ctx: &mut Self::Context) {}
}

impl Handler<Depart> for Seeds {
    type Result = ();

    fn handle(&mut self, _: Depart, _ctx: &mut Self::Context) {}
}
