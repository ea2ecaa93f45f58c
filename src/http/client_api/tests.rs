//! What the client listener does not serve.

use std::sync::Arc;

use actix::Actor;
use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
use arc_swap::ArcSwapOption;
use serde_json::Value;
use tokio::sync::watch;

use super::*;
use crate::actors::action_log::ActionLog;
use crate::actors::admission::{Admission, Deadlines, InFlight};
use crate::actors::background::tests::background;
use crate::actors::fake::{Stage, key, quiet};
use crate::actors::request::Applied;
use crate::dynamo::quorum::Shortfall;
use crate::dynamo::ring::ClusterId;
use crate::dynamo::version::{Clock, State};

fn api(stage: &Stage) -> ClientApi {
    let limits = Limits::default();
    let deadlines = Deadlines {
        read: limits.read_deadline,
        write: limits.write_deadline,
    };
    let in_flight = InFlight::at_most(9);
    let worker = stage.worker.clone();
    let door = Admission::new(
        worker,
        in_flight,
        deadlines,
        (background(), ActionLog::off()),
        1,
    )
    .start();
    let (_tell, readiness) = watch::channel(Readiness::Ready);
    let clocks = Arc::new(ArcSwapOption::empty());
    let node = NodeHandle::new(
        door.clone().recipient(),
        door.recipient(),
        clocks,
        readiness,
    );
    let log = quiet();
    ClientApi {
        node,
        limits,
        log,
        requests: Arc::default(),
    }
}

/// The log and the client are told the same.
#[actix::test]
async fn every_failure_has_one_name_for_clients_and_logs() {
    let api = api(&Stage::new(&["a"], None));
    let (key, clocks) = (
        key("k"),
        ClockCodec::new(b"a secret of some length", ClusterId(1)),
    );
    let (state, acks) = (State::default(), Acks::default());
    let short = Shortfall { needed: 2, got: 1 };
    let all = [
        Failure::AlreadyExists(state.clone(), acks),
        Failure::NotFound(Clock::of(&state), acks),
        Failure::TooManySiblings(state, acks),
        Failure::RequestReused,
        Failure::QuorumNotMet(short, Applied::No),
        Failure::QuorumNotMet(short, Applied::Unknown),
        Failure::DeadlineExceeded(Applied::Unknown),
        Failure::Overloaded,
        Failure::NotServing,
        Failure::StorageFull(Applied::Unknown),
    ];
    for failure in all {
        let (code, applied) = (failure.code(), failure.applied());
        let told = api.refusal(failure, &key, &clocks);
        assert_eq!(told.code().as_str(), code);
        assert_eq!(
            told.outcome() == "unknown",
            applied == Applied::Unknown,
            "{code}"
        );
        assert!(!told.is_about_the_request(), "{code}");
    }
    assert!(ApiError::ClockRequired.is_about_the_request());
}

/// Seed defect 11: routes between nodes were open to every client.
#[actix::test]
async fn seed_defect_11_no_internal_route_on_the_client_listener() {
    let mut stage = Stage::new(&["a"], None);
    let app = init_service(app(api(&stage))).await;
    let paths = [
        "/peer/v1/batch",
        "/peer/v1/ping",
        "/peer/v1/ring",
        "/peer/v1/pull",
        "/peer/v1/hello",
        "/status",
        "/ring",
        "/ring/k",
        "/replica/k",
        "/metrics",
        "/",
    ];
    for path in paths {
        for call in [TestRequest::get(), TestRequest::post()] {
            let answer = call_service(&app, call.uri(path).to_request()).await;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
            let body: Value = read_body_json(answer).await;
            assert_eq!(body["code"], "no_such_resource", "{path}");
        }
    }
    stage.assert_quiet();
}
