//! When a delete may be forgotten. A tombstone is there to cover the values it deleted wherever they
//! may still turn up; it may go only when they cannot turn up any more.
//!
//! They cannot when all owners hold exactly the same tombstone-only state and nothing older is on
//! its way: every member answers and has been *steady* for a grace (it ran without a stall or a
//! restart, reached all others, kept no hints, knew the same ring at rest, and had nothing to
//! recover), and no other member has records of the partition. A message that was sent before the
//! grace has then been taken or refused. The owners must have agreed a grace ago and agree again.
//!
//! Removing happens at each owner by itself, and only of exactly that state. If some did and some
//! did not, nothing is lost: a value created anew is minted under a new epoch, which no tombstone
//! that is left covers.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::key::{Key, Partition};
use super::node_id::NodeId;
use crate::mutant::Mutant;

/// A node that has not looked at itself for so long has stalled: what others sent it meanwhile may
/// only now be taken.
pub const STALL: Duration = Duration::from_secs(5);

/// Most tombstones of one partition that are followed at the same time.
pub const FOLLOWED: usize = 256;

/// What a node sees of itself at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// The epoch of its ring.
    pub epoch: u64,
    /// Every other member answered when it was last asked, and the ring is at rest.
    pub calm: bool,
    /// It keeps no hints and has nothing to recover.
    pub clear: bool,
}

/// Since when nothing has happened to a node that could delay a message.
#[derive(Debug, Clone, Copy, Default)]
pub struct Steadiness {
    epoch: u64,
    looked: Duration,
    since: Duration,
}

impl Steadiness {
    /// Takes a look; several in every [`STALL`].
    pub fn look(&mut self, now: Duration, sight: Sight) {
        let stalled = now.saturating_sub(self.looked) > STALL;
        if stalled || !sight.calm || !sight.clear || sight.epoch != self.epoch {
            self.since = now;
        }
        (self.looked, self.epoch) = (now, sight.epoch);
    }

    /// For how long the node has been steady; nothing if it has stalled by now.
    #[must_use]
    pub fn steady(&self, now: Duration) -> Duration {
        if now.saturating_sub(self.looked) > STALL {
            return Duration::ZERO;
        }
        now.saturating_sub(self.since)
    }
}

/// What a member says before a tombstone is reaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// For how long it has been steady.
    pub steady: Duration,
    /// Of the partitions in question those of which it has records without owning them.
    pub leftovers: Vec<Partition>,
}

/// What keeps tombstones from being reaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// The owners of the partition are changing.
    Moving,
    /// This node has lost records of the partition.
    Recovering,
    /// A member does not answer.
    Silent(NodeId),
    /// Something has happened to a member within the grace.
    Unsteady(NodeId),
    /// A member has records of the partition without owning it.
    Leftovers(NodeId),
    /// The owners have yet to agree for a grace.
    Grace,
}

/// Whether the tombstones of a partition may be reaped, going by every member's word.
///
/// # Errors
/// [`Blocked`] by the first member that does not allow it.
pub fn allowed(
    grace: Duration,
    partition: Partition,
    words: &BTreeMap<NodeId, Option<Word>>,
) -> Result<(), Blocked> {
    let is_heard =
        |word: &Option<Word>| word.is_some() || !Mutant::SilenceAllowsReaping.is_chosen();
    for (member, word) in words.iter().filter(|(_, word)| is_heard(word)) {
        let word = word
            .as_ref()
            .ok_or_else(|| Blocked::Silent(member.clone()))?;
        if word.steady < grace {
            return Err(Blocked::Unsteady(member.clone()));
        }
        if word.leftovers.contains(&partition) {
            return Err(Blocked::Leftovers(member.clone()));
        }
    }
    Ok(())
}

/// The tombstones on which all owners agreed, and since when.
#[derive(Debug, Default)]
pub struct Candidates(BTreeMap<Partition, BTreeMap<Key, (Bytes, Duration)>>);

impl Candidates {
    /// Takes the tombstone-only states of a partition on which all owners agree now; a key that is
    /// not among them any more, or has another state, begins anew.
    pub fn agreed(&mut self, now: Duration, partition: Partition, agreed: Vec<(Key, Bytes)>) {
        let mut before = self.0.remove(&partition).unwrap_or_default();
        let followed = agreed.into_iter().take(FOLLOWED).map(|(key, state)| {
            let known = before.remove(&key).filter(|(held, _)| *held == state);
            (key, known.unwrap_or((state, now)))
        });
        let followed: BTreeMap<_, _> = followed.collect();
        if !followed.is_empty() {
            self.0.insert(partition, followed);
        }
    }

    /// Those of a partition that have been agreed on for so long.
    #[must_use]
    pub fn due(&self, now: Duration, wait: Duration, partition: Partition) -> Vec<(Key, Bytes)> {
        let followed = self.0.get(&partition).into_iter().flatten();
        let due = followed.filter(|(_, (_, since))| now.saturating_sub(*since) >= wait);
        due.map(|(key, (state, _))| (key.clone(), state.clone()))
            .collect()
    }

    /// Follows a partition's tombstones no longer.
    pub fn forget(&mut self, partition: Partition) {
        self.0.remove(&partition);
    }

    /// How many tombstones are followed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamo::node_id::Incarnation;
    use crate::dynamo::version::{
        Actor, Body, Clock, Mint, RequestId, State, WriteKind, decide, sync,
    };

    const SECOND: Duration = Duration::from_secs(1);
    const CALM: Sight = Sight {
        epoch: 1,
        calm: true,
        clear: true,
    };

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn p(number: u16) -> Partition {
        Partition::new(number).unwrap()
    }

