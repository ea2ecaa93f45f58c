//! How many partitions each member is to own: its weight's share, as far as zones allow.

use super::Member;
use crate::dynamo::key::PARTITIONS;

/// What one partition's owners must satisfy, and how many partitions each member is to own.
///
/// Members and zones are numbered in the order of the members given.
#[derive(Debug)]
pub(super) struct Quotas {
    /// The zone of each member.
    pub(super) zone_of: Vec<usize>,
    /// How many owners of a partition may share a zone with an owner before them.
    pub(super) doubles: usize,
    /// Partitions of each member; they add up to all replicas of all partitions.
    pub(super) of: Vec<usize>,
    /// Who gains no partition: nobody, if the others could not take all.
    pub(super) spared: Vec<bool>,
}

/// A share before rounding.
#[derive(Debug, Clone, Copy)]
struct Share {
    num: i128,
    den: i128,
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    low: i128,
    high: i128,
}

/// The quotas of these members at `n` owners a partition. Whoever holds more now, as `have` tells,
/// is rounded up before others, so that rounding moves nothing. Who is spared is to own no more
/// than now.
pub(super) fn quotas(members: &[Member], n: usize, have: &[usize], spared: &[bool]) -> Quotas {
    let names: std::collections::BTreeSet<&str> = members.iter().map(|m| m.zone.as_str()).collect();
    let number = |zone: &str| names.iter().take_while(|name| **name < zone).count();
    let zone_of: Vec<usize> = members.iter().map(|m| number(&m.zone)).collect();
    let doubles = n.saturating_sub(names.len());
    let of_zones = |caps: &[Bounds]| -> Vec<Bounds> {
        let zone = |z: usize| {
            let there = zone_of.iter().zip(caps).filter(move |(of, _)| **of == z);
            let size = there.clone().count();
            let room: i128 = there.map(|(_, cap)| cap.high).sum();
            Bounds {
                low: i128::from(names.len() <= n) * rows(1),
                high: rows(size.min(1 + doubles)).min(room),
            }
        };
        (0..names.len()).map(zone).collect()
    };
    let cap = |(i, is_spared): (usize, &bool)| {
        let held = have.get(i).and_then(|held| i128::try_from(*held).ok());
        Bounds {
            low: 0,
            high: held.filter(|_| *is_spared).unwrap_or(rows(1)),
        }
    };
    let mut caps: Vec<Bounds> = spared.iter().enumerate().map(cap).collect();
    let mut zones = of_zones(&caps);
    let mut spared = spared.to_vec();
    let room: i128 = zones.iter().map(|zone| zone.high).sum();
    if room < rows(n) || zones.iter().any(|zone| zone.low > zone.high) {
        spared.fill(false);
        caps = spared.iter().enumerate().map(cap).collect();
        zones = of_zones(&caps);
    }
    let shares = shares(members, n, &zone_of, (&zones, &caps));
    let of = round(&shares, n, &zone_of, &zones, have);
    Quotas {
        zone_of,
        doubles,
        of,
        spared,
    }
}

/// All partitions, so many times.
fn rows(times: usize) -> i128 {
    i128::from(PARTITIONS) * i128::try_from(times).unwrap_or(i128::from(PARTITIONS))
}

/// First by weight alone, then by zone, then by weight within the zone.
fn shares(
    members: &[Member],
    n: usize,
    zone_of: &[usize],
    (zones, caps): (&[Bounds], &[Bounds]),
) -> Vec<Share> {
    let total = Share {
        num: rows(n),
        den: 1,
    };
    let weights: Vec<i128> = members.iter().map(|m| m.weight.max(1).into()).collect();
    let plain = share_out(&weights, total, caps);
    let den = plain.iter().map(|s| s.den).max().unwrap_or(1);
    let weights: Vec<i128> = plain.iter().map(|s| s.num * (den / s.den)).collect();

    let in_zone = |z: usize| {
        let pairs = zone_of.iter().zip(&weights);
        pairs.filter(move |(of, _)| **of == z).map(|(_, w)| *w)
    };
    let zone_weights: Vec<i128> = (0..zones.len()).map(|z| in_zone(z).sum()).collect();
    let per_zone = share_out(&zone_weights, total, zones);
    let mut within: Vec<_> = per_zone
        .iter()
        .enumerate()
        .map(|(z, &share)| {
            let weights: Vec<i128> = in_zone(z).collect();
            let there = zone_of.iter().zip(caps).filter(|(of, _)| **of == z);
            let caps: Vec<Bounds> = there.map(|(_, cap)| *cap).collect();
            share_out(&weights, share, &caps).into_iter()
        })
        .collect();
    let next = |z: &usize| within.get_mut(*z).and_then(Iterator::next);
    zone_of.iter().filter_map(next).collect()
}

