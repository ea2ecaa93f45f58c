//! Which fault happens when: the same seed gives the same schedule. Pure.

use std::time::Duration;

use clap::ValueEnum;

use super::super::bench::Random;
use super::relay::Treatment;

/// How long the cluster is left alone before the first fault, and after the last one.
const LEAD: Duration = Duration::from_secs(2);

/// How long a fault lasts, in milliseconds.
const FAULT_MS: (usize, usize) = (2_000, 7_000);

/// How long it is calm between two.
const CALM_MS: (usize, usize) = (1_500, 4_000);

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
            Self::Partition | Self::Slow | Self::Lossy => true,
            Self::Kill | Self::Pause | Self::Wipe | Self::RestartStorm | Self::Clock => false,
        }
    }

    /// Whether the other may begin while this one lasts. Links know one treatment at a time, and a
    /// storm hits every node.
    fn may_meet(self, other: Self) -> bool {
        let is_single = matches!(other, Self::Kill | Self::Pause) || other.needs_relay();
        self != other
            && self != Self::RestartStorm
            && is_single
            && !(self.needs_relay() && other.needs_relay())
    }
}

/// Fills the time with faults, one after the other: every kind once, in any order, then at random.
/// In the middle of one of three another one begins, elsewhere. In the order of their beginning.
pub(super) fn schedule(kinds: &[Kind], nodes: usize, seed: u64, time: Duration) -> Vec<Step> {
    let mut random = Random::new(seed);
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
        let node = random.below(nodes);
        out.push(Step {
            from,
            until,
            kind,
            deed: deed(kind, node, nodes, &mut random),
        });
        let others = kinds.iter().copied().filter(|other| kind.may_meet(*other));
        let others: Vec<Kind> = others.collect();
        let other = others.get(random.below(others.len() * 3)).copied();
        if let Some(kind) = other.filter(|_| nodes > 1) {
            let elsewhere = (node + 1 + random.below(nodes - 1)) % nodes;
            out.push(Step {
                from: (from + until) / 2,
                until,
                kind,
                deed: deed(kind, elsewhere, nodes, &mut random),
            });
        }
        from = until + millis(&mut random, CALM_MS);
    }
    out
}

fn millis(random: &mut Random, (least, most): (usize, usize)) -> Duration {
    let ms = least + random.below(most - least);
    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
}

fn deed(kind: Kind, node: usize, nodes: usize, random: &mut Random) -> Deed {
    let all = (0..nodes).flat_map(|a| (0..nodes).map(move |b| (a, b)));
    let touching = all.filter(|(a, b)| a != b && (*a == node || *b == node));
    match kind {
        Kind::Kill => Deed::Kill(node),
        Kind::Pause => Deed::Pause(node),
        Kind::Wipe => Deed::Wipe(node),
        Kind::RestartStorm => Deed::RestartStorm,
        Kind::Clock => Deed::Clock(node, if random.below(2) == 0 { -1 } else { 1 }),
        Kind::Partition => Deed::Links(partition(nodes, node, random), Treatment::cut()),
        Kind::Slow => Deed::Links(touching.collect(), Treatment::slow()),
        Kind::Lossy => Deed::Links(touching.collect(), Treatment::lossy()),
    }
}

/// The directed pairs that are cut.
fn partition(nodes: usize, node: usize, random: &mut Random) -> Vec<(usize, usize)> {
    let shape = random.below(4);
    // The nodes in a ring that begins anywhere, and how many of them are on this side.
    let place = |n: usize| (n + nodes - node) % nodes;
    let side = nodes.div_ceil(2);
    let apart = |a: usize, b: usize| {
        let (a, b) = (place(a), place(b));
        match shape {
            0 => (a < side) != (b < side),
            1 => a < side && b >= side,
            2 => (a == 0) != (b == 0),
            // Each node reaches its neighbours on the ring, so everybody another majority.
            _ => {
                let distance = a.abs_diff(b);
                distance.min(nodes - distance) > nodes / 4
            }
        }
    };
    let all = (0..nodes).flat_map(|a| (0..nodes).map(move |b| (a, b)));
    all.filter(|(a, b)| a != b && apart(*a, *b)).collect()
}

#[cfg(test)]
mod tests {
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
            let time = Duration::from_mins(3);
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
}
