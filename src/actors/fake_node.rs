//! The parts of a node over an engine in memory, and a listener whose answers a test makes.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr};
use actix_web::{App, HttpServer, dev::ServerHandle, web};
use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::anti_entropy::{AntiEntropy, EntropyParts};
use super::background::tests::background;
use super::custodian::{self, Custodian, CustodianParts};
use super::fake::quiet;
use super::giver::Giver;
use super::handoff::{Handoff, HandoffParts};
use super::health::HealthBoard;
use super::life_view::LifePublisher;
use super::lifecycle::{Lifecycle, LifecycleParts, Past};
use super::link::Link;
use super::local_reader::LocalRecords;
use super::peer_handle::PeerHandle;
use super::pulling::Pulling;
use super::reaper::{Reaper, ReaperParts};
use super::replica::{ReplicaWrite, Terms};
use super::ring_keeper::{InstallRing, RingKeeper};
use super::ring_view::tests::{id, ring};
use super::ring_view::{RingPublisher, RingView, View};
use super::store_keeper::{StoreKeeper, StoreParts};
use super::surveyor::{Surveyor, SurveyorParts};
use super::worker::Quorums;
use crate::dynamo::key::Key;
use crate::dynamo::membership::boots::Boot;
use crate::dynamo::membership::lifecycle::{Me, Permission};
use crate::dynamo::ring::{Addresses, ClusterId, Member, OwnerSet, Ring};
use crate::dynamo::version::State;
use crate::http::peer_api;
use crate::storage::{Durability, Engine, Identity, MemoryEngine};
use crate::wire::proof::PeerProof;
use crate::wire::state::{decode_state, encode_state};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn proof() -> PeerProof {
    PeerProof::of(b"the secret of the tests")
}

pub(crate) fn member(name: &str, peer: &str) -> Member {
    Member {
        id: id(name),
        data_id: 1,
        zone: "z".into(),
        weight: 1,
        addresses: Addresses {
            client: format!("{name}:8080"),
            admin: format!("{name}:8081"),
            peer: peer.to_owned(),
        },
    }
}

/// A ring at epoch 5 in which every partition has these owners; members by name, with addresses.
pub(crate) fn ring_of(
    members: &[(&str, &str)],
    owners: &[&str],
    incoming: Option<&[&str]>,
) -> Ring {
    let mut ring = ring(owners, incoming);
    ring.members = members.iter().map(|(n, peer)| member(n, peer)).collect();
    ring
}

/// All of a node but its clients' side.
pub(crate) struct FakeNode {
    pub(crate) engine: Arc<MemoryEngine>,
    pub(crate) records: LocalRecords,
    pub(crate) view: RingView,
    pub(crate) store: Addr<StoreKeeper>,
    pub(crate) ring_keeper: Addr<RingKeeper>,
    lifecycle: Addr<Lifecycle>,
    _exit: mpsc::Receiver<crate::dynamo::membership::lifecycle::Refusal>,
}

impl FakeNode {
    /// Starts on what the engine holds.
    pub(crate) fn start(name: &str, engine: Arc<MemoryEngine>) -> Self {
        Self::start_as(View::without_ring(id(name)), engine)
    }

    /// Starts with what it knows beside what the engine holds.
    pub(crate) fn start_as(first: View, engine: Arc<MemoryEngine>) -> Self {
        let name = first.me.to_string();
        let mut random = 7;
        let mut random = move || {
            random += 1;
            random
        };
        let (identity, _) = Identity::begin(&*engine, Durability::Always, &mut random).unwrap();
        let publisher = RingPublisher::new(first);
        let view = publisher.view();
        let records = LocalRecords::new(engine.clone(), quiet());
        let store = StoreKeeper::start(StoreParts {
            engine: engine.clone(),
            records: records.clone(),
            view: view.clone(),
            identity,
            hint_bytes: 1 << 20,
            random: Box::new(random),
            on_fatal: Box::new(|why| panic!("{why}")),
            log: quiet(),
        });
        let store = store.unwrap();
        let keeper = RingKeeper::restore(
            &*engine,
            identity.cluster,
            publisher,
            1,
            store.clone(),
            quiet(),
        )
        .unwrap();
        let ring_keeper = keeper.start();
        let (exit, refusals) = mpsc::channel(1);
        let parts = LifecycleParts {
            seeds: Vec::new(),
            permitted: Permission::ALL,
            link: Link::new(proof()),
            ring_keeper: ring_keeper.clone(),
            view: view.clone(),
            records: records.clone(),
            store: store.clone(),
            dice: || 4,
            exit,
            log: quiet(),
        };
        let me = Me {
            member: member(&name, "127.0.0.1:1"),
            seeds: 0,
            expect: usize::MAX,
            replicas: 3,
            cluster: ClusterId(1),
            fresh: false,
            auto_commit: true,
        };
        let own = Boot {
            number: identity.boot,
            life: 1,
        };
        let past = Past::restore(&*engine, own, quiet()).unwrap();
        let life = Lifecycle::new(me, None, past, LifePublisher::default(), parts);
        Self {
            engine,
            records,
            view,
            store,
            ring_keeper,
            lifecycle: life.start(),
            _exit: refusals,
        }
    }

