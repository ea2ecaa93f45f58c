//! The peer listener: what nodes ask of each other. Every call shows the cluster's proof and, once
//! there is one, the cluster it is about.

#[cfg(test)]
mod tests;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actors::admin_handle::AdminHandle;
use crate::actors::anti_entropy::{AnswerKeys, AnswerLeaves, AnswerRoots, AnswerSync};
use crate::actors::figures;
use crate::actors::link::{CLUSTER_HEADER, PROOF_HEADER, PROTOCOL_HEADER};
use crate::actors::peer_handle::{GoingDown, PeerHandle};
use crate::actors::reaper::{AnswerReap, AnswerSteady};
use crate::actors::surveyor::{LimitOwn, OwnBurden, OwnTransfers};
use crate::dynamo::quorum::Fault;
use crate::limits::MAX_PEER_MESSAGE_BYTES;
use crate::wire::peer::{Batch, PROTOCOL};
use crate::wire::ring::decode_ring;

/// Mounts the routes.
pub fn configure(config: &mut web::ServiceConfig) {
    config
        .app_data(web::PayloadConfig::new(MAX_PEER_MESSAGE_BYTES))
        .route("/peer/v1/batch", web::post().to(batch))
        .route("/peer/v1/ping", web::post().to(ping))
        .route("/peer/v1/ring/get", web::post().to(ring))
        .route("/peer/v1/ring", web::post().to(install))
        .route("/peer/v1/hello", web::post().to(hello))
        .route("/peer/v1/found", web::post().to(found))
        .route("/peer/v1/predict", web::post().to(predict))
        .route("/peer/v1/accept", web::post().to(accept))
        .route("/peer/v1/flip", web::post().to(flip))
        .route("/peer/v1/pull", web::post().to(pull))
        .route("/peer/v1/digest", web::post().to(digest))
        .route("/peer/v1/merkle/roots", web::post().to(roots))
        .route("/peer/v1/merkle/leaves", web::post().to(leaves))
        .route("/peer/v1/merkle/keys", web::post().to(keys))
        .route("/peer/v1/merkle/sync", web::post().to(sync))
        .route(figures::PATH, web::post().to(figures))
        .route("/peer/v1/steady", web::post().to(steady))
        .route("/peer/v1/reap", web::post().to(reap))
        .route("/peer/v1/transfers", web::post().to(transfers))
        .route("/peer/v1/burden", web::post().to(burden))
        .route("/peer/v1/limit", web::post().to(limit));
}

type Node = web::Data<PeerHandle>;

async fn batch(node: Node, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    if let Some(refused) = refusal(&node, &request) {
        return refused;
    }
    let Ok(batch) = Batch::decode(&body) else {
        return malformed();
    };
    match node.batch(batch).await {
        Ok(reply) => encoded(reply.encode()),
        Err(GoingDown) => going_down(),
    }
}

async fn ping(node: Node, request: HttpRequest) -> HttpResponse {
    refusal(&node, &request).unwrap_or_else(|| HttpResponse::Ok().finish())
}

async fn ring(node: Node, request: HttpRequest) -> HttpResponse {
    if let Some(refused) = refusal(&node, &request) {
        return refused;
    }
    match node.ring() {
        Ok(ring) => HttpResponse::Ok().body(ring),
        Err(error) => refuse(StatusCode::CONFLICT, &error.to_string()),
    }
}

async fn install(node: Node, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    if let Some(refused) = refusal(&node, &request) {
        return refused;
    }
    let Ok(ring) = decode_ring(&body) else {
        return malformed();
    };
    outcome(node.install(ring).await)
}

async fn hello(node: Node, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    match decoded(&node, &request, &body) {
        Ok(call) => encode_or_down(node.hello(call).await),
        Err(refused) => *refused,
    }
}

async fn found(node: Node, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    match decoded(&node, &request, &body) {
        Ok(call) => encode_or_down(node.found(call).await),
        Err(refused) => *refused,
    }
}

async fn predict(node: Node, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    match decoded(&node, &request, &body) {
        Ok(call) => outcome(node.predict(call).await),
        Err(refused) => *refused,
    }
}

async fn accept(node: Node, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    match decoded(&node, &request, &body) {
        Ok(call) => outcome(node.accept(call).await),
        Err(refused) => *refused,
    }
}

async fn flip(node: Node, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    match decoded(&node, &request, &body) {
        Ok(call) => outcome(node.flip(call).await),
        Err(refused) => *refused,
    }
}

async fn pull(node: Node, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    match decoded(&node, &request, &body) {
        Ok(call) => compared(node.pull(call).await),
        Err(refused) => *refused,
    }
}

async fn digest(node: Node, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    match decoded(&node, &request, &body) {
        Ok(call) => compared(node.digest(call).await),
        Err(refused) => *refused,
    }
}

async fn roots(node: Node, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    match decoded(&node, &request, &body) {
        Ok(call) => compared(node.compare(AnswerRoots(call)).await),
        Err(refused) => *refused,
    }
}

