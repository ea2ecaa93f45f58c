//! What a ring says beside who owns what, as nodes send and store it.

use serde::{Deserialize, Serialize};

use super::{MemberDto, RingError, node_id};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{Affairs, Departed, Departure, Member, MemberChange, UnderWay};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct AffairsDto {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    staged: Vec<MemberChangeDto>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    under_way: Option<UnderWayDto>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    down: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    departed: Vec<DepartedDto>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::wire) enum MemberChangeDto {
    Join(MemberDto),
    Leave(String),
    Replace { old: String, new: MemberDto },
    Forget(String),
    Weight { node: String, weight: u32 },
    Zone { node: String, zone: String },
    Spare(String),
}

#[derive(Debug, Serialize, Deserialize)]
struct UnderWayDto {
    since: u64,
    before: Vec<MemberDto>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    leaving: Vec<(String, Departure)>,
    #[serde(default)]
    forgot: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct DepartedDto {
    name: String,
    data_id: u64,
    how: Departure,
    epoch: u64,
}

impl AffairsDto {
    pub(super) fn is_empty(&self) -> bool {
        self.staged.is_empty()
            && self.under_way.is_none()
            && self.down.is_empty()
            && self.departed.is_empty()
    }
}

impl From<&Affairs> for AffairsDto {
    fn from(affairs: &Affairs) -> Self {
        Self {
            staged: affairs.staged.iter().map(Into::into).collect(),
            under_way: affairs.under_way.as_ref().map(Into::into),
            down: affairs.down.iter().map(ToString::to_string).collect(),
            departed: affairs.departed.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<AffairsDto> for Affairs {
    type Error = RingError;

    fn try_from(dto: AffairsDto) -> Result<Self, RingError> {
        Ok(Self {
            staged: all(dto.staged)?,
            under_way: dto.under_way.map(TryInto::try_into).transpose()?,
            down: dto
                .down
                .iter()
                .map(|name| node_id(name))
                .collect::<Result<_, _>>()?,
            departed: all(dto.departed)?,
        })
    }
}

fn all<A, B: TryFrom<A, Error = RingError>>(dtos: Vec<A>) -> Result<Vec<B>, RingError> {
    dtos.into_iter().map(B::try_from).collect()
}

impl From<&UnderWay> for UnderWayDto {
    fn from(change: &UnderWay) -> Self {
        let leaving = change.leaving.iter();
        Self {
            since: change.since,
            before: change.before.iter().map(MemberDto::from).collect(),
            leaving: leaving.map(|(id, how)| (id.to_string(), *how)).collect(),
            forgot: change.forgot,
        }
    }
}

impl TryFrom<UnderWayDto> for UnderWay {
    type Error = RingError;

    fn try_from(dto: UnderWayDto) -> Result<Self, RingError> {
        let leaver = |(name, how): (String, Departure)| -> Result<(NodeId, Departure), _> {
            Ok((node_id(&name)?, how))
        };
        Ok(Self {
            since: dto.since,
            before: all::<_, Member>(dto.before)?,
            leaving: dto
                .leaving
                .into_iter()
                .map(leaver)
                .collect::<Result<_, RingError>>()?,
            forgot: dto.forgot,
        })
    }
}

impl From<&Departed> for DepartedDto {
    fn from(gone: &Departed) -> Self {
        Self {
            name: gone.id.to_string(),
            data_id: gone.data_id,
            how: gone.how,
            epoch: gone.epoch,
        }
    }
}

impl TryFrom<DepartedDto> for Departed {
    type Error = RingError;

    fn try_from(dto: DepartedDto) -> Result<Self, RingError> {
        Ok(Self {
            id: node_id(&dto.name)?,
            data_id: dto.data_id,
            how: dto.how,
            epoch: dto.epoch,
        })
    }
}

impl From<&MemberChange> for MemberChangeDto {
    fn from(change: &MemberChange) -> Self {
        match change {
            MemberChange::Join(member) => Self::Join(member.into()),
            MemberChange::Leave(node) => Self::Leave(node.to_string()),
            MemberChange::Replace { old, new } => Self::Replace {
                old: old.to_string(),
                new: new.into(),
            },
            MemberChange::Forget(node) => Self::Forget(node.to_string()),
            MemberChange::Weight { node, weight } => Self::Weight {
                node: node.to_string(),
                weight: *weight,
            },
            MemberChange::Zone { node, zone } => Self::Zone {
                node: node.to_string(),
                zone: zone.clone(),
            },
            MemberChange::Spare(node) => Self::Spare(node.to_string()),
        }
    }
}

impl TryFrom<MemberChangeDto> for MemberChange {
    type Error = RingError;

    fn try_from(dto: MemberChangeDto) -> Result<Self, RingError> {
        Ok(match dto {
            MemberChangeDto::Join(member) => Self::Join(member.try_into()?),
            MemberChangeDto::Leave(node) => Self::Leave(node_id(&node)?),
            MemberChangeDto::Replace { old, new } => Self::Replace {
                old: node_id(&old)?,
                new: new.try_into()?,
            },
            MemberChangeDto::Forget(node) => Self::Forget(node_id(&node)?),
            MemberChangeDto::Weight { node, weight } => Self::Weight {
                node: node_id(&node)?,
                weight: weight.max(1),
            },
            MemberChangeDto::Zone { node, zone } => Self::Zone {
                node: node_id(&node)?,
                zone,
            },
            MemberChangeDto::Spare(node) => Self::Spare(node_id(&node)?),
        })
    }
}
