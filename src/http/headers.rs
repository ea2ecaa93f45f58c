//! The headers with a meaning of their own: the correlation id, the acknowledgements, the
//! idempotency key.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::pin;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, web};
use futures_util::future::poll_immediate;
use sha2::{Digest, Sha256};

use super::api_error::ApiError;
use crate::dynamo::quorum::Acks;
use crate::dynamo::version::{RequestId, WriteKind};
use crate::metrics::requests::RequestCounts;
use crate::wire::trace::TraceId;

/// Follows a request through nodes and logs: taken from the client if it is fit to be, else made.
pub const CORRELATION_ID: &str = "x-correlation-id";
/// Who stands behind an answer.
pub const ACKS: &str = "x-quorate-acks";
/// Names a request, so that its retries do not count twice.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

const IDEMPOTENCY_BYTES: usize = 128;

/// The id of the request at hand, as `correlate` leaves it in the request's extensions.
#[derive(Debug, Clone)]
pub struct Correlation {
    header: HeaderValue,
    trace: TraceId,
}

impl Correlation {
    /// Takes the client's id if there is one of 1 to 64 of `A–Z a–z 0–9 . _ -`, or makes one.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut given = headers.get_all(CORRELATION_ID);
        match (given.next(), given.next()) {
            (Some(header), None) => Self::taken(header).unwrap_or_else(Self::made),
            (None | Some(_), None | Some(_)) => Self::made(),
        }
    }

    /// The id, as it goes on to other nodes and into logs.
    #[must_use]
    pub fn trace(&self) -> TraceId {
        self.trace
    }

    /// Puts the id on an answer.
    pub fn put_on(self, headers: &mut HeaderMap) {
        headers.insert(HeaderName::from_static(CORRELATION_ID), self.header);
    }

    fn taken(header: &HeaderValue) -> Option<Self> {
        let trace = TraceId::new(header.to_str().ok()?)?;
        Some(Self {
            header: header.clone(),
            trace,
        })
    }

    fn made() -> Self {
        // Unique enough to search logs by, and nobody's secret.
        let number = RandomState::new().build_hasher().finish();
        Self {
            header: HeaderValue::from(number),
            trace: TraceId::from(number),
        }
    }
}

/// Middleware: gives every request a correlation id, and every answer the id of its request, and
/// counts it. Every application goes through it.
///
/// # Errors
/// Those of the service it wraps.
pub async fn correlate(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let correlation = Correlation::of(request.headers());
    request.extensions_mut().insert(correlation.clone());
    let mut response = never_at_once(next.call(request)).await?;
    correlation.put_on(response.headers_mut());
    count(&response);
    Ok(response)
}

/// Where the application has something to count in.
fn count(response: &ServiceResponse<impl MessageBody>) {
    let request = response.request();
    if let Some(counts) = request.app_data::<web::Data<RequestCounts>>() {
        let (method, path) = (request.method().as_str(), request.uri().path());
        counts.answered(method, path, response.status().as_u16());
    }
}

/// Lets a future that is ready at once wait for a turn. The framework looks for further requests in
/// its read buffer only while an answer is pending: a client that sends many at once, and is
/// answered at once, would wait for ever.
async fn never_at_once<T>(answering: impl Future<Output = T>) -> T {
    let mut answering = pin!(answering);
    match poll_immediate(answering.as_mut()).await {
        Some(answer) => {
            tokio::task::yield_now().await;
            answer
        }
        None => answering.await,
    }
}

/// The value of [`ACKS`].
#[must_use]
pub fn acks_text(acks: Acks) -> String {
    let Acks {
        home,
        incoming,
        hinted,
    } = acks;
    match incoming {
        None => format!("home={home},hinted={hinted}"),
        Some(incoming) => format!("home={home},incoming={incoming},hinted={hinted}"),
    }
}

/// The request's `Idempotency-Key`, hashed; `None` if it has none.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<u128>, ApiError> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY);
    let (Some(key), again) = (given.next(), given.next()) else {
        return Ok(None);
    };
    let visible = key.as_bytes().iter().all(u8::is_ascii_graphic);
    if again.is_some() || !visible || !(1..=IDEMPOTENCY_BYTES).contains(&key.len()) {
        return Err(ApiError::HeaderInvalid("Idempotency-Key"));
    }
    Ok(Some(leading(&Sha256::digest(key.as_bytes()), 16)))
}

