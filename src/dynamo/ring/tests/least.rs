//! The fewest replicas that a change can move, by another way than the plan takes: a cheapest flow
//! from partitions to members, from nothing, by Bellman and Ford.

use std::collections::VecDeque;

use super::*;

struct Edge {
    to: usize,
    room: usize,
    cost: i64,
}

/// Each edge is followed by the one back.
#[derive(Default)]
struct Net {
    edges: Vec<Edge>,
    from: Vec<Vec<usize>>,
}

impl Net {
    fn of(nodes: usize) -> Self {
        Self {
            edges: Vec::new(),
            from: vec![Vec::new(); nodes],
        }
    }

    fn connect(&mut self, from: usize, to: usize, room: usize, cost: i64) {
        self.from[from].push(self.edges.len());
        self.edges.push(Edge { to, room, cost });
        self.from[to].push(self.edges.len());
        self.edges.push(Edge {
            to: from,
            room: 0,
            cost: -cost,
        });
    }

    /// Sends one unit along a cheapest way, if there is one, and gives its cost.
    fn send(&mut self, source: usize, sink: usize) -> Option<i64> {
        let mut cost = vec![i64::MAX; self.from.len()];
        let mut by = vec![usize::MAX; self.from.len()];
        let mut queue = VecDeque::from([source]);
        cost[source] = 0;
        while let Some(node) = queue.pop_front() {
            for &e in &self.from[node] {
                let edge = &self.edges[e];
                if edge.room > 0 && cost[node] + edge.cost < cost[edge.to] {
                    cost[edge.to] = cost[node] + edge.cost;
                    by[edge.to] = e;
                    queue.push_back(edge.to);
                }
            }
        }
        let mut node = sink;
        while node != source {
            let e = *by.get(node).filter(|e| **e != usize::MAX)?;
            self.edges[e].room -= 1;
            self.edges[e ^ 1].room += 1;
            node = self.edges[e ^ 1].to;
        }
        Some(cost[sink])
    }
}

/// How many replicas have to be pulled so that every member has as many partitions as in `after`,
/// and every partition as many owners.
pub(super) fn least_gains(before: &Ring, after: &Ring) -> usize {
    let (rows, members) = (after.placements.len(), after.members.len());
    let (source, sink) = (rows + members, rows + members + 1);
    let mut net = Net::of(sink + 1);
    for (row, (was, is)) in before.placements.iter().zip(&after.placements).enumerate() {
        net.connect(source, row, is.owners.len(), 0);
        for (m, member) in after.members.iter().enumerate() {
            let is_new = !was.owners.contains(&member.id);
            net.connect(row, rows + m, 1, i64::from(is_new));
        }
    }
    for (m, member) in after.members.iter().enumerate() {
        let owns = |row: &&Placement| row.owners.contains(&member.id);
        let load = after.placements.iter().filter(owns).count();
        net.connect(rows + m, sink, load, 0);
    }
    let costs = std::iter::from_fn(|| net.send(source, sink));
    usize::try_from(costs.sum::<i64>()).unwrap()
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
    assert_eq!(least_gains(&before, &retire(&moving)), all + both);
}
