//! How nodes greet each other and found a cluster: the serde side of the lifecycle.

use serde::{Deserialize, Serialize};

use super::mirror::mirrored;
use crate::dynamo::membership::boots::Boot;
use crate::dynamo::membership::lifecycle::{
    FoundRefusal, Founding, Hello, NodeState, Refusal, RingStamp,
};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{ClusterId, Departure, Member};

mirrored!(Boot, BootDef);
mirrored!(NodeState, NodeStateDef);
mirrored!(RingStamp, RingStampDef);
mirrored!(Founding, FoundingDef);
mirrored!(FoundRefusal, FoundRefusalDef);
mirrored!(Hello, HelloDef);
mirrored!(Refusal, RefusalDef);
mirrored!(Departure, DepartureDef);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Boot")]
struct BootDef {
    number: u64,
    life: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "NodeState", rename_all = "UPPERCASE")]
enum NodeStateDef {
    New,
    Pending,
    Ready,
    Leaving,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RingStamp")]
struct RingStampDef {
    cluster: ClusterId,
    epoch: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Founding")]
struct FoundingDef {
    founder: NodeId,
    attempt: u64,
    cluster: ClusterId,
    replicas: usize,
    members: Vec<Member>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "FoundRefusal", rename_all = "snake_case")]
enum FoundRefusalDef {
    RingExists,
    Promised(Box<Founding>),
    NotNamed,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Hello")]
struct HelloDef {
    from: Member,
    state: NodeState,
    ring: Option<RingStamp>,
    founding: Option<Founding>,
    pulled: Option<u64>,
    news: Vec<Member>,
    #[serde(default)]
    fresh: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Refusal", rename_all = "snake_case")]
enum RefusalDef {
    NameTaken {
        name: NodeId,
        holder: String,
    },
    NameContested {
        name: NodeId,
        holder: String,
    },
    OtherCluster {
        at: String,
        cluster: ClusterId,
    },
    Departed {
        name: NodeId,
        how: Departure,
        epoch: u64,
    },
    NotEmpty {
        name: NodeId,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Departure", rename_all = "snake_case")]
enum DepartureDef {
    Left,
    Replaced,
    Forgotten,
}

/// A greeting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloCall {
    /// Who greets.
    pub hello: Hello,
    /// Which of its starts it lives.
    pub boot: Boot,
}

/// The answer to a greeting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HelloReply {
    /// Who answers.
    Hello {
        /// What it says of itself.
        hello: Box<Hello>,
        /// The greeter has once been further: a start with this number was seen, and not this one.
        rolled_back: Option<u64>,
    },
    /// Why it does not.
    Refused(Refusal),
}

/// The answer to a founder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FoundReply {
    /// The node takes part in this founding, and in no other.
    Promised,
    /// It does not.
    Refused(FoundRefusal),
}