    #[test]
    fn a_node_is_steady_since_the_last_thing_that_happened_to_it() {
        type Row<'a> = (&'a str, Vec<(u64, Sight)>, u64);
        let restless = Sight {
            calm: false,
            ..CALM
        };
        let keeps_hints = Sight {
            clear: false,
            ..CALM
        };
        let moved = Sight { epoch: 2, ..CALM };
        // What was seen at each second, and for how long the node is steady at the end.
        let rows: [Row; 6] = [
            ("since its first look", vec![(1, CALM), (2, CALM)], 1),
            (
                "a member was silent",
                vec![(1, CALM), (2, restless), (4, CALM)],
                2,
            ),
            ("hints", vec![(1, CALM), (3, keeps_hints), (4, CALM)], 1),
            ("another ring", vec![(1, CALM), (2, CALM), (4, moved)], 0),
            (
                "a stall",
                vec![(1, CALM), (2, CALM), (8, CALM), (9, CALM)],
                1,
            ),
            ("no stall", vec![(1, CALM), (5, CALM), (9, CALM)], 8),
        ];
        for (what, looks, expected) in rows {
            let mut node = Steadiness::default();
            let mut last = Duration::ZERO;
            for (at, sight) in looks {
                last = SECOND * u32::try_from(at).unwrap();
                node.look(last, sight);
            }
            let expected = Duration::from_secs(expected);
            assert_eq!(node.steady(last), expected, "{what}");
            let later = last + STALL * 2;
            assert_eq!(node.steady(later), Duration::ZERO, "{what}: stopped now");
        }
    }

    #[test]
    fn every_member_must_allow_it() {
        let word = |steady: u64, leftovers: &[u16]| {
            let leftovers = leftovers.iter().map(|n| p(*n)).collect();
            let steady = Duration::from_secs(steady);
            Some(Word { steady, leftovers })
        };
        let b = || id("b");
        let rows = [
            (word(10, &[]), Ok(())),
            (word(10, &[8]), Ok(())),
            (None, Err(Blocked::Silent(b()))),
            (word(9, &[]), Err(Blocked::Unsteady(b()))),
            (word(10, &[7]), Err(Blocked::Leftovers(b()))),
        ];
        for (said, expected) in rows {
            let words = [(id("a"), word(11, &[])), (b(), said.clone())];
            let words: BTreeMap<_, _> = words.into_iter().collect();
            assert_eq!(allowed(SECOND * 10, p(7), &words), expected, "{said:?}");
        }
    }

    #[test]
    fn a_tombstone_is_due_once_the_same_state_was_agreed_on_for_long_enough() {
        let key = |n: u8| Key::new(vec![n].into()).unwrap();
        let held = |n: u8, state: &'static str| (key(n), Bytes::from(state));
        let mut candidates = Candidates::default();
        let looks = [
            (1, vec![held(1, "x"), held(2, "x"), held(3, "x")]),
            (2, vec![held(1, "x"), held(2, "y")]),
            (3, vec![held(1, "x"), held(2, "y"), held(3, "x")]),
        ];
        for (at, agreed) in looks {
            candidates.agreed(SECOND * at, p(7), agreed);
        }
        let due = |wait: u32| -> Vec<Key> {
            let due = candidates.due(SECOND * 3, SECOND * wait, p(7));
            due.into_iter().map(|(key, _)| key).collect()
        };
        assert_eq!(due(3), []);
        assert_eq!(due(2), [key(1)]);
        assert_eq!(due(1), [key(1), key(2)]);
        assert_eq!(due(0), [key(1), key(2), key(3)]);
        assert_eq!(candidates.due(SECOND * 3, Duration::ZERO, p(8)), []);
        assert_eq!(candidates.len(), 3);
        candidates.agreed(SECOND * 4, p(7), Vec::new());
        assert!(candidates.is_empty());
    }

    /// Some owners have forgotten, one has not: what is created at either is not swallowed.
    #[test]
    fn p7_a_value_created_anew_survives_a_tombstone_that_is_left_somewhere() {
        let writer = |life: u64, epoch| Actor {
            incarnation: Incarnation(life),
            epoch,
        };
        let mint = |kind, body, seen: &Clock| Mint {
            kind,
            seen: seen.clone(),
            body,
            request: RequestId {
                id: 1,
                fingerprint: u64::from(kind == WriteKind::Delete),
            },
            remember: None,
            merged: None,
        };
        let value = || Body::Value(Bytes::from_static(b"1"));
        let create = |request: u128| {
            let mut mint = mint(WriteKind::Create, value(), &Clock::default());
            mint.request.id = request;
            mint
        };
        let old = decide(&State::default(), None, &create(2), 9, || writer(1, 1)).unwrap();
        let delete = mint(WriteKind::Delete, Body::Tombstone, &Clock::of(&old.state));
        let left = decide(&old.state, old.minted, &delete, 9, || writer(1, 2)).unwrap();
        assert!(!left.state.is_live());
        // The same node, which has forgotten the record, another one, and one that has not.
        let none = State::default();
        let rows = [
            (&none, None, writer(1, 3)),
            (&none, None, writer(2, 1)),
            (&left.state, left.minted, writer(1, 4)),
        ];
        for (record, minted, fresh) in rows {
            let new = decide(record, minted, &create(3), 9, || fresh).unwrap();
            let met = sync(&new.state, &left.state);
            assert_eq!(met.live().len(), 1, "{fresh:?}");
            let met_old = sync(&met, &old.state);
            assert_eq!(
                met_old.live().len(),
                1,
                "{fresh:?}: the old value stays covered"
            );
        }
    }
}
