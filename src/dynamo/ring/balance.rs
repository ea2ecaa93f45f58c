//! Who owns what after a change of members: quotas met exactly, and as few replicas moved as
//! they allow.
//!
//! The table is a flow from partitions to members, and a change makes it whole again by shortest
//! augmenting paths: a replica handed from a member above its quota, perhaps through others, to
//! one below. A hand-over costs 1 if its taker did not own the partition before the change and
//! gives 1 back if its giver did not either. The table before the change costs nothing, and
//! shortest paths keep a cheapest table cheapest (Busacker and Gowen 1960), so the table after it
//! moves as little as the quotas and zones allow.
#![expect(
    clippy::indexing_slicing,
    reason = "members, zones and rows are numbered once, and every table has a place for each"
)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::quota::{Quotas, quotas};
use super::{Member, PARTITIONS, fmix64};
use crate::dynamo::node_id::NodeId;

/// The owners of every partition: `n` of the members each, who must be at least as many.
///
/// `before` has the owners until now, [`PARTITIONS`] rows, or none if there are none. Owners that
/// stay keep their order and first places are spread. Who is spared gains nothing, unless the others
/// are too few.
pub(super) fn rebalance(
    members: &[Member],
    before: &[Vec<NodeId>],
    n: usize,
    spared: &[NodeId],
) -> Vec<Vec<NodeId>> {
    let number = |id: &NodeId| members.iter().position(|m| m.id == *id);
    let mut rows: Vec<Vec<usize>> = before
        .iter()
        .map(|row| row.iter().filter_map(number).collect())
        .collect();
    rows.resize(usize::from(PARTITIONS), Vec::new());
    let spared: Vec<bool> = members.iter().map(|m| spared.contains(&m.id)).collect();
    let table = settled(members, rows, n, &spared);
    let name = |i: usize| members[i].id.clone();
    let named = |row: Vec<usize>| row.into_iter().map(name).collect();
    table.rows.into_iter().map(named).collect()
}

/// Sparing may leave a row without enough owners; then nobody is spared.
fn settled(members: &[Member], rows: Vec<Vec<usize>>, n: usize, spared: &[bool]) -> Table {
    if spared.contains(&true) {
        let mut table = Table::new(members, rows.clone(), n, spared);
        table.settle();
        if table.rows.iter().all(|row| row.len() == n) {
            return table;
        }
    }
    let mut table = Table::new(members, rows, n, &vec![false; members.len()]);
    table.settle();
    table
}

struct Table {
    n: usize,
    quotas: Quotas,
    before: Vec<Vec<usize>>,
    rows: Vec<Vec<usize>>,
    /// Partitions of each member.
    load: Vec<usize>,
    /// How often each member has each place in a row.
    places: Vec<Vec<usize>>,
    /// What rows allow to be handed over, by giver and taker, and then by the giver's place and the
    /// cost, which alone decide between rows with one giver and taker; ties and rows.
    offers: Vec<Vec<Offers>>,
}

type Offers = BTreeMap<(usize, i32), BTreeSet<(u64, usize)>>;

/// A replica of `row` goes from one member to another; the least is the best.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct HandOver {
    cost: i32,
    /// How much it skews the places of the two.
    skew: isize,
    tie: u64,
    row: usize,
}

/// The way found so far to a member; the least is the best.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    cost: i32,
    hops: usize,
    from: Option<usize>,
}

/// The best hand-over between each two members.
type HandOvers = Vec<Vec<Option<HandOver>>>;

impl Table {
    fn new(members: &[Member], rows: Vec<Vec<usize>>, n: usize, spared: &[bool]) -> Self {
        let mut load = vec![0; members.len()];
        rows.iter().flatten().for_each(|&m| load[m] += 1);
        let mut table = Self {
            n,
            quotas: quotas(members, n, &load, spared),
            before: rows.clone(),
            rows,
            load,
            places: vec![vec![0; n]; members.len()],
            offers: vec![vec![Offers::new(); members.len()]; members.len()],
        };
        for row in 0..table.rows.len() {
            table.drop_surplus(row);
            table.count_in(row);
        }
        table
    }

    fn settle(&mut self) {
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by_key(|&row| tie(row, 0, 0));
        for row in order {
            while self.rows[row].len() < self.n && self.fill(row) {}
        }
        while self.level() {}
        for (row, before) in self.rows.iter_mut().zip(&self.before) {
            keep_order(row, before);
        }
    }

