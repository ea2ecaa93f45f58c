//! One client's connection to one node.

use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::super::connection::{Broken, Connection, write_request};
use super::super::response::header;

/// How long a connection may take to come about: the nodes are near.
const CONNECT_TIME: Duration = Duration::from_secs(1);

/// Keeps a connection to a node, and opens it again when it broke.
pub(super) struct Asker {
    /// Whom it asks.
    pub(super) endpoint: String,
    connection: Option<Connection>,
    request: Vec<u8>,
}

/// What is asked.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    /// Further header lines, each ended by CR LF.
    pub(super) fields: &'a str,
    pub(super) body: Option<&'a [u8]>,
}

/// What was answered.
pub(super) struct Reply {
    pub(super) status: u16,
    /// How many of the acknowledgements came from stand-ins, if it says so.
    pub(super) hinted: Option<u32>,
    pub(super) body: Vec<u8>,
}

impl Asker {
    /// Asks this node.
    pub(super) fn new(endpoint: String) -> Self {
        Self {
            endpoint,
            connection: None,
            request: Vec::new(),
        }
    }

    /// Asks another node from now on.
    pub(super) fn turn_to(&mut self, endpoint: &str) {
        if self.endpoint != endpoint {
            *self = Self::new(endpoint.to_owned());
        }
    }

    /// Asks once. [`Broken::Connect`] means that nothing was sent.
    pub(super) async fn ask(
        &mut self,
        question: Question<'_>,
        time: Duration,
    ) -> Result<Reply, Broken> {
        let mut connection = match self.connection.take().filter(|c| !c.is_spent()) {
            Some(open) => open,
            None => timeout(CONNECT_TIME, Connection::open(&self.endpoint))
                .await
                .unwrap_or_else(|_| Err(Broken::Connect(io::ErrorKind::TimedOut.into())))?,
        };
        let Question {
            method,
            path,
            fields,
            body,
        } = question;
        write_request(
            &mut self.request,
            method,
            path,
            &self.endpoint,
            fields,
            body,
        );
        let exchange = timeout(time, connection.exchange(&self.request)).await;
        let response = exchange.unwrap_or(Err(Broken::TimedOut))?;
        let reply = Reply {
            status: response.status,
            hinted: header(response.head, "x-quorate-acks").and_then(hinted),
            body: response.body.to_vec(),
        };
        if !response.close {
            self.connection = Some(connection);
        }
        Ok(reply)
    }
}

/// From `home=1,hinted=1`.
fn hinted(acks: &str) -> Option<u32> {
    let fields = acks.split(',').filter_map(|field| field.split_once('='));
    let mut hinted = fields.filter(|(name, _)| name.trim() == "hinted");
    hinted.next()?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stand_ins_are_counted_from_the_header() {
        let rows = [
            ("home=2,hinted=0", Some(0)),
            ("home=1, hinted=1", Some(1)),
            ("home=2", None),
            ("hinted=x", None),
            ("", None),
        ];
        for (acks, want) in rows {
            assert_eq!(hinted(acks), want, "{acks}");
        }
    }
}
