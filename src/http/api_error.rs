//! Every way in which a client's request can end without having been done: one variant each, with a
//! stable code, a status, and whether it may still become visible.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName};
use actix_web::{HttpResponse, ResponseError};

use super::headers::{ACKS, acks_text};
use super::rendering::{Object, values};
use crate::actors::handle::Readiness;
use crate::actors::request::Applied;
use crate::dynamo::membership::promise::Loss;
use crate::dynamo::quorum::{Acks, Shortfall};
use crate::dynamo::ring::PlanError;
use crate::dynamo::version::State;
use crate::wire::clock::ClockError;

/// Longest part of a client's own text that an error repeats.
const NAME_BYTES: usize = 32;
const RETRY_AFTER_SECONDS: &str = "1";

macro_rules! codes {
    ($($name:ident $status:ident $text:literal,)+) => {
        /// The stable name of an error, for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = concat!("`", $text, "`")] $name,)+
        }

        impl Code {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The code as an answer shows it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// The status that always goes with it.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status),+ }
            }
        }
    };
}

codes! {
    NoSuchResource NOT_FOUND "no_such_resource",
    Unauthorized UNAUTHORIZED "unauthorized",
    OriginRefused FORBIDDEN "origin_refused",
    MethodNotAllowed METHOD_NOT_ALLOWED "method_not_allowed",
    KeyInvalid BAD_REQUEST "key_invalid",
    KeyTooLong URI_TOO_LONG "key_too_long",
    ParameterUnknown BAD_REQUEST "parameter_unknown",
    ParameterRepeated BAD_REQUEST "parameter_repeated",
    ParameterInvalid BAD_REQUEST "parameter_invalid",
    HeaderInvalid BAD_REQUEST "header_invalid",
    ContentTypeUnsupported UNSUPPORTED_MEDIA_TYPE "content_type_unsupported",
    ContentEncodingUnsupported UNSUPPORTED_MEDIA_TYPE "content_encoding_unsupported",
    BodyTooLarge PAYLOAD_TOO_LARGE "body_too_large",
    BodyTimeout REQUEST_TIMEOUT "body_timeout",
    BodyIncomplete BAD_REQUEST "body_incomplete",
    BodyInvalid BAD_REQUEST "body_invalid",
    BodyTooDeep BAD_REQUEST "body_too_deep",
    FieldUnknown BAD_REQUEST "field_unknown",
    FieldRepeated BAD_REQUEST "field_repeated",
    FieldInvalid BAD_REQUEST "field_invalid",
    LevelUnknown BAD_REQUEST "level_unknown",
    ValueRequired BAD_REQUEST "value_required",
    ValueTooLarge PAYLOAD_TOO_LARGE "value_too_large",
    ClockRequired BAD_REQUEST "clock_required",
    ClockInvalid BAD_REQUEST "clock_invalid",
    IdempotencyKeyReused BAD_REQUEST "idempotency_key_reused",
    NotFound NOT_FOUND "not_found",
    AlreadyExists CONFLICT "already_exists",
    TooManySiblings CONFLICT "too_many_siblings",
    QuorumNotMet SERVICE_UNAVAILABLE "quorum_not_met",
    DeadlineExceeded GATEWAY_TIMEOUT "deadline_exceeded",
    Overloaded SERVICE_UNAVAILABLE "overloaded",
    NotReady SERVICE_UNAVAILABLE "not_ready",
    StorageFull INSUFFICIENT_STORAGE "storage_full",
    ChangeRefused CONFLICT "change_refused",
    RingChanged CONFLICT "ring_changed",
    PlanChanged CONFLICT "plan_changed",
    NotStaged CONFLICT "not_staged",
    DataLossNotAccepted CONFLICT "data_loss_not_accepted",
    NotAgreed SERVICE_UNAVAILABLE "not_agreed",
}

/// A name that a client made up, made fit to be shown: escaped, and cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

/// What a read would show, as an answer carries it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The merged state.
    pub state: State,
    /// Its clock.
    pub clock: String,
    /// Who stands behind it.
    pub acks: Acks,
}

/// Why a clock was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadClock {
    /// It is not a text.
    #[error("a clock is a text")]
    NotText,
    /// The body and the query carry one each, and they differ.
    #[error("the body and the query carry different clocks")]
    Two,
    /// It was not handed out for this key.
    #[error("{0}")]
    Refused(ClockError),
}

