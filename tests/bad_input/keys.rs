//! Rows on keys and query parameters.

use crate::client::Call;
use crate::node::Node;
use crate::{ask, get, post, read};

/// Seed defect 10: a decoded key was pasted into another URL; keys with `%`, `/` or `?` failed.
#[test]
fn seed_defect_10_every_key_is_its_own_record() {
    let node = Node::patient();
    let keys = [
        "a%2Fb",
        "a%252Fb",
        "a%3Fb",
        "a%25b",
        "x%3Fy",
        "data%3Ffrom%3D0%26to%3D1023",
        "%FF",
        "%FE",
        "%C0%AF",
        "%ED%A0%80",
        "%00",
        "%0D%0A",
        "%1b%5B31m",
        "%E2%80%AE",
        "%F0%9F%90%B1",
        "%C3%A9",
        "e%CC%81",
        ".",
        "..",
        "..%2f..%2fetc",
        "a+b",
        "a%20b",
        "a&b",
        "a=b",
        "%25zz",
    ];
    for (i, key) in keys.iter().enumerate() {
        let answer = post(&node, &format!("/v1/{key}"), &i.to_string());
        assert_eq!(answer.status, 201, "{key}: {answer:?}");
    }
    for (i, key) in keys.iter().enumerate() {
        let value = read(&node, &format!("/v1/{key}"));
        assert!(
            value.starts_with(&format!("{{\"value\":[{i}],")),
            "{key}: {value}"
        );
    }
    let same = [("%61", "a"), ("%2e%2E", ".."), ("a%2fb", "a%2Fb")];
    assert_eq!(post(&node, "/v1/a", "1").status, 201);
    for (one, other) in same {
        let (one, other) = (
            read(&node, &format!("/v1/{one}")),
            read(&node, &format!("/v1/{other}")),
        );
        assert_eq!(one, other);
    }
}

/// Seed defect 12: keys named like routes were shadowed by them.
#[test]
fn seed_defect_12_keys_named_like_routes_are_plain_keys() {
    let node = Node::patient();
    for key in [
        "ping",
        "check",
        "data",
        "internal",
        "ring",
        "metrics",
        "status",
        "livez",
        "readyz",
        "openapi.json",
        "v1",
    ] {
        let target = format!("/v1/{key}");
        assert_eq!(get(&node, &target).code(), "not_found", "{key}");
        assert_eq!(post(&node, &target, "\"mine\"").status, 201, "{key}");
        assert!(
            read(&node, &target).starts_with("{\"value\":[\"mine\"],"),
            "{key}"
        );
    }
}

#[test]
fn what_is_no_key_is_refused() {
    let node = Node::patient();
    let k1024 = format!("/v1/{}", "k".repeat(1024));
    let escaped = format!("/v1/{}", "%6b".repeat(1024));
    let k1025 = format!("/v1/{}", "k".repeat(1025));
    let e1025 = format!("/v1/{}", "%6b".repeat(1025));
    let rows: &[(&str, u16, &str)] = &[
        ("/v1/", 404, "no_such_resource"),
        ("/v1", 404, "no_such_resource"),
        ("/", 404, "no_such_resource"),
        ("/v1/a/b", 404, "no_such_resource"),
        ("/v1/a/", 404, "no_such_resource"),
        ("/v1//a", 404, "no_such_resource"),
        ("/%76%31/a", 404, "no_such_resource"),
        ("/v2/a", 404, "no_such_resource"),
        ("/status", 404, "no_such_resource"),
        ("/v1/%zz", 400, "key_invalid"),
        ("/v1/%", 400, "key_invalid"),
        ("/v1/a%2", 400, "key_invalid"),
        (&k1024, 404, "not_found"),
        (&escaped, 404, "not_found"),
        (&k1025, 414, "key_too_long"),
        (&e1025, 414, "key_too_long"),
    ];
    for (target, status, code) in rows {
        let answer = get(&node, target);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (*status, *code),
            "{target}"
        );
    }
    let mut client = crate::Client::connect(node.address);
    client.send(&Call::new("GET", &format!("/v1/{}", "k".repeat(66 * 1024))).bytes());
    let answer = client.answer("GET");
    assert!(matches!(answer.status, 400 | 414), "{}", answer.status);
}

