//! A node: its parts, put together. The only place that knows them all.

pub(crate) mod discovery;
mod door;
mod serving;
mod shared;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use actix::{Actor, Addr, Arbiter};
use arc_swap::ArcSwapOption;
use rustix::process::setpriority_process;
use slog::{Logger, crit, error, info};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use self::shared::{Shared, named, random_u64};
use crate::actors::action_log::KeyNames;
use crate::actors::anti_entropy::AntiEntropy;
use crate::actors::background::Background;
use crate::actors::custodian::{self, Custodian};
use crate::actors::giver::Giver;
use crate::actors::handle::Readiness;
use crate::actors::health::HealthBoard;
use crate::actors::life_view::LifePublisher;
use crate::actors::lifecycle::{self, Lifecycle, MeetHandoff, Past};
use crate::actors::local_reader::LocalRecords;
use crate::actors::read_counts::ReadCounts;
use crate::actors::readiness_keeper::ReadinessKeeper;
use crate::actors::reaper::Reaper;
use crate::actors::ring_keeper::{RestoreError, RingKeeper};
use crate::actors::ring_view::{RingPublisher, RingView, View};
use crate::actors::store_keeper::{self, StoreKeeper, StoreParts};
use crate::actors::surveyor::Surveyor;
use crate::actors::watcher;
use crate::actors::worker::Quorums;
use crate::config::{self, Config, Founding, Listen, Storage};
use crate::discovery::{Depart, Presence, Retire};
use crate::dynamo::membership::boots::Boot;
use crate::dynamo::membership::lifecycle::{Me, Refusal};
use crate::dynamo::ring::{ClusterId, Member};
use crate::logging::LogControl;
use crate::storage::{
    self, Counts, DataDirectory, DirectoryError, Engine, EngineError, FjallEngine, Identity,
    IdentityError, MemoryEngine,
};
use crate::wire::proof::PeerProof;

/// Exit code when the store can no longer be trusted, or a part of the program has failed.
const EXIT_FATAL: i32 = 70;

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
pub async fn run(config: Config, log: Logger, logs: LogControl) -> Result<(), NodeError> {
    abort_on_panic(log.clone());
    let mut signals = Signals::listen()?;
    let sockets = Sockets::bind(config.listen)?;
    let mut node = Node::assemble(&config, &log, &logs)?;
    let (server, watcher) = node.serve(&config, sockets)?;
    let handle = server.handle();
    let serving = actix::spawn(server);
    info!(log, "listening"; "event.action" => "started",
        "quorate.address.client" => %config.listen.client,
        "quorate.address.admin" => %config.listen.admin,
        "quorate.address.peer" => %config.listen.peer);
    let end = tokio::select! {
        () = signals.end(&logs, &log) => Ok(()),
        refusal = node.refused.recv() => refusal.map_or(Ok(()), |why| Err(NodeError::Refused(why))),
    };
    info!(log, "draining"; "event.action" => "draining");
    node.readiness.do_send(lifecycle::Drain);
    tokio::select! {
        () = node.retire(&log) => {}
        // Whoever insists does not wait for the balancer.
        () = signals.end(&logs, &log) => {}
    }
    node.lifecycle.do_send(lifecycle::Drain);
    watcher.do_send(watcher::Drain);
    handle.stop(end.is_ok()).await;
    if let Ok(Err(failed)) = serving.await {
        error!(log, "a listener failed"; "error.message" => %failed);
    }
    if let Ok(Err(fault)) = node.shared.store.send(store_keeper::Drain).await {
        error!(log, "the store was not closed cleanly"; "error.message" => ?fault);
    }
    if let Err(closed) = node.presence.depart.send(Depart).await {
        error!(log, "discovery has ended already"; "error.message" => %closed);
    }
    let end = match (end, &node.directory) {
        (Err(NodeError::Refused(why)), Some(directory)) if why.is_farewell() => {
            let kept = directory.retire(&why.to_string())?;
            info!(log, "this node is no member any more; its data is kept aside";
                "event.action" => "left", "quorate.kept" => %kept.display());
            Ok(())
        }
        (end, _) => end,
    };
    info!(log, "stopped"; "event.action" => "stopped");
    end
}

/// What the operating system tells a node.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the wish to end. With a log file a hang-up means that it was moved away; without
    /// one, that the terminal is gone.
    async fn end(&mut self, logs: &LogControl, log: &Logger) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => {}
            }
            let Some(path) = logs.file() else { return };
            match logs.reopen() {
                Ok(()) => info!(log, "the log file is opened again";
                    "event.action" => "log-reopened"),
                Err(why) => {
                    error!(log, "the log file cannot be opened again; all goes on in the old";
                        "error.message" => format!("{}: {why}", path.display()));
                }
            }
        }
    }
}

