//! Which fault happens when: the same seed gives the same schedule. Pure.

use std::time::Duration;

use clap::ValueEnum;

use super::super::bench::Random;
use super::crew::{Blow, Change, Crew};
use super::relay::Treatment;

/// How long the cluster is left alone before the first fault, and after the last one.
const LEAD: Duration = Duration::from_secs(2);

/// How long a fault lasts, in milliseconds.
const FAULT_MS: (usize, usize) = (2_000, 7_000);

/// How long it is calm between two.
const CALM_MS: (usize, usize) = (1_500, 4_000);

/// Nodes beside the founders, where members change.
const SPARES: u16 = 2;

/// What can be done to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Kind {
    /// SIGKILL to one node, started again later
    Kill,
    /// SIGSTOP to one node, SIGCONT later
    Pause,
    /// SIGKILL to one node, its data directory removed, started again under its name
    Wipe,
    /// SIGKILL to every node in turn, each started again at once
    RestartStorm,
    /// One node runs with its wall clock a day off (needs libfaketime)
    Clock,
    /// Some nodes cannot reach some others: two halves, one way only, one node alone, or a ring of
    /// overlapping majorities
    Partition,
    /// The links of one node are slow
    Slow,
    /// The links of one node lose their connections
    Lossy,
    /// A new node joins
    Join,
    /// One node hands over what it owns, and leaves
    Leave,
    /// A new node takes the place of one that leaves
    Replace,
    /// SIGKILL to one node, which is forgotten and never comes back
    Forget,
    /// Members change; in the middle, SIGKILL to a node that gives, to one that receives or to the
    /// one that proposed it, which is started again later
    KillDuringMove,
    /// Members change; in the middle, some nodes cannot reach some others
    PartitionDuringMove,
}

/// One fault, on nodes by their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    /// [`Kind::Kill`].
    Kill(usize),
    /// [`Kind::Pause`].
    Pause(usize),
    /// [`Kind::Wipe`].
    Wipe(usize),
    /// [`Kind::RestartStorm`].
    RestartStorm,
    /// [`Kind::Clock`], with the offset in days.
    Clock(usize, i8),
    /// What becomes of what the first node of each pair sends to the second.
    Links(Vec<(usize, usize)>, Treatment),
    /// Members change, and perhaps something happens in the middle of it.
    Change(Change, Option<Blow>),
}

/// A fault and its time, from the start of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) from: Duration,
    pub(super) until: Duration,
    pub(super) kind: Kind,
    pub(super) deed: Deed,
}

impl Kind {
    /// As it is typed, and as histories name it.
    pub(super) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |v| v.get_name().to_owned())
    }

    /// Whether it is done to the links between the nodes.
    pub(super) fn needs_relay(self) -> bool {
        match self {
            Self::Partition | Self::Slow | Self::Lossy | Self::PartitionDuringMove => true,
            Self::Kill
            | Self::Pause
            | Self::Wipe
            | Self::RestartStorm
            | Self::Clock
            | Self::Join
            | Self::Leave
            | Self::Replace
            | Self::Forget
            | Self::KillDuringMove => false,
        }
    }

    /// Whether members change.
    pub(super) fn changes_members(self) -> bool {
        match self {
            Self::Join
            | Self::Leave
            | Self::Replace
            | Self::Forget
            | Self::KillDuringMove
            | Self::PartitionDuringMove => true,
            Self::Kill
            | Self::Pause
            | Self::Wipe
            | Self::RestartStorm
            | Self::Clock
            | Self::Partition
            | Self::Slow
            | Self::Lossy => false,
        }
    }

    /// Whether the other may begin while this one lasts. Links know one treatment at a time, and a
    /// storm hits every node. What already has something in its middle has enough.
    fn may_meet(self, other: Self) -> bool {
        let is_single = matches!(other, Self::Kill | Self::Pause) || other.needs_relay();
        let has_middle = matches!(self, Self::KillDuringMove | Self::PartitionDuringMove);
        self != other
            && self != Self::RestartStorm
            && !has_middle
            && is_single
            && !other.changes_members()
            && !(self.needs_relay() && other.needs_relay())
    }
}

/// How many nodes there are beside those that found the cluster.
pub(super) fn spares(kinds: &[Kind]) -> u16 {
    let changes = kinds.iter().any(|kind| kind.changes_members());
    if changes { SPARES } else { 0 }
}

