//! Rings and luck for the tests of this room.

use crate::dynamo::key::fnv1a64;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{Addresses, Change, ClusterId, Member, Ring, plan};

pub(crate) fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// A member whose data directory is named after the node. Its weight leaves little to one who joins
/// with the weight 1, which keeps planning cheap.
pub(crate) fn member(name: &str) -> Member {
    let at = |port: u16| format!("{name}:{port}");
    Member {
        id: id(name),
        data_id: fnv1a64(name.as_bytes()),
        zone: "z".into(),
        weight: 100,
        addresses: Addresses {
            client: at(8080),
            admin: at(8081),
            peer: at(8082),
        },
    }
}

pub(crate) fn join(name: &str) -> Change {
    Change::Join(member(name))
}

/// The first ring of these founders.
pub(crate) fn ring(names: &[&str]) -> Ring {
    let found = Change::Found {
        cluster: ClusterId(7),
        replicas: 3,
        members: names.iter().map(|n| member(n)).collect(),
    };
    plan(None, &found).unwrap()
}

/// Numbers that look random and depend on the seed alone (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.roll() % n as u64).unwrap()
    }

    /// True in `percent` of a hundred rolls.
    pub(crate) fn hits(&mut self, percent: u64) -> bool {
        self.roll() % 100 < percent
    }
}
