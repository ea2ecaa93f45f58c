//! A node: its parts, put together. The only place that knows them all.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use actix::{Actor, Addr, Arbiter};
use actix_web::{App, web};
use arc_swap::ArcSwapOption;
use slog::{Logger, crit, error, info, o};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::actors::admin_handle::AdminHandle;
use crate::actors::admission::{Admission, Deadlines, InFlight};
use crate::actors::giver::Giver;
use crate::actors::handle::{NodeHandle, Readiness};
use crate::actors::handoff::{Handoff, HandoffParts};
use crate::actors::health::HealthBoard;
use crate::actors::life_view::{LifePublisher, LifeView};
use crate::actors::lifecycle::{self, Lifecycle, LifecycleParts, MeetHandoff, stored_founding};
use crate::actors::link::Link;
use crate::actors::local_reader::{LocalReader, LocalRecords};
use crate::actors::peer::{Peer, PeerParts};
use crate::actors::peer_handle::PeerHandle;
use crate::actors::prober::Prober;
use crate::actors::readiness_keeper::{ReadinessKeeper, ReadinessParts};
use crate::actors::replica::Replica;
use crate::actors::ring_keeper::{RestoreError, RingKeeper, Subscribe};
use crate::actors::ring_view::{RingPublisher, RingView, View};
use crate::actors::store_keeper::{self, StoreKeeper, StoreParts};
use crate::actors::worker::{Quorums, Worker};
use crate::config::{self, Config, Founding, Listen, Storage};
use crate::dynamo::membership::lifecycle::{Me, Refusal};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{ClusterId, Member};
use crate::http::admin_api::AdminApi;
use crate::http::client_api::ClientApi;
use crate::http::{admin_api, client_api, listener, peer_api};
use crate::limits::{Limits, MAX_PEER_MESSAGE_BYTES};
use crate::storage::{
    self, DataDirectory, DirectoryError, Engine, EngineError, FjallEngine, Identity, IdentityError,
    MemoryEngine,
};
use crate::wire::proof::PeerProof;

/// Exit code when the store can no longer be trusted, or a part of the program has failed.
const EXIT_FATAL: i32 = 70;
/// How long requests in flight may take to finish once the node is told to stop.
const DRAIN_SECONDS: u64 = 10;

/// Why a node ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A listener failed.
    #[error("a listener failed: {0}")]
    Serve(#[from] io::Error),
    /// The data directory is not this node's to use.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The storage engine does not open.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What the engine says about this node is unreadable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// What the engine says about the ring is unreadable.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The other nodes refuse this one.
    #[error("this node cannot take part: {0}")]
    Refused(Refusal),
}

/// Serves until SIGTERM or Ctrl-C, then drains; must run in an actix `System`.
///
/// # Errors
/// [`NodeError`], before or while it serves.
pub async fn run(config: Config, log: Logger) -> Result<(), NodeError> {
    abort_on_panic(log.clone());
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let sockets = Sockets::bind(config.listen)?;
    let node = Node::assemble(&config, &log)?;
    let (server, mut refused) = (node.serve(&config, sockets, &log)?, node.refused);
    let handle = server.handle();
    let serving = actix::spawn(server);
    info!(log, "listening"; "event.action" => "started",
        "quorate.client" => %config.listen.client, "quorate.admin" => %config.listen.admin,
        "quorate.peer" => %config.listen.peer);
    let end = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        refusal = refused.recv() => refusal.map_or(Ok(()), |why| Err(NodeError::Refused(why))),
    };
    info!(log, "draining"; "event.action" => "draining");
    node.readiness.do_send(lifecycle::Drain);
    node.lifecycle.do_send(lifecycle::Drain);
    handle.stop(end.is_ok()).await;
    if let Ok(Err(failed)) = serving.await {
        error!(log, "a listener failed"; "error.message" => %failed);
    }
    if let Ok(Err(fault)) = node.store.send(store_keeper::Drain).await {
        error!(log, "the store was not closed cleanly"; "error.message" => ?fault);
    }
    info!(log, "stopped"; "event.action" => "stopped");
    end
}

