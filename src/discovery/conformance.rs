//! What holds for every discovery, and what the tests of all need.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::{Actor, Context, Handler};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use super::consul::tests::{FakeAgent, settings};
use super::{
    Consul, Depart, Discovery, PeersFound, Permitted, Retire, Seeds, SeedsSettings, Surroundings,
    start,
};
use crate::dynamo::membership::lifecycle::{NodeState, Permission};

/// How long anything here may take.
const SOON: Duration = Duration::from_secs(20);

/// Stands for the lifecycle.
struct Listener {
    peers: UnboundedSender<Vec<String>>,
    permitted: UnboundedSender<Permission>,
}

/// What it has been told, and the state that it is in.
pub(super) struct Told {
    peers: UnboundedReceiver<Vec<String>>,
    permitted: UnboundedReceiver<Permission>,
    last: Permission,
    state: Arc<Mutex<NodeState>>,
}

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<PeersFound> for Listener {
    type Result = ();

    fn handle(&mut self, PeersFound(peers): PeersFound, _ctx: &mut Self::Context) {
        self.peers.send(peers).unwrap();
    }
}

impl Handler<Permitted> for Listener {
    type Result = ();

    fn handle(&mut self, Permitted(permission): Permitted, _ctx: &mut Self::Context) {
        self.permitted.send(permission).unwrap();
    }
}

impl Told {
    pub(super) async fn peers(&mut self) -> Vec<String> {
        let told = timeout(SOON, self.peers.recv()).await;
        told.expect("no peers in time").unwrap()
    }

    pub(super) async fn permission(&mut self) -> Permission {
        let told = timeout(SOON, self.permitted.recv()).await;
        self.last = told.expect("no permission in time").unwrap();
        self.last
    }

    pub(super) fn last(&self) -> Permission {
        self.last
    }

    pub(super) fn enter(&self, state: NodeState) {
        *self.state.lock().unwrap() = state;
    }
}

pub(super) fn surroundings(state: NodeState) -> (Told, Surroundings) {
    let ((peers, told), (permitted, may)) = (unbounded_channel(), unbounded_channel());
    let listener = Listener { peers, permitted }.start();
    let state = Arc::new(Mutex::new(state));
    let told = Told {
        peers: told,
        permitted: may,
        last: Permission::NONE,
        state: state.clone(),
    };
    let surroundings = Surroundings {
        peers: listener.clone().recipient(),
        permitted: listener.recipient(),
        state: Arc::new(move || *state.lock().unwrap()),
        dice: || 0,
        log: slog::Logger::root(slog::Discard, slog::o!()),
    };
    (told, surroundings)
}

/// An address where nobody listens.
pub(super) fn nobody() -> String {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().to_string()
}

/// Peers are told, a node that starts gets ahead in the end, and it can end.
async fn lives_through<D: Discovery>(settings: D::Settings, want: &[&str]) {
    let (mut told, surroundings) = surroundings(NodeState::New);
    let presence = start::<D>(&actix::Arbiter::current(), settings, surroundings);
    assert_eq!(told.peers().await, want);
    let mut permission = D::AT_FIRST;
    while permission != Permission::ALL {
        permission = told.permission().await;
    }
    timeout(SOON, presence.retire.send(Retire))
        .await
        .unwrap()
        .unwrap();
    timeout(SOON, presence.depart.send(Depart))
        .await
        .unwrap()
        .unwrap();
}

/// Where nothing is found, a node can still end at once.
async fn ends_alone<D: Discovery>(settings: D::Settings) {
    let (_told, surroundings) = surroundings(NodeState::Ready);
    let presence = start::<D>(&actix::Arbiter::current(), settings, surroundings);
    timeout(SOON, presence.retire.send(Retire))
        .await
        .unwrap()
        .unwrap();
    timeout(SOON, presence.depart.send(Depart))
        .await
        .unwrap()
        .unwrap();
}

#[actix::test]
async fn seeds_conform() {
    let seeds = ["127.0.0.1:2", "localhost:1", "no-such-host.invalid:1"];
    let settings = SeedsSettings {
        seeds: seeds.map(str::to_owned).into(),
    };
    lives_through::<Seeds>(settings, &["127.0.0.1:1", "127.0.0.1:2"]).await;
    let nobody = SeedsSettings {
        seeds: vec!["no-such-host.invalid:1".to_owned()],
    };
    ends_alone::<Seeds>(nobody).await;
}

#[actix::test]
async fn consul_conforms() {
    let agent = FakeAgent::start();
    agent.add("quorate-n2", "10.0.0.2:8082");
    lives_through::<Consul>(settings(&agent.address), &["10.0.0.2:8082"]).await;
    ends_alone::<Consul>(settings(&nobody())).await;
}
