//! The Consul agent of this machine, asynchronously: what the `consul` crate cannot ask of it, and
//! the reason when something is refused.

use std::time::Duration;

use awc::error::{ConnectError, JsonPayloadError, SendRequestError};
use awc::http::{Method, StatusCode};
use awc::{ClientRequest, SendClientRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Access;

/// How long the agent may take. It is on this machine, but some answers come from a server that is
/// not, and that may have lost its leader.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Longest answer; an instance of a service takes some 2 KiB.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// As much of a refusal as is worth showing.
const MAX_REFUSAL_CHARS: usize = 200;

/// Why the agent did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsulError {
    /// Nobody listens there.
    #[error("Consul cannot be reached at {address}")]
    Unreachable {
        /// Where.
        address: String,
    },
    /// It does not answer.
    #[error("Consul at {address} does not answer within {ANSWER_TIME:?}")]
    TimedOut {
        /// Where.
        address: String,
    },
    /// It answers, but not this: no leader, no permission.
    #[error("Consul answers {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it says about it.
        message: String,
    },
    /// The answer is none of Consul's, or broke off.
    #[error("the answer of Consul at {address} makes no sense")]
    Unreadable {
        /// Where.
        address: String,
    },
}

/// The way to the agent; of the thread that made it.
#[derive(Clone)]
pub struct Agent {
    client: awc::Client,
    access: Access,
}

impl Agent {
    /// Makes the client of this thread.
    #[must_use]
    pub fn new(access: Access) -> Self {
        let client = awc::ClientBuilder::new()
            .disable_redirects()
            .no_default_headers()
            .timeout(ANSWER_TIME)
            .finish();
        Self { client, access }
    }

    /// Asks for something; `None` if there is no such thing.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, ConsulError> {
        Ok(self.get_indexed(path, ANSWER_TIME).await?.map(|(it, _)| it))
    }

    /// The same, with the index for a blocking query, which may take longer.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn get_indexed<T: DeserializeOwned>(
        &self,
        path: &str,
        time: Duration,
    ) -> Result<Option<(T, u64)>, ConsulError> {
        let request = self.request(Method::GET, path).timeout(time);
        let mut answer = match self.answered(request.send()).await {
            Err(ConsulError::Refused { status: 404, .. }) => return Ok(None),
            answer => answer?,
        };
        let index = answer.headers().get("x-consul-index");
        let index = index.and_then(|index| index.to_str().ok()?.parse().ok());
        let read = answer.json::<T>().limit(MAX_ANSWER_BYTES).await;
        let read = read.map_err(|_broken: JsonPayloadError| self.unreadable())?;
        Ok(Some((read, index.unwrap_or(0))))
    }

    /// Has the agent do something.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn put(&self, path: &str) -> Result<(), ConsulError> {
        self.answered(self.request(Method::PUT, path).send())
            .await?;
        Ok(())
    }

    /// Has the agent do something about this.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn put_json(&self, path: &str, body: &impl Serialize) -> Result<(), ConsulError> {
        self.answered(self.request(Method::PUT, path).send_json(body))
            .await?;
        Ok(())
    }

    fn request(&self, method: Method, path: &str) -> ClientRequest {
        let url = format!("http://{}{path}", self.access.address);
        let request = self.client.request(method, url);
        match &self.access.token {
            Some(token) => request.insert_header(("x-consul-token", token.expose())),
            None => request,
        }
    }

    async fn answered(&self, sent: SendClientRequest) -> Result<Answer, ConsulError> {
        let mut answer = sent.await.map_err(|error| self.failed(&error))?;
        if answer.status() == StatusCode::OK {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let text = answer.body().await.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let message = text.trim().chars().take(MAX_REFUSAL_CHARS).collect();
        Err(ConsulError::Refused { status, message })
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "awc may add variants; all are the same here"
    )]
    fn failed(&self, error: &SendRequestError) -> ConsulError {
        let address = self.access.address.clone();
        match error {
            SendRequestError::Connect(ConnectError::Timeout) | SendRequestError::Timeout => {
                ConsulError::TimedOut { address }
            }
            SendRequestError::Connect(_) | SendRequestError::Url(_) => {
                ConsulError::Unreachable { address }
            }
            _ => self.unreadable(),
        }
    }

    fn unreadable(&self) -> ConsulError {
        let address = self.access.address.clone();
        ConsulError::Unreadable { address }
    }
}

type Answer = awc::ClientResponse<actix_http::BoxedPayloadStream>;