/// A part that panics must not leave the others running as if it were there.
fn abort_on_panic(log: Logger) {
    std::panic::set_hook(Box::new(move |panic| {
        crit!(log, "a part of the node has panicked; the node ends";
            "error.message" => %panic);
        std::process::exit(EXIT_FATAL);
    }));
}

/// The listeners' sockets, bound before anything else so that a taken port is told at once.
struct Sockets {
    client: TcpListener,
    admin: TcpListener,
    peer: TcpListener,
}

impl Sockets {
    fn bind(listen: Listen) -> Result<Self, NodeError> {
        let bind = |address: SocketAddr| {
            let bound = TcpListener::bind(address);
            bound.map_err(|source| NodeError::Listen { address, source })
        };
        Ok(Self {
            client: bind(listen.client)?,
            admin: bind(listen.admin)?,
            peer: bind(listen.peer)?,
        })
    }
}

/// The actors of a node that are not one per worker, and what they share.
struct Node {
    /// Holds the lock.
    _directory: Option<DataDirectory>,
    view: RingView,
    life: LifeView,
    health: HealthBoard,
    quorums: Quorums,
    records: LocalRecords,
    store: Addr<StoreKeeper>,
    ring_keeper: Addr<RingKeeper>,
    lifecycle: Addr<Lifecycle>,
    giver: Addr<Giver>,
    readiness: Addr<ReadinessKeeper>,
    is_ready: watch::Receiver<Readiness>,
    clocks: Arc<ArcSwapOption<crate::wire::clock::ClockCodec>>,
    proof: PeerProof,
    refused: mpsc::Receiver<Refusal>,
}

impl Node {
    fn assemble(config: &Config, log: &Logger) -> Result<Self, NodeError> {
        let (directory, engine) = open_store(config)?;
        let (identity, found) = Identity::begin(&*engine, durability(config), random_u64)?;
        info!(log, "store opened"; "quorate.incarnation" => %identity.incarnation,
            "quorate.boot" => identity.boot, "quorate.found" => ?found);
        let me = member(config, &identity);
        let publisher = RingPublisher::new(View::without_ring(config.name.clone()));
        let view = publisher.view();
        let records = LocalRecords::new(engine.clone(), named(log, "local_reader"));
        let fatal = log.clone();
        let store = StoreKeeper::start(StoreParts {
            engine: engine.clone(),
            records: records.clone(),
            view: view.clone(),
            identity,
            random: Box::new(random_u64),
            on_fatal: Box::new(move |reason| {
                crit!(fatal, "the node ends"; "error.message" => reason);
                std::process::exit(EXIT_FATAL);
            }),
            log: named(log, "store_keeper"),
        })?;
        let keeper_log = named(log, "ring_keeper");
        let keeper = RingKeeper::restore(&*engine, publisher, store.clone(), keeper_log)?;
        let (control, background) = (Arbiter::new(), Arbiter::new());
        let ring_keeper = RingKeeper::start_in_arbiter(&control.handle(), |_| keeper);
        let founding = stored_founding(&*engine)?;
        let proof = PeerProof::of(config.cluster_secret.expose());
        let quorums = Quorums {
            read: config.read_quorum.get(),
            write: config.write_quorum.get(),
        };
        let health = HealthBoard::default();

        let (exit, refused) = mpsc::channel(1);
        let publisher = LifePublisher::default();
        let life = publisher.view();
        let lifecycle = {
            let (ring, seeds, proof) = (
                view.load().ring.clone(),
                config.seeds.clone(),
                proof.clone(),
            );
            let (ring_keeper, store) = (ring_keeper.clone(), store.clone());
            let log = named(log, "lifecycle");
            Lifecycle::start_in_arbiter(&control.handle(), move |_| {
                let link = Link::new(proof);
                let parts = LifecycleParts {
                    seeds,
                    link,
                    ring_keeper,
                    store,
                    dice: random_u64,
                    exit,
                    log,
                };
                Lifecycle::new(me, ring, founding, publisher, parts)
            })
        };
        {
            let (view, health, proof) = (view.clone(), health.clone(), proof.clone());
            Prober::start_in_arbiter(&control.handle(), move |_| {
                Prober::new(view, health, Link::new(proof))
            });
        }
        let handoff = {
            let (view, records, store) = (view.clone(), records.clone(), store.clone());
            let (ring_keeper, proof) = (ring_keeper.clone(), proof.clone());
            let (done, log) = (lifecycle.clone().recipient(), named(log, "handoff"));
            Handoff::start_in_arbiter(&background.handle(), move |_| {
                let link = Link::new(proof);
                let parts = HandoffParts {
                    view,
                    link,
                    records,
                    store,
                    ring_keeper,
                    quorums,
                    log,
                };
                Handoff::new(parts, done)
            })
        };
        let giver = {
            let (view, records) = (view.clone(), records.clone());
            Giver::start_in_arbiter(&background.handle(), move |_| Giver::new(records, view))
        };
        let (ready, is_ready) = watch::channel(Readiness::New);
        let clocks = Arc::new(ArcSwapOption::empty());
        let readiness = {
            let parts = ReadinessParts {
                view: view.clone(),
                life: life.clone(),
                health: health.clone(),
                quorums,
                store: store.clone(),
                secret: config.cluster_secret.expose().into(),
                clocks: clocks.clone(),
                readiness: ready,
                log: named(log, "readiness"),
            };
            ReadinessKeeper::start_in_arbiter(&control.handle(), |_| ReadinessKeeper::new(parts))
        };
        lifecycle.do_send(MeetHandoff(handoff.recipient()));
        ring_keeper.do_send(Subscribe(readiness.clone().recipient()));
        ring_keeper.do_send(Subscribe(lifecycle.clone().recipient()));
        Ok(Self {
            _directory: directory,
            view,
            life,
            health,
            quorums,
            records,
            store,
            ring_keeper,
            lifecycle,
            giver,
            readiness,
            is_ready,
            clocks,
            proof,
            refused,
        })
    }

