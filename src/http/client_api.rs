//! The client API: `/v1/{key}`, the probes, and the contract itself.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderName;
use actix_web::http::{Method, StatusCode};
use actix_web::{
    App, Error, HttpMessage, HttpRequest, HttpResponse, ResponseError, middleware, web,
};
use bytes::Bytes;
use slog::{Logger, info};

use super::api_error::{ApiError, Shown};
use super::body;
use super::call::{Asked, Call};
use super::headers::{ACKS, Correlation, acks_text, correlate};
use super::key_path::key_of;
use super::rendering::{Object, read_answer};
use crate::actors::handle::{NodeHandle, Readiness};
use crate::actors::request::{Failure, Read, Write, WriteAnswer};
use crate::dynamo::key::Key;
use crate::dynamo::quorum::Acks;
use crate::dynamo::version::{Clock, WriteKind};
use crate::limits::Limits;
use crate::metrics::requests::RequestCounts;
use crate::wire::clock::ClockCodec;

/// The contract, as committed and as served.
pub const OPENAPI: &str = include_str!("../../docs/openapi.json");

const KEY_METHODS: &str = "GET, HEAD, POST, PUT, DELETE";
const PROBE_METHODS: &str = "GET, HEAD";

/// What the handlers of one worker need.
#[derive(Clone)]
pub struct ClientApi {
    /// The door to the node.
    pub node: NodeHandle,
    /// The bounds on what comes in.
    pub limits: Limits,
    /// For requests that are refused before the cluster is asked.
    pub log: Logger,
    /// Where answers are counted.
    pub requests: Arc<RequestCounts>,
}

