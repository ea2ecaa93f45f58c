//! The admin listener: what operators ask. Loopback, or behind a token.

mod background;
mod cluster;
mod guard;
mod log_level;
mod merkle;
mod metrics;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use actix_web::body::{BoxBody, EitherBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::{Next, from_fn};
use actix_web::web::Payload;
use actix_web::{
    App, Error, HttpRequest, HttpResponse, ResponseError, Route, body::MessageBody, dev, web,
};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use sha2::{Digest, Sha256};

use super::api_error::ApiError;
use super::headers::correlate;
use super::key_path::key_below;
use super::{body, console_api};
use crate::actors::admin_handle::AdminHandle;
use crate::actors::handle::Readiness;
use crate::dynamo::key::Partition;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{Member, Ring};
use crate::dynamo::version::{Actor, Body, Context, Sibling};
use crate::limits::Limits;
use crate::logging::LevelName;
use crate::metrics::requests::RequestCounts;

/// What the handlers of one worker need.
#[derive(Clone)]
pub struct AdminApi {
    /// The door to the node.
    pub node: AdminHandle,
    /// Shown in the status.
    pub limits: Limits,
    /// R.
    pub read_quorum: usize,
    /// SHA-256 of what an operator must show, if anything.
    pub token: Option<[u8; 32]>,
    /// Where others reach this listener; without a token, the only name that it answers to beside
    /// numbers and `localhost`.
    pub advertised: String,
    /// Where answers are counted, on this listener and the clients'.
    pub requests: Arc<RequestCounts>,
}

/// What a token is compared by.
#[must_use]
pub fn digest(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// The application for one worker of the admin listener.
pub fn app(
    api: AdminApi,
) -> App<
    impl dev::ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = Error,
        InitError = (),
    >,
> {
    App::new()
        .app_data(web::Data::from(api.requests.clone()))
        .app_data(web::Data::new(api))
        .wrap(from_fn(authorise))
        .wrap(from_fn(correlate))
        .service(
            web::resource("/status")
                .get(status)
                .default_service(only("GET")),
        )
        .service(
            web::resource("/ring")
                .get(ring)
                .default_service(only("GET")),
        )
        .service(
            web::resource("/ring/{key}")
                .get(home)
                .default_service(only("GET")),
        )
        .service(
            web::resource("/replica/{key}")
                .get(replica)
                .default_service(only("GET")),
        )
        .service(
            web::resource("/merkle")
                .get(merkle::merkle)
                .default_service(only("GET")),
        )
        .service(
            web::resource("/log-level")
                .get(log_level::show)
                .put(log_level::set)
                .default_service(only("GET, PUT")),
        )
        .service(
            web::resource("/metrics")
                .get(metrics::metrics)
                .default_service(only("GET")),
        )
        .service(
            web::resource("/background")
                .get(background::show)
                .put(background::limit)
                .default_service(only("GET, PUT")),
        )
        .service(web::scope("/cluster").configure(cluster::configure))
        .default_service(web::to(nothing_here))
}

type Api = web::Data<AdminApi>;

async fn authorise(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody, BoxBody>>, Error> {
    let refused = match request.app_data::<Api>() {
        Some(api) if !console_api::is_asset(request.path()) => {
            let asked = guard::Asked {
                headers: request.headers(),
                is_safe: matches!(*request.method(), Method::GET | Method::HEAD),
            };
            asked.check(api).err()
        }
        Some(_) | None => None,
    };
    match refused {
        None => Ok(next.call(request).await?.map_into_left_body()),
        Some(refused) => {
            let refusal = refused.error_response();
            Ok(request.into_response(refusal).map_into_right_body())
        }
    }
}

async fn status(api: Api) -> HttpResponse {
    let node = &api.node;
    let (Ok(store), Ok(entropy)) = (node.store().await, node.entropy().await) else {
        return going_down();
    };
    let (Ok(reaping), Ok(quarantine)) = (node.reaping().await, node.quarantine().await) else {
        return going_down();
    };
    let Ok(background) = node.background.status().await else {
        return going_down();
    };
    let view = api.node.view();
    let (depth, capacity) = api.node.in_flight();
    let ring = view.ring.as_deref();
    let members: Vec<Value> = ring
        .iter()
        .flat_map(|ring| ring.members.iter().map(|m| member(&api, ring, m)))
        .collect();
    let more = json!({
        "incarnation": store.incarnation,
        "boot": store.boot,
        "members": members,
        "queues": {
            "client": {"depth": depth, "capacity": capacity},
            "store": {"depth": store.depth, "capacity": store.capacity},
        },
        "keys": store.keys,
        "tombstones": store.tombstones,
        "hints": store.hints,
        "bytes": store.bytes,
        "store": {
            "durability": store.durability,
            "operations": store.operations,
            "commits": store.commits,
            "syncs": store.syncs,
            "damaged": store.damaged,
            "mended": store.mended,
        },
        "anti_entropy": entropy,
        "reaping": reaping,
        "quarantine": quarantine,
        "reads": api.node.reads(),
        "background": background,
        "log": {"level": LevelName(node.logs.level()).as_str(), "lost": node.logs.lost()},
        "limits": api.limits,
    });
    let of_ring = |ring: &Ring| {
        json!({
            "waiting_for": awaited(&api, ring),
            "down": names(&ring.affairs.down),
            "under_replicated": ring.members.len() < ring.replicas,
        })
    };
    line(&with(standing(&api, ring, of_ring), more))
}

/// What a node says of itself wherever it is asked: who it is, how far it has come, and its ring,
/// with what else of that is asked for.
pub(super) fn standing(
    api: &AdminApi,
    ring: Option<&Ring>,
    more_of_it: impl Fn(&Ring) -> Value,
) -> Value {
    let of_ring = |ring: &Ring| {
        let always = json!({
            "epoch": ring.epoch,
            "hash": ring.hash().to_string(),
            "moving": ring.moving(),
            "staged": ring.affairs.staged.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        with(always, more_of_it(ring))
    };
    let (view, life) = (api.node.view(), api.node.life());
    json!({
        "node": view.me.as_str(),
        "version": env!("CARGO_PKG_VERSION"),
        "state": view.state(life.state).to_string(),
        "waiting_for": life.waiting,
        "cluster": ring.map(|ring| ring.cluster.to_string()),
        "ring": ring.map(of_ring),
    })
}

/// Two objects as one; what both have is as the second has it.
pub(super) fn with(mut object: Value, more: Value) -> Value {
    if let (Value::Object(all), Value::Object(more)) = (&mut object, more) {
        all.extend(more);
    }
    object
}

/// The members that do not answer this node and without which a move cannot end: those that have
/// something to pull, and, where the others are no majority, those that have a vote.
fn awaited<'a>(api: &AdminApi, ring: &'a Ring) -> BTreeSet<&'a str> {
    let away = |id: &&NodeId| {
        let health = api.node.health_of(id);
        health.is_some_and(|health| !health.is_reachable())
    };
    let gainers = ring.gainers().into_iter().filter(away);
    let voters = ring.voters().map(|member| &member.id);
    let (mute, heard): (Vec<_>, Vec<_>) = voters.partition(away);
    let mute = mute
        .into_iter()
        .filter(|_| ring.is_moving() && heard.len() <= ring.voters().count() / 2);
    gainers.chain(mute).map(NodeId::as_str).collect()
}

/// A member, as this node knows it.
pub(super) fn member(api: &AdminApi, ring: &Ring, member: &Member) -> Value {
    let health = api.node.health_of(&member.id);
    let life = api.node.life();
    let version = match life.programs.get(&member.id) {
        Some(program) => program.as_ref().map(|program| program.version.as_str()),
        None => health.is_none().then_some(env!("CARGO_PKG_VERSION")),
    };
    let latency = health.as_ref().map(|health| health.latency().as_micros());
    json!({
        "name": member.id.as_str(),
        "state": api.node.state_of(ring, &member.id).to_string(),
        "version": version,
        "zone": member.zone,
        "weight": member.weight,
        "client": member.addresses.client,
        "admin": member.addresses.admin,
        "peer": member.addresses.peer,
        "reachable": health.as_ref().is_none_or(|health| health.is_reachable()),
        "preferred": health.as_ref().is_none_or(|health| health.is_preferred()),
        "latency_us": latency,
        "queued": health.as_ref().map_or(0, |health| health.queued()),
    })
}

#[derive(Serialize)]
struct RingAnswer<'a> {
    epoch: u64,
    hash: String,
    partitions: Vec<Vec<&'a str>>,
    incoming: Vec<(u16, Vec<&'a str>)>,
    crowded: Vec<u16>,
}

async fn ring(api: Api) -> Result<HttpResponse, ApiError> {
    let view = api.node.view();
    let Some(ring) = view.ring.as_deref() else {
        return Err(ApiError::NotReady(Readiness::New));
    };
    let moving = (0..).zip(&ring.placements);
    let moving = moving.filter_map(|(p, row)| row.incoming.as_ref().map(|to| (p, names(to))));
    Ok(line(&RingAnswer {
        epoch: ring.epoch,
        hash: ring.hash().to_string(),
        partitions: ring
            .placements
            .iter()
            .map(|row| names(&row.owners))
            .collect(),
        incoming: moving.collect(),
        crowded: ring.crowded().map(Partition::number).collect(),
    }))
}

fn names(ids: &[NodeId]) -> Vec<&str> {
    ids.iter().map(NodeId::as_str).collect()
}

async fn home(request: HttpRequest, api: Api) -> Result<HttpResponse, ApiError> {
    let key = key_below("/ring/", request.uri().path())?;
    let view = api.node.view();
    let Some(ring) = view.ring.as_deref() else {
        return Err(ApiError::NotReady(Readiness::New));
    };
    let partition = key.hash().partition();
    let row = ring.placement(partition);
    Ok(line(&json!({
        "partition": partition.number(),
        "hash": format!("{:016x}", key.hash().as_u64()),
        "owners": names(&row.owners),
        "incoming": row.incoming.as_deref().map(names),
        "fallbacks": names(&ring.fallbacks(partition)),
    })))
}

#[derive(Serialize)]
struct ReplicaAnswer<'a> {
    siblings: Vec<SiblingAnswer<'a>>,
    context: Value,
}

#[derive(Serialize)]
struct SiblingAnswer<'a> {
    dot: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tombstone: bool,
}

async fn replica(request: HttpRequest, api: Api) -> Result<HttpResponse, ApiError> {
    let key = key_below("/replica/", request.uri().path())?;
    let Ok(held) = api.node.replica(&key) else {
        return Ok(going_down());
    };
    let state = held.unwrap_or_default();
    let siblings = state.siblings.iter().map(sibling).collect();
    let answer = ReplicaAnswer {
        siblings,
        context: context(&state.context),
    };
    Ok(line(&answer))
}

fn sibling(sibling: &Sibling) -> SiblingAnswer<'_> {
    let dot = dot(sibling);
    match &sibling.body {
        Body::Value(value) => {
            let value = serde_json::from_slice(value).ok();
            SiblingAnswer {
                dot,
                value,
                tombstone: false,
            }
        }
        Body::Tombstone => SiblingAnswer {
            dot,
            value: None,
            tombstone: true,
        },
    }
}

