//! Who may call the peer listener, and what it says to others.

use actix_web::http::Method;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, web};
use bytes::Bytes;

use super::*;
use crate::actors::fake_node::{FakeNode, proof, ring_of};
use crate::wire::hello::{HelloReply, Program};
use crate::wire::proof::PeerProof;
use crate::wire::state::tests::golden;

const PATHS: [&str; 11] = [
    "batch", "ping", "ring/get", "ring", "hello", "found", "predict", "accept", "flip", "pull",
    "digest",
];

type Headers<'a> = &'a [(&'static str, &'a str)];

async fn node() -> FakeNode {
    let node = FakeNode::new("a");
    let ring = ring_of(&[("a", "127.0.0.1:1")], &["a"], None);
    node.install(ring).await;
    node
}

/// What a call of these headers is answered on every path.
async fn statuses(headers: Headers<'_>, body: &'static [u8]) -> Vec<u16> {
    let node = web::Data::new(node().await.peer_handle());
    let app = init_service(App::new().app_data(node).configure(configure)).await;
    let mut statuses = Vec::new();
    for path in PATHS {
        let uri = format!("/peer/v1/{path}");
        let call = TestRequest::default().method(Method::POST).uri(&uri);
        let call = headers.iter().fold(call, |c, h| c.insert_header(*h));
        let answer = call_service(&app, call.set_payload(body).to_request()).await;
        statuses.push(answer.status().as_u16());
    }
    statuses
}

#[actix::test]
async fn every_call_shows_the_proof_the_protocol_and_the_cluster() {
    let (proof, wrong) = (proof(), PeerProof::of(b"another secret"));
    let (ours, other) = ("0000000000000001", "0000000000000002");
    let all = |status| vec![status; PATHS.len()];
    let rows: [(&str, Headers<'_>, u16); 6] = [
        ("nothing", &[], 401),
        ("no proof", &[(PROTOCOL_HEADER, PROTOCOL)], 401),
        (
            "wrong proof",
            &[(PROOF_HEADER, wrong.as_str()), (PROTOCOL_HEADER, PROTOCOL)],
            401,
        ),
        ("no protocol", &[(PROOF_HEADER, proof.as_str())], 426),
        (
            "wrong protocol",
            &[(PROOF_HEADER, proof.as_str()), (PROTOCOL_HEADER, "0")],
            426,
        ),
        (
            "another cluster",
            &[
                (PROOF_HEADER, proof.as_str()),
                (PROTOCOL_HEADER, PROTOCOL),
                (CLUSTER_HEADER, other),
            ],
            421,
        ),
    ];
    for (name, headers, status) in rows {
        assert_eq!(statuses(headers, b"").await, all(status), "{name}");
    }
    let known = [
        (PROOF_HEADER, proof.as_str()),
        (PROTOCOL_HEADER, PROTOCOL),
        (CLUSTER_HEADER, ours),
    ];
    // Only what has no body is answered to one that is no message.
    let expected: Vec<u16> = PATHS
        .map(|path| {
            if ["ping", "ring/get"].contains(&path) {
                200
            } else {
                400
            }
        })
        .into();
    for noise in [b"\xc1".as_slice(), b"", b"{}"] {
        assert_eq!(statuses(&known, noise).await, expected, "{noise:?}");
    }
    let newcomer = &known[..2];
    assert_eq!(
        statuses(newcomer, b"\xc1").await,
        expected,
        "without a cluster yet"
    );
}

/// A call of `b` with this version of the protocol; gives status and body.
async fn greeted(protocol: &str, body: Bytes) -> (u16, Bytes) {
    let node = FakeNode::new("a");
    let at = [("a", "127.0.0.1:1"), ("b", "127.0.0.1:2")];
    let mut ring = ring_of(&at, &["a", "b"], None);
    ring.members[1].data_id = 2;
    node.install(ring).await;
    let node = web::Data::new(node.peer_handle());
    let app = init_service(App::new().app_data(node).configure(configure)).await;
    let proof = proof();
    let call = TestRequest::post().uri("/peer/v1/hello");
    let call = call.insert_header((PROOF_HEADER, proof.as_str()));
    let call = call.insert_header((PROTOCOL_HEADER, protocol));
    let answer = call_service(&app, call.set_payload(body).to_request()).await;
    (answer.status().as_u16(), read_body(answer).await)
}

#[actix::test]
async fn a_node_of_the_minor_version_before_is_greeted_back() {
    let body = golden(include_str!("../../../tests/golden/hello-call-v1.hex"));
    let (status, answer) = greeted(PROTOCOL, body).await;
    assert_eq!(status, 200, "{answer:?}");
    match rmp_serde::from_slice(&answer).unwrap() {
        HelloReply::Hello { program, .. } => assert_eq!(program, Some(Program::own())),
        refused @ HelloReply::Refused(_) => panic!("{refused:?}"),
    }
}

#[actix::test]
async fn a_node_of_another_major_version_is_told_that_they_cannot_work_together() {
    let body = golden(include_str!("../../../tests/golden/hello-call-v1.hex"));
    let (status, answer) = greeted("2", body).await;
    let text = String::from_utf8(answer.to_vec()).unwrap();
    assert_eq!(status, 426, "{text}");
    let ours = format!("runs quorate {}", env!("CARGO_PKG_VERSION"));
    for part in [
        ours.as_str(),
        "version 1 of",
        "the caller version 2",
        "cannot work together",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}