/// A part that panics must not leave the others running as if it were there.
fn abort_on_panic(log: Logger) {
    std::panic::set_hook(Box::new(move |panic| {
        crit!(log, "a part of the node has panicked; the node ends. If it does so at every start, \
            its data is damaged: remove its data directory, and it gets its data back from the \
            other nodes"; "error.message" => %panic);
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

/// The actors of a node that are not one per worker.
struct Node {
    /// Holds the lock.
    directory: Option<DataDirectory>,
    shared: Shared,
    lifecycle: Addr<Lifecycle>,
    giver: Addr<Giver>,
    entropy: Addr<AntiEntropy>,
    reaper: Addr<Reaper>,
    custodian: Addr<Custodian>,
    surveyor: Addr<Surveyor>,
    readiness: Addr<ReadinessKeeper>,
    presence: Presence,
    refused: mpsc::Receiver<Refusal>,
}

impl Node {
    /// Takes the node out of rotation while it still serves.
    async fn retire(&self, log: &Logger) {
        if let Err(closed) = self.presence.retire.send(Retire).await {
            error!(log, "discovery has ended already"; "error.message" => %closed);
        }
    }

    fn assemble(config: &Config, log: &Logger, logs: &LogControl) -> Result<Self, NodeError> {
        let (directory, engine) = open_store(config)?;
        let (identity, found) = Identity::begin(&*engine, durability(config), random_u64)?;
        info!(log, "store opened"; "quorate.incarnation" => %identity.incarnation,
            "quorate.boot" => identity.boot, "quorate.found" => ?found);
        let me = member(config, &identity, &Counts::read(&*engine)?);
        let past = Past::restore(&*engine, this_start(&identity), named(log, "lifecycle"))?;
        let kept = custodian::Past::restore(&*engine)?;
        let publisher = RingPublisher::new(first_view(config, &past));
        let view = publisher.view();
        let records = LocalRecords::new(engine.clone(), named(log, "local_reader"));
        let parts = (view.clone(), identity, config.hint_bytes);
        let store = start_store(&engine, &records, parts, log)?;
        let keeper = RingKeeper::restore(
            &*engine,
            identity.cluster,
            publisher,
            me.member.data_id,
            store.clone(),
            named(log, "ring_keeper"),
        )?;
        let (control, background) = (Arbiter::new(), yielding());
        let ring_keeper = RingKeeper::start_in_arbiter(&control.handle(), |_| keeper);
        let (exit, refused) = mpsc::channel(1);
        let life = LifePublisher::default();
        let (ready, is_ready) = watch::channel(Readiness::New);
        let shared = Shared {
            view,
            life: life.view(),
            health: HealthBoard::default(),
            reads: ReadCounts::default(),
            background: Background::start(&control.handle()),
            quorums: quorums(config),
            records,
            store,
            ring_keeper,
            clocks: Arc::new(ArcSwapOption::empty()),
            is_ready,
            proof: PeerProof::of(config.cluster_secret.expose()).shown_by(config.name.clone()),
            log: log.clone(),
            logs: logs.clone(),
            keys: KeyNames::shown_if(config.log_keys),
            control: control.handle(),
        };
        let lifecycle = shared.start_lifecycle(&control, config, (me, past, life, exit));
        shared.start_prober(&control);
        let readiness = shared.start_readiness(&control, config, ready);
        let handoff = shared.start_handoff(&background, lifecycle.clone());
        let giver = shared.start_giver(&background);
        let entropy = shared.start_entropy(&background);
        let reaper = shared.start_reaper(&background, config.tombstone_grace);
        shared.start_unasked(&background);
        let custodian = shared.start_custodian(&background, config.quarantine, kept);
        let surveyor = shared.start_surveyor(&control, handoff.clone(), custodian.clone());
        lifecycle.do_send(MeetHandoff(handoff.recipient()));
        let presence = discovery::start(&control, config, &shared, &lifecycle);
        shared.tell_of_rings([readiness.clone().recipient(), lifecycle.clone().recipient()]);
        Ok(Self {
            directory,
            shared,
            lifecycle,
            giver,
            entropy,
            reaper,
            custodian,
            surveyor,
            readiness,
            presence,
            refused,
        })
    }
}

/// A thread that gives way to the others of the machine: what a client waits for is not on it.
fn yielding() -> Arbiter {
    const NICE: i32 = 10;
    let arbiter = Arbiter::new();
    // Without a thread: the one that asks. Whoever may not change it goes on as before.
    arbiter.spawn_fn(|| {
        let _changed = setpriority_process(None, NICE);
    });
    arbiter
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

fn start_store(
    engine: &Arc<dyn Engine>,
    records: &LocalRecords,
    (view, identity, hint_bytes): (RingView, Identity, u64),
    log: &Logger,
) -> Result<Addr<StoreKeeper>, IdentityError> {
    let fatal = log.clone();
    StoreKeeper::start(StoreParts {
        engine: engine.clone(),
        records: records.clone(),
        view,
        identity,
        hint_bytes,
        random: Box::new(random_u64),
        on_fatal: Box::new(move |reason| {
            crit!(fatal, "the node ends"; "error.message" => reason);
            std::process::exit(EXIT_FATAL);
        }),
        log: named(log, "store_keeper"),
    })
}

fn first_view(config: &Config, past: &Past) -> View {
    View {
        doubtful: past.is_doubtful(),
        ..View::without_ring(config.name.clone())
    }
}

fn this_start(identity: &Identity) -> Boot {
    Boot {
        number: identity.boot,
        life: random_u64(),
    }
}

fn member(config: &Config, identity: &Identity, counts: &Counts) -> Me {
    Me {
        member: Member {
            id: config.name.clone(),
            data_id: identity.data_id,
            zone: config.zone.clone(),
            weight: config.weight.get(),
            addresses: config.advertise.clone(),
        },
        seeds: discovery::seeds(config),
        expect: match config.founding {
            Founding::JoinOnly => usize::MAX,
            Founding::Expect(nodes) => nodes.get(),
        },
        replicas: config.replicas.get(),
        cluster: ClusterId(random_u64()),
        fresh: *counts == Counts::default(),
        auto_commit: config.auto_commit,
    }
}

fn quorums(config: &Config) -> Quorums {
    Quorums {
        read: config.read_quorum.get(),
        write: config.write_quorum.get(),
    }
}

fn durability(config: &Config) -> storage::Durability {
    match config.durability {
        config::Durability::Always => storage::Durability::Always,
        config::Durability::Interval => storage::Durability::Interval,
        config::Durability::Os => storage::Durability::Os,
    }
}
