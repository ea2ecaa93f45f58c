//! The ring as nodes send and store it: MessagePack with named fields.

mod affairs;

use serde::{Deserialize, Serialize};

use self::affairs::{AffairsDto, MemberChangeDto};
use crate::dynamo::key::PARTITIONS;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{Addresses, Affairs, Change, ClusterId, Member, Placement, Ring};

/// Why bytes are not a ring.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// Not MessagePack of this shape.
    #[error("malformed ring: {0}")]
    Malformed(#[from] rmp_serde::decode::Error),
    /// A name that is no node's.
    #[error("a ring names a node {0:?}, which is not a valid name")]
    Name(String),
    /// Rows that do not fit each other.
    #[error("a ring's table is inconsistent: {0}")]
    Table(&'static str),
}

/// A member, as it announces itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct MemberDto {
    name: String,
    data_id: u64,
    zone: String,
    weight: u32,
    client: String,
    admin: String,
    peer: String,
}

#[derive(Serialize, Deserialize)]
struct RingDto {
    cluster: u64,
    epoch: u64,
    replicas: usize,
    members: Vec<MemberDto>,
    placements: Vec<PlacementDto>,
    /// Left out by version 0.1, which passes over it.
    #[serde(default, skip_serializing_if = "AffairsDto::is_empty")]
    affairs: AffairsDto,
}

/// Owners as places in the list of members.
#[derive(Serialize, Deserialize)]
struct PlacementDto {
    owners: Vec<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    incoming: Option<Vec<u16>>,
}

/// A step from one ring to the next.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ChangeDto {
    Found {
        cluster: u64,
        replicas: usize,
        members: Vec<MemberDto>,
    },
    Join(MemberDto),
    Recover(MemberDto),
    Retire,
    Stage(MemberChangeDto),
    Revert(Option<String>),
    Commit(Vec<MemberChangeDto>),
    Cancel,
    Steer {
        node: String,
        down: bool,
    },
}

/// The ring as bytes.
///
/// # Errors
/// Only if the encoder fails, which a vector as its target does not.
pub fn encode_ring(ring: &Ring) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    let place = |id: &NodeId| {
        let found = ring.members.binary_search_by(|m| m.id.cmp(id));
        u16::try_from(found.unwrap_or(usize::MAX)).unwrap_or(u16::MAX)
    };
    let row = |p: &Placement| PlacementDto {
        owners: p.owners.iter().map(place).collect(),
        incoming: p.incoming.as_ref().map(|to| to.iter().map(place).collect()),
    };
    rmp_serde::to_vec_named(&RingDto {
        cluster: ring.cluster.0,
        epoch: ring.epoch,
        replicas: ring.replicas,
        members: ring.members.iter().map(MemberDto::from).collect(),
        placements: ring.placements.iter().map(row).collect(),
        affairs: AffairsDto::from(&ring.affairs),
    })
}

/// Reads a ring and checks that its table fits its members.
///
/// # Errors
/// [`RingError`].
pub fn decode_ring(bytes: &[u8]) -> Result<Ring, RingError> {
    let dto: RingDto = rmp_serde::from_slice(bytes)?;
    let members: Vec<Member> = dto
        .members
        .into_iter()
        .map(Member::try_from)
        .collect::<Result<_, _>>()?;
    if !members.is_sorted_by(|a, b| a.id < b.id) {
        return Err(RingError::Table("the members are not in order"));
    }
    if dto.placements.len() != usize::from(PARTITIONS) {
        return Err(RingError::Table("not one row a partition"));
    }
    let owners = |places: Vec<u16>| {
        let name = |i: u16| members.get(usize::from(i)).map(|m| m.id.clone());
        let ids: Option<Vec<NodeId>> = places.into_iter().map(name).collect();
        ids.filter(|ids| !ids.is_empty())
            .ok_or(RingError::Table("a row without known owners"))
    };
    let row = |p: PlacementDto| -> Result<Placement, RingError> {
        Ok(Placement {
            owners: owners(p.owners)?,
            incoming: p.incoming.map(owners).transpose()?,
        })
    };
    let placements = dto
        .placements
        .into_iter()
        .map(row)
        .collect::<Result<_, _>>()?;
    Ok(Ring {
        cluster: ClusterId(dto.cluster),
        epoch: dto.epoch,
        replicas: dto.replicas,
        members,
        placements,
        affairs: Affairs::try_from(dto.affairs)?,
    })
}

