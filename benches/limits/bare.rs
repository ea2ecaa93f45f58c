//! A coordinator without logic: each node appends a put to its log and syncs it, sends it to the
//! two others, and answers when two of the three have it. No ring, no versions, no reads. What is
//! meant for one node while a call to it is under way becomes the next call.

use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use actix_service::{Service, apply_fn};
use actix_tls::connect::{ConnectError, ConnectInfo};
use actix_web::rt::spawn;
use actix_web::{App, HttpResponse, HttpServer, web};
use awc::http::Uri;
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::Outcome;
use super::echo::ANSWER;

/// Said when something was stored, or not.
type Ack = oneshot::Sender<bool>;

/// What waits for the log's thread.
struct Append {
    bytes: web::Bytes,
    stored: Ack,
}

/// What a worker has.
struct Node {
    log: Sender<Append>,
    peers: Vec<Rc<Peer>>,
}

/// What waits for one other node.
struct Peer {
    url: String,
    client: awc::Client,
    queue: RefCell<(Vec<u8>, Vec<Ack>)>,
}

#[derive(Deserialize)]
struct Put<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
    clock: &'a str,
}

/// Serves as one of three nodes, on one worker and one thread for the log.
pub(crate) async fn serve(address: &str, log: &str, peers: &[&str]) -> Outcome<()> {
    let file = File::create(log)?;
    let (log, waiting) = channel();
    std::thread::spawn(move || keep(file, &waiting));
    let urls: Vec<String> = peers.iter().map(|p| format!("http://{p}/batch")).collect();
    let server = HttpServer::new(move || {
        let peers = urls.iter().map(|url| Rc::new(Peer::new(url.clone())));
        let node = Node {
            log: log.clone(),
            peers: peers.collect(),
        };
        App::new()
            .app_data(web::PayloadConfig::new(64 << 20))
            .app_data(web::Data::new(node))
            .route("/batch", web::post().to(batch))
            .route("/v1/{key}", web::put().to(put))
            .default_service(web::to(|| async { HttpResponse::NotFound().body(ANSWER) }))
    });
    Ok(server.workers(1).bind(address)?.run().await?)
}

/// Writes all that waits, syncs once, says so to all; ends the process when the disk fails.
fn keep(mut file: File, waiting: &Receiver<Append>) {
    while let Ok(first) = waiting.recv() {
        let (mut bytes, mut acks) = (first.bytes.to_vec(), vec![first.stored]);
        while let Ok(more) = waiting.try_recv() {
            bytes.extend_from_slice(&more.bytes);
            acks.push(more.stored);
        }
        if file.write_all(&bytes).and(file.sync_data()).is_err() {
            std::process::exit(1);
        }
        acks.into_iter().for_each(acknowledge);
    }
}

/// Whoever asked may have had its two answers already.
fn acknowledge(ack: Ack) {
    let _it_may_be_gone: Result<(), bool> = ack.send(true);
}

impl Peer {
    fn new(url: String) -> Self {
        Self {
            url,
            client: client(),
            queue: RefCell::default(),
        }
    }

    fn send(self: &Rc<Self>, bytes: &[u8]) -> oneshot::Receiver<bool> {
        let (ack, stored) = oneshot::channel();
        let mut queue = self.queue.borrow_mut();
        queue.0.extend_from_slice(bytes);
        queue.1.push(ack);
        // A call under way holds the other handle.
        if Rc::strong_count(self) == 1 {
            spawn(Rc::clone(self).empty_the_queue());
        }
        stored
    }

    async fn empty_the_queue(self: Rc<Self>) {
        loop {
            let (bytes, acks) = self.queue.take();
            if acks.is_empty() {
                return;
            }
            let sent = self.client.post(&self.url).send_body(bytes).await;
            if sent.is_ok_and(|answer| answer.status().is_success()) {
                acks.into_iter().for_each(acknowledge);
            }
        }
    }
}

/// A client that sends small segments at once.
fn client() -> awc::Client {
    type Target = ConnectInfo<Uri>;
    let tcp = actix_tls::connect::Connector::default().service();
    let no_delay = apply_fn::<_, _, _, _, Target, Target, _, _>(tcp, |request, tcp| {
        let connecting = Service::<Target>::call(tcp, request);
        async move {
            let connection = connecting.await?;
            let set = connection.io_ref().set_nodelay(true);
            set.map_err(ConnectError::Io).map(|()| connection)
        }
    });
    let connector = awc::Connector::new().connector(no_delay);
    let client = awc::Client::builder().timeout(Duration::from_secs(5));
    client.connector(connector).finish()
}

impl Node {
    fn append(&self, bytes: web::Bytes) -> oneshot::Receiver<bool> {
        let (stored, is_stored) = oneshot::channel();
        // Without its log the process ends.
        drop(self.log.send(Append { bytes, stored }));
        is_stored
    }
}

async fn put(node: web::Data<Node>, key: web::Path<String>, body: web::Bytes) -> HttpResponse {
    let Ok(put) = serde_json::from_slice::<Put<'_>>(&body) else {
        return HttpResponse::BadRequest().finish();
    };
    let mut bytes = Vec::with_capacity(key.len() + put.value.get().len() + put.clock.len() + 2);
    for part in [&*key, put.clock, put.value.get()] {
        bytes.extend_from_slice(part.as_bytes());
        bytes.push(b'\n');
    }
    let bytes = web::Bytes::from(bytes);
    let mut open: FuturesUnordered<_> = node.peers.iter().map(|p| p.send(&bytes)).collect();
    open.push(node.append(bytes));
    let mut stored = 0;
    while let Some(outcome) = open.next().await {
        stored += usize::from(outcome == Ok(true));
        if stored == 2 {
            return HttpResponse::Ok()
                .content_type("application/json")
                .body(ANSWER);
        }
    }
    HttpResponse::ServiceUnavailable().finish()
}

async fn batch(node: web::Data<Node>, body: web::Bytes) -> HttpResponse {
    match node.append(body).await {
        Ok(true) => HttpResponse::Ok().finish(),
        Ok(false) | Err(_) => HttpResponse::ServiceUnavailable().finish(),
    }
}
