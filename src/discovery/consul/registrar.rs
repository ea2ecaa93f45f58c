//! Keeps the node registered: an agent that has lost its memory, or an operator who deregistered
//! the node, is told again within seconds.

use std::rc::Rc;

use slog::{Logger, info};
use tokio::sync::watch;

use super::agent::{Agent, ConsulError};
use super::complaint::Complaint;
use super::entry::{Registration, Service};
use super::{ConsulSettings, Surroundings, rest};
use crate::dynamo::membership::lifecycle::NodeState;

/// See the module.
pub(super) struct Registrar {
    agent: Rc<Agent>,
    registration: Registration,
    surroundings: Surroundings,
    /// Whether this process has registered the node before.
    registered: bool,
}

impl Registrar {
    pub(super) fn new(
        agent: Rc<Agent>,
        settings: &ConsulSettings,
        surroundings: Surroundings,
    ) -> Self {
        Self {
            agent,
            registration: Registration::of(settings),
            surroundings,
            registered: false,
        }
    }

    /// Goes on until the node leaves.
    pub(super) async fn keep(mut self, mut leaving: watch::Receiver<bool>) {
        let log = self.surroundings.log.clone();
        let mut complaint = Complaint::new(log.clone(), "registration");
        while !*leaving.borrow() {
            match self.look(&log).await {
                Ok(()) => complaint.well(),
                Err(error) => complaint.trouble(&error),
            }
            tokio::select! {
                _ = leaving.changed() => return,
                () = rest(self.surroundings.dice) => {}
            }
        }
    }

    async fn look(&mut self, log: &Logger) -> Result<(), ConsulError> {
        let path = format!("/v1/agent/service/{}", self.registration.id);
        let known: Option<Service> = self.agent.get(&path).await?;
        let is_known = known.is_some_and(|known| self.registration.is_known_as(&known));
        if is_known && self.registered {
            return Ok(());
        }
        let serves = (self.surroundings.state)() == NodeState::Ready;
        let registration = if serves {
            self.registration.passing()
        } else {
            self.registration.clone()
        };
        let path = "/v1/agent/service/register?replace-existing-checks=true";
        self.agent.put_json(path, &registration).await?;
        if !self.registered {
            // An earlier process may have been killed while it shut down.
            let id = &self.registration.id;
            let path = format!("/v1/agent/service/maintenance/{id}?enable=false");
            self.agent.put(&path).await?;
        }
        self.registered = true;
        info!(log, "registered in Consul"; "event.action" => "registered",
            "quorate.consul.service" => &registration.id);
        Ok(())
    }
}
