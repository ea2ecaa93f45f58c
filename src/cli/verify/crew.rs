//! Who is a member while members change, as far as a schedule can know it, and what may happen in
//! the middle of a change. Pure.

use std::time::Duration;

use super::super::bench::Random;
use super::relay::Treatment;

/// How long what happens in the middle of a change lasts, in milliseconds.
const HOLD_MS: (usize, usize) = (1_000, 3_500);

/// Somebody is killed so many milliseconds after a change was asked for, at most.
const ASKED_MS: usize = 40;

/// Replicas of a key: with fewer members there is nobody to take over from a lost one.
const REPLICAS: usize = 3;

/// A change of who is a member, of nodes by their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// A new node joins.
    Join(usize),
    /// One hands over what it owns, and leaves.
    Leave(usize),
    /// A new node takes the place of one that leaves.
    Replace {
        /// Who leaves.
        old: usize,
        /// Who comes.
        new: usize,
    },
    /// One has ended for good, and is forgotten.
    Forget(usize),
}

/// What happens in the middle of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blow {
    /// When.
    pub(super) when: Moment,
    /// What.
    pub(super) what: Harm,
    /// For how long.
    pub(super) hold: Duration,
}

/// How far a change has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// It was asked for so long ago, and nobody has said yet that it is agreed.
    Asked(Duration),
    /// Partitions have begun to move.
    Begun,
    /// Half of them have flipped.
    Half,
    /// Nearly all have.
    Late,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Harm {
    /// SIGKILL to one node, which is started again.
    Kill(Role),
    /// What becomes of what the first node of each pair sends to the second.
    Links(Vec<(usize, usize)>, Treatment),
}

/// A part that a node has in a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Somebody pulls from it.
    Giver,
    /// It pulls.
    Receiver,
    /// It was asked for the change.
    Proposer,
}

/// In the order in which they are killed.
const ROLES: [Role; 3] = [Role::Proposer, Role::Giver, Role::Receiver];

/// Who is a member, of all nodes that there are.
#[derive(Debug, Clone)]
pub(super) struct Crew {
    inside: Vec<usize>,
    outside: Vec<usize>,
    founders: usize,
    /// Kills in the middle of changes so far.
    kills: usize,
}

impl Crew {
    /// The founders, and so many nodes that may join them.
    pub(super) fn new(founders: usize, spares: usize) -> Self {
        Self {
            inside: (0..founders).collect(),
            outside: (founders..founders + spares).collect(),
            founders,
            kills: 0,
        }
    }

    /// The members.
    pub(super) fn inside(&self) -> &[usize] {
        &self.inside
    }

    /// Any member.
    pub(super) fn pick(&self, random: &mut Random) -> usize {
        let place = random.below(self.inside.len());
        self.inside.get(place).copied().unwrap_or(0)
    }

    /// Whether one may go, and nobody loses more than a cluster of this size can.
    pub(super) fn may_shrink(&self) -> bool {
        self.inside.len() > REPLICAS && self.inside.len() >= self.founders
    }

    /// Whether somebody is there to join.
    pub(super) fn may_grow(&self) -> bool {
        !self.outside.is_empty()
    }

    /// Somebody joins.
    pub(super) fn join(&mut self) -> Option<Change> {
        self.enter().map(Change::Join)
    }

    /// Any member leaves.
    pub(super) fn leave(&mut self, random: &mut Random) -> Change {
        Change::Leave(self.exit(random))
    }

    /// Any member is forgotten.
    pub(super) fn forget(&mut self, random: &mut Random) -> Change {
        Change::Forget(self.exit(random))
    }

    /// Somebody takes any member's place.
    pub(super) fn replace(&mut self, random: &mut Random) -> Option<Change> {
        let new = self.outside.first().copied()?;
        let old = self.exit(random);
        self.enter();
        Some(Change::Replace { old, new })
    }

    /// Any change.
    pub(super) fn any(&mut self, random: &mut Random) -> Change {
        let choice = random.below(4);
        let change = match choice {
            0 => self.join(),
            1 if self.may_shrink() => Some(self.leave(random)),
            2 if self.may_shrink() => Some(self.forget(random)),
            _ => self.replace(random),
        };
        change.unwrap_or_else(|| self.leave(random))
    }

    fn enter(&mut self) -> Option<usize> {
        let new = (!self.outside.is_empty()).then(|| self.outside.remove(0))?;
        self.inside.push(new);
        self.inside.sort_unstable();
        Some(new)
    }

