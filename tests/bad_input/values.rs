//! Rows on bodies, values and clocks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::client::{Call, Client};
use crate::node::{Node, codec, empty_clock};
use crate::{ask, get, post, put, read};

#[test]
fn every_json_value_comes_back_byte_for_byte() {
    let node = Node::patient();
    for (i, value) in [
        "null",
        "\"\"",
        "0",
        "false",
        "{}",
        "[]",
        "1e400",
        "18446744073709551617",
        "0.1",
        "-0",
        "0.10",
        "{ \"b\" : 1,\t\"a\":[ ] }",
        "\"\\u00e9\\ud83d\"",
        "\"\u{1f431}\"",
    ]
    .iter()
    .enumerate()
    {
        // Not every value here is one that this test's own parser takes, so no contract check.
        let target = format!("/v1/value{i}");
        let post = Call::new("POST", &target).json(format!("{{\"value\":{value}}}"));
        let mut client = Client::connect(node.address);
        assert_eq!(client.call(&post).status, 201, "{value}");
        let shown = format!("\"value\":[{value}],\"clock\":");
        for (call, status) in [(Call::new("GET", &target), 200), (post, 409)] {
            let answer = client.call(&call);
            let body = String::from_utf8(answer.body).unwrap();
            assert_eq!(answer.status, status, "{value}");
            assert!(body.contains(&shown), "{value}: {body}");
        }
    }
}

/// Seed defect 24: a missing value was stored as null, and a body over 100 KB was a 500.
#[test]
fn seed_defect_24_bodies_are_taken_whole_or_refused() {
    let node = Node::patient();
    let rows: &[(&str, u16, &str)] = &[
        ("", 400, "body_invalid"),
        ("{}", 400, "value_required"),
        ("null", 400, "body_invalid"),
        ("{\"value\":1", 400, "body_invalid"),
        ("{\"value\":1}{\"value\":2}", 400, "body_invalid"),
        ("\u{feff}{\"value\":1}", 400, "body_invalid"),
        ("{\"value\":1,\"value\":1}", 400, "field_repeated"),
        ("{\"value\":1,\"colour\":1}", 400, "field_unknown"),
    ];
    for (body, status, code) in rows {
        let answer = ask(&node, &Call::new("POST", "/v1/k").json(*body));
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (*status, *code),
            "{body}"
        );
    }
    assert_eq!(get(&node, "/v1/k").code(), "not_found");
    for (length, status) in [(150_000, 201), (1024 * 1024, 201), (1024 * 1024 + 1, 413)] {
        let value = format!("\"{}\"", "x".repeat(length - 2));
        let target = format!("/v1/large{length}");
        assert_eq!(post(&node, &target, &value).status, status, "{length}");
        assert_eq!(
            get(&node, &target).status,
            if status == 201 { 200 } else { 404 }
        );
    }
    let named = ask(
        &node,
        &Call::new("POST", "/v1/k").json("{\"co\\u001blour\":1}"),
    )
    .json();
    assert_eq!(named["message"], "Unknown field: co\\x1blour");
}

/// Seed defect 8: a forged clock `{node: 2^53}` pinned a key for ever.
#[test]
fn seed_defect_08_clocks_that_were_not_handed_out_are_refused() {
    let node = Node::patient();
    let clock = post(&node, "/v1/k", "1").clock();
    let elsewhere = post(&node, "/v1/other", "1").clock();
    let foreign = codec(b"secret", 2);
    let stolen = codec(b"another secret", 1);
    let flipped = clock.replacen("ey", "eX", 1);
    let encoded = |json: &str| format!("\"{}\"", STANDARD.encode(json));
    let rows: &[(&str, String, &str)] = &[
        ("null", "null".to_owned(), "clock_required"),
        ("empty", "\"\"".to_owned(), "clock_required"),
        ("a number", "7".to_owned(), "clock_invalid"),
        ("an object", "{\"node\":1}".to_owned(), "clock_invalid"),
        ("not base64", "\"%%%\"".to_owned(), "clock_invalid"),
        ("not JSON", encoded("luke"), "clock_invalid"),
        ("an array", encoded("[]"), "clock_invalid"),
        (
            "the seed's",
            encoded("{\"node\":9007199254740992}"),
            "clock_invalid",
        ),
        ("negative", encoded("{\"node\":-1}"), "clock_invalid"),
        (
            "2^64",
            encoded("{\"node\":18446744073709551616}"),
            "clock_invalid",
        ),
        (
            "duplicates",
            encoded("{\"node\":1,\"node\":2}"),
            "clock_invalid",
        ),
        ("flipped", format!("\"{flipped}\""), "clock_invalid"),
        (
            "truncated",
            format!("\"{}\"", &clock[..clock.len() - 4]),
            "clock_invalid",
        ),
        ("another key's", format!("\"{elsewhere}\""), "clock_invalid"),
        (
            "another cluster's",
            format!("\"{}\"", empty_clock(&foreign, "k")),
            "clock_invalid",
        ),
        (
            "another secret's",
            format!("\"{}\"", empty_clock(&stolen, "k")),
            "clock_invalid",
        ),
        (
            "17 KiB",
            format!("\"{}\"", "A".repeat(17 * 1024)),
            "clock_invalid",
        ),
    ];
    for (name, token, code) in rows {
        let body = format!("{{\"value\":2,\"clock\":{token}}}");
        let answer = ask(&node, &Call::new("PUT", "/v1/k").json(body));
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, *code),
            "{name}"
        );
        assert!(
            !answer.json()["message"].as_str().unwrap().contains("AAAA"),
            "{name}: echoed"
        );
    }
    assert!(read(&node, "/v1/k").starts_with("{\"value\":[1],"));
}