    /// Puts the three applications on their sockets; they share the worker threads.
    fn serve(
        &self,
        config: &Config,
        sockets: Sockets,
        log: &Logger,
    ) -> Result<actix_server::Server, NodeError> {
        let limits = Limits {
            in_flight: config.max_in_flight.get(),
            ..Limits::default()
        };
        let in_flight = InFlight::at_most(limits.in_flight);
        let server = actix_server::Server::build()
            .workers(config.workers.get())
            .worker_max_blocking_threads(1)
            .shutdown_timeout(DRAIN_SECONDS)
            .disable_signals();

        let worker = self.worker_parts(&limits, in_flight.clone(), named(log, "coordinator"));
        let client = {
            let limits = limits.clone();
            move || {
                let api = ClientApi {
                    node: worker.start(),
                    limits: limits.clone(),
                };
                client_api::app(api)
            }
        };
        let admin = AdminApi {
            node: AdminHandle {
                view: self.view.clone(),
                life: self.life.clone(),
                health: self.health.clone(),
                in_flight,
                store: self.store.clone(),
                records: self.records.clone(),
            },
            limits: limits.clone(),
            token: config
                .admin_token
                .as_ref()
                .map(|token| admin_api::digest(token.expose())),
        };
        let peer = PeerHandle {
            proof: self.proof.clone(),
            view: self.view.clone(),
            records: self.records.clone(),
            store: self.store.clone(),
            giver: self.giver.clone(),
            ring_keeper: self.ring_keeper.clone(),
            lifecycle: self.lifecycle.clone(),
        };
        let peer = move || {
            App::new()
                .app_data(web::Data::new(peer.clone()))
                .configure(peer_api::configure)
        };
        let (body, small) = (limits.body_bytes(), 64 * 1024);
        let server = listener::listen(server, "client", sockets.client, &limits, body, client)?;
        let admin = move || admin_api::app(admin.clone());
        let server = listener::listen(server, "admin", sockets.admin, &limits, small, admin)?;
        let most = MAX_PEER_MESSAGE_BYTES;
        let server = listener::listen(server, "peer", sockets.peer, &limits, most, peer)?;
        Ok(server.run())
    }

