//! What operators are shown, in shapes that tools rely on.

use std::collections::BTreeSet;

use actix::Actor as _;
use actix_web::http::{Method, StatusCode};
use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
use bytes::Bytes;

use super::*;
use crate::actors::admission::InFlight;
use crate::actors::background::tests::background;
use crate::actors::custodian::{self, Custodian};
use crate::actors::fake::{key, quiet, state};
use crate::actors::fake_node::{FakeNode, PATIENCE, ring_of};
use crate::actors::health::HealthBoard;
use crate::actors::life_view::LifePublisher;
use crate::actors::read_counts::ReadCounts;
use crate::actors::ring_view::tests::id;
use crate::logging::LogControl;

const MEMBERS: [(&str, &str); 4] = [("a", "a:1"), ("b", "b:1"), ("c", "c:1"), ("d", "d:1")];

/// A node in a ring of four, in which every partition moves from `c` to `d`; `b` is silent.
pub(super) async fn api(token: Option<&[u8]>) -> (FakeNode, AdminApi) {
    let node = FakeNode::new("a");
    let (from, to) = (["a", "b", "c"], ["a", "b", "d"]);
    node.install(ring_of(&MEMBERS, &from, Some(&to))).await;
    let api = api_of(&node, token);
    api.node.health.of(&id("b")).failed();
    (node, api)
}

/// The operators' side of a node to which nobody is away.
pub(super) fn api_of(node: &FakeNode, token: Option<&[u8]>) -> AdminApi {
    let handle = AdminHandle {
        view: node.view.clone(),
        life: LifePublisher::default().view(),
        health: HealthBoard::default(),
        started: crate::clock::monotonic(),
        reads: ReadCounts::default(),
        in_flight: InFlight::at_most(1024),
        background: background(),
        store: node.store.clone(),
        records: node.records.clone(),
        entropy: node.entropy(PATIENCE).start(),
        reaper: node.reaper(PATIENCE).start(),
        custodian: Custodian::new(node.custodian(PATIENCE), custodian::Past::default()).start(),
        surveyor: node.surveyor(),
        lifecycle: node.lifecycle(),
        logs: LogControl::nowhere(),
        log: quiet(),
    };
    AdminApi {
        node: handle,
        limits: Limits::default(),
        read_quorum: 2,
        token: token.map(digest),
        advertised: "n1.example.com:8081".to_owned(),
        requests: Arc::default(),
    }
}

async fn get(api: AdminApi, path: &str) -> Value {
    let app = init_service(app(api)).await;
    let answer = call_service(&app, TestRequest::get().uri(path).to_request()).await;
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
    read_body_json(answer).await
}

fn names_in(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

fn has_all(value: &Value, names: &[&str]) {
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !names_in(value).contains(**name))
        .collect();
    assert!(missing.is_empty(), "{missing:?} of {value}");
}

#[actix::test]
async fn the_log_level_is_shown_and_set() {
    let (_node, api) = api(None).await;
    let logs = api.node.logs.clone();
    let app = init_service(app(api)).await;
    let put = |body: &'static str| {
        let request = TestRequest::put().uri("/log-level").set_payload(body);
        request.insert_header(("content-type", "application/json"))
    };
    let rows = [
        ("{\"level\":\"debug\"}", 200, "debug"),
        ("{\"level\":\"error\"}", 200, "error"),
        ("{\"level\":\"loud\"}", 400, "error"),
        ("{\"level\":\"info\",\"for\":1}", 400, "error"),
        ("{\"level\":7}", 400, "error"),
        ("debug", 400, "error"),
    ];
    for (body, status, then) in rows {
        let answer = call_service(&app, put(body).to_request()).await;
        assert_eq!(answer.status().as_u16(), status, "{body}");
        assert_eq!(LevelName(logs.level()).as_str(), then, "{body}");
    }
    let answer = call_service(&app, TestRequest::get().uri("/log-level").to_request()).await;
    let shown: Value = read_body_json(answer).await;
    assert_eq!(shown, json!({"level": "error"}));
    let wrong = TestRequest::delete().uri("/log-level").to_request();
    let answer = call_service(&app, wrong).await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[actix::test]
async fn the_status_shows_the_node_its_ring_its_members_and_its_bounds() {
    let (_node, api) = api(None).await;
    let status = get(api, "/status").await;
    let named = [
        "node",
        "incarnation",
        "version",
        "state",
        "ring",
        "members",
        "queues",
        "background",
        "keys",
        "bytes",
        "reads",
        "quarantine",
        "log",
        "limits",
    ];
    has_all(&status, &named);
    assert_eq!(
        (&status["node"], &status["state"]),
        (&json!("a"), &json!("NEW"))
    );
    assert_eq!(
        (&status["ring"]["epoch"], &status["ring"]["moving"]),
        (&json!(5), &json!(256))
    );
    has_all(&status["ring"], &["epoch", "hash"]);
    let members = status["members"].as_array().unwrap();
    assert_eq!(members.len(), 4);
    let of_member = [
        "name",
        "state",
        "version",
        "zone",
        "weight",
        "client",
        "admin",
        "peer",
        "reachable",
        "preferred",
        "latency_us",
        "queued",
    ];
    for member in members {
        assert_eq!(names_in(member), BTreeSet::from(of_member), "{member}");
    }
    let shown = |n: usize| (&members[n]["state"], &members[n]["reachable"]);
    assert_eq!(shown(1), (&json!("READY"), &json!(false)));
    assert_eq!(shown(3), (&json!("PENDING"), &json!(true)));
    for queue in status["queues"].as_object().unwrap().values() {
        assert_eq!(names_in(queue), BTreeSet::from(["depth", "capacity"]));
    }
    assert_eq!(status["limits"]["in_flight"], 1024);
}