    /// Drops owners that zones no longer allow beside the others; the fullest go first.
    fn drop_surplus(&mut self, row: usize) {
        while self.doubled(row) > self.quotas.doubles {
            let owners = &self.rows[row];
            let shared = |m: &&usize| self.in_zone(row, self.quotas.zone_of[**m]) > 1;
            let surplus =
                |m: &&usize| self.load[**m].cast_signed() - self.quotas.of[**m].cast_signed();
            let Some(&drop) = owners.iter().filter(shared).max_by_key(surplus) else {
                return;
            };
            self.rows[row].retain(|m| *m != drop);
            self.load[drop] -= 1;
        }
    }

    /// Gives the row one more owner, and whatever that owner cannot keep to others.
    fn fill(&mut self, row: usize) -> bool {
        let room = self.room(row);
        let starts = (0..self.load.len()).map(|m| {
            let fits = self.may_own(row, m) && self.fits(row, room, None, m);
            fits.then(|| Way {
                cost: i32::from(!self.before[row].contains(&m)),
                hops: 0,
                from: None,
            })
        });
        let starts = starts.collect();
        let Some(start) = self.augment(starts, row) else {
            return false;
        };
        self.count_out(row);
        let place = self.place_for(row, start);
        self.rows[row].insert(place, start);
        self.count_in(row);
        self.load[start] += 1;
        true
    }

    /// Takes one replica from a member above its quota.
    fn level(&mut self) -> bool {
        let starts = (0..self.load.len()).map(|m| {
            let above = self.load[m] > self.quotas.of[m];
            above.then_some(Way {
                cost: 0,
                hops: 0,
                from: None,
            })
        });
        let starts = starts.collect();
        self.augment(starts, 0).is_some()
    }

    /// Hands replicas along the cheapest way from one of the starts to a member below its quota,
    /// and tells from which.
    fn augment(&mut self, starts: Vec<Option<Way>>, salt: usize) -> Option<usize> {
        let hand_overs = self.hand_overs();
        let ways = cheapest(starts, &hand_overs);
        let open = |m: &usize| self.load[*m] < self.quotas.of[*m];
        let rank = |m: usize| {
            let room = Reverse(self.quotas.of[m] - self.load[m]);
            ways[m].map(|w| (w.cost, w.hops, room, tie(salt, m, 1), m))
        };
        let (.., end) = (0..ways.len()).filter(open).filter_map(rank).min()?;
        let mut taker = end;
        while let Some(giver) = ways[taker].and_then(|w| w.from) {
            let row = hand_overs[giver][taker]?.row;
            self.count_out(row);
            let change = |m: &mut usize| *m = if *m == giver { taker } else { *m };
            self.rows[row].iter_mut().for_each(change);
            self.count_in(row);
            self.load[giver] -= 1;
            self.load[taker] += 1;
            taker = giver;
        }
        Some(taker)
    }

    fn hand_overs(&self) -> HandOvers {
        let best = |(giver, taker): (usize, usize)| {
            let places = |m: usize, place: usize| self.places[m][place].cast_signed();
            let first = |(&(place, cost), rows): (&(usize, i32), &BTreeSet<(u64, usize)>)| {
                let &(tie, row) = rows.first()?;
                Some(HandOver {
                    cost,
                    skew: places(taker, place) - places(giver, place),
                    tie,
                    row,
                })
            };
            self.offers[giver][taker].iter().filter_map(first).min()
        };
        let all = 0..self.load.len();
        let of = |giver| all.clone().map(|taker| best((giver, taker))).collect();
        all.clone().map(of).collect()
    }

    /// What could be handed over in the row as it is: giver, taker, place and cost, tie.
    fn offers_in(&self, row: usize) -> Vec<(usize, usize, (usize, i32), u64)> {
        let is_new = |m| i32::from(!self.before[row].contains(&m));
        let room = self.room(row);
        let mut offers = Vec::new();
        for taker in (0..self.load.len()).filter(|&m| self.may_own(row, m)) {
            let tie = tie(row, taker, 2);
            for (place, &giver) in self.rows[row].iter().enumerate() {
                if self.fits(row, room, Some(giver), taker) {
                    let cost = is_new(taker) - is_new(giver);
                    offers.push((giver, taker, (place, cost), tie));
                }
            }
        }
        offers
    }