/// Fills the time with faults, one after the other: every kind once, in any order, then at random.
/// In the middle of one of three another one begins, elsewhere. In the order of their beginning.
pub(super) fn schedule(kinds: &[Kind], nodes: usize, seed: u64, time: Duration) -> Vec<Step> {
    let mut random = Random::new(seed);
    let mut crew = Crew::new(nodes, usize::from(spares(kinds)));
    let mut out = Vec::new();
    let mut first = kinds.to_vec();
    let mut from = LEAD;
    while !kinds.is_empty() {
        let until = from + millis(&mut random, FAULT_MS);
        if until + LEAD > time {
            break;
        }
        let kind = match first.len() {
            0 => kinds.get(random.below(kinds.len())).copied(),
            n => Some(first.swap_remove(random.below(n))),
        };
        let Some(kind) = kind else { break };
        let before = crew.clone();
        let (kind, deed) = match make_room(kind, &mut crew, &mut random) {
            Some((other, room)) => {
                // Its turn comes once there is room for it.
                first.push(kind);
                (other, Deed::Change(room, None))
            }
            None => (kind, deed(kind, &mut crew, &mut random)),
        };
        let hit = match deed {
            Deed::Kill(node) | Deed::Pause(node) | Deed::Wipe(node) | Deed::Clock(node, _) => {
                Some(node)
            }
            Deed::RestartStorm | Deed::Links(..) | Deed::Change(..) => None,
        };
        out.push(Step {
            from,
            until,
            kind,
            deed,
        });
        let others = kinds.iter().copied().filter(|other| kind.may_meet(*other));
        let others: Vec<Kind> = others.collect();
        let other = others.get(random.below(others.len() * 3)).copied();
        // Whoever comes or goes meanwhile is left alone.
        let still = |node: &usize| crew.inside().contains(node) && Some(*node) != hit;
        let elsewhere: Vec<usize> = before.inside().iter().copied().filter(still).collect();
        let node = elsewhere.get(random.below(elsewhere.len())).copied();
        if let (Some(kind), Some(node)) = (other, node) {
            out.push(Step {
                from: (from + until) / 2,
                until,
                kind,
                deed: single(kind, node, before.inside(), &mut random),
            });
        }
        from = until + millis(&mut random, CALM_MS);
    }
    out
}

/// What has to happen first, so that a change of this kind can: one joins, or one leaves.
fn make_room(kind: Kind, crew: &mut Crew, random: &mut Random) -> Option<(Kind, Change)> {
    let shrinks = matches!(kind, Kind::Leave | Kind::Forget);
    if shrinks && !crew.may_shrink() {
        return crew.join().map(|join| (Kind::Join, join));
    }
    let full = kind.changes_members() && !shrinks && !crew.may_grow();
    full.then(|| (Kind::Leave, crew.leave(random)))
}

fn millis(random: &mut Random, (least, most): (usize, usize)) -> Duration {
    let ms = least + random.below(most - least);
    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
}

/// What is done to anybody, or who comes and goes.
fn deed(kind: Kind, crew: &mut Crew, random: &mut Random) -> Deed {
    let change = match kind {
        Kind::Join => crew.join(),
        Kind::Leave => Some(crew.leave(random)),
        Kind::Replace => crew.replace(random),
        Kind::Forget => Some(crew.forget(random)),
        Kind::KillDuringMove => {
            let change = crew.any(random);
            return Deed::Change(change, Some(crew.kill(random)));
        }
        Kind::PartitionDuringMove => {
            let mut all = crew.inside().to_vec();
            let change = crew.any(random);
            all.extend(change.new_one());
            let node = random.below(all.len());
            let pairs = partition(&all, node, random);
            return Deed::Change(change, Some(Crew::cut(pairs, random)));
        }
        Kind::Kill
        | Kind::Pause
        | Kind::Wipe
        | Kind::RestartStorm
        | Kind::Clock
        | Kind::Partition
        | Kind::Slow
        | Kind::Lossy => None,
    };
    match change {
        Some(change) => Deed::Change(change, None),
        None => single(kind, crew.pick(random), crew.inside(), random),
    }
}

/// What is done to one node of these, or to links around it.
fn single(kind: Kind, node: usize, nodes: &[usize], random: &mut Random) -> Deed {
    let touching = || {
        let pairs = pairs(nodes).into_iter();
        pairs.filter(|(a, b)| *a == node || *b == node).collect()
    };
    match kind {
        Kind::Pause => Deed::Pause(node),
        Kind::Wipe => Deed::Wipe(node),
        Kind::RestartStorm => Deed::RestartStorm,
        Kind::Clock => Deed::Clock(node, if random.below(2) == 0 { -1 } else { 1 }),
        Kind::Partition | Kind::PartitionDuringMove => {
            let place = nodes.iter().position(|n| *n == node).unwrap_or(0);
            Deed::Links(partition(nodes, place, random), Treatment::cut())
        }
        Kind::Slow => Deed::Links(touching(), Treatment::slow()),
        Kind::Lossy => Deed::Links(touching(), Treatment::lossy()),
        Kind::Kill
        | Kind::Join
        | Kind::Leave
        | Kind::Replace
        | Kind::Forget
        | Kind::KillDuringMove => Deed::Kill(node),
    }
}

fn pairs(nodes: &[usize]) -> Vec<(usize, usize)> {
    let all = nodes.iter().flat_map(|a| nodes.iter().map(|b| (*a, *b)));
    all.filter(|(a, b)| a != b).collect()
}

