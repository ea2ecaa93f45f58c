//! Against an agent made up here, which can be what a real one is only now and then: empty, reset,
//! slow, without a leader, forbidding. `tests/discovery.rs` asks a real one.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use actix_web::web::{Bytes, Data, Query};
use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::agent::{ANSWER_TIME, ConsulError};
use super::*;
use crate::discovery::conformance::{Told, surroundings};
use crate::discovery::{self, Presence};
use crate::dynamo::membership::lifecycle::NodeState;

/// How long anything here may take.
const SOON: Duration = Duration::from_secs(10);

pub(in crate::discovery) fn settings(address: &str) -> ConsulSettings {
    ConsulSettings {
        access: access(address),
        service: "quorate".to_owned(),
        tags: vec!["production".to_owned()],
        registers: true,
        node: NodeCard {
            name: "n1".to_owned(),
            zone: "a".to_owned(),
            client: "10.0.0.1:8080".to_owned(),
            admin: "10.0.0.1:8081".to_owned(),
            peer: "10.0.0.1:8082".to_owned(),
        },
        seeds: Vec::new(),
        balancer_time: Duration::from_millis(1),
    }
}

pub(super) fn access(address: &str) -> Access {
    Access {
        address: address.to_owned(),
        token: None,
    }
}

/// What the agent knows, and whether it says so.
#[derive(Default)]
pub(in crate::discovery) struct Memory {
    services: BTreeMap<String, Value>,
    index: u64,
    /// Answered to everything instead.
    refusal: Option<(u16, &'static str)>,
    lock: Option<String>,
    sessions: u64,
}

impl Memory {
    fn answer(
        &mut self,
        method: &str,
        path: &str,
        query: &BTreeMap<String, String>,
        body: &[u8],
    ) -> HttpResponse {
        let (rest, last) = path.rsplit_once('/').unwrap();
        match (method, rest) {
            ("GET", "/v1/health/service") => {
                let all = self.services.values();
                let all: Vec<Value> = all.map(|s| json!({"Service": s, "Checks": []})).collect();
                let index = self.index.to_string();
                HttpResponse::Ok()
                    .insert_header(("X-Consul-Index", index))
                    .json(all)
            }
            ("GET", "/v1/agent/service") => match self.services.get(last) {
                Some(service) => HttpResponse::Ok().json(service),
                None => HttpResponse::NotFound().body("unknown service ID"),
            },
            ("PUT", "/v1/agent/service") => {
                let told: Value = serde_json::from_slice(body).unwrap();
                self.services
                    .insert(told["ID"].as_str().unwrap().to_owned(), told);
                self.index += 1;
                HttpResponse::Ok().finish()
            }
            ("PUT", "/v1/agent/service/deregister") => {
                self.services.remove(last);
                HttpResponse::Ok().finish()
            }
            ("PUT", "/v1/agent/service/maintenance") => HttpResponse::Ok().finish(),
            ("PUT", "/v1/session") => {
                self.sessions += 1;
                HttpResponse::Ok().json(json!({"ID": format!("s{}", self.sessions)}))
            }
            ("PUT", "/v1/session/renew") | ("GET", "/v1/session/info") => {
                HttpResponse::Ok().json(json!([{"ID": last}]))
            }
            ("PUT", "/v1/session/destroy") => HttpResponse::Ok().json(true),
            ("PUT", "/v1/kv/quorate") => HttpResponse::Ok().json(self.lock(query)),
            _ => panic!("the node asks for {method} {path}, which nobody knows"),
        }
    }

    fn lock(&mut self, query: &BTreeMap<String, String>) -> bool {
        if let Some(session) = query.get("acquire") {
            return self.lock.get_or_insert_with(|| session.clone()) == session;
        }
        let held = self.lock.as_ref() == query.get("release");
        held.then(|| self.lock = None).is_some()
    }
}

/// The agent; it ends with the test's system.
#[derive(Clone)]
pub(in crate::discovery) struct FakeAgent {
    pub(in crate::discovery) address: String,
    memory: Arc<Mutex<Memory>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeAgent {
    pub(in crate::discovery) fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let agent = Self {
            address: socket.local_addr().unwrap().to_string(),
            memory: Arc::default(),
            asked: Arc::default(),
        };
        let data = agent.clone();
        let app = move || {
            App::new()
                .app_data(Data::new(data.clone()))
                .default_service(web::to(answer))
        };
        let server = HttpServer::new(app).workers(1).disable_signals();
        actix_web::rt::spawn(server.listen(socket).unwrap().run());
        agent
    }