    /// Whether the member is not an owner already, nor one to be spared.
    fn may_own(&self, row: usize, member: usize) -> bool {
        let spared = self.quotas.spared[member] && !self.before[row].contains(&member);
        !spared && !self.rows[row].contains(&member)
    }

    /// How many more owners may share a zone with another; below 0 where too many do.
    fn room(&self, row: usize) -> isize {
        self.quotas.doubles.cast_signed() - self.doubled(row).cast_signed()
    }

    /// Whether the zones allow the member, in the place of `instead` or beside all.
    fn fits(&self, row: usize, room: isize, instead: Option<usize>, member: usize) -> bool {
        let zones = &self.quotas.zone_of;
        let without = instead.map(|m| zones[m]);
        let leaves = without.map_or(0, |z| isize::from(self.in_zone(row, z) > 1));
        let beside = self.in_zone(row, zones[member]);
        let beside = beside - usize::from(without == Some(zones[member]));
        isize::from(beside > 0) <= room + leaves
    }

    fn in_zone(&self, row: usize, zone: usize) -> usize {
        let owners = self.rows[row].iter();
        owners.filter(|m| self.quotas.zone_of[**m] == zone).count()
    }

    /// Owners that share a zone with an owner before them.
    fn doubled(&self, row: usize) -> usize {
        let owners = &self.rows[row];
        let zone = |m: &usize| self.quotas.zone_of[*m];
        let is_double = |&i: &usize| owners[..i].iter().any(|m| zone(m) == zone(&owners[i]));
        (0..owners.len()).filter(is_double).count()
    }

    /// The first place of which the member has less, for its quota, than the one who has it here.
    fn place_for(&self, row: usize, member: usize) -> usize {
        let owners = &self.rows[row];
        let lacks = |(place, &owner): (usize, &usize)| {
            self.places[member][place] * self.quotas.of[owner]
                < self.places[owner][place] * self.quotas.of[member]
        };
        owners
            .iter()
            .enumerate()
            .position(lacks)
            .unwrap_or(owners.len())
    }

    /// A row is as it should be, for now.
    fn count_in(&mut self, row: usize) {
        for (place, &m) in self.rows[row].iter().enumerate() {
            self.places[m][place] += 1;
        }
        for (giver, taker, class, tie) in self.offers_in(row) {
            let rows = self.offers[giver][taker].entry(class).or_default();
            rows.insert((tie, row));
        }
    }

    /// It is about to change.
    fn count_out(&mut self, row: usize) {
        for (place, &m) in self.rows[row].iter().enumerate() {
            self.places[m][place] -= 1;
        }
        for (giver, taker, class, tie) in self.offers_in(row) {
            if let Some(rows) = self.offers[giver][taker].get_mut(&class) {
                rows.remove(&(tie, row));
            }
        }
    }
}

/// The cheapest way to each member, and of those the shortest (Bellman and Ford: a hand-over that
/// undoes another has a negative cost).
fn cheapest(starts: Vec<Option<Way>>, hand_overs: &HandOvers) -> Vec<Option<Way>> {
    let mut ways = starts;
    for _round in 0..ways.len() {
        let mut changed = false;
        for (giver, takers) in hand_overs.iter().enumerate() {
            let Some(to_giver) = ways[giver] else {
                continue;
            };
            for (taker, hand_over) in takers.iter().enumerate() {
                let Some(hand_over) = hand_over else {
                    continue;
                };
                let (cost, hops) = (to_giver.cost + hand_over.cost, to_giver.hops + 1);
                if ways[taker].is_none_or(|w| (cost, hops) < (w.cost, w.hops)) {
                    let from = Some(giver);
                    ways[taker] = Some(Way { cost, hops, from });
                    changed = true;
                }
            }
        }
        if !changed {
            break;
        }
    }
    ways
}

/// Puts the owners that stay back into their order: one may have left and come again on the way.
fn keep_order(row: &mut [usize], before: &[usize]) {
    let stays = |m: &&usize| row.contains(m);
    let staying: Vec<usize> = before.iter().filter(stays).copied().collect();
    let slots = row.iter_mut().filter(|m| before.contains(m));
    slots.zip(staying).for_each(|(slot, m)| *slot = m);
}

/// The same everywhere, and without a pattern.
fn tie(row: usize, member: usize, salt: u64) -> u64 {
    fmix64((salt << 48) | ((row as u64) << 24) | (member as u64 + 1))
}
