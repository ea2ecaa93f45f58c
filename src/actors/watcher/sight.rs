//! What the watcher sees in one look, and what two looks tell.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::actors::admin_handle::AdminHandle;
use crate::actors::peer_handle::GoingDown;
use crate::dynamo::health::Condition;
use crate::dynamo::membership::lifecycle::NodeState;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::Ring;
use crate::metrics::counter::Label;
use crate::metrics::operations::{Operation, Outcome};

/// One look at the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sight {
    state: Option<NodeState>,
    epoch: u64,
    moving: usize,
    /// Every member, this node too, and how far it has come.
    members: BTreeMap<NodeId, NodeState>,
    /// How the others do.
    conditions: BTreeMap<NodeId, Condition>,
    /// How many writes are kept for whom.
    hints: BTreeMap<String, u64>,
    /// Counters since the start, each by what its rise is called.
    counters: BTreeMap<&'static str, u64>,
}

/// What happened, and the facts about it.
pub(super) type News = (&'static str, Value);

impl Sight {
    pub(super) async fn of(node: &AdminHandle) -> Result<Self, GoingDown> {
        let (store, entropy) = (node.store().await?, node.entropy().await?);
        let (view, reads, counts) = (node.view(), node.reads(), node.in_flight.counts());
        let ring = view.ring.as_deref();
        let members = ring.map(|ring| {
            let members = ring.members.iter();
            members.map(|m| (m.id.clone(), node.state_of(ring, &m.id)))
        });
        let members: BTreeMap<NodeId, NodeState> = members.into_iter().flatten().collect();
        let condition = |id: &NodeId| Some((id.clone(), node.health_of(id)?.condition()));
        let ended = |outcome| -> u64 {
            let operations = Operation::ALL.iter();
            operations.map(|o| counts.outcomes(*o, outcome)).sum()
        };
        let repaired: u64 = entropy.pairs.iter().map(|pair| pair.keys_repaired).sum();
        let hints = store.hints.iter();
        Ok(Self {
            state: Some(view.state(node.life().state)),
            epoch: view.epoch(),
            moving: ring.map_or(0, Ring::moving),
            conditions: members.keys().filter_map(condition).collect(),
            members,
            hints: hints
                .map(|(target, kept)| (target.clone(), kept.count))
                .collect(),
            counters: BTreeMap::from([
                ("read-repair", reads.repaired),
                ("anti-entropy-repair", repaired),
                ("damage-found", store.damaged),
                ("damage-mended", store.mended),
                ("quorum-not-met", ended(Outcome::QuorumNotMet)),
                ("overloaded", ended(Outcome::Overloaded)),
            ]),
        })
    }

    /// What has become otherwise.
    pub(super) fn changes(&self, now: &Self) -> Vec<News> {
        let mut news = Vec::new();
        if let Some(state) = now.state.filter(|_| now.state != self.state) {
            news.push(("state-changed", json!({ "state": state.to_string() })));
        }
        if now.epoch != self.epoch {
            let facts = json!({ "epoch": now.epoch, "moving": now.moving });
            news.push(("ring-changed", facts));
        }
        self.members(now, &mut news);
        self.conditions(now, &mut news);
        self.hints(now, &mut news);
        for (action, count) in &now.counters {
            let before = self.counters.get(action).copied().unwrap_or(0);
            if *count > before {
                news.push((*action, json!({ "count": count - before })));
            }
        }
        news
    }

    fn members(&self, now: &Self, news: &mut Vec<News>) {
        for (id, state) in &now.members {
            let facts = json!({ "member": id.as_str() });
            match self.members.get(id) {
                None => news.push(("member-joined", facts)),
                Some(NodeState::Pending) if *state == NodeState::Ready => {
                    news.push(("member-ready", facts));
                }
                Some(_) => {}
            }
        }
        let gone = self
            .members
            .keys()
            .filter(|id| !now.members.contains_key(*id));
        news.extend(gone.map(|id| ("member-left", json!({ "member": id.as_str() }))));
    }

    fn conditions(&self, now: &Self, news: &mut Vec<News>) {
        for (id, condition) in &now.conditions {
            let before = self.conditions.get(id).copied();
            let before = before.unwrap_or(Condition::Preferred);
            let action = match (before, condition) {
                (before, now) if before == *now => continue,
                (_, Condition::Unreachable) => "peer-down",
                (Condition::Unreachable, _) => "peer-up",
                (_, Condition::Slow) => "peer-slow",
                (_, Condition::Preferred) => continue,
            };
            news.push((action, json!({ "member": id.as_str() })));
        }
    }

    fn hints(&self, now: &Self, news: &mut Vec<News>) {
        let kept = |sight: &Self, id: &str| sight.hints.get(id).copied().unwrap_or(0);
        for id in self
            .hints
            .keys()
            .chain(now.hints.keys().filter(|id| !self.hints.contains_key(*id)))
        {
            match (kept(self, id), kept(now, id)) {
                (0, count) if count > 0 => {
                    news.push(("hints-kept", json!({ "member": id, "count": count })));
                }
                (count, 0) if count > 0 => {
                    news.push(("hints-delivered", json!({ "member": id })));
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::ring_view::tests::id;

    type Change = fn(&mut Sight);

    fn sight() -> Sight {
        Sight {
            state: Some(NodeState::Ready),
            epoch: 3,
            members: BTreeMap::from([(id("a"), NodeState::Ready), (id("b"), NodeState::Ready)]),
            conditions: BTreeMap::from([(id("b"), Condition::Preferred)]),
            counters: BTreeMap::from([("read-repair", 5)]),
            ..Sight::default()
        }
    }

    fn told(before: &Sight, change: impl FnOnce(&mut Sight)) -> Vec<String> {
        let mut now = before.clone();
        change(&mut now);
        let news = before.changes(&now).into_iter();
        news.map(|(action, facts)| format!("{action} {facts}"))
            .collect()
    }

    #[test]
    fn every_change_is_told_once_and_nothing_else() {
        let calm = sight();
        assert_eq!(told(&calm, |_| {}), Vec::<String>::new());
        let rows: [(Change, &[&str]); 7] = [
            (
                |s| s.state = Some(NodeState::Leaving),
                &[r#"state-changed {"state":"LEAVING"}"#],
            ),
            (
                |s| {
                    s.epoch = 4;
                    s.moving = 64;
                    s.members.insert(id("c"), NodeState::Pending);
                },
                &[
                    r#"ring-changed {"epoch":4,"moving":64}"#,
                    r#"member-joined {"member":"c"}"#,
                ],
            ),
            (
                |s| {
                    s.members.remove(&id("b"));
                },
                &[r#"member-left {"member":"b"}"#],
            ),
            (
                |s| {
                    s.conditions.insert(id("b"), Condition::Unreachable);
                },
                &[r#"peer-down {"member":"b"}"#],
            ),
            (
                |s| {
                    s.conditions.insert(id("b"), Condition::Slow);
                },
                &[r#"peer-slow {"member":"b"}"#],
            ),
            (
                |s| {
                    s.hints.insert("b".to_owned(), 7);
                },
                &[r#"hints-kept {"count":7,"member":"b"}"#],
            ),
            (
                |s| {
                    s.counters.insert("read-repair", 8);
                },
                &[r#"read-repair {"count":3}"#],
            ),
        ];
        for (change, expected) in rows {
            assert_eq!(told(&calm, change), expected);
        }
    }

    #[test]
    fn what_went_wrong_is_told_to_be_well_again() {
        let mut worse = sight();
        worse.conditions.insert(id("b"), Condition::Unreachable);
        worse.hints.insert("b".to_owned(), 7);
        worse.members.insert(id("b"), NodeState::Pending);
        let better = told(&worse, |s| {
            s.conditions.insert(id("b"), Condition::Slow);
            s.hints.clear();
            s.members.insert(id("b"), NodeState::Ready);
        });
        let expected = [
            r#"member-ready {"member":"b"}"#,
            r#"peer-up {"member":"b"}"#,
            r#"hints-delivered {"member":"b"}"#,
        ];
        assert_eq!(better, expected);
    }
}