async fn leaves(node: Node, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    match decoded(&node, &request, &body) {
        Ok(call) => compared(node.compare(AnswerLeaves(call)).await),
        Err(refused) => *refused,
    }
}

async fn keys(node: Node, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    match decoded(&node, &request, &body) {
        Ok(call) => compared(node.compare(AnswerKeys(call)).await),
        Err(refused) => *refused,
    }
}

async fn sync(node: Node, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    match decoded(&node, &request, &body) {
        Ok(call) => compared(node.compare(AnswerSync(call)).await),
        Err(refused) => *refused,
    }
}

async fn steady(node: Node, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    match decoded(&node, &request, &body) {
        Ok(call) => compared(node.reaping(AnswerSteady(call)).await),
        Err(refused) => *refused,
    }
}

async fn reap(node: Node, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    match decoded(&node, &request, &body) {
        Ok(call) => compared(node.reaping(AnswerReap(call)).await),
        Err(refused) => *refused,
    }
}

async fn transfers(node: Node, request: HttpRequest) -> HttpResponse {
    match refusal(&node, &request) {
        Some(refused) => refused,
        None => encode_or_down(node.survey(OwnTransfers).await),
    }
}

async fn burden(node: Node, request: HttpRequest) -> HttpResponse {
    match refusal(&node, &request) {
        Some(refused) => refused,
        None => encode_or_down(node.survey(OwnBurden).await),
    }
}

async fn limit(node: Node, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    match decoded(&node, &request, &body) {
        Ok(limits) => encode_or_down(node.survey(LimitOwn(limits)).await),
        Err(refused) => *refused,
    }
}

/// For the page that another node shows to an operator.
async fn figures(node: Node, asked: web::Data<AdminHandle>, request: HttpRequest) -> HttpResponse {
    match refusal(&node, &request) {
        Some(refused) => refused,
        None => encode_or_down(asked.figures().await),
    }
}

fn compared<T: Serialize>(reply: Result<Result<T, Fault>, GoingDown>) -> HttpResponse {
    outcome(reply.map(|reply| reply.map_err(Refusal)))
}

#[derive(Debug, thiserror::Error)]
#[error("refused: {0:?}")]
struct Refusal(Fault);

/// Refuses callers without the secret, of another protocol, or of another cluster.
fn refusal(node: &PeerHandle, request: &HttpRequest) -> Option<HttpResponse> {
    let header = |name| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    if !node.proof.accepts(header(PROOF_HEADER).unwrap_or_default()) {
        let message = "the caller does not know this cluster's secret";
        return Some(refuse(StatusCode::UNAUTHORIZED, message));
    }
    if header(PROTOCOL_HEADER) != Some(PROTOCOL) {
        let (version, theirs) = (
            env!("CARGO_PKG_VERSION"),
            header(PROTOCOL_HEADER).unwrap_or("none"),
        );
        let message = format!(
            "this node runs quorate {version}, which speaks version {PROTOCOL} of the peer \
            protocol, and the caller version {theirs}: they cannot work together"
        );
        return Some(refuse(StatusCode::UPGRADE_REQUIRED, &message));
    }
    match (header(CLUSTER_HEADER), node.cluster()) {
        (Some(theirs), Some(ours)) if theirs != ours.to_string() => {
            let message = format!("this node belongs to cluster {ours}");
            Some(refuse(StatusCode::MISDIRECTED_REQUEST, &message))
        }
        _ => None,
    }
}

fn decoded<T: DeserializeOwned>(
    node: &PeerHandle,
    request: &HttpRequest,
    body: &[u8],
) -> Result<T, Box<HttpResponse>> {
    match refusal(node, request) {
        Some(refused) => Err(Box::new(refused)),
        None => rmp_serde::from_slice(body).map_err(|_malformed| Box::new(malformed())),
    }
}

fn outcome<T: Serialize, E: std::error::Error>(
    outcome: Result<Result<T, E>, GoingDown>,
) -> HttpResponse {
    match outcome {
        Ok(Ok(reply)) => encoded(rmp_serde::to_vec_named(&reply)),
        Ok(Err(error)) => refuse(StatusCode::CONFLICT, &error.to_string()),
        Err(GoingDown) => going_down(),
    }
}

fn encode_or_down<T: Serialize>(reply: Result<T, GoingDown>) -> HttpResponse {
    match reply {
        Ok(reply) => encoded(rmp_serde::to_vec_named(&reply)),
        Err(GoingDown) => going_down(),
    }
}

fn encoded(bytes: Result<Vec<u8>, rmp_serde::encode::Error>) -> HttpResponse {
    match bytes {
        Ok(bytes) => HttpResponse::Ok()
            .content_type("application/msgpack")
            .body(bytes),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn malformed() -> HttpResponse {
    refuse(
        StatusCode::BAD_REQUEST,
        "not a message of the peer protocol",
    )
}

fn going_down() -> HttpResponse {
    refuse(StatusCode::SERVICE_UNAVAILABLE, &GoingDown.to_string())
}

fn refuse(status: StatusCode, message: &str) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/plain; charset=utf-8")
        .body(message.to_owned())
}
