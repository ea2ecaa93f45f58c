//! Asking a node's admin listener.

use std::path::PathBuf;

use serde_json::Value;

use super::endpoints::{Request, TimeoutArgs, ask, host_port};
use super::failure::Failure;
use super::output::{OutputArgs, Streams};

/// Where operators are served, and who asks.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct AdminArgs {
    /// Admin addresses of nodes; the next is asked when one does not answer
    #[arg(
        long,
        env = "QUORATE_ADMIN_ENDPOINTS",
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        value_parser = host_port,
        default_value = "127.0.0.1:8081"
    )]
    admin: Vec<String>,
    /// A file with the operators' token
    #[arg(long, env = "QUORATE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    timeout: TimeoutArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

impl AdminArgs {
    /// The answer to a GET.
    pub(super) async fn get(
        &self,
        path: String,
        streams: &mut Streams<'_>,
    ) -> Result<Value, Failure> {
        self.ask("GET", path, None, streams).await
    }

    /// The answer to a PUT of some JSON.
    pub(super) async fn put(
        &self,
        path: String,
        body: &Value,
        streams: &mut Streams<'_>,
    ) -> Result<Value, Failure> {
        let body = body.to_string().into_bytes();
        self.ask("PUT", path, Some(body), streams).await
    }

    async fn ask(
        &self,
        method: &'static str,
        path: String,
        body: Option<Vec<u8>>,
        streams: &mut Streams<'_>,
    ) -> Result<Value, Failure> {
        let request = Request {
            method,
            path,
            fields: self.authorization()?,
            body,
        };
        let answer = ask(&self.admin, self.timeout.timeout, &request, streams.chatter).await?;
        if !answer.is_success() {
            return Err(answer.refusal());
        }
        Ok(serde_json::from_slice(&answer.body)?)
    }

    /// The answer to a request with a body.
    pub(super) async fn send(
        &self,
        method: &'static str,
        path: &str,
        body: &Value,
        streams: &mut Streams<'_>,
    ) -> Result<Value, Failure> {
        let request = Request {
            method,
            path: path.to_owned(),
            fields: self.authorization()?,
            body: Some(serde_json::to_vec(body)?),
        };
        let answer = ask(&self.admin, self.timeout.timeout, &request, streams.chatter).await?;
        if !answer.is_success() {
            return Err(answer.refusal());
        }
        Ok(serde_json::from_slice(&answer.body)?)
    }

    fn authorization(&self) -> Result<String, Failure> {
        let Some(path) = &self.token_file else {
            return Ok(String::new());
        };
        let file = |source| Failure::File {
            path: path.clone(),
            source,
        };
        let text = std::fs::read_to_string(path).map_err(file)?;
        let token = text.trim();
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Failure::Usage(
                "--token-file: must hold one line of visible ASCII",
            ));
        }
        Ok(format!("authorization: Bearer {token}\r\n"))
    }
}
