//! Which discovery the operator chose, and how it meets the lifecycle.

use std::time::Duration;

use actix::{Addr, Arbiter};

use super::shared::{Shared, named, random_u64};
use crate::actors::lifecycle::Lifecycle;
use crate::config::{self, Config};
use crate::discovery::consul::{Access, NodeCard, Token};
use crate::discovery::{
    self, Consul, ConsulSettings, Discovery, Presence, Seeds, SeedsSettings, Surroundings,
};
use crate::dynamo::membership::lifecycle::Permission;

/// How long a balancer may take to hear that the node is out of rotation, and to send its last
/// requests to it: the template's wait, a reload, and some more.
const BALANCER_TIME: Duration = Duration::from_secs(4);

/// What the node may begin before anything was found.
pub(super) fn permitted_at_first(config: &Config) -> Permission {
    match config.consul {
        Some(_) => Consul::AT_FIRST,
        None => Seeds::AT_FIRST,
    }
}

/// How many addresses the node starts from; in Consul, one at least.
pub(super) fn seeds(config: &Config) -> usize {
    config.seeds.len().max(usize::from(config.consul.is_some()))
}

/// Starts what the operator chose.
pub(super) fn start(
    thread: &Arbiter,
    config: &Config,
    shared: &Shared,
    lifecycle: &Addr<Lifecycle>,
) -> Presence {
    let life = shared.life.clone();
    let surroundings = Surroundings {
        peers: lifecycle.clone().recipient(),
        permitted: lifecycle.clone().recipient(),
        state: std::sync::Arc::new(move || life.load().state),
        dice: random_u64,
        log: named(&shared.log, "discovery"),
    };
    let seeds = config.seeds.clone();
    match &config.consul {
        None => {
            let settings = SeedsSettings { seeds };
            discovery::start::<Seeds>(&thread.handle(), settings, surroundings)
        }
        Some(consul) => {
            let settings = consul_settings(config, consul);
            discovery::start::<Consul>(&thread.handle(), settings, surroundings)
        }
    }
}

/// How the operator says that Consul is reached.
pub(crate) fn access(consul: &config::Consul) -> Access {
    // Checked to be ASCII when it was read.
    let text = |token: &config::Secret| String::from_utf8_lossy(token.expose()).into_owned();
    Access {
        address: consul.address.clone(),
        token: consul.token.as_ref().map(|token| Token::new(text(token))),
    }
}

fn consul_settings(config: &Config, consul: &config::Consul) -> ConsulSettings {
    ConsulSettings {
        access: access(consul),
        service: consul.service.clone(),
        tags: consul.tags.clone(),
        registers: consul.registers,
        node: NodeCard {
            name: config.name.to_string(),
            zone: config.zone.clone(),
            client: config.advertise.client.clone(),
            admin: config.advertise.admin.clone(),
            peer: config.advertise.peer.clone(),
        },
        seeds: config.seeds.clone(),
        balancer_time: BALANCER_TIME,
    }
}