/// Names a request by its hashed key and by what it asks for, so that a retry is told from a key
/// that was used for something else.
pub(super) fn request_id(id: u128, kind: WriteKind, value: &[u8], clock: &str) -> RequestId {
    let kind: &[u8] = match kind {
        WriteKind::Create => b"create ",
        WriteKind::Put => b"put ",
        WriteKind::Delete => b"delete ",
    };
    // A clock is base64 and holds no NUL byte, so the parts cannot be cut in another place.
    let asked = Sha256::new().chain_update(kind).chain_update(clock);
    let asked = asked.chain_update([0]).chain_update(value).finalize();
    let half = leading(&asked, 8).to_be_bytes();
    RequestId {
        id,
        fingerprint: half.iter().fold(0, |n, &byte| n << 8 | u64::from(byte)),
    }
}

fn leading(digest: &[u8], bytes: usize) -> u128 {
    let leading = digest.iter().take(bytes);
    leading.fold(0, |number, &byte| number << 8 | u128::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::api_error::Code;

    fn headers(rows: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |&(name, value): &(&'static str, &str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        };
        rows.iter().map(pair).collect()
    }

    #[test]
    fn a_correlation_id_is_taken_if_it_is_plain() {
        let long = "x".repeat(65);
        for (given, taken) in [
            ("abc-1._Z", true),
            (&"x".repeat(64), true),
            (&long, false),
            ("", false),
            ("a b", false),
            ("a\"b", false),
        ] {
            let id = Correlation::of(&headers(&[(CORRELATION_ID, given)]));
            let text = id.trace.as_str();
            assert_eq!(text == given, taken, "{given}");
            assert!(!text.is_empty());
            assert_eq!(id.header.to_str().unwrap(), text);
        }
        let twice = headers(&[(CORRELATION_ID, "a"), (CORRELATION_ID, "b")]);
        assert!(!["a", "b"].contains(&Correlation::of(&twice).trace.as_str()));
        let none = HeaderMap::new();
        assert_ne!(Correlation::of(&none).trace, Correlation::of(&none).trace);
    }

    #[test]
    fn acks_name_both_owner_sets_while_there_are_two() {
        for (incoming, text) in [
            (None, "home=2,hinted=1"),
            (Some(0), "home=2,incoming=0,hinted=1"),
            (Some(3), "home=2,incoming=3,hinted=1"),
        ] {
            let (home, hinted) = (2, 1);
            let acks = Acks {
                home,
                incoming,
                hinted,
            };
            assert_eq!(acks_text(acks), text);
        }
    }

    #[test]
    fn an_idempotency_key_is_short_and_visible() {
        for good in ["a", "7f3c-42~!", &"x".repeat(128)] {
            let outcome = idempotency_key(&headers(&[(IDEMPOTENCY_KEY, good)]));
            assert!(outcome.unwrap().is_some(), "{good}");
        }
        let twice = headers(&[(IDEMPOTENCY_KEY, "a"), (IDEMPOTENCY_KEY, "a")]);
        let bad = ["", "a b", "\u{e4}", &"x".repeat(129)].map(|v| headers(&[(IDEMPOTENCY_KEY, v)]));
        for headers in bad.into_iter().chain([twice]) {
            let outcome = idempotency_key(&headers).map_err(|e| e.code());
            assert_eq!(outcome, Err(Code::HeaderInvalid), "{headers:?}");
        }
        assert_eq!(idempotency_key(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn a_request_is_named_by_all_that_it_asks_for() {
        let name = |kind, value: &[u8], clock| request_id(7, kind, value, clock);
        let first = name(WriteKind::Put, b"1", "e30=");
        assert_eq!(first, name(WriteKind::Put, b"1", "e30="));
        assert_eq!(first.id, 7);
        for other in [
            name(WriteKind::Create, b"1", "e30="),
            name(WriteKind::Put, b"2", "e30="),
            name(WriteKind::Put, b"1", "e31="),
            name(WriteKind::Put, b"e30=", "1"),
        ] {
            assert_ne!(first.fingerprint, other.fingerprint);
        }
    }
}
