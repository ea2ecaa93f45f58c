//! `/background`: how work that no client waits for is doing, and how fast it may go.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU64;

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::{Api, going_down, json_body, line};
use crate::actors::background::{BackgroundStatus, Kind, SetLimits};
use crate::actors::peer_handle::GoingDown;
use crate::http::api_error::{ApiError, Name};

/// Longest body: every kind with the longest number takes some 200 bytes.
const BODY_BYTES: usize = 4096;

pub(super) async fn show(api: Api) -> HttpResponse {
    shown(api.node.background.status().await)
}

pub(super) async fn limit(
    request: HttpRequest,
    payload: Payload,
    api: Api,
) -> Result<HttpResponse, ApiError> {
    let body = json_body(&request, payload, (&api, BODY_BYTES)).await?;
    let limits = limits_in(&body)?;
    Ok(shown(api.node.background.limit(limits).await))
}

fn shown(status: Result<BackgroundStatus, GoingDown>) -> HttpResponse {
    status.map_or_else(|GoingDown| going_down(), |s| line(&s))
}

fn limits_in(body: &[u8]) -> Result<SetLimits, ApiError> {
    match serde_json::from_slice::<Limits>(body) {
        Ok(Limits(limits)) => Ok(SetLimits(limits?)),
        Err(_no_object) => Err(ApiError::BodyInvalid),
    }
}

/// The limits of some kinds, or the first thing that is wrong with them.
struct Limits(Result<Vec<(Kind, Option<NonZeroU64>)>, ApiError>);

impl<'de> Deserialize<'de> for Limits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Collect)
    }
}

struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = Limits;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Limits, A::Error> {
        let mut limits = Ok(Vec::new());
        while let Some((name, value)) = map.next_entry::<Cow<'_, str>, Value>()? {
            limits = limits.and_then(|known| with(known, &name, &value));
        }
        Ok(Limits(limits))
    }
}

fn with(
    mut known: Vec<(Kind, Option<NonZeroU64>)>,
    name: &str,
    value: &Value,
) -> Result<Vec<(Kind, Option<NonZeroU64>)>, ApiError> {
    let named = || Name::of(name.as_bytes());
    let kind = Kind::named(name).ok_or_else(|| ApiError::FieldUnknown(named()))?;
    if known.iter().any(|(other, _)| *other == kind) {
        return Err(ApiError::FieldRepeated(named()));
    }
    let limit = value.as_u64().and_then(NonZeroU64::new);
    if limit.is_none() && !value.is_null() {
        return Err(ApiError::FieldInvalid(kind.as_str()));
    }
    known.push((kind, limit));
    Ok(known)
}