    fn change(&self, change: impl FnOnce(&mut Memory)) {
        let mut memory = self.memory.lock().unwrap();
        change(&mut memory);
        memory.index += 1;
    }

    pub(in crate::discovery) fn add(&self, id: &str, peer: &str) {
        let service = json!({"ID": id, "Tags": ["production"], "Meta": {"peer": peer}});
        self.change(|memory| drop(memory.services.insert(id.to_owned(), service)));
    }

    fn refuse(&self, with: Option<(u16, &'static str)>) {
        self.memory.lock().unwrap().refusal = with;
    }

    /// Waits for a request that begins so, among those that have come since the last look.
    async fn is_asked(&self, what: &str) {
        let asked = async {
            loop {
                let asked: Vec<String> = std::mem::take(&mut *self.asked.lock().unwrap());
                if asked.iter().any(|line| line.starts_with(what)) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, asked)
            .await
            .unwrap_or_else(|_| panic!("never asked: {what}"));
    }
}

async fn answer(
    agent: Data<FakeAgent>,
    request: actix_web::HttpRequest,
    query: Query<BTreeMap<String, String>>,
    body: Bytes,
) -> HttpResponse {
    let (method, path) = (request.method().as_str(), request.path());
    let line = format!("{method} {path}?{}", request.query_string());
    agent.asked.lock().unwrap().push(line);
    let mut memory = agent.memory.lock().unwrap();
    if let Some((status, text)) = memory.refusal {
        let status = actix_web::http::StatusCode::from_u16(status).unwrap();
        return HttpResponse::build(status).body(text);
    }
    memory.answer(method, path, &query, &body)
}

/// A node's discovery beside its agent.
fn start(agent: &FakeAgent, state: NodeState) -> (Told, Presence) {
    started(settings(&agent.address), state)
}

fn started(settings: ConsulSettings, state: NodeState) -> (Told, Presence) {
    let (told, surroundings) = surroundings(state);
    let thread = actix::Arbiter::current();
    (
        told,
        discovery::start::<Consul>(&thread, settings, surroundings),
    )
}

#[actix::test]
async fn a_registration_that_vanishes_is_made_again() {
    let agent = FakeAgent::start();
    let _started = start(&agent, NodeState::Ready);
    agent.is_asked("PUT /v1/agent/service/register").await;
    agent.change(|memory| memory.services.clear());
    agent.is_asked("PUT /v1/agent/service/register").await;
    let known = agent.memory.lock().unwrap().services["quorate-n1"].clone();
    assert_eq!(
        known["Check"]["Status"], "passing",
        "it drops out of rotation meanwhile"
    );
}

#[actix::test]
async fn seed_defect_20_an_empty_or_leaderless_consul_takes_no_peer_back() {
    let agent = FakeAgent::start();
    agent.add("quorate-n2", "10.0.0.2:8082");
    let (mut told, _presence) = start(&agent, NodeState::Ready);
    assert_eq!(told.peers().await, ["10.0.0.2:8082"]);
    agent.change(|memory| memory.services.clear());
    agent.is_asked("GET /v1/health/service/quorate").await;
    agent.is_asked("GET /v1/health/service/quorate").await;
    agent.refuse(Some((500, "No cluster leader")));
    agent.is_asked("GET /v1/health/service/quorate").await;
    agent.is_asked("GET /v1/health/service/quorate").await;
    agent.refuse(None);
    agent.add("quorate-n3", "10.0.0.3:8082");
    assert_eq!(
        told.peers().await,
        ["10.0.0.3:8082"],
        "news between were none"
    );
}

#[actix::test]
async fn one_new_node_has_the_lock_until_it_is_ready_or_consul_fails() {
    let agent = FakeAgent::start();
    let (mut told, _presence) = start(&agent, NodeState::New);
    while !told.permission().await.join {}
    let mut other = settings(&agent.address);
    other.node.name = "n2".to_owned();
    let (mut others, _other) = started(other, NodeState::New);
    while !others.permission().await.found {}
    assert!(!others.last().join, "two nodes at a time");
    agent.refuse(Some((500, "No cluster leader")));
    while told.permission().await.join {}
    agent.refuse(None);
    told.enter(NodeState::Ready);
    while !others.permission().await.join {}
}

#[actix::test]
async fn a_node_founds_only_after_a_calm_look_at_a_catalogue_that_has_it() {
    let agent = FakeAgent::start();
    agent.refuse(Some((403, "Permission denied")));
    let (mut told, _presence) = start(&agent, NodeState::New);
    assert_eq!(told.permission().await, Permission::NONE);
    agent.refuse(None);
    let begun = tokio::time::Instant::now();
    while !told.permission().await.found {}
    assert!(
        begun.elapsed() > Duration::from_secs(5),
        "after {:?}",
        begun.elapsed()
    );
}

#[actix::test]
async fn a_node_that_ends_leaves_rotation_first_and_the_catalogue_last() {
    let agent = FakeAgent::start();
    let (_told, presence) = start(&agent, NodeState::Ready);
    agent.is_asked("PUT /v1/agent/service/register").await;
    presence.retire.send(Retire).await.unwrap();
    agent
        .is_asked("PUT /v1/agent/service/maintenance/quorate-n1?enable=true")
        .await;
    assert_eq!(agent.memory.lock().unwrap().services.len(), 1);
    presence.depart.send(Depart).await.unwrap();
    assert_eq!(agent.memory.lock().unwrap().services.len(), 0);
    agent.is_asked("GET /v1/health/service/quorate").await;
    assert_eq!(
        agent.memory.lock().unwrap().services.len(),
        0,
        "it has come back"
    );
}

/// It takes connections and answers nothing: one question that is under way, then the last two.
#[actix::test]
async fn a_hung_agent_holds_up_the_end_of_a_node_by_its_time_to_answer_only() {
    let hung = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = hung.local_addr().unwrap().to_string();
    let (_told, presence) = started(settings(&address), NodeState::Ready);
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let slack = Duration::from_millis(100);
    presence.retire.send(Retire).await.unwrap();
    let took = begun.elapsed();
    assert!(took <= 2 * ANSWER_TIME + slack, "retired after {took:?}");
    presence.depart.send(Depart).await.unwrap();
    let took = begun.elapsed();
    assert!(took <= 3 * ANSWER_TIME + slack, "departed after {took:?}");
    assert!(took >= ANSWER_TIME, "nobody was waited for: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn nodes_do_not_look_in_step() {
    let rows: [(fn() -> u64, u64); 4] = [
        (|| 0, 1000),
        (|| 137, 1137),
        (|| 249, 1249),
        (|| u64::MAX, 1000 + u64::MAX % 250),
    ];
    for (dice, want) in rows {
        let begun = tokio::time::Instant::now();
        rest(dice).await;
        assert_eq!(begun.elapsed(), Duration::from_millis(want));
    }
}

#[actix::test]
async fn a_node_that_registrator_registers_finds_itself_by_its_client_address() {
    let agent = FakeAgent::start();
    let own = json!({
        "ID": "host:q1:8080", "Service": "quorate", "Tags": ["zone-a", "production"],
        "Address": "10.0.0.1", "Port": 8080, "Meta": {"peer": "10.0.0.1:8082"},
    });
    agent.change(|memory| drop(memory.services.insert("host:q1:8080".to_owned(), own)));
    agent.add("host:q2:8080", "10.0.0.2:8082");
    let settings = ConsulSettings {
        registers: false,
        ..settings(&agent.address)
    };
    let (mut told, presence) = started(settings, NodeState::New);
    assert_eq!(told.peers().await, ["10.0.0.2:8082"]);
    while !told.permission().await.join {}
    presence.retire.send(Retire).await.unwrap();
    agent
        .is_asked("PUT /v1/agent/service/maintenance/host:q1:8080?enable=true")
        .await;
    presence.depart.send(Depart).await.unwrap();
    assert_eq!(
        agent.memory.lock().unwrap().services.len(),
        2,
        "that is registrator's to do"
    );
}

#[actix::test]
async fn a_refusal_says_what_consul_says() {
    let agent = FakeAgent::start();
    let asks = Agent::new(access(&agent.address));
    let rows = [
        (
            403,
            "Permission denied",
            "Consul answers 403: Permission denied",
        ),
        (
            500,
            "No cluster leader",
            "Consul answers 500: No cluster leader",
        ),
    ];
    for (status, text, want) in rows {
        agent.refuse(Some((status, text)));
        assert_eq!(asks.put("/v1/x").await.unwrap_err().to_string(), want);
    }
    agent.refuse(Some((200, "<html>")));
    let error = asks.get::<Value>("/v1/x").await.unwrap_err();
    assert!(matches!(error, ConsulError::Unreadable { .. }), "{error}");
    let nobody = crate::discovery::conformance::nobody();
    let error = Agent::new(access(&nobody)).put("/v1/x").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("Consul cannot be reached at {nobody}")
    );
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = Agent::new(access(&silent.local_addr().unwrap().to_string()));
    let soon = Duration::from_millis(100);
    let error = silent
        .get_indexed::<Value>("/v1/x", soon)
        .await
        .unwrap_err();
    assert!(matches!(error, ConsulError::TimedOut { .. }), "{error}");
}