/// Divides `total` in proportion to the weights within each one's bounds, which must allow it.
/// Each round settles those beyond a bound on the side where more is beyond, as a flexible box
/// layout does, and divides the rest anew.
fn share_out(weights: &[i128], total: Share, bounds: &[Bounds]) -> Vec<Share> {
    let mut settled: Vec<Option<i128>> = vec![None; weights.len()];
    loop {
        let spent: i128 = settled.iter().flatten().sum();
        let left = total.num - spent * total.den;
        let free = settled.iter().zip(weights).filter(|(s, _)| s.is_none());
        let unit = total.den * free.map(|(_, w)| w).sum::<i128>();
        let beyond: Vec<i128> = (weights.iter().zip(bounds).zip(&settled))
            .map(|((w, b), s)| match s {
                Some(_) => 0,
                None => (w * left).clamp(b.low * unit, b.high * unit) - w * left,
            })
            .collect();
        if beyond.iter().all(|b| *b == 0) {
            let share = |(s, w): (&Option<i128>, &i128)| match *s {
                Some(num) => Share { num, den: 1 },
                // Without any weight there is nothing to share out.
                None => Share {
                    num: w * left,
                    den: unit.max(1),
                },
            };
            return settled.iter().zip(weights).map(share).collect();
        }
        let balance: i128 = beyond.iter().sum();
        for ((slot, b), over) in settled.iter_mut().zip(bounds).zip(beyond) {
            if over > 0 && balance >= 0 {
                *slot = Some(b.low);
            } else if over < 0 && balance <= 0 {
                *slot = Some(b.high);
            }
        }
    }
}

/// Rounds each share down or up so that the sum is exact and every zone keeps its bounds.
fn round(
    shares: &[Share],
    n: usize,
    zone_of: &[usize],
    zones: &[Bounds],
    have: &[usize],
) -> Vec<usize> {
    let mut out: Vec<i128> = shares.iter().map(|s| s.num / s.den).collect();
    let mut left = rows(n) - out.iter().sum::<i128>();
    let mut in_zone: Vec<i128> = vec![0; zones.len()];
    for (whole, &z) in out.iter().zip(zone_of) {
        if let Some(sum) = in_zone.get_mut(z) {
            *sum += whole;
        }
    }
    let holds_more = |i: usize, whole: i128| {
        let held = have.get(i).copied().unwrap_or(0);
        i128::try_from(held).is_ok_and(|held| held > whole)
    };
    let mut order: Vec<(bool, bool, usize)> = (shares.iter().zip(&out).enumerate())
        .filter(|(_, (share, _))| share.num % share.den != 0)
        .map(|(i, (_, &whole))| (whole > 0, !holds_more(i, whole), i))
        .collect();
    order.sort_unstable();
    for limit in [|b: &Bounds| b.low, |b: &Bounds| b.high] {
        order.retain(|&(_, _, i)| {
            let z = zone_of.get(i).copied().unwrap_or(0);
            let room = in_zone.get_mut(z).zip(zones.get(z));
            match (room.filter(|(sum, b)| **sum < limit(b)), out.get_mut(i)) {
                (Some((sum, _)), Some(quota)) if left > 0 => {
                    *sum += 1;
                    *quota += 1;
                    left -= 1;
                    false
                }
                _ => true,
            }
        });
    }
    out.into_iter()
        .map(|q| usize::try_from(q).unwrap_or(0))
        .collect()
}
