//! Asking one of several nodes: the next when one does not answer, or says that it did nothing and
//! another may.

use std::io::Write;
use std::time::Duration;

use serde::Deserialize;

use crate::config::is_host_port;

use super::connection::{Broken, Connection, write_request};
use super::failure::Failure;
use super::response;

/// How long a request may take, by default.
const DEFAULT_TIMEOUT: &str = "5";

/// Where the REST API is.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct EndpointArgs {
    /// Client addresses of nodes; the next is asked when one does not answer
    #[arg(
        long,
        env = "QUORATE_ENDPOINTS",
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        value_parser = host_port,
        default_value = "127.0.0.1:8080"
    )]
    pub(super) endpoints: Vec<String>,
    #[command(flatten)]
    pub(super) timeout: TimeoutArgs,
}

/// `--timeout`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct TimeoutArgs {
    /// How long each endpoint may take to answer
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = DEFAULT_TIMEOUT)]
    pub(super) timeout: Duration,
}

/// A duration in seconds, with or without decimals, more than zero.
pub(super) fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse::<f64>();
    seconds
        .ok()
        .and_then(|s| Duration::try_from_secs_f64(s).ok())
        .filter(|d| !d.is_zero() && *d <= Duration::from_hours(24))
        .ok_or("must be a number of seconds, more than 0 and at most a day")
}

/// An address to ask, as it was typed.
pub(super) fn host_port(text: &str) -> Result<String, &'static str> {
    if is_host_port(text) {
        Ok(text.to_owned())
    } else {
        Err("must be a host and a port, as in 127.0.0.1:8080, without http://")
    }
}

/// A request, to whichever endpoint answers it.
#[derive(Debug, Clone, Default)]
pub(super) struct Request {
    /// `GET`, `POST`, …
    pub(super) method: &'static str,
    /// Path and query, encoded.
    pub(super) path: String,
    /// Further header lines, each ended by CR LF.
    pub(super) fields: String,
    /// JSON.
    pub(super) body: Option<Vec<u8>>,
}

/// What an endpoint said.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its status.
    pub(super) status: u16,
    /// Its body.
    pub(super) body: Vec<u8>,
    /// Who stands behind it.
    pub(super) acks: Option<String>,
}

/// The part of an error that every error has.
#[derive(Debug, Default, Deserialize)]
struct Complaint {
    #[serde(default)]
    message: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    outcome: String,
}

impl Answer {
    /// Whether it did what was asked.
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The error that it is.
    pub(super) fn refusal(&self) -> Failure {
        let complaint = self.complaint();
        Failure::Refused {
            status: self.status,
            code: complaint.code,
            message: complaint.message.escape_debug().to_string(),
            may_appear: complaint.outcome == "unknown",
        }
    }

    /// Whether this node did nothing, for a reason that may not hold for another.
    fn leaves_it_to_another(&self) -> bool {
        self.status == 503 && self.complaint().outcome == "not_applied"
    }

    /// What an error says of itself. Something between us and the node may answer without saying.
    fn complaint(&self) -> Complaint {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| Complaint {
            message: "an answer that does not come from a node".to_owned(),
            ..Complaint::default()
        })
    }
}

/// Asks the endpoints in their order until one answers. An answer that leaves it to another node is
/// kept in case nobody has a better one.
///
/// A write that is sent to a second node must carry an `Idempotency-Key`.
pub(super) async fn ask(
    endpoints: &[String],
    timeout: Duration,
    request: &Request,
    chatter: &mut dyn Write,
) -> Result<Answer, Failure> {
    let mut tried = Vec::new();
    let mut refused = None;
    let mut left = endpoints.iter().peekable();
    while let Some(endpoint) = left.next() {
        let why = match ask_one(endpoint, timeout, request).await {
            Ok(answer) if answer.leaves_it_to_another() => {
                let why = answer.refusal().to_string();
                refused = Some(answer);
                why
            }
            Ok(answer) => return Ok(answer),
            Err(broken) => {
                let why = broken.to_string();
                tried.push((endpoint.clone(), broken));
                why
            }
        };
        if let Some(next) = left.peek() {
            writeln!(chatter, "{endpoint}: {why}; asking {next}")?;
        }
    }
    refused.ok_or(Failure::Unreachable(tried))
}

