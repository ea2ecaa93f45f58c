//! How far a move is, as nodes tell each other and operators.

use serde::{Deserialize, Serialize};

use crate::dynamo::key::Partition;
use crate::dynamo::node_id::NodeId;

/// How far a partition has come that a node gains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Its turn has not come.
    Queued,
    /// Its records are being pulled.
    Pulling,
    /// Everything acknowledged is there; the old owners still serve reads.
    Verified,
    /// The new owners serve reads.
    Flipped,
    /// The owner to be does not answer.
    Unknown,
}

/// One partition on its way to one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// The partition's number.
    pub partition: u16,
    /// The owner that is being pulled from, or was last.
    pub from: Option<String>,
    /// The owner to be.
    pub to: String,
    /// How far it has come.
    pub step: Step,
    /// Records looked at.
    pub done: u64,
    /// Records that the owner has.
    pub total: u64,
    /// Bytes pulled.
    pub bytes: u64,
    /// Bytes per second.
    pub rate_bytes_s: u64,
    /// What holds it up.
    pub waiting_for: Option<String>,
}

impl Transfer {
    /// One that has not begun.
    #[must_use]
    pub fn of(partition: Partition, to: &NodeId) -> Self {
        Self {
            partition: partition.number(),
            from: None,
            to: to.to_string(),
            step: Step::Queued,
            done: 0,
            total: 0,
            bytes: 0,
            rate_bytes_s: 0,
            waiting_for: None,
        }
    }

    /// One of an owner to be that does not answer.
    #[must_use]
    pub fn unknown(partition: Partition, to: &NodeId) -> Self {
        Self {
            step: Step::Unknown,
            waiting_for: Some(format!("{to} to answer")),
            ..Self::of(partition, to)
        }
    }
}

/// How much a node holds, and how fast its transfers may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Burden {
    /// Keys with a value.
    pub keys: u64,
    /// Bytes of records.
    pub bytes: u64,
    /// Bytes per second that transfers may take now.
    pub rate_bytes_s: u64,
    /// The copies that it keeps of what others own now.
    #[serde(default)]
    pub kept: OldCopies,
}

/// What a node keeps of partitions that others own now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldCopies {
    /// Partitions.
    pub partitions: u64,
    /// Keys with a value in them.
    pub keys: u64,
    /// Until the last of them may go.
    pub seconds_left: u64,
}

/// How fast a node's transfers may go at most, until it ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitCall {
    /// Partitions at the same time; absent, as before.
    #[serde(default)]
    pub at_once: Option<u32>,
    /// Bytes per second; absent, no limit.
    #[serde(default)]
    pub bytes_s: Option<u64>,
}
