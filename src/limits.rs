//! Every bound of a node in one place, as `/status` shows them.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::dynamo::key::MAX_KEY_BYTES;
use crate::wire::clock::MAX_TOKEN_BYTES;

/// What a request body may hold beside its value and its clock: names, braces, white space.
const BODY_SLACK_BYTES: usize = 4 * 1024;

/// Live siblings from which a write is worth a warning in the log.
pub const SIBLINGS_WARN: usize = 25;

/// Live siblings beyond which a write that adds one is refused; repair and moves still pass.
pub const SIBLINGS_MAX: usize = 100;

/// Client operations that a node works on at once, unless the operator says otherwise.
pub const IN_FLIGHT: u32 = 1024;

/// What a node keeps for others that are away, unless the operator says otherwise.
pub const HINT_BYTES: u64 = 1024 * 1024 * 1024;

/// Longest message between nodes: a record may hold [`Limits::siblings_max`] of the longest values.
pub const MAX_PEER_MESSAGE_BYTES: usize = 128 * 1024 * 1024;

/// Most operations in one message to a peer.
pub const MAX_BATCH_OPS: usize = 256;

/// A message to a peer takes no further operation once it holds so many bytes.
pub const MAX_BATCH_BYTES: usize = 1024 * 1024;

/// The answer to a message of many operations takes no further record once it holds so many bytes;
/// those without room are asked for again.
pub const MAX_REPLY_BYTES: usize = 16 * 1024 * 1024;

/// Operations of one kind that may wait for one peer on one worker; beyond it they are refused.
pub const MAX_PEER_QUEUE: usize = 2048;

/// For how long nothing may have happened to any member until a delete is forgotten, unless the
/// operator says otherwise.
pub const TOMBSTONE_GRACE_SECONDS: u32 = 600;
/// For how many seconds a copy is kept of a partition that others own now.
pub const QUARANTINE_SECONDS: u32 = 24 * 60 * 60;

/// Bytes that these may hold; a single longer operation may wait alone.
pub const MAX_PEER_QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// Batches of one kind that one worker has out to one peer, if all but the last are stuck.
pub const MAX_PEER_FLIGHTS: usize = 4;

/// Bytes of log lines that may wait to be written; what does not fit is lost, and counted.
pub const LOG_QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// The bounds; durations are shown in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Longest key, after percent-decoding.
    pub key_bytes: usize,
    /// Longest value, as raw JSON.
    pub value_bytes: usize,
    /// Longest clock token that is looked at.
    pub clock_bytes: usize,
    /// Deepest nesting of a request body.
    pub body_depth: usize,
    /// Live siblings from which a write is worth a warning.
    pub siblings_warn: usize,
    /// Live siblings beyond which a write that adds one is refused.
    pub siblings_max: usize,
    /// Bytes of hints a node keeps for others; beyond it they are refused.
    pub hint_bytes: u64,
    /// Client operations a node works on at once.
    pub in_flight: usize,
    /// Bytes of log lines that may wait to be written.
    pub log_queue_bytes: usize,
    /// From a read's arrival to its answer.
    #[serde(rename = "read_deadline_ms", serialize_with = "millis")]
    pub read_deadline: Duration,
    /// From a write's arrival to its answer.
    #[serde(rename = "write_deadline_ms", serialize_with = "millis")]
    pub write_deadline: Duration,
    /// From a connection's opening to the end of its first request head.
    #[serde(rename = "head_timeout_ms", serialize_with = "millis")]
    pub head_timeout: Duration,
    /// From the end of a request's head to the end of its body.
    #[serde(rename = "body_timeout_ms", serialize_with = "millis")]
    pub body_timeout: Duration,
    /// From a request's first byte to its answer's, and from a stalled answer to its last byte.
    #[serde(rename = "exchange_timeout_ms", serialize_with = "millis")]
    pub exchange_timeout: Duration,
    /// For how long an idle connection stays open between requests.
    #[serde(rename = "keep_alive_ms", serialize_with = "millis")]
    pub keep_alive: Duration,
    /// For how long nothing may have happened to any member until a delete is forgotten.
    #[serde(rename = "tombstone_grace_ms", serialize_with = "millis")]
    pub tombstone_grace: Duration,
    /// For how long a copy is kept of a partition that others own now.
    #[serde(rename = "quarantine_ms", serialize_with = "millis")]
    pub quarantine: Duration,
    /// For how long a connection that is being closed may still drain.
    #[serde(rename = "linger_ms", serialize_with = "millis")]
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            key_bytes: MAX_KEY_BYTES,
            value_bytes: 1024 * 1024,
            clock_bytes: MAX_TOKEN_BYTES,
            body_depth: 128,
            siblings_warn: SIBLINGS_WARN,
            siblings_max: SIBLINGS_MAX,
            hint_bytes: HINT_BYTES,
            in_flight: IN_FLIGHT as usize,
            log_queue_bytes: LOG_QUEUE_BYTES,
            read_deadline: Duration::from_secs(2),
            write_deadline: Duration::from_secs(4),
            head_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_secs(20),
            exchange_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(75),
            tombstone_grace: Duration::from_secs(TOMBSTONE_GRACE_SECONDS.into()),
            quarantine: Duration::from_secs(QUARANTINE_SECONDS.into()),
            linger: Duration::from_secs(5),
        }
    }
}

impl Limits {
    /// Longest request body of the client API.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.value_bytes + self.clock_bytes + BODY_SLACK_BYTES
    }
}

fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u128(duration.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_limits_agree_with_each_other() {
        let limits = Limits::default();
        assert!(limits.siblings_warn < limits.siblings_max);
        assert!(limits.body_bytes() > limits.value_bytes);
        assert!(limits.head_timeout < limits.exchange_timeout);
        let slowest = limits.body_timeout + limits.write_deadline;
        assert!(
            slowest < limits.exchange_timeout,
            "a slow body could not be answered"
        );
        assert!(limits.exchange_timeout < limits.keep_alive);
    }

    #[test]
    fn limits_show_their_units() {
        let shown = serde_json::to_value(Limits::default()).unwrap();
        assert_eq!(shown["value_bytes"], 1_048_576);
        assert_eq!(shown["write_deadline_ms"], 4000);
    }
}
