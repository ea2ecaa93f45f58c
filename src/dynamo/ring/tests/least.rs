//! The fewest replicas that a change can move, by another way than the plan takes: a flow from
//! partitions through zones to members, from which all cycles that gain something are taken away
//! (Klein 1967).

use std::collections::BTreeMap;

use super::*;

struct Edge {
    from: usize,
    to: usize,
    room: usize,
    cost: i64,
}

/// Each edge is followed by the one back.
#[derive(Default)]
struct Net {
    edges: Vec<Edge>,
    nodes: usize,
}

impl Net {
    fn node(&mut self) -> usize {
        self.nodes += 1;
        self.nodes - 1
    }

    /// An edge that `flow` of `room` units take.
    fn connect(&mut self, (from, to): (usize, usize), room: usize, flow: usize, cost: i64) {
        self.edges.push(Edge {
            from,
            to,
            room: room - flow,
            cost,
        });
        self.edges.push(Edge {
            from: to,
            to: from,
            room: flow,
            cost: -cost,
        });
    }

    /// Sends one unit round a cycle that gains, if there is one, and tells how much (Bellman and
    /// Ford, who begin everywhere).
    fn improve(&mut self) -> Option<i64> {
        let mut cost = vec![0; self.nodes];
        let mut by = vec![None; self.nodes];
        for _ in 0..=self.nodes {
            let mut changed = false;
            for (number, edge) in self.edges.iter().enumerate() {
                if edge.room > 0 && cost[edge.from] + edge.cost < cost[edge.to] {
                    cost[edge.to] = cost[edge.from] + edge.cost;
                    by[edge.to] = Some(number);
                    changed = true;
                }
            }
            if !changed {
                return None;
            }
            if let Some(cycle) = self.cycle(&by) {
                let gain: i64 = cycle.iter().map(|e| self.edges[*e].cost).sum();
                for e in cycle {
                    self.edges[e].room -= 1;
                    self.edges[e ^ 1].room += 1;
                }
                return Some(-gain);
            }
        }
        unreachable!("costs that go on falling fall along a cycle")
    }

    /// A cycle of the edges by which the nodes were reached.
    fn cycle(&self, by: &[Option<usize>]) -> Option<Vec<usize>> {
        let mut walk_of = vec![usize::MAX; self.nodes];
        for start in 0..self.nodes {
            let mut node = start;
            while walk_of[node] == usize::MAX {
                walk_of[node] = start;
                let Some(e) = by[node] else { break };
                node = self.edges[e].from;
            }
            if walk_of[node] != start || by[node].is_none() {
                continue;
            }
            let (first, mut cycle) = (node, Vec::new());
            while let Some(e) = by[node] {
                cycle.push(e);
                node = self.edges[e].from;
                if node == first {
                    return Some(cycle);
                }
            }
        }
        None
    }
}

/// How many replicas members of `after` own that did not before.
pub(super) fn gains(before: &[Vec<NodeId>], after: &Ring) -> usize {
    let rows = before.iter().zip(&after.placements);
    rows.map(|(was, is)| is.owners.iter().filter(|id| !was.contains(id)).count())
        .sum()
}

/// How many it would have to be so that every member owns as many partitions as in `after`, and
/// every partition has as many owners, in as many zones as there can be.
pub(super) fn least_gains(before: &[Vec<NodeId>], after: &Ring) -> usize {
    let n = after.replicas.min(after.members.len());
    let zones: BTreeSet<&str> = after.members.iter().map(|m| m.zone.as_str()).collect();
    let spare = n - n.min(zones.len());
    let mut net = Net::default();
    let members: BTreeMap<&NodeId, usize> =
        after.members.iter().map(|m| (&m.id, net.node())).collect();
    for (was, is) in before.iter().zip(&after.placements) {
        // The first owner in a zone is free; those beside it are so many in all.
        let (row, beside) = (net.node(), net.node());
        let mut used = 0;
        for zone in &zones {
            let there = || after.members.iter().filter(|m| m.zone == *zone);
            let owners = there().filter(|m| is.owners.contains(&m.id)).count();
            let at = net.node();
            net.connect((row, at), 1, owners.min(1), 0);
            net.connect((beside, at), n, owners.saturating_sub(1), 0);
            used += owners.saturating_sub(1);
            for member in there() {
                let flow = usize::from(is.owners.contains(&member.id));
                let cost = i64::from(!was.contains(&member.id));
                net.connect((at, members[&member.id]), 1, flow, cost);
            }
        }
        net.connect((row, beside), spare, used, 0);
    }
    let saved: i64 = std::iter::from_fn(|| net.improve()).sum();
    gains(before, after) - usize::try_from(saved).unwrap()
}

fn owners_of(ring: &Ring) -> Vec<Vec<NodeId>> {
    ring.placements.iter().map(|p| p.owners.clone()).collect()
}

/// A member that comes to own every partition has one place in each; of those that lose both their
/// owners, somebody else must pull the other.
#[test]
fn a_row_that_loses_two_owners_needs_two_that_gain() {
    let before = found(2, (0..5).map(|i| member(i, 0, 1)).collect());
    let changes = [
        MemberChange::Join(member(7, 0, 3)),
        MemberChange::Forget(id("n1")),
        MemberChange::Leave(id("n0")),
    ];
    let moving = plan(Some(&before), &Change::Commit(changes.to_vec())).unwrap();
    let lost = |row: &&Placement| row.owners.iter().all(|o| [id("n0"), id("n1")].contains(o));
    let both = before.placements.iter().filter(lost).count();
    assert!(both > 0);
    let all = usize::from(PARTITIONS);
    assert_eq!(gained(&moving).len(), all + both);
    assert_eq!(
        least_gains(&owners_of(&before), &retire(&moving)),
        all + both
    );
}

/// The measure itself: of a table that moves for nothing it tells how little would do, and zones are
/// kept to it.
#[test]
fn the_fewest_moves_are_found_from_a_table_that_moves_for_nothing() {
    let ring = found(2, (0..4).map(|i| member(i, i % 2, 1)).collect());
    let before = owners_of(&ring);
    assert_eq!(least_gains(&before, &ring), 0);
    let mut turned = ring.clone();
    turned.placements.rotate_left(1);
    assert!(gains(&before, &turned) > 100);
    assert_eq!(least_gains(&before, &turned), 0);
    // One more of every zone where all have two: a half of each row moves, and no more.
    let next = retire(&join(&ring, &member(5, 0, 1)));
    assert_eq!(least_gains(&before, &next), gains(&before, &next));
    let crowded: Vec<Vec<NodeId>> = vec![vec![id("n0"), id("n2")]; Q];
    assert_eq!(
        least_gains(&crowded, &ring),
        2 * Q
            - ring
                .placements
                .iter()
                .filter(|p| p.owners.iter().any(|o| crowded[0].contains(o)))
                .count(),
        "of two in one zone one can stay"
    );
}