#[actix::test]
async fn the_ring_is_shown_whole_and_for_one_key() {
    let (_node, api) = api(None).await;
    let ring = get(api.clone(), "/ring").await;
    has_all(&ring, &["epoch", "hash", "partitions"]);
    let partitions = ring["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 256);
    assert!(partitions.iter().all(|row| *row == json!(["a", "b", "c"])));
    assert_eq!(ring["incoming"][255], json!([255, ["a", "b", "d"]]));
    assert_eq!(ring["crowded"], json!([]));
    let home = get(api, "/ring/a%2Fb").await;
    has_all(&home, &["partition", "hash", "owners", "fallbacks"]);
    let hash = key("a/b").hash();
    assert_eq!(home["partition"], hash.partition().number());
    assert_eq!(home["hash"], format!("{:016x}", hash.as_u64()));
    assert_eq!(home["owners"], json!(["a", "b", "c"]));
}

#[actix::test]
async fn a_replica_is_shown_with_its_values_tombstones_and_what_it_knows() {
    let (node, api) = api(None).await;
    let mut held = state(&[7, 8]);
    held.siblings[1].body = Body::Tombstone;
    held.siblings[0].body = Body::Value(Bytes::from_static(b"{\"n\": 1.50}"));
    node.write(&key("k"), &held).await;
    let shown = get(api.clone(), "/replica/k").await;
    assert_eq!(names_in(&shown), BTreeSet::from(["siblings", "context"]));
    let siblings = shown["siblings"].as_array().unwrap();
    assert_eq!(names_in(&siblings[0]), BTreeSet::from(["dot", "value"]));
    assert_eq!(siblings[0]["value"], json!({"n": 1.5}));
    assert_eq!(names_in(&siblings[1]), BTreeSet::from(["dot", "tombstone"]));
    assert_eq!(
        names_in(&shown["context"]),
        BTreeSet::from(["vector", "cloud"])
    );
    assert_eq!(shown["context"]["vector"].as_object().unwrap().len(), 2);
    let nothing = get(api, "/replica/never").await;
    assert_eq!(nothing["siblings"], json!([]));
}

#[actix::test]
async fn a_token_is_needed_where_one_is_set() {
    let (_node, api) = api(Some(b"open sesame")).await;
    let app = init_service(app(api)).await;
    let rows = [
        (None, 401),
        (Some("Bearer "), 401),
        (Some("Bearer open"), 401),
        (Some("Basic open sesame"), 401),
        (Some("open sesame"), 401),
        (Some("Bearer open sesame"), 200),
    ];
    let calls = [
        (Method::GET, "/status"),
        (Method::GET, "/ring"),
        (Method::GET, "/ring/k"),
        (Method::GET, "/replica/k"),
        (Method::GET, "/background"),
        (Method::GET, "/cluster/plan"),
        (Method::GET, "/cluster/transfers"),
        (Method::POST, "/cluster/commit"),
        (Method::POST, "/cluster/down"),
        (Method::PUT, "/cluster/transfers"),
    ];
    // What is refused for nothing else, and changes nothing.
    let bodies = [
        ("/cluster/commit", json!({"epoch": 5, "dry_run": true})),
        ("/cluster/down", json!({"node": "b", "dry_run": true})),
        ("/cluster/transfers", json!({"at_once": 1})),
    ];
    for (shown, status) in rows {
        for (method, path) in &calls {
            let call = TestRequest::default().method(method.clone()).uri(path);
            let body = bodies.iter().find(|(of, _)| of == path);
            let call = match body {
                Some((_, body)) if method != Method::GET => call.set_json(body),
                _ => call,
            };
            let call = shown
                .iter()
                .fold(call, |c, s| c.insert_header(("authorization", *s)));
            let answer = call_service(&app, call.to_request()).await;
            assert_eq!(
                answer.status().as_u16(),
                status,
                "{method} {path} {shown:?}"
            );
        }
    }
    let unknown = call_service(&app, TestRequest::get().uri("/x").to_request()).await;
    assert_eq!(
        unknown.status(),
        StatusCode::UNAUTHORIZED,
        "strangers learn no paths"
    );
}

#[actix::test]
async fn other_methods_and_paths_are_refused_and_named() {
    let (_node, api) = api(None).await;
    let app = init_service(app(api)).await;
    for path in ["/status", "/ring", "/ring/k", "/replica/k"] {
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            let call = TestRequest::default().method(method).uri(path);
            let answer = call_service(&app, call.to_request()).await;
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
            assert_eq!(answer.headers().get("allow").unwrap(), "GET", "{path}");
            let body: Value = read_body_json(answer).await;
            assert_eq!(body["code"], "method_not_allowed");
        }
    }
    for path in [
        "/",
        "/peer/v1/ping",
        "/v1/k",
        "/ring/",
        "/ring/a/b",
        "/replica",
    ] {
        let answer = call_service(&app, TestRequest::get().uri(path).to_request()).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[actix::test]
async fn a_node_without_a_ring_still_shows_its_status() {
    let (_node, mut api) = api(None).await;
    let alone = FakeNode::new("z");
    api.node.view = alone.view.clone();
    let status = get(api.clone(), "/status").await;
    assert_eq!(
        (&status["node"], &status["ring"]),
        (&json!("z"), &Value::Null)
    );
    assert_eq!(status["members"], json!([]));
    let app = init_service(app(api)).await;
    for path in ["/ring", "/ring/k"] {
        let answer = call_service(&app, TestRequest::get().uri(path).to_request()).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        let body: Value = read_body_json(answer).await;
        assert_eq!(
            (&body["code"], &body["reason"]),
            (&json!("not_ready"), &json!("new"))
        );
    }
}

#[actix::test]
async fn the_digests_of_owned_partitions_and_of_their_leaves_are_shown() {
    let (node, api) = api(None).await;
    let held = key("k");
    node.write(&held, &state(&[1])).await;
    let partition = held.hash().partition().number();
    let roots = loop {
        let shown = get(api.clone(), "/merkle").await;
        let roots = shown["roots"].as_object().unwrap().clone();
        if roots.values().all(Value::is_string) {
            break roots;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(roots.len(), 256, "this node owns all");
    let root = &roots[&partition.to_string()];
    let path = format!("/merkle?partition={partition}");
    let leaves = get(api.clone(), &path).await;
    let leaves = leaves["leaves"].as_object().unwrap();
    assert_eq!(
        leaves.values().collect::<Vec<_>>(),
        [root],
        "one record, one leaf"
    );
    let app = init_service(app(api)).await;
    let none = TestRequest::get().uri("/merkle?partition=256").to_request();
    assert_eq!(
        call_service(&app, none).await.status(),
        StatusCode::NOT_FOUND
    );
}

#[actix::test]
async fn background_work_is_limited_and_set_free_at_run_time() {
    let (_node, api) = api(None).await;
    let app = init_service(app(api.clone())).await;
    let put = |body: &'static str| {
        let call = TestRequest::put().uri("/background").set_payload(body);
        call.insert_header(("content-type", "application/json"))
    };
    let rows = [
        ("{\"hints\":1000,\"anti_entropy\":5}", json!(1000), json!(5)),
        ("{}", json!(1000), json!(5)),
        ("{\"hints\":null}", Value::Null, json!(5)),
    ];
    for (body, hints, anti_entropy) in rows {
        let answer = call_service(&app, put(body).to_request()).await;
        assert_eq!(answer.status(), StatusCode::OK, "{body}");
        let answer: Value = read_body_json(answer).await;
        for shown in [answer, get(api.clone(), "/background").await] {
            let limit = |kind: &str| shown[kind]["limit_bytes_s"].clone();
            assert_eq!(
                (limit("hints"), limit("anti_entropy")),
                (hints.clone(), anti_entropy.clone()),
                "{body}"
            );
            let kinds = ["hints", "repair", "anti_entropy", "reaping", "transfers"];
            assert_eq!(names_in(&shown), BTreeSet::from(kinds));
            let fields = ["rate_bytes_s", "limit_bytes_s", "waiting", "done_bytes"];
            assert_eq!(names_in(&shown["repair"]), BTreeSet::from(fields));
        }
    }
    let refused = [
        ("{\"hint\":1}", "field_unknown"),
        ("{\"hints\":1,\"hints\":2}", "field_repeated"),
        ("{\"hints\":0}", "field_invalid"),
        ("{\"hints\":-1}", "field_invalid"),
        ("{\"hints\":\"1\"}", "field_invalid"),
        ("{\"repair\":7,\"hints\":1.5}", "field_invalid"),
        ("[]", "body_invalid"),
        ("", "body_invalid"),
    ];
    for (body, code) in refused {
        let answer = call_service(&app, put(body).to_request()).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{body}");
        let answer: Value = read_body_json(answer).await;
        assert_eq!(answer["code"], code, "{body}");
    }
    let repair = get(api, "/background").await["repair"]["limit_bytes_s"].clone();
    assert_eq!(repair, Value::Null, "a refusal changes nothing");
    let plain = TestRequest::put().uri("/background").set_payload("{}");
    let answer = call_service(&app, plain.to_request()).await;
    assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let answer = call_service(&app, TestRequest::post().uri("/background").to_request()).await;
    assert_eq!(answer.headers().get("allow").unwrap(), "GET, PUT");
}