impl From<&Member> for MemberDto {
    fn from(m: &Member) -> Self {
        Self {
            name: m.id.to_string(),
            data_id: m.data_id,
            zone: m.zone.clone(),
            weight: m.weight,
            client: m.addresses.client.clone(),
            admin: m.addresses.admin.clone(),
            peer: m.addresses.peer.clone(),
        }
    }
}

impl TryFrom<MemberDto> for Member {
    type Error = RingError;

    fn try_from(dto: MemberDto) -> Result<Self, RingError> {
        Ok(Self {
            id: node_id(&dto.name)?,
            data_id: dto.data_id,
            zone: dto.zone,
            weight: dto.weight.max(1),
            addresses: Addresses {
                client: dto.client,
                admin: dto.admin,
                peer: dto.peer,
            },
        })
    }
}

impl From<&Change> for ChangeDto {
    fn from(change: &Change) -> Self {
        match change {
            Change::Found {
                cluster,
                replicas,
                members,
            } => Self::Found {
                cluster: cluster.0,
                replicas: *replicas,
                members: members.iter().map(MemberDto::from).collect(),
            },
            Change::Join(member) => Self::Join(member.into()),
            Change::Recover(member) => Self::Recover(member.into()),
            Change::Retire => Self::Retire,
            Change::Stage(change) => Self::Stage(change.into()),
            Change::Revert(node) => Self::Revert(node.as_ref().map(ToString::to_string)),
            Change::Commit(changes) => {
                Self::Commit(changes.iter().map(MemberChangeDto::from).collect())
            }
            Change::Cancel => Self::Cancel,
            Change::Steer { node, down } => Self::Steer {
                node: node.to_string(),
                down: *down,
            },
        }
    }
}

impl TryFrom<ChangeDto> for Change {
    type Error = RingError;

    fn try_from(dto: ChangeDto) -> Result<Self, RingError> {
        Ok(match dto {
            ChangeDto::Found {
                cluster,
                replicas,
                members,
            } => Self::Found {
                cluster: ClusterId(cluster),
                replicas,
                members: members
                    .into_iter()
                    .map(Member::try_from)
                    .collect::<Result<_, _>>()?,
            },
            ChangeDto::Join(member) => Self::Join(member.try_into()?),
            ChangeDto::Recover(member) => Self::Recover(member.try_into()?),
            ChangeDto::Retire => Self::Retire,
            ChangeDto::Stage(change) => Self::Stage(change.try_into()?),
            ChangeDto::Revert(node) => Self::Revert(node.as_deref().map(node_id).transpose()?),
            ChangeDto::Commit(changes) => Self::Commit(
                changes
                    .into_iter()
                    .map(TryInto::try_into)
                    .collect::<Result<_, _>>()?,
            ),
            ChangeDto::Cancel => Self::Cancel,
            ChangeDto::Steer { node, down } => Self::Steer {
                node: node_id(&node)?,
                down,
            },
        })
    }
}

