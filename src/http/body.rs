//! Request bodies: read within bounds of size and time, then taken apart strictly. The value stays
//! the bytes that came in; it is never parsed into a tree and written again.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use actix_web::http::header::{self, HeaderMap};
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::StreamExt;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::api_error::{ApiError, Name};
use crate::limits::Limits;

/// The fields a call's body may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// `value`.
    Value,
    /// `value` and `clock`.
    ValueAndClock,
    /// `clock`.
    Clock,
}

/// What a body held.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// The raw JSON of `value`.
    pub(super) value: Option<Bytes>,
    /// `clock`.
    pub(super) clock: ClockField,
}

/// What stood in the `clock` field.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum ClockField {
    /// The field is not there.
    #[default]
    Absent,
    /// `null`.
    Null,
    /// A text, not yet looked at.
    Text(String),
    /// Anything else.
    Other,
}

/// Whether the head announces a body beyond the limit.
pub(super) fn announces_too_much(headers: &HeaderMap, limit: usize) -> bool {
    let announced = headers.get(header::CONTENT_LENGTH);
    let length = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    // A length that is no number, or beyond this machine's, is too much of anything.
    announced.is_some() && length.is_none_or(|length| length > limit)
}

/// The whole body, of at most `limit` bytes, if it comes in time.
pub(super) async fn read(
    headers: &HeaderMap,
    payload: Payload,
    limit: usize,
    timeout: Duration,
) -> Result<Bytes, ApiError> {
    if announces_too_much(headers, limit) {
        return Err(ApiError::BodyTooLarge);
    }
    match tokio::time::timeout(timeout, collect(payload, limit)).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err(ApiError::BodyTimeout),
    }
}

async fn collect(mut payload: Payload, limit: usize) -> Result<Bytes, ApiError> {
    let mut whole = Bytes::new();
    let mut parts = BytesMut::new();
    while let Some(part) = payload.next().await {
        let Ok(part) = part else {
            return Err(ApiError::BodyIncomplete);
        };
        if whole.len() + parts.len() + part.len() > limit {
            return Err(ApiError::BodyTooLarge);
        }
        if whole.is_empty() && parts.is_empty() {
            whole = part;
        } else {
            parts.extend_from_slice(&std::mem::take(&mut whole));
            parts.extend_from_slice(&part);
        }
    }
    Ok(if parts.is_empty() {
        whole
    } else {
        parts.freeze()
    })
}

/// Takes a JSON body apart; an empty one has no fields.
pub(super) fn fields(
    headers: &HeaderMap,
    body: &Bytes,
    allowed: Allowed,
    limits: &Limits,
) -> Result<Fields, ApiError> {
    if body.is_empty() {
        return match allowed {
            Allowed::Clock => Ok(Fields::default()),
            Allowed::Value | Allowed::ValueAndClock => Err(ApiError::BodyInvalid),
        };
    }
    check_declared(headers)?;
    if is_deeper_than(body, limits.body_depth) {
        return Err(ApiError::BodyTooDeep);
    }
    let Ok(raw) = serde_json::from_slice::<RawFields<'_>>(body) else {
        return Err(ApiError::BodyInvalid);
    };
    if let Some(problem) = raw.problem {
        return Err(problem);
    }
    // The first field that does not belong to this call is a stranger here.
    if raw.value.is_some() && allowed == Allowed::Clock {
        return Err(ApiError::FieldUnknown(Name::of(b"value")));
    }
    if raw.clock.is_some() && allowed == Allowed::Value {
        return Err(ApiError::FieldUnknown(Name::of(b"clock")));
    }
    let value = raw.value.map(|v| body.slice_ref(v.get().as_bytes()));
    if value.as_ref().is_some_and(|v| v.len() > limits.value_bytes) {
        return Err(ApiError::ValueTooLarge);
    }
    let clock = raw.clock.map_or(ClockField::Absent, clock_field);
    Ok(Fields { value, clock })
}

fn clock_field(raw: &RawValue) -> ClockField {
    match (raw.get(), serde_json::from_str::<Cow<'_, str>>(raw.get())) {
        ("null", _) => ClockField::Null,
        (_, Ok(text)) => ClockField::Text(text.into_owned()),
        (_, Err(_not_text)) => ClockField::Other,
    }
}

/// The body must be declared as plain JSON in UTF-8.
pub(super) fn check_declared(headers: &HeaderMap) -> Result<(), ApiError> {
    let identity = |v: &header::HeaderValue| v.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(header::CONTENT_ENCODING).all(identity) {
        return Err(ApiError::ContentEncodingUnsupported);
    }
    let mut types = headers.get_all(header::CONTENT_TYPE);
    match (types.next(), types.next()) {
        (Some(one), None) if one.to_str().is_ok_and(is_json) => Ok(()),
        (None | Some(_), None | Some(_)) => Err(ApiError::ContentTypeUnsupported),
    }
}

fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let json = parts
        .next()
        .is_some_and(|t| t.eq_ignore_ascii_case("application/json"));
    let utf8 = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim_matches('"');
        name.eq_ignore_ascii_case("charset") && value.eq_ignore_ascii_case("utf-8")
    };
    json && parts.all(utf8)
}

/// Whether brackets outside of texts are nested deeper than this; looks at any bytes.
fn is_deeper_than(json: &[u8], limit: usize) -> bool {
    // Nearly every body has too few of them, which takes a tenth of the time to see.
    let opening = |byte: &&u8| matches!(byte, b'[' | b'{');
    if json.iter().filter(opening).count() <= limit {
        return false;
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limit {
            return true;
        }
    }
    false
}

/// The object's fields, and the first of them that should not be there.
struct RawFields<'a> {
    value: Option<&'a RawValue>,
    clock: Option<&'a RawValue>,
    problem: Option<ApiError>,
}

impl<'de> Deserialize<'de> for RawFields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Collect)
    }
}

struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = RawFields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawFields<'de>, A::Error> {
        let (mut value, mut clock, mut problem) = (None, None, None);
        while let Some(name) = map.next_key::<FieldName<'de>>()? {
            let slot = match name.0.as_ref() {
                "value" => &mut value,
                "clock" => &mut clock,
                other => {
                    map.next_value::<IgnoredAny>()?;
                    let unknown = || ApiError::FieldUnknown(Name::of(other.as_bytes()));
                    problem.get_or_insert_with(unknown);
                    continue;
                }
            };
            if slot.replace(map.next_value::<&RawValue>()?).is_some() {
                let repeated = || ApiError::FieldRepeated(Name::of(name.0.as_bytes()));
                problem.get_or_insert_with(repeated);
            }
        }
        Ok(RawFields {
            value,
            clock,
            problem,
        })
    }
}

/// A field's name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct FieldName<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests;