    fn exit(&mut self, random: &mut Random) -> usize {
        let place = random.below(self.inside.len());
        let old = self.inside.remove(place.min(self.inside.len() - 1));
        self.outside.push(old);
        old
    }

    /// A kill in the middle of a change. Each has another role and another moment than the one before,
    /// and every role is met at every moment before anything is repeated.
    pub(super) fn kill(&mut self, random: &mut Random) -> Blow {
        let ms = u64::try_from(random.below(ASKED_MS)).unwrap_or(0);
        let moments = [
            Moment::Asked(Duration::from_millis(ms)),
            Moment::Begun,
            Moment::Half,
            Moment::Late,
        ];
        let role = ROLES.get(self.kills % ROLES.len()).copied();
        let when = moments.get(self.kills % moments.len()).copied();
        self.kills += 1;
        Blow {
            when: when.unwrap_or(Moment::Half),
            what: Harm::Kill(role.unwrap_or(Role::Giver)),
            hold: hold(random),
        }
    }

    /// Links are cut in the middle of a change.
    pub(super) fn cut(pairs: Vec<(usize, usize)>, random: &mut Random) -> Blow {
        Blow {
            when: moment(random),
            what: Harm::Links(pairs, Treatment::cut()),
            hold: hold(random),
        }
    }
}

impl Role {
    /// As histories name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Giver => "giver",
            Self::Receiver => "receiver",
            Self::Proposer => "proposer",
        }
    }
}

impl Moment {
    /// As histories name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Asked(_) => "asked",
            Self::Begun => "begun",
            Self::Half => "half",
            Self::Late => "late",
        }
    }
}

impl Change {
    /// Who comes.
    pub(super) fn new_one(self) -> Option<usize> {
        match self {
            Self::Join(new) | Self::Replace { new, .. } => Some(new),
            Self::Leave(_) | Self::Forget(_) => None,
        }
    }

    /// Who goes.
    pub(super) fn old_one(self) -> Option<usize> {
        match self {
            Self::Leave(old) | Self::Replace { old, .. } | Self::Forget(old) => Some(old),
            Self::Join(_) => None,
        }
    }
}

fn moment(random: &mut Random) -> Moment {
    match random.below(3) {
        0 => Moment::Begun,
        1 => Moment::Half,
        _ => Moment::Late,
    }
}

fn hold(random: &mut Random) -> Duration {
    let (least, most) = HOLD_MS;
    let ms = least + random.below(most - least);
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn whatever_changes_everybody_is_in_or_out_and_enough_are_in() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut crew = Crew::new(5, 2);
            for _ in 0..30 {
                let before: BTreeSet<usize> = crew.inside.iter().copied().collect();
                let change = crew.any(&mut random);
                let after: BTreeSet<usize> = crew.inside.iter().copied().collect();
                let came: Vec<usize> = after.difference(&before).copied().collect();
                let went: Vec<usize> = before.difference(&after).copied().collect();
                assert_eq!(change.new_one().into_iter().collect::<Vec<_>>(), came);
                assert_eq!(change.old_one().into_iter().collect::<Vec<_>>(), went);
                assert!((4..=7).contains(&after.len()), "{seed}: {after:?}");
                assert_eq!(crew.inside.len() + crew.outside.len(), 7);
            }
        }
    }

    #[test]
    fn every_role_is_killed_at_every_moment_before_one_is_again() {
        let mut random = Random::new(3);
        let mut crew = Crew::new(5, 2);
        let mut kill = || {
            let blow = crew.kill(&mut random);
            let Harm::Kill(role) = blow.what else {
                panic!("a kill is none");
            };
            (role.name(), blow.when.name())
        };
        let first: Vec<_> = (0..12).map(|_| kill()).collect();
        let all: BTreeSet<_> = first.iter().collect();
        assert_eq!(all.len(), 12, "three roles at four moments: {first:?}");
        for two in first.windows(2) {
            assert!(two[0].0 != two[1].0 && two[0].1 != two[1].1, "{two:?}");
        }
        let again: Vec<_> = (0..12).map(|_| kill()).collect();
        assert_eq!(again, first);
    }

    #[test]
    fn any_change_is_each_of_the_four() {
        let mut random = Random::new(5);
        let mut crew = Crew::new(5, 2);
        let mut met = [false; 4];
        for _ in 0..60 {
            let kind = match crew.any(&mut random) {
                Change::Join(_) => 0,
                Change::Leave(_) => 1,
                Change::Replace { .. } => 2,
                Change::Forget(_) => 3,
            };
            met[kind] = true;
        }
        assert_eq!(met, [true; 4]);
    }
}
