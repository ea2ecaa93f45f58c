//! `/explore?key=`: where a key lives, what each replica holds of it, and what a read makes of
//! that. Values are given as text, because not every JSON number is one in a browser.

use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::ConsoleApi;
use crate::actors::handle::Readiness;
use crate::actors::holders::{Holding, Role};
use crate::actors::request::{Options, Read};
use crate::dynamo::key::{Key, KeyError};
use crate::dynamo::quorum::Fault;
use crate::dynamo::version::{Body, Clock, Sibling};
use crate::http::admin_api::{AdminApi, dot, line};
use crate::http::api_error::{ApiError, Name};
use crate::http::client_api::ClientApi;
use crate::http::headers::{Correlation, acks_text};
use crate::http::percent;
use crate::metrics::counter::Label;
use crate::wire::trace::TraceId;

/// What is shown of one value on one replica.
const GLANCE_BYTES: usize = 4 * 1024;
/// What is shown of all values of a read together; the rest is cut.
const READ_BYTES: usize = 4 * 1024 * 1024;

pub(super) async fn explore(
    request: HttpRequest,
    api: web::Data<AdminApi>,
    console: web::Data<ConsoleApi>,
    records: web::Data<ClientApi>,
) -> Result<HttpResponse, ApiError> {
    let key = key_in(request.uri().query())?;
    let correlation = request.extensions().get::<Correlation>().cloned();
    let correlation = correlation.unwrap_or_else(|| Correlation::of(request.headers()));
    let view = api.node.view();
    let ring = view.ring.as_deref();
    let ring = ring.ok_or(ApiError::NotReady(Readiness::New))?;
    let partition = key.hash().partition();
    // First, because a read repairs what differs.
    let holdings = console.worker.holdings(&key, ring).await;
    let read = read(&records, &key, correlation.trace()).await?;
    Ok(line(&json!({
        "partition": partition.number(),
        "hash": format!("{:016x}", key.hash().as_u64()),
        "epoch": ring.epoch,
        "replicas": holdings.iter().map(holding).collect::<Vec<_>>(),
        "read": read,
    })))
}

async fn read(records: &ClientApi, key: &Key, trace: TraceId) -> Result<Value, ApiError> {
    let clocks = records.clocks()?;
    let read = Read {
        key: key.clone(),
        options: Options {
            quorum: None,
            strict: false,
            trace,
        },
    };
    let began = Instant::now();
    let answer = records.node.read(read).await;
    let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(match answer {
        Ok(answer) => {
            let mut room = READ_BYTES;
            let live = answer.state.live();
            let siblings = live.iter().map(|(sibling, value)| {
                let most = room;
                room = room.saturating_sub(value.len());
                value_shown(sibling, value, most)
            });
            let siblings: Vec<Value> = siblings.collect();
            json!({
                "outcome": if siblings.is_empty() { "not_found" } else { "done" },
                "took_us": took,
                "acks": acks_text(answer.acks),
                "clock": clocks.encode(key, &Clock::of(&answer.state)),
                "siblings": siblings,
            })
        }
        Err(failure) => json!({
            "outcome": failure.outcome().as_str(),
            "took_us": took,
            "acks": null,
            "clock": null,
            "siblings": [],
        }),
    })
}

fn holding(holding: &Holding) -> Value {
    let role = match holding.role {
        Role::Owner => "owner",
        Role::Incoming => "incoming",
        Role::Fallback => "fallback",
    };
    let siblings = holding.state.iter().flat_map(|state| &state.siblings);
    let siblings = siblings.map(|sibling| match &sibling.body {
        Body::Value(value) => value_shown(sibling, value, GLANCE_BYTES),
        Body::Tombstone => json!({ "dot": dot(sibling), "tombstone": true }),
    });
    json!({
        "node": holding.node.as_str(),
        "role": role,
        "why": holding.state.as_ref().err().map(|fault| why(*fault)),
        "siblings": siblings.collect::<Vec<_>>(),
    })
}

fn value_shown(sibling: &Sibling, value: &Bytes, most: usize) -> Value {
    let text = String::from_utf8_lossy(value);
    let end = text.floor_char_boundary(most.min(text.len()));
    json!({
        "dot": dot(sibling),
        "text": text.get(..end),
        "bytes": value.len(),
        "cut": end < text.len(),
    })
}

/// Why a replica shows nothing, in an operator's words.
fn why(fault: Fault) -> &'static str {
    match fault {
        Fault::StaleRing | Fault::RingBehind => "has another ring; look again",
        Fault::NotOwner => "does not own the partition",
        Fault::NotReady => "has not pulled the partition yet",
        Fault::Flipped => "has given the partition over to its new owners",
        Fault::Overloaded | Fault::Postponed => "has too much to do",
        Fault::StorageFull | Fault::HintsFull => "is full",
        Fault::Damaged => "has a damaged record, which will be mended",
        Fault::Unreachable | Fault::Broken | Fault::TimedOut => "does not answer",
    }
}

/// The key in the query, percent-decoded to bytes. Not in the path: a browser would take the keys
/// `.` and `..` for places.
fn key_in(query: Option<&str>) -> Result<Key, ApiError> {
    let query = query.unwrap_or_default();
    let (name, raw) = query.split_once('=').unwrap_or((query, ""));
    if name != "key" {
        return Err(ApiError::ParameterUnknown(Name::of(name.as_bytes())));
    }
    let decoded = percent::decode(raw.as_bytes()).ok_or(ApiError::KeyInvalid)?;
    Key::new(Bytes::from(decoded.into_owned())).map_err(|refused| match refused {
        KeyError::Empty => ApiError::ParameterInvalid("key"),
        KeyError::TooLong => ApiError::KeyTooLong,
    })
}
