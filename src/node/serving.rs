//! What a node shows to the outside: three listeners, and what their applications are given.

use std::sync::Arc;

use actix::Addr;
use actix_web::{App, web};

use super::door::Door;
use super::shared::named;
use super::{Node, NodeError, Sockets};
use crate::actors::admin_handle::AdminHandle;
use crate::actors::admission::{Deadlines, InFlight};
use crate::actors::peer_handle::PeerHandle;
use crate::actors::watcher::Watcher;
use crate::clock::monotonic;
use crate::config::Config;
use crate::http::admin_api::AdminApi;
use crate::http::client_api::ClientApi;
use crate::http::{admin_api, client_api, console_api, listener, peer_api};
use crate::limits::{Limits, MAX_PEER_MESSAGE_BYTES};
use crate::metrics::requests::RequestCounts;

/// How long requests in flight may take to finish once the node is told to stop.
const DRAIN_SECONDS: u64 = 10;

/// The listeners, and who tells of what happens on the admin one.
type Serving = (actix_server::Server, Addr<Watcher>);

impl Node {
    /// Puts the three applications on their sockets; they share the worker threads.
    pub(super) fn serve(&self, config: &Config, sockets: Sockets) -> Result<Serving, NodeError> {
        let limits = limits(config);
        let in_flight = InFlight::at_most(limits.in_flight);
        let server = actix_server::Server::build()
            .workers(config.workers.get())
            .worker_max_blocking_threads(1)
            .shutdown_timeout(DRAIN_SECONDS)
            .disable_signals();

        let door = Door {
            shared: self.shared.clone(),
            in_flight: in_flight.clone(),
            logs_actions: config.log_actions,
            deadlines: Deadlines {
                read: limits.read_deadline,
                write: limits.write_deadline,
            },
        };
        let requests = Arc::<RequestCounts>::default();
        let records = {
            let (limits, requests) = (limits.clone(), requests.clone());
            let log = named(&self.shared.log, "http");
            move |node| ClientApi {
                node,
                limits: limits.clone(),
                log: log.clone(),
                requests: requests.clone(),
            }
        };
        let handle = self.admin_handle(in_flight);
        let watcher = self.shared.start_watcher(handle.clone());
        let admin = AdminApi {
            node: handle.clone(),
            limits: limits.clone(),
            read_quorum: config.read_quorum.get(),
            token: config
                .admin_token
                .as_ref()
                .map(|token| admin_api::digest(token.expose())),
            advertised: config.advertise.admin.clone(),
            requests,
        };
        let peer = self.peer_handle();
        let peer = move || {
            App::new()
                .app_data(web::Data::new(peer.clone()))
                .app_data(web::Data::new(handle.clone()))
                .configure(peer_api::configure)
        };
        let body = limits.body_bytes();
        let client = {
            let (door, records) = (door.clone(), records.clone());
            move || client_api::app(records(door.open()))
        };
        let admin = {
            let (shared, watcher) = (self.shared.clone(), watcher.clone());
            move || {
                let console = shared.console(watcher.clone());
                let records = records(door.open_with(console.worker.clone()));
                admin_api::app(admin.clone())
                    .configure(|config| console_api::configure(config, console, records))
            }
        };
        let server = listener::listen(server, "client", sockets.client, &limits, body, client)?;
        let server = listener::listen(server, "admin", sockets.admin, &limits, body, admin)?;
        let most = MAX_PEER_MESSAGE_BYTES;
        let server = listener::listen(server, "peer", sockets.peer, &limits, most, peer)?;
        Ok((server.run(), watcher))
    }

    fn admin_handle(&self, in_flight: InFlight) -> AdminHandle {
        let shared = &self.shared;
        AdminHandle {
            view: shared.view.clone(),
            life: shared.life.clone(),
            health: shared.health.clone(),
            started: monotonic(),
            reads: shared.reads.clone(),
            in_flight,
            background: shared.background.clone(),
            store: shared.store.clone(),
            records: shared.records.clone(),
            entropy: self.entropy.clone(),
            reaper: self.reaper.clone(),
            custodian: self.custodian.clone(),
            surveyor: self.surveyor.clone(),
            lifecycle: self.lifecycle.clone(),
            logs: shared.logs.clone(),
            log: named(&shared.log, "admin"),
        }
    }

    fn peer_handle(&self) -> PeerHandle {
        let shared = &self.shared;
        PeerHandle {
            proof: shared.proof.clone(),
            view: shared.view.clone(),
            records: shared.records.clone(),
            store: shared.store.clone(),
            giver: self.giver.clone(),
            ring_keeper: shared.ring_keeper.clone(),
            lifecycle: self.lifecycle.clone(),
            entropy: self.entropy.clone(),
            reaper: self.reaper.clone(),
            surveyor: self.surveyor.clone(),
            log: named(&shared.log, "replica"),
        }
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        in_flight: config.max_in_flight.get(),
        tombstone_grace: config.tombstone_grace,
        quarantine: config.quarantine,
        hint_bytes: config.hint_bytes,
        ..Limits::default()
    }
}
