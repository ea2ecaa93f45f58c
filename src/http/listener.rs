//! Puts an application on a socket. All listeners of a node go through here, so that they share
//! worker threads, bounds and manners.

use std::fmt;
use std::io;

use actix_http::body::{BoxBody, MessageBody};
use actix_http::{HttpMessage, HttpService, KeepAlive, Request, Response};
use actix_rt::net::TcpStream;
use actix_server::ServerBuilder;
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_service, map_config,
};
use actix_web::dev::AppConfig;
use actix_web::{Error, ResponseError};

use super::api_error::ApiError;
use super::body::announces_too_much;
use super::headers::Correlation;
use super::timed_stream::TimedStream;
use crate::limits::Limits;

/// Adds a listener to a server. The application is made once for each worker, on its thread.
///
/// `body_bytes` is what the application takes: a client that asks before it sends more is told so
/// at once.
///
/// # Errors
/// Those of the socket.
pub fn listen<F, I, S, B>(
    server: ServerBuilder,
    name: &'static str,
    socket: std::net::TcpListener,
    limits: &Limits,
    body_bytes: usize,
    app: F,
) -> io::Result<ServerBuilder>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    <S::Service as Service<Request>>::Future: 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
{
    let address = socket.local_addr()?;
    let stopping = server.graceful_shutdown_signal();
    let limits = limits.clone();
    server.listen(name, socket, move || {
        let stopping = stopping.clone();
        let exchange_timeout = limits.exchange_timeout;
        let app = app().into_factory();
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(KeepAlive::Timeout(limits.keep_alive))
            .client_request_timeout(limits.head_timeout)
            .client_disconnect_timeout(limits.linger)
            .local_addr(address)
            .expect(fn_service(move |request: Request| async move {
                may_continue(request, body_bytes)
            }))
            .h1(map_config(
                app.map_err(|error| error.into().error_response()),
                |()| AppConfig::default(),
            ));
        fn_service(move |stream: TcpStream| async move {
            stream.set_nodelay(true)?;
            let peer = stream.peer_addr().ok();
            Ok::<_, io::Error>((TimedStream::new(stream, exchange_timeout), peer))
        })
        .map_err(actix_http::error::DispatchError::Io)
        .and_then(http)
    })
}

/// Answers `Expect: 100-continue`.
fn may_continue(request: Request, body_bytes: usize) -> Result<Request, Response<BoxBody>> {
    if !announces_too_much(request.headers(), body_bytes) {
        return Ok(request);
    }
    let mut refusal = ApiError::BodyTooLarge.error_response();
    Correlation::of(request.headers()).put_on(refusal.headers_mut());
    Err(refusal.into())
}