/// Seed defect 22: `quorum=abc` was a 500, and `quorum=0` could crash the process.
#[test]
fn seed_defect_22_queries_are_understood_or_refused() {
    let node = Node::patient();
    let rows: &[(&str, &str)] = &[
        ("quorum=1", "not_found"),
        ("quorum=3", "not_found"),
        ("quorum=9", "not_found"),
        ("quorum=1000000000000000000000000000000", "not_found"),
        ("mode=strict&quorum=2", "not_found"),
        ("", "not_found"),
        ("quorum=0", "parameter_invalid"),
        ("quorum=-1", "parameter_invalid"),
        ("quorum=abc", "parameter_invalid"),
        ("quorum=1.5", "parameter_invalid"),
        ("quorum=", "parameter_invalid"),
        ("quorum", "parameter_invalid"),
        ("quorum=%D9%A3", "parameter_invalid"),
        ("quorum=0x2", "parameter_invalid"),
        ("quorum=%zz", "parameter_invalid"),
        ("quorum=1&quorum=2", "parameter_repeated"),
        ("mode=loose", "parameter_invalid"),
        ("colour=red", "parameter_unknown"),
        ("clock=e30%3D", "parameter_unknown"),
    ];
    for (query, code) in rows {
        assert_eq!(
            get(&node, &format!("/v1/k?{query}")).code(),
            *code,
            "{query}"
        );
    }
    let named = ask(&node, &Call::new("GET", "/v1/k?colour%1b=red")).json();
    assert_eq!(named["message"], "Unknown query parameter: colour\\x1b");
}

#[test]
fn other_methods_are_told_which_there_are() {
    let node = Node::patient();
    for method in ["OPTIONS", "PATCH", "TRACE", "DELTE"] {
        for (target, allow) in [
            ("/v1/k", "GET, HEAD, POST, PUT, DELETE"),
            ("/livez", "GET, HEAD"),
            ("/readyz", "GET, HEAD"),
            ("/openapi.json", "GET, HEAD"),
        ] {
            let answer = ask(&node, &Call::new(method, target));
            assert_eq!(answer.status, 405, "{method} {target}");
            assert_eq!(answer.header("allow"), Some(allow), "{method} {target}");
            assert_eq!(answer.code(), "method_not_allowed");
        }
    }
}

#[test]
fn a_head_is_a_get_without_its_body() {
    let node = Node::patient();
    post(&node, "/v1/k", "1");
    for target in ["/v1/k", "/v1/absent", "/livez", "/v1/%zz"] {
        let (get, head) = (get(&node, target), ask(&node, &Call::new("HEAD", target)));
        assert_eq!(get.status, head.status, "{target}");
        assert_eq!(
            get.header("content-length"),
            head.header("content-length"),
            "{target}"
        );
        assert_eq!(
            head.header("content-type"),
            Some("application/json"),
            "{target}"
        );
    }
}

#[test]
fn the_target_and_the_forwarding_headers_do_not_route() {
    let node = Node::patient();
    post(&node, "/v1/k", "1");
    let plain = read(&node, "/v1/k");
    let absolute = Call::new("GET", "http://elsewhere.example/v1/k");
    assert_eq!(ask(&node, &absolute).body, plain.as_bytes());
    let forwarded = Call::new("GET", "/v1/k")
        .header("x-forwarded-for: 10.0.0.1")
        .header("x-forwarded-host: elsewhere.example")
        .header("x-original-url: /status");
    assert_eq!(ask(&node, &forwarded).body, plain.as_bytes());
}

#[test]
fn correlation_ids_are_echoed_if_they_are_plain_and_made_if_not() {
    let node = Node::patient();
    for (target, status) in [
        ("/livez", 200),
        ("/v1/k", 404),
        ("/nowhere", 404),
        ("/v1/%", 400),
    ] {
        let call = Call::new("GET", target).header("x-correlation-id: abc-1._Z");
        let answer = ask(&node, &call);
        assert_eq!(answer.status, status);
        assert_eq!(
            answer.header("x-correlation-id"),
            Some("abc-1._Z"),
            "{target}"
        );
        let call = Call::new("GET", target).header("x-correlation-id: a b<script>");
        let answer = ask(&node, &call);
        let made = answer.header("x-correlation-id").unwrap();
        assert!(
            !made.is_empty() && made.bytes().all(|b| b.is_ascii_digit()),
            "{made}"
        );
    }
}