    /// A new node.
    pub(crate) fn new(name: &str) -> Self {
        Self::start(name, Arc::default())
    }

    pub(crate) async fn install(&self, ring: Ring) {
        let epoch = ring.epoch;
        let installed = self.ring_keeper.send(InstallRing(ring)).await.unwrap();
        assert_eq!(installed, Ok(epoch));
    }

    /// Merges a state into the record, durably.
    pub(crate) async fn write(&self, key: &Key, state: &State) {
        let terms = Terms {
            epoch: self.view.load().epoch(),
            set: OwnerSet::Current,
            deadline: tokio::time::Instant::now() + PATIENCE,
            trace: None,
        };
        let (key, state) = (key.clone(), encode_state(state));
        let written = self.store.send(ReplicaWrite { key, state, terms }).await;
        assert_eq!(written.unwrap(), Ok(()));
    }

    /// What the node holds of a key.
    pub(crate) fn state(&self, key: &Key) -> Option<State> {
        let held = self.records.peek(key).unwrap();
        held.map(|bytes| decode_state(&bytes).unwrap())
    }

    /// What the engine holds under a name.
    pub(crate) fn meta(&self, name: &'static str) -> Option<Bytes> {
        self.engine.meta(name).unwrap()
    }

    /// An anti-entropy that looks this often, as in a real node but on this thread.
    pub(crate) fn entropy(&self, pause: Duration) -> AntiEntropy {
        AntiEntropy::new(EntropyParts {
            view: self.view.clone(),
            link: Link::new(proof()),
            health: HealthBoard::default(),
            records: self.records.clone(),
            store: self.store.clone(),
            background: background(),
            pause,
            log: quiet(),
        })
    }

    /// A reaper with this grace, which answers and does not sweep by itself.
    pub(crate) fn reaper(&self, grace: Duration) -> Reaper {
        Reaper::new(ReaperParts {
            view: self.view.clone(),
            link: Link::new(proof()),
            health: HealthBoard::default(),
            records: self.records.clone(),
            store: self.store.clone(),
            background: background(),
            grace,
            pause: PATIENCE * 100,
            log: quiet(),
        })
    }

    /// What a custodian works with that keeps old copies for so long.
    pub(crate) fn custodian(&self, time: Duration) -> CustodianParts {
        CustodianParts {
            view: self.view.clone(),
            pulling: Pulling {
                link: Link::new(proof()),
                records: self.records.clone(),
                store: self.store.clone(),
                background: background(),
            },
            ring_keeper: self.ring_keeper.clone(),
            time,
            log: quiet(),
        }
    }

    pub(crate) fn peer_handle(&self) -> PeerHandle {
        self.peer_handle_with(PATIENCE * 100)
    }

    fn peer_handle_with(&self, grace: Duration) -> PeerHandle {
        PeerHandle {
            reaper: self.reaper(grace).start(),
            entropy: self.entropy(PATIENCE * 100).start(),
            proof: proof(),
            view: self.view.clone(),
            records: self.records.clone(),
            store: self.store.clone(),
            giver: Giver::new(self.records.clone(), self.view.clone(), background()).start(),
            ring_keeper: self.ring_keeper.clone(),
            lifecycle: self.lifecycle.clone(),
            surveyor: self.surveyor(),
            log: quiet(),
        }
    }

