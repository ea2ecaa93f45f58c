//! A node: its parts, put together.

use std::io;
use std::net::SocketAddr;

use actix_web::{App, HttpResponse, HttpServer, web};
use slog::{Logger, info};

use crate::config::Config;

/// Why a node ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A listener failed.
    #[error("a listener failed: {0}")]
    Serve(#[from] io::Error),
}

/// Serves until SIGTERM or Ctrl-C.
///
/// # Errors
/// [`NodeError`], before or while it serves.
pub async fn run(config: Config, log: Logger) -> Result<(), NodeError> {
    let address = config.listen.client;
    let health = || {
        let ok = || web::get().to(HttpResponse::Ok);
        App::new().route("/livez", ok()).route("/readyz", ok())
    };
    let server = HttpServer::new(health)
        .workers(config.workers.get())
        .bind(address)
        .map_err(|source| NodeError::Listen { address, source })?;
    info!(log, "listening"; "server.address" => %address);
    Ok(server.run().await?)
}