/// The directed pairs that are cut, as seen from the node in this place.
fn partition(nodes: &[usize], from: usize, random: &mut Random) -> Vec<(usize, usize)> {
    let (shape, count) = (random.below(4), nodes.len());
    // The nodes in a ring that begins anywhere, and how many of them are on this side.
    let place = |node: usize| {
        let place = nodes.iter().position(|n| *n == node).unwrap_or(0);
        (place + count - from) % count
    };
    let side = count.div_ceil(2);
    let apart = |a: usize, b: usize| {
        let (a, b) = (place(a), place(b));
        match shape {
            0 => (a < side) != (b < side),
            1 => a < side && b >= side,
            2 => (a == 0) != (b == 0),
            // Each node reaches its neighbours on the ring, so everybody another majority.
            _ => {
                let distance = a.abs_diff(b);
                distance.min(count - distance) > count / 4
            }
        }
    };
    let all = pairs(nodes).into_iter();
    all.filter(|(a, b)| apart(*a, *b)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::crew::Harm;
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn a_seed_gives_one_schedule_and_another_seed_another() {
        let of = |seed| schedule(Kind::value_variants(), 5, seed, MINUTE);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn faults_come_within_the_time_every_kind_and_some_together() {
        let (mut met, mut all) = (0, 0);
        for seed in 0..50 {
            let time = Duration::from_mins(4);
            let steps = schedule(Kind::value_variants(), 5, seed, time);
            let mut last: Option<&Step> = None;
            for step in &steps {
                assert!(
                    step.from >= LEAD && step.until > step.from,
                    "{seed}: {step:?}"
                );
                assert!(step.until + LEAD <= time, "{seed}: {step:?}");
                if let Some(last) = last.filter(|last| last.until > step.from) {
                    assert!(last.kind.may_meet(step.kind), "{seed}: {last:?} {step:?}");
                    assert!(last.from < step.from && last.until == step.until, "{seed}");
                    met += 1;
                }
                last = Some(step);
            }
            all += steps.len();
            for kind in Kind::value_variants() {
                assert!(steps.iter().any(|s| s.kind == *kind), "{seed}: {kind:?}");
            }
        }
        assert!(
            met * 10 > all && met * 2 < all,
            "{met} of {all} met another"
        );
        assert_eq!(schedule(&[], 5, 1, MINUTE), []);
    }

    #[test]
    fn a_partition_never_cuts_all_links_of_the_cluster() {
        for seed in 0..200 {
            for step in schedule(&[Kind::Partition], 5, seed, MINUTE) {
                let Deed::Links(pairs, treatment) = step.deed else {
                    panic!("{:?} is done to links", step.kind);
                };
                assert_eq!(treatment, Treatment::cut());
                assert!((6..=16).contains(&pairs.len()), "{seed}: {pairs:?}");
                assert!(pairs.iter().all(|(a, b)| a != b && *a < 5 && *b < 5));
            }
        }
    }

    /// In half an hour of all faults, as `make soak` has it.
    #[test]
    fn every_role_is_killed_at_every_moment_of_a_change_in_a_long_run() {
        let kinds = Kind::value_variants();
        for seed in 0..20 {
            let steps = schedule(kinds, 5, seed, 30 * MINUTE);
            let kills = steps.iter().filter_map(|step| {
                let Deed::Change(_, Some(blow)) = &step.deed else {
                    return None;
                };
                match blow.what {
                    Harm::Kill(role) => Some((role.name(), blow.when.name())),
                    Harm::Links(..) => None,
                }
            });
            let met: BTreeSet<_> = kills.collect();
            assert_eq!(met.len(), 12, "{seed}: {met:?}");
        }
    }

    /// Whoever is hit is a member, and whoever comes was none, whatever came before.
    #[test]
    fn only_members_are_hit_and_only_others_join() {
        let kinds = Kind::value_variants();
        let (mut blows, mut changes) = (0, 0);
        for seed in 0..100 {
            let mut inside: BTreeSet<usize> = (0..5).collect();
            for step in schedule(kinds, 5, seed, 4 * MINUTE) {
                match &step.deed {
                    Deed::Kill(n) | Deed::Pause(n) | Deed::Wipe(n) | Deed::Clock(n, _) => {
                        assert!(inside.contains(n), "{seed}: {step:?}");
                    }
                    Deed::Links(pairs, _) => {
                        assert!(!pairs.is_empty(), "{seed}: {step:?}");
                    }
                    Deed::RestartStorm => {}
                    Deed::Change(change, blow) => {
                        changes += 1;
                        blows += usize::from(blow.is_some());
                        assert!(change.new_one().is_none_or(|n| inside.insert(n)), "{seed}");
                        assert!(change.old_one().is_none_or(|n| inside.remove(&n)), "{seed}");
                        assert!((4..=7).contains(&inside.len()), "{seed}: {inside:?}");
                    }
                }
            }
        }
        assert!(blows > 400 && changes > blows, "{blows} of {changes}");
    }
}