/// Why a request was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApiError {
    /// No such path, or an empty key.
    #[error("There is nothing at this path")]
    NoSuchResource,
    /// The caller did not show the operators' token.
    #[error("An operator's token is needed")]
    Unauthorized,
    /// A browser asks for another page than this node's own, or under a name that is not known to
    /// be the node's.
    #[error("This is answered only to this node's own page, opened at one of its addresses")]
    OriginRefused,
    /// The path exists; the methods it knows, as in `Allow`.
    #[error("This path takes only {0}")]
    MethodNotAllowed(&'static str),
    /// The path segment has a broken escape.
    #[error("The key has a percent sign without two hex digits after it")]
    KeyInvalid,
    /// The decoded key is too long.
    #[error("The key is longer than 1024 bytes")]
    KeyTooLong,
    /// A query parameter that means nothing here.
    #[error("Unknown query parameter: {0}")]
    ParameterUnknown(Name),
    /// A query parameter given twice.
    #[error("Query parameter given more than once: {0}")]
    ParameterRepeated(Name),
    /// A query parameter whose value is none.
    #[error("Invalid query parameter: {0}")]
    ParameterInvalid(&'static str),
    /// A header whose value is none.
    #[error("Invalid header: {0}")]
    HeaderInvalid(&'static str),
    /// The body is not declared as JSON in UTF-8.
    #[error("The body must have the content type application/json, in UTF-8")]
    ContentTypeUnsupported,
    /// The body is compressed.
    #[error("The body must not be encoded")]
    ContentEncodingUnsupported,
    /// The body is, or says it is, over the limit.
    #[error("The body is too large")]
    BodyTooLarge,
    /// The body did not arrive in time.
    #[error("The body took too long to arrive")]
    BodyTimeout,
    /// The body's framing is broken.
    #[error("The body ended early or is framed wrongly")]
    BodyIncomplete,
    /// The body is not one JSON object.
    #[error("The body is not one JSON object")]
    BodyInvalid,
    /// The body is nested too deeply.
    #[error("The body is nested too deeply")]
    BodyTooDeep,
    /// A field that means nothing here.
    #[error("Unknown field: {0}")]
    FieldUnknown(Name),
    /// A field given twice.
    #[error("Field given more than once: {0}")]
    FieldRepeated(Name),
    /// A field whose value is none.
    #[error("Invalid field: {0} must be a positive integer or null")]
    FieldInvalid(&'static str),
    /// Not a level of the log.
    #[error("A level is one of error, warn, info, debug, trace")]
    LevelUnknown,
    /// A create or put without a value.
    #[error("No value specified")]
    ValueRequired,
    /// The value is over the limit.
    #[error("The value is too large")]
    ValueTooLarge,
    /// A put without a clock.
    #[error("No version specified")]
    ClockRequired,
    /// A clock that was not handed out for this key.
    #[error("Invalid version specified: {0}")]
    ClockInvalid(BadClock),
    /// The `Idempotency-Key` was used for a different request.
    #[error("This Idempotency-Key was used for a different request")]
    IdempotencyKeyReused,
    /// No live value; the clock of what was seen.
    #[error("Key not found")]
    NotFound(String, Acks),
    /// A create found a live value.
    #[error("Key already exists")]
    AlreadyExists(Box<Shown>),
    /// One more sibling would be too many.
    #[error("The key has too many concurrent values: merge them first")]
    TooManySiblings(Box<Shown>),
    /// Too few replicas agreed.
    #[error("Too few replicas agreed: {} of {}", .0.got, .0.needed)]
    QuorumNotMet(Shortfall, Applied),
    /// The deadline passed.
    #[error("The replicas did not answer in time")]
    DeadlineExceeded(Applied),
    /// This node has too much to do.
    #[error("This node has as many requests in flight as it allows")]
    Overloaded,
    /// This node does not serve.
    #[error("This node is not ready to serve")]
    NotReady(Readiness),
    /// The disks of too many owners are full.
    #[error("The disks of too many replicas are full")]
    StorageFull(Applied),
    /// The change does not fit the ring.
    #[error("The ring cannot change so: {0}")]
    ChangeRefused(PlanError),
    /// The ring is not the one that the change was meant for.
    #[error("The ring is at epoch {0} now: look at the plan again")]
    RingChanged(u64),
    /// Some would get nothing by the change, and nobody has said who.
    #[error("Members that the change gives something to do not answer: look at the plan again")]
    PlanChanged,
    /// A node that is to come in has not asked to.
    #[error("{0} is not staged: start it with --auto-commit false and the cluster's --seeds first")]
    NotStaged(Name),
    /// Somebody has to say that he knows.
    #[error(
        "{0} partitions would be left with fewer replicas, and {1} with none: say that you accept it"
    )]
    DataLossNotAccepted(usize, usize),
    /// Too few members agreed to the change.
    #[error("The members did not agree: {0}")]
    NotAgreed(Loss),
}

impl Name {
    /// Escapes and shortens.
    #[must_use]
    pub fn of(raw: &[u8]) -> Self {
        match raw.get(..NAME_BYTES) {
            Some(head) if raw.len() > NAME_BYTES => Self(format!("{}…", head.escape_ascii())),
            Some(_) | None => Self(raw.escape_ascii().to_string()),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl ApiError {
    /// The error's stable name.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::NoSuchResource => Code::NoSuchResource,
            Self::Unauthorized => Code::Unauthorized,
            Self::OriginRefused => Code::OriginRefused,
            Self::MethodNotAllowed(_) => Code::MethodNotAllowed,
            Self::KeyInvalid => Code::KeyInvalid,
            Self::KeyTooLong => Code::KeyTooLong,
            Self::ParameterUnknown(_) => Code::ParameterUnknown,
            Self::ParameterRepeated(_) => Code::ParameterRepeated,
            Self::ParameterInvalid(_) => Code::ParameterInvalid,
            Self::HeaderInvalid(_) => Code::HeaderInvalid,
            Self::ContentTypeUnsupported => Code::ContentTypeUnsupported,
            Self::ContentEncodingUnsupported => Code::ContentEncodingUnsupported,
            Self::BodyTooLarge => Code::BodyTooLarge,
            Self::BodyTimeout => Code::BodyTimeout,
            Self::BodyIncomplete => Code::BodyIncomplete,
            Self::BodyInvalid => Code::BodyInvalid,
            Self::BodyTooDeep => Code::BodyTooDeep,
            Self::FieldUnknown(_) => Code::FieldUnknown,
            Self::FieldRepeated(_) => Code::FieldRepeated,
            Self::FieldInvalid(_) => Code::FieldInvalid,
            Self::LevelUnknown => Code::LevelUnknown,
            Self::ValueRequired => Code::ValueRequired,
            Self::ValueTooLarge => Code::ValueTooLarge,
            Self::ClockRequired => Code::ClockRequired,
            Self::ClockInvalid(_) => Code::ClockInvalid,
            Self::IdempotencyKeyReused => Code::IdempotencyKeyReused,
            Self::NotFound(..) => Code::NotFound,
            Self::AlreadyExists(_) => Code::AlreadyExists,
            Self::TooManySiblings(_) => Code::TooManySiblings,
            Self::QuorumNotMet(..) => Code::QuorumNotMet,
            Self::DeadlineExceeded(_) => Code::DeadlineExceeded,
            Self::Overloaded => Code::Overloaded,
            Self::NotReady(_) => Code::NotReady,
            Self::StorageFull(_) => Code::StorageFull,
            Self::ChangeRefused(_) => Code::ChangeRefused,
            Self::RingChanged(_) => Code::RingChanged,
            Self::PlanChanged => Code::PlanChanged,
            Self::NotStaged(_) => Code::NotStaged,
            Self::DataLossNotAccepted(..) => Code::DataLossNotAccepted,
            Self::NotAgreed(_) => Code::NotAgreed,
        }
    }

    /// Whether it was refused before the cluster was asked: an operation that never began.
    #[must_use]
    pub fn is_about_the_request(&self) -> bool {
        match self.code() {
            Code::IdempotencyKeyReused
            | Code::NotFound
            | Code::AlreadyExists
            | Code::TooManySiblings
            | Code::QuorumNotMet
            | Code::DeadlineExceeded
            | Code::Overloaded
            | Code::NotReady
            | Code::StorageFull
            | Code::ChangeRefused
            | Code::RingChanged
            | Code::PlanChanged
            | Code::NotStaged
            | Code::DataLossNotAccepted
            | Code::NotAgreed => false,
            Code::NoSuchResource
            | Code::Unauthorized
            | Code::OriginRefused
            | Code::MethodNotAllowed
            | Code::KeyInvalid
            | Code::KeyTooLong
            | Code::ParameterUnknown
            | Code::ParameterRepeated
            | Code::ParameterInvalid
            | Code::HeaderInvalid
            | Code::ContentTypeUnsupported
            | Code::ContentEncodingUnsupported
            | Code::BodyTooLarge
            | Code::BodyTimeout
            | Code::BodyIncomplete
            | Code::BodyInvalid
            | Code::BodyTooDeep
            | Code::FieldUnknown
            | Code::FieldRepeated
            | Code::FieldInvalid
            | Code::LevelUnknown
            | Code::ValueRequired
            | Code::ValueTooLarge
            | Code::ClockRequired
            | Code::ClockInvalid => true,
        }
    }

    /// Whether the request may become visible all the same.
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        match self.applied() {
            Applied::No => "not_applied",
            Applied::Unknown => "unknown",
        }
    }

    fn applied(&self) -> Applied {
        if let Self::QuorumNotMet(_, applied)
        | Self::DeadlineExceeded(applied)
        | Self::StorageFull(applied) = self
        {
            return *applied;
        }
        if let Self::NotAgreed(_) = self {
            return Applied::Unknown;
        }
        Applied::No
    }

    /// The replicas behind the answer, if it met its quorum.
    fn acks(&self) -> Option<Acks> {
        if let Self::NotFound(_, acks) = self {
            return Some(*acks);
        }
        self.shown().map(|shown| shown.acks)
    }

    /// The values that the answer shows.
    fn shown(&self) -> Option<&Shown> {
        if let Self::AlreadyExists(shown) | Self::TooManySiblings(shown) = self {
            return Some(shown);
        }
        None
    }

    fn render(&self) -> Object {
        let body = Object::with_capacity(256)
            .text("message", &self.to_string())
            .plain("code", self.code().as_str())
            .plain("outcome", self.outcome());
        if let Some(shown) = self.shown() {
            let body = body.raw("value", &values(&shown.state));
            return body.plain("clock", &shown.clock);
        }
        if let Self::NotFound(clock, _) = self {
            return body.plain("clock", clock);
        }
        if let Self::QuorumNotMet(shortfall, _) = self {
            let body = body.number("needed", shortfall.needed);
            return body.number("got", shortfall.got);
        }
        if let Self::NotReady(readiness) = self {
            return body.plain("reason", readiness.as_str());
        }
        body
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.code().status()
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        response.content_type("application/json");
        if self.status_code() == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((header::RETRY_AFTER, RETRY_AFTER_SECONDS));
        }
        if let Self::Unauthorized = self {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        if let Self::MethodNotAllowed(methods) = self {
            response.insert_header((header::ALLOW, *methods));
        }
        if let Some(acks) = self.acks() {
            response.insert_header((HeaderName::from_static(ACKS), acks_text(acks)));
        }
        response.body(self.render().finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_snake_case_and_distinct() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            let plain = |b: u8| b.is_ascii_lowercase() || b == b'_';
            assert!(code.as_str().bytes().all(plain), "{code:?}");
            assert!(seen.insert(code.as_str()), "{code:?}");
            assert!(code.status().is_client_error() || code.status().is_server_error());
        }
    }

    #[test]
    fn a_clients_own_text_is_escaped_and_cut_off() {
        let rows: &[(&[u8], &str)] = &[
            (b"colour", "colour"),
            (b"a\x1b[31m\n\"", "a\\x1b[31m\\n\\\""),
            (b"\xff", "\\xff"),
            (&[b'k'; 32], "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"),
            (&[b'k'; 33], "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk…"),
        ];
        for (raw, expected) in rows {
            assert_eq!(Name::of(raw).to_string(), *expected);
        }
    }

    #[test]
    fn only_what_was_sent_to_replicas_may_have_an_unknown_outcome() {
        let shortfall = Shortfall { needed: 2, got: 1 };
        let rows = [
            (
                ApiError::QuorumNotMet(shortfall, Applied::No),
                "not_applied",
            ),
            (
                ApiError::QuorumNotMet(shortfall, Applied::Unknown),
                "unknown",
            ),
            (ApiError::DeadlineExceeded(Applied::Unknown), "unknown"),
            (ApiError::StorageFull(Applied::No), "not_applied"),
            (ApiError::Overloaded, "not_applied"),
            (ApiError::BodyTimeout, "not_applied"),
        ];
        for (error, outcome) in rows {
            assert_eq!(error.outcome(), outcome, "{error:?}");
        }
    }
}