/// The application for one worker of the client listener.
pub fn app(
    api: ClientApi,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = Error,
        InitError = (),
    >,
> {
    let probe = |path: &str| web::resource(path).default_service(web::to(only_probe));
    App::new()
        .app_data(web::Data::from(api.requests.clone()))
        .app_data(web::Data::new(api))
        .wrap(middleware::from_fn(correlate))
        .service(
            // A plain prefix: a pattern would be a regular expression, run for every request.
            web::scope("/v1").default_service(web::to(on_key)),
        )
        .service(probe("/livez").get(live).route(web::head().to(live)))
        .service(probe("/readyz").get(ready).route(web::head().to(ready)))
        .service(
            probe("/openapi.json")
                .get(openapi)
                .route(web::head().to(openapi)),
        )
        .default_service(web::to(nothing_here))
}

impl ClientApi {
    /// Makes and checks clocks, once the node belongs to a ring.
    pub(super) fn clocks(&self) -> Result<Arc<ClockCodec>, ApiError> {
        let clocks = self.node.clocks();
        clocks.ok_or_else(|| ApiError::NotReady(self.node.readiness()))
    }

    /// Sends a write to the cluster and answers with the clock of what came of it.
    async fn write(
        &self,
        call: Call,
        kind: WriteKind,
        asked: Asked,
    ) -> Result<(WriteAnswer, String), ApiError> {
        let clocks = self.clocks()?;
        let write = Write {
            kind,
            clock: asked.seen(&call.key, &clocks)?,
            request: call.request_id(kind, &asked),
            options: call.options(),
            value: asked.value,
            key: call.key.clone(),
        };
        match self.node.write(write).await {
            Ok(answer) => {
                let clock = clocks.encode(&call.key, &answer.clock);
                Ok((answer, clock))
            }
            Err(failure) => Err(self.refusal(failure, &call.key, &clocks)),
        }
    }

    fn refusal(&self, failure: Failure, key: &Key, clocks: &ClockCodec) -> ApiError {
        let shown = |state: crate::dynamo::version::State, acks| {
            let clock = clocks.encode(key, &Clock::of(&state));
            Box::new(Shown { state, clock, acks })
        };
        match failure {
            Failure::AlreadyExists(state, acks) => ApiError::AlreadyExists(shown(state, acks)),
            Failure::NotFound(seen, acks) => ApiError::NotFound(clocks.encode(key, &seen), acks),
            Failure::TooManySiblings(state, acks) => ApiError::TooManySiblings(shown(state, acks)),
            Failure::RequestReused => ApiError::IdempotencyKeyReused,
            Failure::QuorumNotMet(shortfall, applied) => ApiError::QuorumNotMet(shortfall, applied),
            Failure::DeadlineExceeded(applied) => ApiError::DeadlineExceeded(applied),
            Failure::Overloaded => ApiError::Overloaded,
            Failure::NotServing => ApiError::NotReady(self.node.readiness()),
            Failure::StorageFull(applied) => ApiError::StorageFull(applied),
        }
    }
}

/// Serves a key.
pub(super) async fn on_key(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<ClientApi>,
) -> Result<HttpResponse, ApiError> {
    let again = request.clone();
    let answer = match *request.method() {
        Method::GET | Method::HEAD => get(request, payload, &api).await,
        Method::PUT => put(request, payload, &api).await,
        Method::POST => post(request, payload, &api).await,
        Method::DELETE => delete(request, payload, &api).await,
        _ => {
            let refused = match key_of(request.uri().path()) {
                Ok(_) => ApiError::MethodNotAllowed(KEY_METHODS),
                Err(no_key) => no_key,
            };
            refuse(&request, payload, &api.limits, refused).await
        }
    };
    answer.inspect_err(|error| tell(&api.log, &again, error))
}

/// Tells of a request that never became an operation; of those the coordinator tells.
fn tell(log: &Logger, request: &HttpRequest, error: &ApiError) {
    if error.is_about_the_request() {
        let correlation = request.extensions().get::<Correlation>().cloned();
        let correlation = correlation.unwrap_or_else(|| Correlation::of(request.headers()));
        let trace = correlation.trace();
        info!(log, "a request is refused"; "event.action" => "refused",
            "event.outcome" => "failure", "error.code" => error.code().as_str(),
            "trace.id" => trace.as_str(),
            "http.request.method" => request.method().as_str(),
            "http.response.status_code" => error.code().status().as_u16());
    }
}

async fn get(
    request: HttpRequest,
    payload: web::Payload,
    api: &ClientApi,
) -> Result<HttpResponse, ApiError> {
    let call = Call::receive(request, payload, &api.limits).await?;
    let clocks = api.clocks()?;
    let read = Read {
        key: call.key.clone(),
        options: call.options(),
    };
    let answer = match api.node.read(read).await {
        Ok(answer) => answer,
        Err(failure) => return Err(api.refusal(failure, &call.key, &clocks)),
    };
    let clock = clocks.encode(&call.key, &Clock::of(&answer.state));
    if answer.state.is_live() {
        let body = read_answer(&answer.state, &clock);
        Ok(met(StatusCode::OK, answer.acks, body))
    } else {
        Err(ApiError::NotFound(clock, answer.acks))
    }
}

async fn post(
    request: HttpRequest,
    payload: web::Payload,
    api: &ClientApi,
) -> Result<HttpResponse, ApiError> {
    let call = Call::receive(request, payload, &api.limits).await?;
    let asked = call.create(&api.limits)?;
    let (answer, clock) = api.write(call, WriteKind::Create, asked).await?;
    let body = message("Created", &clock).finish();
    Ok(met(StatusCode::CREATED, answer.acks, body))
}

async fn put(
    request: HttpRequest,
    payload: web::Payload,
    api: &ClientApi,
) -> Result<HttpResponse, ApiError> {
    let call = Call::receive(request, payload, &api.limits).await?;
    let asked = call.put(&api.limits)?;
    let (answer, clock) = api.write(call, WriteKind::Put, asked).await?;
    let body = message("Updated", &clock).number("siblings", answer.siblings);
    Ok(met(StatusCode::OK, answer.acks, body.finish()))
}

async fn delete(
    request: HttpRequest,
    payload: web::Payload,
    api: &ClientApi,
) -> Result<HttpResponse, ApiError> {
    let call = Call::receive(request, payload, &api.limits).await?;
    let asked = call.delete(&api.limits)?;
    let (answer, clock) = api.write(call, WriteKind::Delete, asked).await?;
    let body = message("Deleted", &clock).finish();
    Ok(met(StatusCode::OK, answer.acks, body))
}

async fn live() -> HttpResponse {
    json(
        StatusCode::OK,
        Bytes::from_static(b"{\"status\":\"live\"}\n"),
    )
}

async fn ready(api: web::Data<ClientApi>) -> HttpResponse {
    match api.node.readiness() {
        Readiness::Ready => json(
            StatusCode::OK,
            Bytes::from_static(b"{\"status\":\"ready\"}\n"),
        ),
        reason @ (Readiness::New
        | Readiness::Pending
        | Readiness::Leaving
        | Readiness::NoQuorum
        | Readiness::Draining) => ApiError::NotReady(reason).error_response(),
    }
}

async fn openapi() -> HttpResponse {
    json(StatusCode::OK, Bytes::from_static(OPENAPI.as_bytes()))
}

async fn only_probe(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<ClientApi>,
) -> Result<HttpResponse, ApiError> {
    refuse(
        &request,
        payload,
        &api.limits,
        ApiError::MethodNotAllowed(PROBE_METHODS),
    )
    .await
}

async fn nothing_here(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<ClientApi>,
) -> Result<HttpResponse, ApiError> {
    refuse(&request, payload, &api.limits, ApiError::NoSuchResource).await
}

/// Reads the body off the connection, so that it outlives the refusal.
async fn refuse(
    request: &HttpRequest,
    payload: web::Payload,
    limits: &Limits,
    refusal: ApiError,
) -> Result<HttpResponse, ApiError> {
    let (limit, timeout) = (limits.body_bytes(), limits.body_timeout);
    body::read(request.headers(), payload, limit, timeout).await?;
    Err(refusal)
}

fn message(text: &str, clock: &str) -> Object {
    let frame = "{\"message\":\"\",\"clock\":\"\",\"siblings\":100}\n";
    let capacity = frame.len() + text.len() + clock.len();
    let object = Object::with_capacity(capacity);
    object.plain("message", text).plain("clock", clock)
}

fn met(status: StatusCode, acks: Acks, body: Bytes) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("application/json")
        .insert_header((HeaderName::from_static(ACKS), acks_text(acks)))
        .body(body)
}

fn json(status: StatusCode, body: Bytes) -> HttpResponse {
    let mut response = HttpResponse::build(status);
    response.content_type("application/json").body(body)
}