    fn worker_parts(&self, limits: &Limits, in_flight: InFlight, log: Logger) -> WorkerParts {
        WorkerParts {
            view: self.view.clone(),
            health: self.health.clone(),
            quorums: self.quorums,
            records: self.records.clone(),
            store: self.store.clone(),
            ring_keeper: self.ring_keeper.clone(),
            proof: self.proof.clone(),
            in_flight,
            deadlines: Deadlines {
                read: limits.read_deadline,
                write: limits.write_deadline,
            },
            clocks: self.clocks.clone(),
            is_ready: self.is_ready.clone(),
            log,
        }
    }
}

/// What each worker thread makes its own coordinators' means of.
#[derive(Clone)]
struct WorkerParts {
    view: RingView,
    health: HealthBoard,
    quorums: Quorums,
    records: LocalRecords,
    store: Addr<StoreKeeper>,
    ring_keeper: Addr<RingKeeper>,
    proof: PeerProof,
    in_flight: InFlight,
    deadlines: Deadlines,
    clocks: Arc<ArcSwapOption<crate::wire::clock::ClockCodec>>,
    is_ready: watch::Receiver<Readiness>,
    log: Logger,
}

impl WorkerParts {
    fn start(&self) -> NodeHandle {
        let reader = LocalReader::new(self.records.clone(), self.view.clone()).start();
        let local = Replica {
            read: reader.recipient(),
            write: self.store.clone().recipient(),
            mint: self.store.clone().recipient(),
        };
        let parts = PeerParts {
            view: self.view.clone(),
            link: Link::new(self.proof.clone()),
            ring_keeper: self.ring_keeper.clone(),
            log: self.log.clone(),
        };
        let (me, health) = (self.view.load().me.clone(), self.health.clone());
        let connect = move |id: &NodeId| {
            if *id == me {
                return local.clone();
            }
            let peer = Peer::new(id.clone(), parts.clone(), health.of(id)).start();
            Replica {
                read: peer.clone().recipient(),
                write: peer.clone().recipient(),
                mint: peer.recipient(),
            }
        };
        let (view, health, log) = (self.view.clone(), self.health.clone(), self.log.clone());
        let worker = Worker::new(view, self.quorums, health, Box::new(connect), log);
        let salt = u128::from(random_u64()) << 64 | u128::from(random_u64());
        let door = Admission::new(worker, self.in_flight.clone(), self.deadlines, salt).start();
        let (read, write) = (door.clone().recipient(), door.recipient());
        NodeHandle::new(read, write, self.clocks.clone(), self.is_ready.clone())
    }
}

type Store = (Option<DataDirectory>, Arc<dyn Engine>);

fn open_store(config: &Config) -> Result<Store, NodeError> {
    match config.storage {
        Storage::Memory => Ok((None, Arc::new(MemoryEngine::default()))),
        Storage::Fjall => {
            let pid = std::process::id();
            let directory = DataDirectory::open(&config.data_dir, &config.name, pid)?;
            let engine = FjallEngine::open(&directory.records())?;
            Ok((Some(directory), Arc::new(engine)))
        }
    }
}

fn member(config: &Config, identity: &Identity) -> Me {
    Me {
        member: Member {
            id: config.name.clone(),
            data_id: identity.data_id,
            zone: config.zone.clone(),
            weight: config.weight.get(),
            addresses: config.advertise.clone(),
        },
        seeds: config.seeds.len(),
        expect: match config.founding {
            Founding::JoinOnly => usize::MAX,
            Founding::Expect(nodes) => nodes.get(),
        },
        replicas: config.replicas.get(),
        cluster: ClusterId(random_u64()),
    }
}

fn durability(config: &Config) -> storage::Durability {
    match config.durability {
        config::Durability::Always => storage::Durability::Always,
        config::Durability::Interval => storage::Durability::Interval,
        config::Durability::Os => storage::Durability::Os,
    }
}

fn named(log: &Logger, logger: &'static str) -> Logger {
    log.new(o!("log.logger" => logger))
}

/// From the operating system, which has no way to fail here that would leave anything to do.
#[expect(
    clippy::expect_used,
    reason = "without randomness no incarnation is unique"
)]
fn random_u64() -> u64 {
    getrandom::u64().expect("the operating system's random numbers")
}
