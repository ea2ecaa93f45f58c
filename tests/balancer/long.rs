//! Requests that take so long that the balancer changes meanwhile, or is to end.

use std::net::TcpStream;
use std::time::Duration;

use crate::support::balancer::Balancer;
use crate::support::connection::Connection;
use crate::support::eventually;

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

/// As on `docker stop`.
pub(crate) fn outlives_the_end(balancer: &Balancer) {
    let half = Half::of_a_create(balancer, "at-the-end");
    balancer.terminate();
    eventually(SOON, "it takes no more connections", || {
        TcpStream::connect(&balancer.address).is_err()
    });
    half.succeeds();
}