/// Asks one endpoint.
pub(super) async fn ask_one(
    endpoint: &str,
    timeout: Duration,
    request: &Request,
) -> Result<Answer, Broken> {
    let mut bytes = Vec::new();
    let Request { method, path, .. } = request;
    let fields = format!("{}connection: close\r\n", request.fields);
    write_request(
        &mut bytes,
        method,
        path,
        endpoint,
        &fields,
        request.body.as_deref(),
    );
    let exchange = async {
        let mut connection = Connection::open(endpoint).await?;
        let response = connection.exchange(&bytes).await?;
        let acks = response::header(response.head, "x-quorate-acks");
        Ok(Answer {
            status: response.status,
            body: response.body.to_vec(),
            acks: acks.map(str::to_owned),
        })
    };
    tokio::time::timeout(timeout, exchange)
        .await
        .unwrap_or(Err(Broken::TimedOut))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// A server that answers every connection with this.
    fn server(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        address
    }

    fn nobody() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    }

    fn get() -> Request {
        Request {
            method: "GET",
            path: "/v1/k".to_owned(),
            ..Request::default()
        }
    }

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-quorate-acks: home=2\r\n\r\n{}";
    const BUSY: &str = "HTTP/1.1 503 Busy\r\ncontent-length: 62\r\n\r\n\
        {\"message\":\"busy\",\"code\":\"overloaded\",\"outcome\":\"not_applied\"}";
    const MAYBE: &str = "HTTP/1.1 503 Busy\r\ncontent-length: 62\r\n\r\n\
        {\"message\":\"no\",\"code\":\"quorum_not_met\",\"outcome\":\"unknown\"}  ";

    #[tokio::test]
    async fn the_next_endpoint_is_asked_only_if_the_first_did_nothing() {
        let (ok, busy, maybe) = (server(OK), server(BUSY), server(MAYBE));
        let rows = [
            (vec![ok.clone()], 200, 0),
            (vec![nobody(), ok.clone()], 200, 1),
            (vec![busy.clone(), ok.clone()], 200, 1),
            (vec![busy.clone(), nobody()], 503, 1),
            (vec![maybe, ok.clone()], 503, 0),
            (vec![ok, nobody()], 200, 0),
        ];
        for (endpoints, status, notes) in rows {
            let mut chatter = Vec::new();
            let answer = ask(&endpoints, TIMEOUT, &get(), &mut chatter)
                .await
                .unwrap();
            assert_eq!(answer.status, status, "{endpoints:?}");
            let noted = String::from_utf8(chatter).unwrap();
            assert_eq!(noted.lines().count(), notes, "{noted}");
        }
    }

    #[tokio::test]
    async fn when_nobody_answers_every_endpoint_is_named() {
        let (one, two) = (nobody(), nobody());
        let endpoints = [one.clone(), two.clone()];
        let failure = ask(&endpoints, TIMEOUT, &get(), &mut Vec::new()).await;
        let text = failure.unwrap_err().to_string();
        assert!(text.contains(&one) && text.contains(&two), "{text}");
    }

    #[tokio::test]
    async fn an_answer_tells_who_stands_behind_it() {
        let answer = ask_one(&server(OK), TIMEOUT, &get()).await.unwrap();
        assert_eq!(answer.acks.as_deref(), Some("home=2"));
    }

    #[test]
    fn an_endpoint_is_a_host_and_a_port() {
        for good in [
            "127.0.0.1:8080",
            "localhost:1",
            "node-1.example:80",
            "[::1]:8080",
        ] {
            assert_eq!(host_port(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "127.0.0.1",
            "http://127.0.0.1:8080",
            "a:b",
            "h:0",
            "h:80/x",
        ] {
            assert!(host_port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_timeout_is_a_positive_number_of_seconds() {
        for (text, want) in [
            ("5", Some(5000)),
            ("0.25", Some(250)),
            ("0", None),
            ("-1", None),
        ] {
            let got = seconds(text).ok().map(|d| d.as_millis());
            assert_eq!(got, want, "{text}");
        }
        for bad in ["", "NaN", "inf", "1e300", "5s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