    /// What operators ask of all members.
    pub(crate) fn surveyor(&self) -> Addr<Surveyor> {
        let parts = HandoffParts {
            view: self.view.clone(),
            link: Link::new(proof()),
            records: self.records.clone(),
            store: self.store.clone(),
            ring_keeper: self.ring_keeper.clone(),
            quorums: Quorums { read: 2, write: 2 },
            background: background(),
            log: quiet(),
        };
        Surveyor::new(SurveyorParts {
            view: self.view.clone(),
            link: Link::new(proof()),
            handoff: Handoff::new(parts, self.lifecycle.clone().recipient()).start(),
            custodian: Custodian::new(self.custodian(PATIENCE), custodian::Past::default()).start(),
            store: self.store.clone(),
            background: background(),
        })
        .start()
    }

    /// Its part in changes of the ring.
    pub(crate) fn lifecycle(&self) -> Addr<Lifecycle> {
        self.lifecycle.clone()
    }

    /// Serves the peer API on a socket.
    pub(crate) fn serve(&self, socket: std::net::TcpListener) -> ServerHandle {
        self.serve_with_grace(socket, PATIENCE * 100)
    }

    /// The same, with a reaper of this grace.
    pub(crate) fn serve_with_grace(
        &self,
        socket: std::net::TcpListener,
        grace: Duration,
    ) -> ServerHandle {
        let handle = self.peer_handle_with(grace);
        let app = move || {
            App::new()
                .app_data(web::Data::new(handle.clone()))
                .configure(peer_api::configure)
        };
        let server = HttpServer::new(app).workers(1).disable_signals();
        let server = server.listen(socket).unwrap().run();
        let handle = server.handle();
        actix::spawn(server);
        handle
    }
}

/// A socket on a free port, and its address.
pub(crate) fn socket() -> (std::net::TcpListener, String) {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

/// A listener that hands every call to the test.
pub(crate) struct Wire {
    pub(crate) address: String,
    calls: mpsc::UnboundedReceiver<Call>,
}

/// One call. Kept, it is never answered; dropped, its connection is closed.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) body: Bytes,
    /// Counts the connections of the listener.
    pub(crate) connection: usize,
    answer: oneshot::Sender<(u16, Vec<u8>)>,
}

impl Call {
    pub(crate) fn answer(self, status: u16, body: Vec<u8>) {
        self.answer.send((status, body)).unwrap();
    }
}

impl Wire {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (told, calls) = mpsc::unbounded_channel();
        actix::spawn(async move {
            let mut connections = 0;
            while let Ok((stream, _)) = listener.accept().await {
                connections += 1;
                actix::spawn(converse(stream, connections, told.clone()));
            }
        });
        Self { address, calls }
    }

    /// The next call.
    pub(crate) async fn any(&mut self) -> Call {
        self.calls.recv().await.unwrap()
    }

    /// The next call, which must be to this path.
    pub(crate) async fn call(&mut self, path: &str) -> Call {
        let next = tokio::time::timeout(PATIENCE, self.any()).await;
        let call = next.unwrap_or_else(|_| panic!("no call to {path} in time"));
        assert_eq!(call.path, path);
        call
    }

    #[track_caller]
    pub(crate) fn assert_quiet(&mut self) {
        if let Ok(call) = self.calls.try_recv() {
            panic!("one call too many: {call:?}");
        }
    }
}

/// Reads requests and writes what the test answers, until it drops one.
async fn converse(stream: TcpStream, connection: usize, told: mpsc::UnboundedSender<Call>) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut path, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            match stream.read_line(&mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) if line == "\r\n" => break,
                Ok(_) => {}
            }
            let lower = line.to_ascii_lowercase();
            if let Some(text) = lower.strip_prefix("content-length:") {
                length = text.trim().parse().unwrap();
            } else if let Some(rest) = line.strip_prefix("POST ") {
                path = rest.split(' ').next().unwrap_or_default().to_owned();
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let (answer, made) = oneshot::channel();
        let call = Call {
            path,
            body: body.into(),
            connection,
            answer,
        };
        if told.send(call).is_err() {
            return;
        }
        let Ok((status, body)) = made.await else {
            return;
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let whole = [head.into_bytes(), body].concat();
        if stream.get_mut().write_all(&whole).await.is_err() {
            return;
        }
    }
}
