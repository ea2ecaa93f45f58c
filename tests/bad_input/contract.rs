//! The committed contract against the answers: every answer of these tests must be in it, and every
//! answer that is in it must be given.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use quorate::actors::handle::Readiness;
use quorate::http::api_error::Code;
use quorate::http::client_api::OPENAPI;
use serde_json::Value;

use crate::client::{Answer, Call, Client};
use crate::node::{Node, empty_clock};
use crate::{ask, get, post, put};

static CONTRACT: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(OPENAPI).unwrap());

/// Method, path as the contract has it, status, code; a success has no code.
type Row = (String, String, u16, String);

/// Follows a reference to its place in the document.
fn resolved(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(path) => CONTRACT.pointer(path.trim_start_matches('#')).unwrap(),
        None => value,
    }
}

fn path_of(target: &str) -> &str {
    let path = target.split('?').next().unwrap();
    let path = path
        .strip_prefix("http://elsewhere.example")
        .unwrap_or(path);
    match path.strip_prefix("/v1/") {
        Some(key) if !key.is_empty() && !key.contains('/') => "/v1/{key}",
        Some(_) | None => path,
    }
}

fn responses(method: &str, path: &str) -> &'static Value {
    let resource = &CONTRACT["paths"][path];
    let operation = &resource[method.to_ascii_lowercase()];
    match (resource.is_null(), operation.is_null()) {
        (true, _) => &CONTRACT["x-any-other-path"],
        (false, true) => &CONTRACT["x-any-other-method"],
        (false, false) => &operation["responses"],
    }
}

/// Asserts that the contract has this answer to this call.
pub(crate) fn check(call: &Call, answer: &Answer) {
    let response = &responses(&call.method, path_of(&call.target))[answer.status.to_string()];
    assert!(
        !response.is_null(),
        "not in the contract: {call:?} {answer:?}"
    );
    assert_eq!(
        answer.header("content-type"),
        Some("application/json"),
        "{call:?}"
    );
    let headers = response["headers"].as_object().unwrap();
    for (name, header) in headers {
        let required = resolved(header)["required"] == true;
        assert!(
            !required || answer.header(name).is_some(),
            "{name}: {call:?} {answer:?}"
        );
    }
    let acked = answer.header("x-quorate-acks").is_some();
    assert_eq!(
        acked,
        headers.contains_key("x-quorate-acks"),
        "{call:?} {answer:?}"
    );
    if call.method == "HEAD" {
        assert!(answer.body.is_empty());
    } else {
        check_schema(
            &response["content"]["application/json"]["schema"],
            &answer.json(),
        );
    }
}

/// As much of JSON Schema as the contract uses.
fn check_schema(schema: &'static Value, json: &Value) {
    let schema = resolved(schema);
    for part in schema["allOf"].as_array().into_iter().flatten() {
        check_schema(part, json);
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(
            json.get(name.as_str().unwrap()).is_some(),
            "{name} is missing: {json}"
        );
    }
    if let Some(options) = schema["enum"].as_array() {
        assert!(options.contains(json), "{json} is not one of {options:?}");
    }
    let properties = schema["properties"].as_object();
    for (name, value) in json.as_object().into_iter().flatten() {
        match properties.and_then(|p| p.get(name)) {
            Some(property) => check_schema(property, value),
            None => assert_ne!(schema["additionalProperties"], false, "{name} in {json}"),
        }
    }
    let matches = match schema["type"].as_str() {
        Some("string") => json.is_string(),
        Some("integer") => json.is_u64(),
        Some("array") => json.is_array(),
        Some("object") => json.is_object(),
        Some(other) => panic!("a type this test does not know: {other}"),
        None => true,
    };
    assert!(matches, "{json} is no {}", schema["type"]);
}

/// All answers in the contract whose body shows them: not those to HEAD.
fn documented() -> BTreeSet<Row> {
    let mut rows = BTreeSet::new();
    for (path, resource) in CONTRACT["paths"].as_object().unwrap() {
        for (method, operation) in resource.as_object().unwrap() {
            if method != "parameters" && method != "head" {
                add(
                    &mut rows,
                    &method.to_ascii_uppercase(),
                    path,
                    &operation["responses"],
                );
            }
        }
    }
    rows
}

