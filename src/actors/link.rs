//! The way to other nodes: HTTP with the cluster's proof on every call. One per worker thread,
//! since its connections belong to the thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use actix_service::{Service, apply_fn};
use actix_tls::connect::{ConnectError as TcpConnectError, ConnectInfo};
use awc::error::{ConnectError, SendRequestError};
use awc::http::StatusCode;
use awc::http::Uri;
use awc::http::header::HOST;
use awc::{FrozenClientRequest, SendClientRequest};
use bytes::Bytes;
use tokio::time::Instant;

use super::timely::timely;
use crate::dynamo::quorum::Fault;
use crate::dynamo::ring::ClusterId;
use crate::limits::MAX_PEER_MESSAGE_BYTES;
use crate::mutant::Mutant;
use crate::wire::peer::PROTOCOL;
use crate::wire::proof::PeerProof;

/// What the connector is asked for.
type Target = ConnectInfo<Uri>;

/// Names the cluster that a call is about; absent while the caller has none.
pub const CLUSTER_HEADER: &str = "x-quorate-cluster";
/// Names the version of the peer protocol.
pub const PROTOCOL_HEADER: &str = "x-quorate-protocol";
/// Names the node that calls. Nothing is decided by it.
pub const FROM_HEADER: &str = "x-quorate-from";
/// Proves knowledge of the cluster's secret.
pub const PROOF_HEADER: &str = "x-quorate-proof";

/// How long a connection may take to come about.
const CONNECT_TIME: Duration = Duration::from_millis(500);
/// Idle connections are kept shorter than the listeners keep them (75 s).
const IDLE_TIME: Duration = Duration::from_secs(15);
/// Connections to all nodes together; batches in flight are bounded far below it.
const MAX_CONNECTIONS: usize = 256;

/// Addresses that calls are kept ready for; more than a cluster has members.
const MOST_READY: usize = 1024;

/// A call without its body: its head is the same every time.
struct Ready {
    path: String,
    cluster: Option<ClusterId>,
    call: FrozenClientRequest,
}

/// Calls other nodes.
#[derive(Clone)]
pub struct Link {
    client: awc::Client,
    proof: PeerProof,
    /// By address.
    ready: Rc<RefCell<HashMap<String, Vec<Ready>>>>,
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Nothing was sent.
    #[error("no connection could be made")]
    Unreachable,
    /// Something was sent, and the connection broke or the answer made no sense.
    #[error("the connection broke before the answer")]
    Broken,
    /// Something was sent, and no answer came in time.
    #[error("no answer in time")]
    TimedOut,
    /// The node refuses to talk to this one.
    #[error("refused with {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the node says about it.
        message: String,
    },
}