#[test]
fn a_clock_that_is_missing_wrong_or_huge_is_told_apart() {
    let node = Node::patient();
    let elsewhere = post(&node, "/v1/other", "1").clock();
    let huge = format!("{{\"value\":2,\"clock\":\"{}\"}}", "A".repeat(10_000_000));
    assert_eq!(
        ask(&node, &Call::new("PUT", "/v1/k").json(huge)).status,
        413
    );
    let missing = ask(&node, &Call::new("PUT", "/v1/k").json("{\"value\":2}")).json();
    assert_eq!(missing["message"], "No version specified");
    let invalid = put(&node, "/v1/k", "2", &elsewhere).json();
    let message = invalid["message"].as_str().unwrap();
    assert!(
        message.starts_with("Invalid version specified"),
        "{message}"
    );
}

#[test]
fn an_old_clock_makes_a_sibling_and_a_fresh_one_merges() {
    let node = Node::patient();
    let empty = get(&node, "/v1/k").clock();
    let first = put(&node, "/v1/k", "\"a\"", &empty);
    assert_eq!((first.status, &first.json()["siblings"]), (200, &1.into()));
    let second = put(&node, "/v1/k", "\"b\"", &empty);
    assert_eq!(
        (second.status, &second.json()["siblings"]),
        (200, &2.into())
    );
    let both = get(&node, "/v1/k");
    assert_eq!(both.json()["value"], serde_json::json!(["a", "b"]));
    assert_eq!(both.header("x-quorate-acks"), Some("home=2,hinted=0"));
    let merged = put(&node, "/v1/k", "\"c\"", &both.clock());
    assert_eq!(
        (merged.status, &merged.json()["siblings"]),
        (200, &1.into())
    );
    let conflict = post(&node, "/v1/k", "1");
    assert_eq!(
        (conflict.status, conflict.code().as_str()),
        (409, "already_exists")
    );
    let (conflict, shown) = (conflict.json(), get(&node, "/v1/k").json());
    assert_eq!(conflict["value"], shown["value"]);
    assert_eq!(conflict["clock"], shown["clock"]);
}

#[test]
fn a_delete_removes_what_its_clock_saw_in_body_or_query() {
    let node = Node::patient();
    let delete = |target: &str| ask(&node, &Call::new("DELETE", target));
    assert_eq!(delete("/v1/k").code(), "not_found");
    let first = post(&node, "/v1/k", "\"a\"").clock();
    let empty = empty_clock(&codec(b"secret", 1), "k");
    put(&node, "/v1/k", "\"b\"", &empty);
    let bodies = [
        "{\"clock\":null}".to_owned(),
        "{\"clock\":7}".to_owned(),
        "{\"clock\":\"\"}".to_owned(),
        "{\"clock\":\"e30=\"}".to_owned(),
    ];
    for body in bodies {
        let answer = ask(&node, &Call::new("DELETE", "/v1/k").json(body.clone()));
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "clock_invalid"),
            "{body}"
        );
    }
    assert_eq!(delete("/v1/k?clock=").code(), "clock_invalid");
    let escaped = first.replace('=', "%3D");
    let two = Call::new("DELETE", &format!("/v1/k?clock={escaped}"));
    let differ = two.clone().json(format!("{{\"clock\":\"{empty}\"}}"));
    assert_eq!(ask(&node, &differ).code(), "clock_invalid");
    let agree = two.json(format!("{{\"clock\":\"{first}\"}}"));
    assert_eq!(ask(&node, &agree).status, 200);
    assert!(read(&node, "/v1/k").starts_with("{\"value\":[\"b\"],"));
    assert_eq!(delete(&format!("/v1/k?clock={escaped}")).status, 200);
    assert!(read(&node, "/v1/k").starts_with("{\"value\":[\"b\"],"));
    assert_eq!(delete("/v1/k").status, 200);
    assert_eq!(delete("/v1/k").code(), "not_found");
    assert_eq!(post(&node, "/v1/k", "\"again\"").status, 201);
}

#[test]
fn a_repeated_request_adds_no_sibling() {
    let node = Node::patient();
    let clock = get(&node, "/v1/k").clock();
    let body = format!("{{\"value\":1,\"clock\":\"{clock}\"}}");
    let call = Call::new("PUT", "/v1/k")
        .json(body)
        .header("idempotency-key: once");
    let (first, again) = (ask(&node, &call), ask(&node, &call));
    assert_eq!((first.status, again.status), (200, 200));
    assert_eq!(first.clock(), again.clock());
    assert!(read(&node, "/v1/k").starts_with("{\"value\":[1],"));
    let other = Call::new("POST", "/v1/k")
        .json("{\"value\":1}")
        .header("idempotency-key: once");
    assert_eq!(ask(&node, &other).code(), "idempotency_key_reused");
}