/// The write that made a sibling.
pub(super) fn dot(sibling: &Sibling) -> String {
    format!("{}.{}", actor(&sibling.dot.actor), sibling.dot.n)
}

fn actor(actor: &Actor) -> String {
    format!("{}.{}", actor.incarnation, actor.epoch)
}

fn context(context: &Context) -> Value {
    let vector = context.vector().iter().map(|(a, n)| (actor(a), json!(n)));
    let cloud = context
        .cloud()
        .iter()
        .map(|d| format!("{}.{}", actor(&d.actor), d.n));
    json!({
        "vector": vector.collect::<serde_json::Map<_, _>>(),
        "cloud": cloud.collect::<Vec<_>>(),
    })
}

/// What any method but these is answered.
pub(super) fn only(methods: &'static str) -> Route {
    web::to(move || std::future::ready(Err::<HttpResponse, _>(ApiError::MethodNotAllowed(methods))))
}

/// A body of at most so many bytes that says it is JSON.
async fn json_body(
    request: &HttpRequest,
    payload: Payload,
    (api, limit): (&Api, usize),
) -> Result<Bytes, ApiError> {
    let timeout = api.limits.body_timeout;
    let body = body::read(request.headers(), payload, limit, timeout).await?;
    body::check_declared(request.headers())?;
    Ok(body)
}

async fn nothing_here() -> Result<HttpResponse, ApiError> {
    Err(ApiError::NoSuchResource)
}

/// An answer, and the end of its line.
pub(super) fn line(answer: &impl Serialize) -> HttpResponse {
    match serde_json::to_vec(answer) {
        Ok(mut body) => {
            body.push(b'\n');
            HttpResponse::Ok()
                .content_type("application/json")
                .body(body)
        }
        Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
    }
}

/// The node is about to stop.
pub(super) fn going_down() -> HttpResponse {
    ApiError::NotReady(Readiness::Draining).error_response()
}
