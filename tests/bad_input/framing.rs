//! Rows on framing, size and time.

use std::time::Duration;

use crate::client::{Call, Client};
use crate::node::Node;
use crate::{ask, get, post};

const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(200);

#[test]
fn broken_framing_is_a_400_and_the_end_of_the_connection() {
    let node = Node::patient();
    let rows: &[(&str, &str)] = &[
        (
            "length and chunks",
            "host: q\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n",
        ),
        (
            "two lengths",
            "host: q\r\ncontent-length: 1\r\ncontent-length: 1\r\n",
        ),
        ("a signed length", "host: q\r\ncontent-length: +5\r\n"),
        ("no host", "accept: */*\r\n"),
        ("a NUL", "host: q\r\nx-a: \0\r\n"),
        ("another coding", "host: q\r\ntransfer-encoding: gzip\r\n"),
    ];
    for (name, head) in rows {
        let mut client = Client::connect(node.address);
        client.send(format!("POST /v1/k HTTP/1.1\r\n{head}\r\n").as_bytes());
        assert_eq!(client.answer("POST").status, 400, "{name}");
        assert!(client.ended(), "{name}");
    }
    assert_eq!(get(&node, "/v1/k").code(), "not_found");
}

#[test]
fn a_connection_outlives_every_refusal_of_what_it_carried() {
    let node = Node::patient();
    let mut client = Client::connect(node.address);
    let calls = [
        Call::new("POST", "/v1/%zz").json("{\"value\":1}"),
        Call::new("POST", "/v1/k?colour=red").json("{\"value\":1}"),
        Call::new("POST", "/v1/k").json("{\"value\":"),
        Call::new("POST", "/v1/k").body("{\"value\":1}"),
        Call::new("PATCH", "/v1/k").json("{\"value\":1}"),
        Call::new("POST", "/nowhere").json("{\"value\":1}"),
        Call::new("GET", "/v1/k").json("{\"value\":1}"),
        Call::new("POST", &format!("/v1/{}", "k".repeat(2000))).json("{\"value\":1}"),
    ];
    for call in calls {
        let answer = client.call(&call);
        assert!((400..500).contains(&answer.status), "{call:?} {answer:?}");
        assert_eq!(answer.header("connection"), None, "{call:?}");
    }
    assert_eq!(client.call(&Call::new("GET", "/livez")).status, 200);
}

#[test]
fn too_much_is_refused_before_it_is_read() {
    let node = Node::patient();
    let mut client = Client::connect(node.address);
    let announced = Call::new("POST", "/v1/k").header("content-length: 100000000");
    let answer = client.call(&announced.json(""));
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (413, "body_too_large")
    );
    assert_eq!(answer.header("connection"), Some("close"));

    let mut client = Client::connect(node.address);
    let beyond = Call::new("POST", "/v1/k").header("content-length: 99999999999999999999999");
    client.send(&beyond.bytes());
    assert!(matches!(client.answer("POST").status, 400 | 413));
}

#[test]
fn chunks_are_refused_at_the_limit() {
    let node = Node::patient();
    let mut client = Client::connect(node.address);
    let head = Call::new("POST", "/v1/k")
        .header("transfer-encoding: chunked")
        .json("");
    client.send(&head.bytes());
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    // 1 MiB and 20 KiB of a body without end: the answer comes although nothing ends it.
    for _ in 0..17 {
        client.send(chunk.as_bytes());
    }
    let answer = client.answer("POST");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (413, "body_too_large")
    );
}

#[test]
fn a_client_that_asks_first_is_told_before_it_sends() {
    let node = Node::patient();
    let asking = |length: usize| {
        Call::new("POST", "/v1/k")
            .header("expect: 100-continue")
            .header(&format!("content-length: {length}"))
            .header("x-correlation-id: asks-first")
            .json("")
    };
    let refused = Client::connect(node.address).call(&asking(2_000_000));
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (413, "body_too_large")
    );
    assert_eq!(refused.header("x-correlation-id"), Some("asks-first"));

    let mut client = Client::connect(node.address);
    assert_eq!(client.call(&asking(11)).status, 100);
    client.send(b"{\"value\":1}");
    assert_eq!(client.answer("POST").status, 201);
}

#[test]
fn a_slow_first_head_ends() {
    let node = Node::start(SHORT, LONG, LONG);
    for sent in ["", "GET /v1/k HT", "GET /v1/k HTTP/1.1\r\nhost: q\r\n"] {
        let mut client = Client::connect(node.address);
        client.send(sent.as_bytes());
        assert_eq!(client.answer("GET").status, 408, "{sent}");
        assert!(client.ended(), "{sent}");
    }
}

#[test]
fn a_slow_later_head_ends() {
    let node = Node::start(LONG, LONG, SHORT);
    let mut client = Client::connect(node.address);
    assert_eq!(client.call(&Call::new("GET", "/livez")).status, 200);
    client.send(b"GET /v1/k HT");
    assert!(client.ended());
}

#[test]
fn a_slow_body_is_a_408_and_writes_nothing() {
    let node = Node::start(LONG, SHORT, LONG);
    let announced = Call::new("POST", "/v1/k")
        .header("content-length: 11")
        .json("{\"value\"");
    let chunked = Call::new("POST", "/v1/k")
        .header("transfer-encoding: chunked")
        .json("8\r\n{");
    for call in [announced, chunked] {
        let answer = ask(&node, &call);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (408, "body_timeout")
        );
    }
    assert_eq!(get(&node, "/v1/k").code(), "not_found");
}

#[test]
fn requests_in_one_go_are_answered_in_order() {
    let node = Node::patient();
    for target in ["/v1/k", "/livez", "/v1/%zz", "/nowhere"] {
        let (mut sender, mut receiver) = Client::connect(node.address).split();
        let all = std::thread::spawn(move || {
            for i in 0..1000 {
                let call = Call::new("GET", target).header(&format!("x-correlation-id: n{i}"));
                sender.send(&call.bytes());
            }
        });
        for i in 0..1000 {
            let answer = receiver.answer("GET");
            let id = answer.header("x-correlation-id");
            assert_eq!(id, Some(format!("n{i}").as_str()), "{target}");
        }
        all.join().unwrap();
    }
}

#[test]
fn idle_connections_do_not_keep_others_out() {
    let node = Node::patient();
    let idle: Vec<Client> = (0..400).map(|_| Client::connect(node.address)).collect();
    assert_eq!(get(&node, "/livez").status, 200);
    drop(idle);
}

#[test]
fn a_client_that_leaves_in_the_middle_leaves_no_half_write() {
    let node = Node::patient();
    let mut client = Client::connect(node.address);
    let whole = Call::new("POST", "/v1/whole").json("{\"value\":1}").bytes();
    let part = Call::new("POST", "/v1/part").json("{\"value\":1}").bytes();
    client.send(&part[..part.len() - 3]);
    drop(client);
    let mut client = Client::connect(node.address);
    client.send(&whole);
    drop(client);
    // Finished or never started: a create afterwards either finds it whole or makes it.
    let after = post(&node, "/v1/whole", "2");
    assert!(matches!(after.status, 201 | 409), "{after:?}");
    assert_eq!(post(&node, "/v1/part", "2").status, 201);
}