fn add(rows: &mut BTreeSet<Row>, method: &str, path: &str, responses: &'static Value) {
    for (status, response) in responses.as_object().unwrap() {
        let schema = &response["content"]["application/json"]["schema"];
        let codes = schema["allOf"][1]["properties"]["code"]["enum"].as_array();
        let codes = codes.map_or(vec![""], |c| {
            c.iter().map(|v| v.as_str().unwrap()).collect()
        });
        for code in codes {
            let status = status.parse().unwrap();
            rows.insert((method.to_owned(), path.to_owned(), status, code.to_owned()));
        }
    }
}

fn row(call: &Call, answer: &Answer) -> Row {
    let path = path_of(&call.target).to_owned();
    (call.method.clone(), path, answer.status, answer.code())
}

#[test]
fn the_contract_has_every_code_with_its_status_and_no_other() {
    let mut rows = documented();
    add(&mut rows, "", "", &CONTRACT["x-any-other-path"]);
    add(&mut rows, "", "", &CONTRACT["x-any-other-method"]);
    add(&mut rows, "", "", &CONTRACT["x-admin-listener"]);
    let shown = rows.into_iter().map(|(_, _, status, code)| (code, status));
    let shown: BTreeSet<_> = shown.filter(|(code, _)| !code.is_empty()).collect();
    let known = Code::ALL
        .iter()
        .map(|c| (c.as_str().to_owned(), c.status().as_u16()));
    assert_eq!(shown, known.collect());
    let listed = CONTRACT["components"]["schemas"]["Code"]["enum"]
        .as_array()
        .unwrap();
    let listed: Vec<&str> = listed.iter().map(|v| v.as_str().unwrap()).collect();
    assert_eq!(
        listed,
        Code::ALL.iter().map(|c| c.as_str()).collect::<Vec<_>>()
    );
}

