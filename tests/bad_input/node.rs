//! A real client listener in front of a node of one replica, which keeps its records in a map and
//! decides as every replica does.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use actix::{Actor, Context as ActorContext, Handler};
use actix_server::{Server, ServerHandle};
use arc_swap::ArcSwapOption;
use quorate::actors::handle::{NodeHandle, Readiness};
use quorate::actors::request::{Applied, Failure, Read, ReadAnswer, Write, WriteAnswer};
use quorate::dynamo::key::Key;
use quorate::dynamo::node_id::Incarnation;
use quorate::dynamo::quorum::{Acks, Shortfall};
use quorate::dynamo::ring::ClusterId;
use quorate::dynamo::version::{
    self, Body, Clock, Mint, Reason, Refused, RequestId, State, decide,
};
use quorate::http::client_api::{self, ClientApi};
use quorate::http::listener::listen;
use quorate::limits::Limits;
use quorate::wire::clock::ClockCodec;
use tokio::sync::watch;

const ACKS: Acks = Acks {
    home: 2,
    incoming: None,
    hinted: 0,
};
const MAX_SIBLINGS: usize = 5;

/// A node that listens until it is dropped.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) clocks: Arc<ArcSwapOption<ClockCodec>>,
    pub(crate) readiness: watch::Sender<Readiness>,
    server: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// With the product's limits, except that slow phases end after these.
    pub(crate) fn start(head: Duration, body: Duration, exchange: Duration) -> Self {
        let limits = Limits {
            head_timeout: head,
            body_timeout: body,
            exchange_timeout: exchange,
            ..Limits::default()
        };
        let clocks = Arc::new(ArcSwapOption::from_pointee(codec(b"secret", 1)));
        let (readiness, watched) = watch::channel(Readiness::Ready);
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (started, server) = mpsc::channel();
        let of_thread = clocks.clone();
        let run = move || {
            let server = serve(socket, limits, of_thread, watched, &started);
            actix::System::new().block_on(server).unwrap();
        };
        let thread = Some(std::thread::spawn(run));
        let server = server.recv_timeout(Duration::from_secs(10)).unwrap();
        Self {
            address,
            clocks,
            readiness,
            server,
            thread,
        }
    }

    /// With timeouts that no test reaches.
    pub(crate) fn patient() -> Self {
        let long = Duration::from_mins(1);
        Self::start(long, long, long)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The command is on its way once the call returns; the future only waits for its end.
        drop(self.server.stop(false));
        self.thread.take().unwrap().join().unwrap();
    }
}

pub(crate) fn codec(secret: &[u8], cluster: u64) -> ClockCodec {
    ClockCodec::new(secret, ClusterId(cluster))
}

async fn serve(
    socket: TcpListener,
    limits: Limits,
    clocks: Arc<ArcSwapOption<ClockCodec>>,
    readiness: watch::Receiver<Readiness>,
    started: &mpsc::Sender<ServerHandle>,
) -> std::io::Result<()> {
    let replica = OneReplica::default().start();
    let (read, write) = (replica.clone().recipient(), replica.recipient());
    let for_apps = limits.clone();
    let app = move || {
        let (clocks, readiness) = (clocks.clone(), readiness.clone());
        client_api::app(ClientApi {
            node: NodeHandle::new(read.clone(), write.clone(), clocks, readiness),
            limits: for_apps.clone(),
            log: slog::Logger::root(slog::Discard, slog::o!()),
            requests: Arc::default(),
        })
    };
    let server = Server::build().workers(1).disable_signals();
    let server = listen(server, "client", socket, &limits, limits.body_bytes(), app)?.run();
    started.send(server.handle()).unwrap();
    server.await
}

#[derive(Default)]
struct OneReplica {
    records: HashMap<Key, (State, Option<version::Actor>)>,
    epochs: u64,
    requests: u128,
}

impl Actor for OneReplica {
    type Context = ActorContext<Self>;
}

impl Handler<Read> for OneReplica {
    type Result = Result<ReadAnswer, Failure>;

    fn handle(&mut self, read: Read, _: &mut Self::Context) -> Self::Result {
        fail_if_told_to(&read.key)?;
        let record = self.records.get(&read.key);
        let state = record.map(|(state, _)| state.clone()).unwrap_or_default();
        Ok(ReadAnswer { state, acks: ACKS })
    }
}

impl Handler<Write> for OneReplica {
    type Result = Result<WriteAnswer, Failure>;

    fn handle(&mut self, write: Write, _: &mut Self::Context) -> Self::Result {
        fail_if_told_to(&write.key)?;
        let (record, minted) = self.records.entry(write.key.clone()).or_default();
        self.requests += 1;
        let anonymous = RequestId {
            id: self.requests,
            fingerprint: 0,
        };
        let now = || Clock::of(record);
        let mint = Mint {
            kind: write.kind,
            seen: write.clock.clone().unwrap_or_else(now),
            body: write.value.clone().map_or(Body::Tombstone, Body::Value),
            request: write.request.unwrap_or(anonymous),
            remember: write.request.map(|_| Reason::Keyed),
            merged: None,
        };
        let epochs = &mut self.epochs;
        let open = || {
            *epochs += 1;
            version::Actor {
                incarnation: Incarnation(0xa),
                epoch: *epochs,
            }
        };
        match decide(record, *minted, &mint, MAX_SIBLINGS, open) {
            Ok(decided) => {
                *record = decided.state;
                *minted = decided.minted;
                Ok(WriteAnswer {
                    clock: decided.answer,
                    siblings: record.live().len(),
                    acks: ACKS,
                })
            }
            Err(Refused::AlreadyExists(state)) => Err(Failure::AlreadyExists(state, ACKS)),
            Err(Refused::NothingToDelete(state)) => Err(Failure::NotFound(Clock::of(&state), ACKS)),
            Err(Refused::TooManySiblings(state)) => Err(Failure::TooManySiblings(state, ACKS)),
            Err(Refused::RequestReused) => Err(Failure::RequestReused),
        }
    }
}

/// Keys of this form stand for a cluster in trouble.
#[expect(
    clippy::result_large_err,
    reason = "a refusal is moved once, to whoever waits for it"
)]
fn fail_if_told_to(key: &Key) -> Result<(), Failure> {
    let shortfall = Shortfall { needed: 2, got: 1 };
    match key.as_bytes().as_ref() {
        b"fail:quorum_not_met" => Err(Failure::QuorumNotMet(shortfall, Applied::No)),
        b"fail:quorum_unknown" => Err(Failure::QuorumNotMet(shortfall, Applied::Unknown)),
        b"fail:deadline_exceeded" => Err(Failure::DeadlineExceeded(Applied::Unknown)),
        b"fail:overloaded" => Err(Failure::Overloaded),
        b"fail:not_ready" => Err(Failure::NotServing),
        b"fail:storage_full" => Err(Failure::StorageFull(Applied::No)),
        _ => Ok(()),
    }
}

/// The clock of somebody who has seen nothing of this key.
pub(crate) fn empty_clock(codec: &ClockCodec, key: &str) -> String {
    let key = Key::new(key.to_owned().into()).unwrap();
    codec.encode(&key, &Clock::default())
}
