//! Members that come back without their disk: who may take a member's name.
//!
//! A data directory without any record that greets under a member's name may be that member with
//! a lost disk, or a second node started by mistake. Whoever is greeted so greets the member
//! itself; only when that has been silent for a while is the claim heard.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Lifecycle;
use super::hello::{Hello, Refusal, same_node};
use super::limits::CLAIM;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::Member;

/// Who wants a member's name.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// The last data directory that wanted each name, and since when.
    heard: BTreeMap<NodeId, (u64, Duration)>,
    /// Whether the members are finding out about this node's own claim.
    pub(super) own: bool,
}

impl Claims {
    /// Notes a claim; gives since when it is made.
    fn note(&mut self, from: &Member, now: Duration) -> Duration {
        let claim = (from.data_id, now);
        let known = self.heard.entry(from.id.clone()).or_insert(claim);
        if known.0 != from.data_id {
            *known = claim;
        }
        known.1
    }

    fn since(&self, from: &Member) -> Option<Duration> {
        let known = self.heard.get(&from.id);
        known.filter(|known| known.0 == from.data_id).map(|c| c.1)
    }
}

impl Lifecycle {
    /// Judges a greeting under the name of a member with another data directory.
    pub(super) fn judge_claim(&mut self, hello: &Hello, holder: &Member) -> Result<(), Refusal> {
        // A seed may be this node itself.
        if same_node(&hello.from, &self.me.member) {
            return Ok(());
        }
        let (name, at) = (hello.from.id.clone(), holder.addresses.peer.clone());
        let is_member = self.member_of_name(&name).is_some_and(|m| m == holder);
        if !hello.fresh || !is_member || name == self.me.member.id {
            return Err(Refusal::NameTaken { name, holder: at });
        }
        let since = self.claims.note(&hello.from, self.now);
        if self.seen.has_spoken(holder, since) {
            return Err(Refusal::NameTaken { name, holder: at });
        }
        if self.now.saturating_sub(since) < CLAIM {
            // The holder is greeted with the next tick, and answers if it is there.
            self.next_hello = self.now;
            return Err(Refusal::NameContested { name, holder: at });
        }
        Ok(())
    }

    /// Whether the claim has been heard: nobody else answers for the name.
    pub(super) fn is_heard_claim(&self, from: &Member) -> bool {
        let Some(holder) = self.member_of_name(&from.id) else {
            return false;
        };
        self.claims.since(from).is_some_and(|since| {
            self.now.saturating_sub(since) >= CLAIM && !self.seen.has_spoken(holder, since)
        })
    }

    pub(super) fn member_of_name(&self, id: &NodeId) -> Option<&Member> {
        self.ring.as_ref().and_then(|ring| ring.member(id))
    }
}