#[test]
fn head_is_documented_as_get_is() {
    for (path, resource) in CONTRACT["paths"].as_object().unwrap() {
        let statuses = |method: &str| {
            let responses = resource[method]["responses"].as_object().unwrap();
            responses.keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(statuses("get"), statuses("head"), "{path}");
    }
}

/// Calls that are refused for what every method has in common.
fn common_refusals(method: &str) -> Vec<Call> {
    let on = |target: &str| Call::new(method, target);
    vec![
        on("/v1/%zz"),
        on(&format!("/v1/{}", "k".repeat(1025))),
        on("/v1/k?colour=red"),
        on("/v1/k?quorum=1&quorum=1"),
        on("/v1/k?quorum=0"),
        on("/v1/k").header("idempotency-key: a b"),
        on("/v1/k").header("content-length: 100000000"),
        on("/v1/k")
            .header("transfer-encoding: chunked")
            .body("zz\r\n"),
    ]
}

/// Calls whose body is refused whatever the method makes of it.
fn body_refusals(method: &str) -> Vec<Call> {
    let on = || Call::new(method, "/v1/k");
    let deep = format!("{{\"clock\":{}{}}}", "[".repeat(200), "]".repeat(200));
    vec![
        on().body("{}").header("content-type: text/plain"),
        on().json("{}").header("content-encoding: gzip"),
        on().json("[]"),
        on().json(deep),
        on().json("{\"colour\":1}"),
        on().json("{\"clock\":\"\",\"clock\":\"\"}"),
    ]
}

fn in_trouble(method: &str, trouble: &str, node: &Node) -> Call {
    let key = format!("fail:{trouble}");
    let call = Call::new(method, &format!("/v1/{key}"));
    let clock = empty_clock(&node.clocks.load_full().unwrap(), &key);
    match method {
        "POST" => call.json("{\"value\":1}"),
        "PUT" => call.json(format!("{{\"value\":1,\"clock\":\"{clock}\"}}")),
        _ => call,
    }
}

fn refused_writes(method: &str, node: &Node) -> Vec<Call> {
    let clock = empty_clock(&node.clocks.load_full().unwrap(), "k");
    let large = "x".repeat(1024 * 1024);
    let keyed = |body: String| {
        Call::new(method, "/v1/k")
            .json(body)
            .header("idempotency-key: a")
    };
    let mut calls = match method {
        "POST" => vec![
            Call::new(method, "/v1/k").json("{}"),
            Call::new(method, "/v1/k").json(format!("{{\"value\":\"{large}\"}}")),
            Call::new(method, "/v1/live").json("{\"value\":1}"),
            keyed("{\"value\":\"another\"}".to_owned()),
        ],
        "PUT" => vec![
            Call::new(method, "/v1/k").json("{}"),
            Call::new(method, "/v1/k").json(format!("{{\"value\":\"{large}\"}}")),
            Call::new(method, "/v1/k").json("{\"value\":1}"),
            Call::new(method, "/v1/k").json("{\"value\":1,\"clock\":\"e30=\"}"),
            keyed(format!("{{\"value\":\"another\",\"clock\":\"{clock}\"}}")),
        ],
        _ => vec![
            Call::new(method, "/v1/k").json("{\"clock\":null}"),
            Call::new(method, "/v1/absent"),
            keyed("{}".to_owned()),
        ],
    };
    let in_trouble = |trouble| in_trouble(method, trouble, node);
    calls.push(in_trouble("storage_full"));
    calls.extend(body_refusals(method));
    calls
}

#[test]
fn every_answer_in_the_contract_is_given_and_no_other() {
    let minute = Duration::from_mins(1);
    let node = Node::start(minute, Duration::from_millis(200), minute);
    let clock = empty_clock(&node.clocks.load_full().unwrap(), "live");
    let mut calls = vec![
        Call::new("POST", "/v1/live").json("{\"value\":1}"),
        Call::new("GET", "/v1/live"),
        Call::new("GET", "/v1/absent"),
        Call::new("PUT", "/v1/live").json(format!("{{\"value\":2,\"clock\":\"{clock}\"}}")),
        Call::new("DELETE", "/v1/live"),
        Call::new("POST", "/v1/live").json("{\"value\":1}"),
        // Uses the idempotency key that `refused_writes` uses for something else.
        Call::new("POST", "/v1/k")
            .json("{\"value\":1}")
            .header("idempotency-key: a"),
        Call::new("GET", "/livez"),
        Call::new("GET", "/readyz"),
        Call::new("GET", "/openapi.json"),
    ];
    for method in ["GET", "POST", "PUT", "DELETE"] {
        calls.extend(common_refusals(method));
        calls.push(
            Call::new(method, "/v1/k")
                .header("content-length: 9")
                .body("{"),
        );
        for trouble in [
            "quorum_not_met",
            "deadline_exceeded",
            "overloaded",
            "not_ready",
        ] {
            calls.push(in_trouble(method, trouble, &node));
        }
        if method != "GET" {
            calls.extend(refused_writes(method, &node));
        }
    }
    let mut given: BTreeSet<Row> = calls.iter().map(|c| row(c, &ask(&node, c))).collect();
    for i in 0..5 {
        put(&node, "/v1/live", &i.to_string(), &clock);
    }
    given.insert(row(
        &Call::new("PUT", "/v1/live"),
        &put(&node, "/v1/live", "9", &clock),
    ));
    node.readiness.send(Readiness::Draining).unwrap();
    given.insert(row(&Call::new("GET", "/readyz"), &get(&node, "/readyz")));
    assert_eq!(given, documented());
}

#[test]
fn failures_say_what_they_mean_for_the_request() {
    let node = Node::patient();
    let rows: &[(&str, u16, &str, &str, bool)] = &[
        ("quorum_not_met", 503, "quorum_not_met", "not_applied", true),
        ("quorum_unknown", 503, "quorum_not_met", "unknown", true),
        (
            "deadline_exceeded",
            504,
            "deadline_exceeded",
            "unknown",
            false,
        ),
        ("overloaded", 503, "overloaded", "not_applied", true),
        ("not_ready", 503, "not_ready", "not_applied", true),
        ("storage_full", 507, "storage_full", "not_applied", false),
    ];
    for (trouble, status, code, outcome, retry) in rows {
        let answer = post(&node, &format!("/v1/fail:{trouble}"), "1");
        let json = answer.json();
        assert_eq!(answer.status, *status, "{trouble}");
        assert_eq!(
            (&json["code"], &json["outcome"]),
            (&(*code).into(), &(*outcome).into())
        );
        assert_eq!(answer.header("retry-after").is_some(), *retry, "{trouble}");
    }
    let json = get(&node, "/v1/fail:quorum_not_met").json();
    assert_eq!((&json["needed"], &json["got"]), (&2.into(), &1.into()));
}

#[test]
fn a_node_without_a_ring_says_that_it_is_not_ready() {
    let node = Node::patient();
    node.clocks.store(None);
    node.readiness.send(Readiness::New).unwrap();
    for call in [Call::new("GET", "/v1/k"), Call::new("GET", "/readyz")] {
        let answer = Client::connect(node.address).call(&call);
        check(&call, &answer);
        assert_eq!(answer.status, 503);
        assert_eq!(answer.json()["reason"], "new");
    }
    assert_eq!(get(&node, "/livez").status, 200);
    assert_eq!(get(&node, "/v1/%zz").code(), "key_invalid");
}