pub(super) fn node_id(name: &str) -> Result<NodeId, RingError> {
    NodeId::new(name).map_err(|_invalid| RingError::Name(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamo::membership::promise::{Accepted, Acceptor, Ballot, Proposal};
    use crate::dynamo::ring::plan;
    use crate::wire::state::tests::golden;

    fn member(name: &str) -> Member {
        let at = |port: u16| format!("127.0.0.1:{port}");
        Member {
            id: NodeId::new(name).unwrap(),
            data_id: 9,
            zone: "z1".to_owned(),
            weight: 2,
            addresses: Addresses {
                client: at(1),
                admin: at(2),
                peer: at(3),
            },
        }
    }

    fn moving_ring() -> Ring {
        let founders = ["a", "b", "c"].map(member).to_vec();
        let found = Change::Found {
            cluster: ClusterId(5),
            replicas: 3,
            members: founders,
        };
        let ring = plan(None, &found).unwrap();
        plan(Some(&ring), &Change::Join(member("d"))).unwrap()
    }

    #[test]
    fn a_ring_arrives_as_it_was_sent_with_the_same_hash() {
        let ring = moving_ring();
        assert!(ring.is_moving());
        let back = decode_ring(&encode_ring(&ring).unwrap()).unwrap();
        assert_eq!(back, ring);
        assert_eq!(back.hash(), ring.hash());
    }

    #[test]
    fn a_ring_whose_table_does_not_fit_is_refused() {
        type Spoil = fn(&mut Ring);
        let rows: [(&str, Spoil); 4] = [
            ("a row too few", |ring| drop(ring.placements.pop())),
            ("members out of order", |ring| ring.members.reverse()),
            ("an owner that is no member", |ring| {
                ring.placements[3].owners[0] = NodeId::new("x").unwrap();
            }),
            ("a row without owners", |ring| {
                ring.placements[0].owners.clear();
            }),
        ];
        for (what, spoil) in rows {
            let mut ring = moving_ring();
            spoil(&mut ring);
            let bytes = encode_ring(&ring).unwrap();
            assert!(
                matches!(decode_ring(&bytes), Err(RingError::Table(_))),
                "{what}"
            );
        }
        assert!(matches!(decode_ring(b"\xc1"), Err(RingError::Malformed(_))));
    }

    /// As version 0.1 writes it, with every other partition moving.
    #[test]
    fn a_ring_of_the_first_version_is_read_and_written_as_it_was() {
        let bytes = golden(include_str!("../../tests/golden/ring-v1.hex"));
        let ring = decode_ring(&bytes).unwrap();
        assert_eq!(
            (ring.epoch, ring.move_epoch(), ring.members.len()),
            (2, 2, 2)
        );
        assert_eq!(ring.gains(&ring.members[1].id).count(), 128);
        assert_eq!(encode_ring(&ring).unwrap(), bytes);
    }

    /// What version 0.1 knows of a ring; it passes over the rest.
    #[derive(Deserialize)]
    struct FirstVersion {
        epoch: u64,
        members: Vec<MemberDto>,
        placements: Vec<PlacementDto>,
    }

    #[test]
    fn a_ring_with_affairs_arrives_whole_and_the_first_version_reads_its_part() {
        use crate::dynamo::ring::MemberChange;
        let id = |name| NodeId::new(name).unwrap();
        let mut ring = moving_ring();
        // Of a node that has every step by wire, and plans on from what it was sent.
        let mut theirs = ring.clone();
        let zone = MemberChange::Zone {
            node: id("a"),
            zone: "z9".to_owned(),
        };
        let changes = [
            Change::Retire,
            Change::Commit(vec![MemberChange::Forget(id("a"))]),
            Change::Retire,
            Change::Join(member("e")),
            Change::Retire,
            Change::Steer {
                node: id("b"),
                down: true,
            },
            Change::Commit(vec![
                MemberChange::Leave(id("c")),
                MemberChange::Replace {
                    old: id("d"),
                    new: member("f"),
                },
                MemberChange::Weight {
                    node: id("b"),
                    weight: 3,
                },
            ]),
            Change::Stage(MemberChange::Join(member("g"))),
            Change::Stage(MemberChange::Zone {
                node: id("b"),
                zone: "z9".to_owned(),
            }),
        ];
        assert!(plan(Some(&ring), &Change::Stage(zone)).is_ok());
        for change in &changes {
            let sent = rmp_serde::to_vec_named(&ChangeDto::from(change)).unwrap();
            let came: ChangeDto = rmp_serde::from_slice(&sent).unwrap();
            let came = Change::try_from(came).unwrap();
            assert_eq!(came, *change);
            ring = plan(Some(&ring), change).unwrap_or(ring);
            theirs = plan(Some(&theirs), &came).unwrap_or(theirs);
            let bytes = encode_ring(&theirs).unwrap();
            theirs = decode_ring(&bytes).unwrap();
            assert_eq!(
                (theirs.hash(), &theirs),
                (ring.hash(), &ring),
                "after {change:?}"
            );
            let old: FirstVersion = rmp_serde::from_slice(&bytes).unwrap();
            let of_old = (old.epoch, old.members.len(), old.placements.len());
            assert_eq!(of_old, (ring.epoch, ring.members.len(), 256));
        }
        let affairs = &ring.affairs;
        assert_eq!(
            (
                affairs.staged.len(),
                affairs.down.len(),
                affairs.departed.len()
            ),
            (2, 1, 1)
        );
        assert_eq!(
            affairs
                .under_way
                .as_ref()
                .map(|change| change.leaving.len()),
            Some(2)
        );
    }

    #[test]
    fn promises_are_stored_and_read_back() {
        let ballot = |round| Ballot {
            round,
            proposer: NodeId::new("b").unwrap(),
        };
        let (change, hash) = (Change::Join(member("d")), moving_ring().hash());
        let accepted = Accepted {
            ballot: ballot(3),
            proposal: Proposal { change, hash },
        };
        for accepted in [None, Some(accepted)] {
            let acceptor = Acceptor::from_parts(2, Some(ballot(4)), accepted);
            let bytes = rmp_serde::to_vec_named(&acceptor).unwrap();
            assert_eq!(rmp_serde::from_slice::<Acceptor>(&bytes).unwrap(), acceptor);
        }
    }
}