impl From<&LinkError> for Fault {
    fn from(error: &LinkError) -> Self {
        match error {
            // A node that goes down, or cannot encode its answer, may have done what it was asked.
            LinkError::Refused { status: 500.., .. } | LinkError::Broken => Self::Broken,
            LinkError::Unreachable | LinkError::Refused { .. } => Self::Unreachable,
            LinkError::TimedOut => Self::TimedOut,
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

impl Link {
    /// Makes the client of this thread.
    #[must_use]
    pub fn new(proof: PeerProof) -> Self {
        let tcp = actix_tls::connect::Connector::default().service();
        let no_delay = apply_fn::<_, _, _, _, Target, Target, _, _>(tcp, |request, tcp| {
            let connecting = Service::<Target>::call(tcp, request);
            async move {
                let connection = connecting.await?;
                connection
                    .io_ref()
                    .set_nodelay(true)
                    .map_err(TcpConnectError::Io)?;
                Ok::<_, TcpConnectError>(connection)
            }
        });
        let connector = awc::Connector::new()
            .connector(no_delay)
            .timeout(CONNECT_TIME)
            .conn_keep_alive(IDLE_TIME)
            .limit(MAX_CONNECTIONS);
        let client = awc::ClientBuilder::new()
            .connector(connector)
            .disable_redirects()
            .disable_timeout()
            .no_default_headers()
            .finish();
        let ready = Rc::default();
        Self {
            client,
            proof,
            ready,
        }
    }

    /// Posts a message and gives the answer's body. A connection that the other side had closed
    /// is replaced once: every message between nodes may be delivered twice. Both attempts together
    /// take no longer than the time.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn post(
        &self,
        address: &str,
        path: &str,
        body: Vec<u8>,
        cluster: Option<ClusterId>,
        time: Duration,
    ) -> Result<Bytes, LinkError> {
        let (body, deadline) = (Bytes::from(body), Instant::now() + time);
        let call = self.ready(address, path, cluster)?;
        let exchanges = async {
            match exchange(call.send_body(body.clone())).await {
                Err(LinkError::Broken) if Instant::now() < deadline => {
                    exchange(call.send_body(body)).await
                }
                other => other,
            }
        };
        let outcome = timely(deadline, exchanges).await;
        outcome.unwrap_or(Err(LinkError::TimedOut))
    }

    fn ready(
        &self,
        address: &str,
        path: &str,
        cluster: Option<ClusterId>,
    ) -> Result<FrozenClientRequest, LinkError> {
        let mut ready = self.ready.borrow_mut();
        let is_it = |ready: &&Ready| ready.path == path && ready.cluster == cluster;
        let known = ready.get(address).and_then(|all| all.iter().find(is_it));
        if let Some(known) = known {
            return Ok(known.call.clone());
        }
        let call = self.head(address, path, cluster)?;
        if ready.len() >= MOST_READY {
            ready.clear();
        }
        let all = ready.entry(address.to_owned()).or_default();
        all.retain(|ready| ready.path != path);
        all.push(Ready {
            path: path.to_owned(),
            cluster,
            call: call.clone(),
        });
        Ok(call)
    }

    fn head(
        &self,
        address: &str,
        path: &str,
        cluster: Option<ClusterId>,
    ) -> Result<FrozenClientRequest, LinkError> {
        let mut request = self
            .client
            .post(format!("http://{address}{path}"))
            .insert_header((HOST, address))
            .insert_header((PROTOCOL_HEADER, PROTOCOL))
            .insert_header((PROOF_HEADER, self.proof.as_str()));
        if let Some(caller) = self.proof.caller() {
            request = request.insert_header((FROM_HEADER, caller.as_str()));
        }
        if let Some(cluster) = cluster {
            request = request.insert_header((CLUSTER_HEADER, cluster.to_string()));
        }
        // What is no address is nobody's.
        request.freeze().or(Err(LinkError::Unreachable))
    }
}

/// Sends a call, and gives the answer's body.
async fn exchange(sent: SendClientRequest) -> Result<Bytes, LinkError> {
    let mut answer = sent.await.map_err(|error| link_error(&error))?;
    let limited = answer.body().limit(MAX_PEER_MESSAGE_BYTES);
    let body = limited.await.or(Err(LinkError::Broken))?;
    if answer.status() == StatusCode::OK || Mutant::AnyStatusIsAnAnswer.is_chosen() {
        return Ok(body);
    }
    let message = String::from_utf8_lossy(&body).into_owned();
    Err(LinkError::Refused {
        status: answer.status().as_u16(),
        message,
    })
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "awc may add variants; all are the same here"
)]
fn link_error(error: &SendRequestError) -> LinkError {
    match error {
        // awc reports a connection that ended before its answer as a failure to connect.
        SendRequestError::Connect(ConnectError::Disconnected) => LinkError::Broken,
        SendRequestError::Connect(_) | SendRequestError::Url(_) => LinkError::Unreachable,
        SendRequestError::Timeout => LinkError::TimedOut,
        // Whatever else went wrong, something may have been sent.
        _ => LinkError::Broken,
    }
}
