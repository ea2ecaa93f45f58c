//! Requests that take so long that the balancer changes meanwhile, or is to end.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::Value;

use crate::edges::register;
use crate::support::balancer::Balancer;
use crate::support::connection::Connection;
use crate::support::consul::Consul;
use crate::support::{Client, eventually};

const SOON: Duration = Duration::from_secs(20);
const REST: &str = "\":1}";

/// A create whose body is half sent, on a connection that has served before: so a worker has it.
pub(crate) struct Half(Connection);

impl Half {
    pub(crate) fn of_a_create(balancer: &Balancer, key: &str) -> Self {
        let mut connection = Connection::to(&balancer.address);
        connection.call("GET /lb/health", "", "").unwrap();
        let json = "content-type: application/json\r\n";
        let head = format!("POST /v1/{key}");
        connection.begin(&head, json, "{\"value", REST).unwrap();
        Self(connection)
    }

    pub(crate) fn succeeds(mut self) {
        let answer = self.0.end(REST).unwrap();
        assert_eq!(answer.status, 201, "{answer:?}");
    }
}

/// The worker that has it goes on with it.
pub(crate) fn outlives_a_reload(balancer: &Balancer) {
    let half = Half::of_a_create(balancer, "reloaded");
    balancer.reload_meanwhile();
    half.succeeds();
}

/// A node that answers reads of `held` when it is told to, once, and everything else at once.
fn slow_node(socket: TcpListener) -> (Receiver<()>, Sender<()>) {
    let ((tell, told), (go, may_go)) = (channel(), channel());
    std::thread::spawn(move || {
        for stream in socket.incoming() {
            let mut stream = stream.unwrap();
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).unwrap();
            let is_held = head[..read].starts_with(b"GET /v1/held ");
            if is_held {
                tell.send(()).unwrap();
                may_go.recv().unwrap();
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
            stream.write_all(answer).unwrap();
            if is_held {
                return;
            }
        }
    });
    (told, go)
}

pub(crate) fn slow_answer_outlives_a_reload(consul: &Consul, balancer: &Balancer) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    register(consul, "slow", &socket.local_addr().unwrap().to_string());
    let (held, go) = slow_node(socket);
    let (client, ready) = (Client::new(), balancer.url("/readyz"));
    eventually(SOON, "it is used", || client.get(&ready).status == 200);
    let url = balancer.url("/v1/held");
    std::thread::scope(|scope| {
        let read = scope.spawn(|| client.get(&url));
        held.recv_timeout(SOON).unwrap();
        balancer.reload_meanwhile();
        go.send(()).unwrap();
        assert_eq!(read.join().unwrap().status, 200);
    });
    consul.put("/v1/agent/service/deregister/slow", &Value::Null);
}

/// As on `docker stop`.
pub(crate) fn outlives_the_end(balancer: &Balancer) {
    let half = Half::of_a_create(balancer, "at-the-end");
    balancer.terminate();
    eventually(SOON, "it takes no more connections", || {
        TcpStream::connect(&balancer.address).is_err()
    });
    half.succeeds();
}
