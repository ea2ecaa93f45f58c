//! A change of members as an operator asks for it.

use serde::Deserialize;

use super::id;
use crate::dynamo::ring::{Departure, MemberChange, PlanError, Ring};
use crate::http::api_error::{ApiError, Name};

/// A change as an operator asks for it.
#[derive(Debug, Deserialize)]
#[serde(tag = "change", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Wanted {
    Leave {
        node: String,
    },
    Replace {
        old: String,
        new: String,
    },
    Forget {
        node: String,
        #[serde(default)]
        accept_data_loss: bool,
    },
    Weight {
        node: String,
        weight: u32,
    },
    Zone {
        node: String,
        zone: String,
    },
}

impl Wanted {
    /// Whether what is lost by it has been accepted.
    pub(super) fn accepts_loss(&self) -> bool {
        match self {
            Self::Forget {
                accept_data_loss, ..
            } => *accept_data_loss,
            Self::Leave { .. } | Self::Replace { .. } | Self::Weight { .. } | Self::Zone { .. } => {
                true
            }
        }
    }

    /// The change of this ring.
    pub(super) fn on(&self, ring: &Ring) -> Result<MemberChange, ApiError> {
        Ok(match self {
            Self::Leave { node } => MemberChange::Leave(id(node)?),
            Self::Forget { node, .. } => MemberChange::Forget(id(node)?),
            Self::Weight { node, weight } => MemberChange::Weight {
                node: id(node)?,
                weight: Some(*weight)
                    .filter(|w| *w > 0)
                    .ok_or(ApiError::FieldInvalid("weight"))?,
            },
            Self::Zone { node, zone } => {
                // A zone is named as a node is.
                let zone = id(zone)?.to_string();
                MemberChange::Zone {
                    node: id(node)?,
                    zone,
                }
            }
            Self::Replace { old, new } => {
                let name = id(new)?;
                let staged = ring.affairs.staged.iter().find_map(|change| match change {
                    MemberChange::Join(member) | MemberChange::Replace { new: member, .. } => {
                        (member.id == name).then(|| member.clone())
                    }
                    MemberChange::Leave(_)
                    | MemberChange::Forget(_)
                    | MemberChange::Weight { .. }
                    | MemberChange::Zone { .. }
                    | MemberChange::Spare(_) => None,
                });
                if let Some(member) = ring.member(&name) {
                    return Err(ApiError::ChangeRefused(PlanError::AlreadyMember(
                        member.id.clone(),
                    )));
                }
                let new = staged.ok_or_else(|| ApiError::NotStaged(Name::of(new.as_bytes())))?;
                MemberChange::Replace { old: id(old)?, new }
            }
        })
    }

    /// Whether it has been made, or is being made. Whose name is a member's again, of another data
    /// directory, is not gone: that it goes is a new wish.
    pub(super) fn is_so(&self, ring: &Ring) -> Result<bool, ApiError> {
        Ok(match self {
            Self::Leave { node } => ring.is_gone(&id(node)?, Departure::Left),
            Self::Forget { node, .. } => ring.is_gone(&id(node)?, Departure::Forgotten),
            Self::Replace { old, new } => {
                let (old, new) = (id(old)?, id(new)?);
                // The ring knows who came in the change under way, and after that only who is there.
                let mut before = ring.affairs.under_way.iter().flat_map(|c| &c.before);
                let was_there = ring.is_leaving(&old) && before.any(|m| m.id == new);
                let is_there = ring.member(&new).is_some() && !ring.is_leaving(&new);
                ring.is_gone(&old, Departure::Replaced) && is_there && !was_there
            }
            // A ring refuses to be given what it has.
            Self::Weight { .. } | Self::Zone { .. } => false,
        })
    }
}
