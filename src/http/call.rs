//! A client's request, taken in: all that its method does not decide.

use actix_web::HttpMessage;
use actix_web::HttpRequest;
use actix_web::http::Method;
use actix_web::web::{Bytes, Payload};

use super::api_error::{ApiError, BadClock};
use super::body::{self, Allowed, ClockField, Fields};
use super::headers::{self, Correlation};
use super::key_path::key_of;
use super::query::{self, ClockParameter, Query};
use crate::actors::request::Options;
use crate::dynamo::key::Key;
use crate::dynamo::version::{Clock, RequestId, WriteKind};
use crate::limits::Limits;
use crate::wire::clock::ClockCodec;
use crate::wire::trace::TraceId;

/// What is known of a request once it has been read and its path, query and headers are in order.
pub(super) struct Call {
    pub(super) key: Key,
    request: HttpRequest,
    query: Query,
    body: Bytes,
    idempotency: Option<u128>,
    trace: TraceId,
}

/// The parts of a write that come from its body, or from the query.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) value: Option<Bytes>,
    pub(super) clock: Option<String>,
}

impl Call {
    /// Reads the whole request. The body comes first, so that the connection outlives a refusal.
    pub(super) async fn receive(
        request: HttpRequest,
        payload: Payload,
        limits: &Limits,
    ) -> Result<Self, ApiError> {
        let (limit, timeout) = (limits.body_bytes(), limits.body_timeout);
        let body = body::read(request.headers(), payload, limit, timeout).await?;
        let in_query = if *request.method() == Method::DELETE {
            ClockParameter::Allowed
        } else {
            ClockParameter::Unknown
        };
        let correlation = request.extensions().get::<Correlation>().cloned();
        let correlation = correlation.unwrap_or_else(|| Correlation::of(request.headers()));
        Ok(Self {
            key: key_of(request.uri().path())?,
            query: query::parse(request.uri().query(), in_query)?,
            body,
            idempotency: headers::idempotency_key(request.headers())?,
            trace: correlation.trace(),
            request,
        })
    }

    /// How the request wants to be served.
    pub(super) fn options(&self) -> Options {
        Options {
            quorum: self.query.quorum,
            strict: self.query.strict,
            trace: self.trace,
        }
    }

    /// The value of a create.
    pub(super) fn create(&self, limits: &Limits) -> Result<Asked, ApiError> {
        let fields = self.fields(Allowed::Value, limits)?;
        let value = fields.value.ok_or(ApiError::ValueRequired)?;
        Ok(Asked {
            value: Some(value),
            clock: None,
        })
    }

    /// The value and the clock of a put.
    pub(super) fn put(&self, limits: &Limits) -> Result<Asked, ApiError> {
        let fields = self.fields(Allowed::ValueAndClock, limits)?;
        let value = fields.value.ok_or(ApiError::ValueRequired)?;
        let clock = match fields.clock {
            ClockField::Text(text) if !text.is_empty() => text,
            ClockField::Other => return Err(ApiError::ClockInvalid(BadClock::NotText)),
            ClockField::Absent | ClockField::Null | ClockField::Text(_) => {
                return Err(ApiError::ClockRequired);
            }
        };
        Ok(Asked {
            value: Some(value),
            clock: Some(clock),
        })
    }

    /// The clock of a delete, if it has one: in the body or in the query.
    pub(super) fn delete(&self, limits: &Limits) -> Result<Asked, ApiError> {
        let fields = self.fields(Allowed::Clock, limits)?;
        let in_body = match fields.clock {
            ClockField::Absent => None,
            ClockField::Text(text) => Some(text),
            ClockField::Null | ClockField::Other => {
                return Err(ApiError::ClockInvalid(BadClock::NotText));
            }
        };
        let clock = match (in_body, self.query.clock.clone()) {
            (Some(one), Some(other)) if one != other => {
                return Err(ApiError::ClockInvalid(BadClock::Two));
            }
            (one, other) => one.or(other),
        };
        Ok(Asked { value: None, clock })
    }

    /// What the write's idempotency key names, if it has one.
    pub(super) fn request_id(&self, kind: WriteKind, asked: &Asked) -> Option<RequestId> {
        let value = asked.value.as_deref().unwrap_or_default();
        let clock = asked.clock.as_deref().unwrap_or_default();
        let id = self.idempotency?;
        Some(headers::request_id(id, kind, value, clock))
    }

    fn fields(&self, allowed: Allowed, limits: &Limits) -> Result<Fields, ApiError> {
        body::fields(self.request.headers(), &self.body, allowed, limits)
    }
}

impl Asked {
    /// What the clock covers.
    pub(super) fn seen(&self, key: &Key, clocks: &ClockCodec) -> Result<Option<Clock>, ApiError> {
        let decoded = self.clock.as_deref().map(|token| clocks.decode(key, token));
        let refused = |error| ApiError::ClockInvalid(BadClock::Refused(error));
        decoded.transpose().map_err(refused)
    }
}
