//! `quorate health`: the probe of a container or a supervisor, so that neither needs another program.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::Value;

use super::endpoints::{Answer, Request, TimeoutArgs, ask_one, host_port};
use super::failure::Failure;
use super::output::{Streams, line};

/// What `health` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The node's client address, as `quorate server` is given it
    #[arg(
        long,
        env = "QUORATE_CLIENT",
        value_name = "HOST:PORT",
        value_parser = host_port,
        default_value = "127.0.0.1:8080"
    )]
    client: String,
    /// Ask only whether the process serves, not whether it is READY and reaches a quorum
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    timeout: TimeoutArgs,
}

/// Says `ready` or `live`, or fails with what is in the way.
pub(super) async fn run(args: Args, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let path = if args.live { "/livez" } else { "/readyz" };
    let request = Request {
        method: "GET",
        path: path.to_owned(),
        ..Request::default()
    };
    let address = connectable(&args.client);
    let answer = ask_one(&address, args.timeout.timeout, &request).await;
    let answer = answer.map_err(|broken| Failure::Unreachable(vec![(address, broken)]))?;
    if !answer.is_success() {
        return Err(refusal(&answer));
    }
    let state: &[u8] = if args.live { b"live" } else { b"ready" };
    Ok(line(streams.data, state)?)
}

/// A node that listens on every interface is asked on the loopback one.
fn connectable(listen: &str) -> String {
    match listen.parse::<SocketAddr>() {
        Ok(at) if at.ip().is_unspecified() => {
            let ip = match at.ip() {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            };
            SocketAddr::new(ip, at.port()).to_string()
        }
        Ok(_) | Err(_) => listen.to_owned(),
    }
}

/// The reason a node gives is what an operator looks for.
fn refusal(answer: &Answer) -> Failure {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match body.get("reason").and_then(Value::as_str) {
        Some(reason) => Failure::NotServing(reason.escape_debug().to_string()),
        None => answer.refusal(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_means_every_interface_is_asked_on_loopback() {
        let rows = [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("10.0.0.1:8080", "10.0.0.1:8080"),
            ("localhost:8080", "localhost:8080"),
        ];
        for (listen, want) in rows {
            assert_eq!(connectable(listen), want);
        }
    }

    #[test]
    fn a_refusal_names_the_reason_where_there_is_one() {
        let rows = [
            (
                r#"{"code":"not_ready","reason":"no_quorum"}"#,
                "not ready: no_quorum",
            ),
            (r#"{"code":"x","message":"Text"}"#, "Text (x, 503)"),
            (
                "a proxy",
                "an answer that does not come from a node (status 503)",
            ),
        ];
        for (body, want) in rows {
            let answer = Answer {
                status: 503,
                body: body.as_bytes().to_vec(),
                acks: None,
            };
            assert_eq!(refusal(&answer).to_string(), want);
        }
    }
}
