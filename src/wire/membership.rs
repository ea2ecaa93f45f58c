//! How the promise of a ring epoch travels and is stored: the serde side of the promise.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::mirror::{converted, mirrored};
use super::ring::{ChangeDto, MemberDto, node_id};
use crate::dynamo::membership::promise::{
    AcceptReply, Accepted, Acceptor, Ballot, PredictReply, Proposal,
};
use crate::dynamo::node_id::{Incarnation, NodeId};
use crate::dynamo::ring::{Change, ClusterId, Member, PlanError, RingHash};

converted!(Member, MemberDto);
converted!(Change, ChangeDto);
mirrored!(RingHash, RingHashDef);
mirrored!(ClusterId, ClusterIdDef);
mirrored!(Incarnation, IncarnationDef);
mirrored!(Ballot, BallotDef);
mirrored!(Proposal, ProposalDef);
mirrored!(Accepted, AcceptedDef);
mirrored!(PredictReply, PredictReplyDef);
mirrored!(AcceptReply, AcceptReplyDef);
mirrored!(PlanError, PlanErrorDef);

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        node_id(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RingHash", transparent)]
struct RingHashDef(u64);

#[derive(Serialize, Deserialize)]
#[serde(remote = "ClusterId", transparent)]
struct ClusterIdDef(u64);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Incarnation", transparent)]
struct IncarnationDef(u64);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Ballot")]
struct BallotDef {
    round: u64,
    proposer: NodeId,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Proposal")]
struct ProposalDef {
    change: Change,
    hash: RingHash,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Accepted")]
struct AcceptedDef {
    ballot: Ballot,
    proposal: Proposal,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "PredictReply", rename_all = "snake_case")]
enum PredictReplyDef {
    Promised {
        hash: RingHash,
        accepted: Option<Accepted>,
    },
    Outbid(Ballot),
    WrongEpoch {
        current: u64,
    },
    CannotFollow(PlanError),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "AcceptReply", rename_all = "snake_case")]
enum AcceptReplyDef {
    Accepted,
    Outbid(Ballot),
    WrongEpoch { current: u64 },
    HashDiffers { hash: RingHash },
    CannotFollow(PlanError),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "PlanError", rename_all = "snake_case")]
enum PlanErrorDef {
    AlreadyFounded,
    NoRing,
    NoMembers,
    NameTaken(NodeId),
    AlreadyMember(NodeId),
    NotMember(NodeId),
    StillMoving,
    NotMoving,
    Departed(NodeId),
    NobodyLeft,
    Conflict(NodeId),
    NothingToChange,
    CannotCancel,
    TooMuchStaged,
    Flipped,
}

#[derive(Serialize, Deserialize)]
struct AcceptorDto {
    epoch: u64,
    promised: Option<Ballot>,
    accepted: Option<Accepted>,
}

impl Serialize for Acceptor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (promised, accepted) = (self.promised().cloned(), self.accepted().cloned());
        AcceptorDto {
            epoch: self.epoch(),
            promised,
            accepted,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Acceptor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let AcceptorDto {
            epoch,
            promised,
            accepted,
        } = Deserialize::deserialize(deserializer)?;
        Ok(Self::from_parts(epoch, promised, accepted))
    }
}

/// Asks a member to promise: the first phase of a change of the ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PredictCall {
    /// The epoch to be.
    pub epoch: u64,
    /// The rank of the attempt.
    pub ballot: Ballot,
    /// What is proposed.
    pub proposal: Proposal,
}

/// Asks a member to accept: the second phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptCall {
    /// The epoch to be.
    pub epoch: u64,
    /// The rank of the attempt.
    pub ballot: Ballot,
    /// What is to be accepted.
    pub proposal: Proposal,
}
