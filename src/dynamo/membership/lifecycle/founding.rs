//! A node without a ring: it founds one with others, or promises to.

use super::limits::LOOK_AROUND;
use super::pledge::{FoundRefusal, Founding};
use super::{Effect, Hello, Lifecycle};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::Member;

impl Lifecycle {
    pub(super) fn found(&mut self, asks: bool, out: &mut Vec<Effect>) {
        let me = &self.me.member;
        let mut visible = self.seen.new_ones(self.now);
        visible.push(me.clone());
        visible.sort_by(|a, b| a.id.cmp(&b.id));
        let expect = self.me.expect;
        if self.may_found(&visible) {
            self.keep(self.first_founding(visible), out);
        } else if let Some(next) = self.pledge.revised(self.now, me, visible, expect) {
            self.keep(next, out);
        }
        self.complete(out);
        let of = self.pledge.missing(&self.me.member);
        if let Some(founding) = self.pledge.own(&self.me.member).cloned()
            && asks
            && !of.is_empty()
        {
            out.push(Effect::AskToFound { founding, of });
        }
    }

    fn may_found(&self, visible: &[Member]) -> bool {
        let looked_around = self.me.seeds == 0 || self.now >= LOOK_AROUND;
        let begun = |h: &Hello| h.ring.is_some() || h.founding.is_some();
        let first = visible.first().map(|m| &m.id);
        looked_around
            && self.permitted.found
            && !self.ring_heard
            && self.pledge.kept().is_none()
            && visible.len() >= self.me.expect
            && first == Some(&self.me.member.id)
            && !self.seen.fresh(self.now).any(begun)
    }

    fn first_founding(&self, members: Vec<Member>) -> Founding {
        Founding {
            founder: self.me.member.id.clone(),
            attempt: 1,
            cluster: self.me.cluster,
            replicas: self.me.replicas,
            members,
        }
    }

    fn keep(&mut self, founding: Founding, out: &mut Vec<Effect>) {
        self.pledge.keep(founding.clone());
        out.push(Effect::KeepFounding(founding));
    }

    pub(super) fn yield_to(&mut self, other: Founding, out: &mut Vec<Effect>) {
        if self.ring.is_none() && self.pledge.yields_to(&self.me.member, &other) {
            self.keep(other, out);
        }
    }

    fn complete(&mut self, out: &mut Vec<Effect>) {
        if let Some(done) = self.pledge.complete(&self.me.member) {
            out.push(Effect::InstallFirstRing(done.change()));
        }
    }

    pub(super) fn found_asked(&mut self, asked: Founding, out: &mut Vec<Effect>) {
        let answer = if self.ring.is_some() || self.ring_heard {
            Err(FoundRefusal::RingExists)
        } else {
            self.pledge.judge(&self.me.member, &asked, &self.seen)
        };
        if answer.is_ok() && self.pledge.kept() != Some(&asked) {
            self.keep(asked, out);
        }
        out.push(Effect::AnswerFounder(answer));
    }

    pub(super) fn found_answered(
        &mut self,
        from: &NodeId,
        attempt: u64,
        answer: Result<(), FoundRefusal>,
        out: &mut Vec<Effect>,
    ) {
        if self.ring.is_some() {
            return;
        }
        match answer {
            Ok(()) => self.pledge.promised_by(from, attempt),
            Err(FoundRefusal::Promised(other)) => self.yield_to(*other, out),
            Err(FoundRefusal::RingExists | FoundRefusal::NotNamed) => {}
        }
        self.complete(out);
    }
}
