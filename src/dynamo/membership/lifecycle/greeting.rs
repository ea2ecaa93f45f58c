//! How nodes meet: who is admitted, what a hello changes, and which refusals end a node.

use super::hello::{Hello, Refusal, RingStamp};
use super::limits::{STARTING, YOUNG};
use super::{Effect, Lifecycle};
use crate::dynamo::ring::{Departed, Member};

impl Lifecycle {
    /// What this node says of itself.
    #[must_use]
    pub fn hello(&self) -> Hello {
        Hello {
            from: self.me.member.clone(),
            state: self.state,
            ring: self.ring.as_ref().map(|r| RingStamp {
                cluster: r.cluster,
                epoch: r.epoch,
            }),
            founding: self.pledge.kept().cloned(),
            pulled: self.pulled,
            news: self.seen.new_ones(self.now),
            fresh: self.me.fresh,
        }
    }

    /// Whether a greeting is answered and heard, or refused.
    ///
    /// # Errors
    /// [`Refusal`], which ends a node that starts under a name or in a cluster that is not its own.
    pub fn admit(&mut self, hello: &Hello) -> Result<(), Refusal> {
        let from = &hello.from;
        let cluster = self.ring.as_ref().map(|r| r.cluster);
        if let (Some(cluster), Some(theirs)) = (cluster, hello.ring)
            && cluster != theirs.cluster
        {
            let at = self.me.member.addresses.peer.clone();
            return Err(Refusal::OtherCluster { at, cluster });
        }
        if let Some(gone) = self.gone(from) {
            return Err(Refusal::departed(gone));
        }
        match self.holder_of_name(from).cloned() {
            None => Ok(()),
            Some(holder) => self.judge_claim(hello, &holder),
        }
    }

    /// Whether the data directory was a member's that is none any more.
    fn gone(&self, from: &Member) -> Option<&Departed> {
        let ring = self.ring.as_ref()?;
        ring.departed(&from.id, from.data_id)
    }

    /// The node that has this one's name and another data directory. A young node leaves it to the
    /// other one to insist, which may have been there first.
    fn holder_of_name(&self, from: &Member) -> Option<&Member> {
        let in_ring = self.member_of_name(&from.id);
        let me = Some(&self.me.member).filter(|_| self.now >= YOUNG);
        let heard = self.seen.fresh(self.now).map(|h| &h.from);
        let heard = heard.filter(|m| m.addresses.peer != from.addresses.peer);
        let others = me.into_iter().chain(heard).find(|m| m.id == from.id);
        let holder = in_ring.or(others)?;
        let other = holder.data_id != from.data_id;
        (other && !self.is_heard_claim(from)).then_some(holder)
    }

    pub(super) fn known(&self) -> Vec<Member> {
        let members = self.ring.iter().flat_map(|r| &r.members);
        let mut known: Vec<Member> = members.cloned().collect();
        for member in self.seen.known(self.now) {
            if known.iter().all(|k| k.id != member.id) {
                known.push(member);
            }
        }
        known.retain(|k| k.id != self.me.member.id);
        known
    }

    pub(super) fn heard(&mut self, hello: Hello, out: &mut Vec<Effect>) {
        let me = &self.me.member;
        let stranger = match (&self.ring, hello.ring) {
            (Some(own), Some(theirs)) => own.cluster != theirs.cluster,
            (None, _) | (_, None) => false,
        };
        let refused =
            self.holder_of_name(&hello.from).is_some() || self.gone(&hello.from).is_some();
        if hello.from.id == me.id || stranger || refused {
            return;
        }
        if let Some(theirs) = hello.ring {
            let newer = match &self.ring {
                Some(own) => own.epoch < theirs.epoch,
                None => self.pledge.lets_take(me, theirs.cluster, &hello.from),
            };
            if newer {
                self.ring_heard = true;
                let from = hello.from.clone();
                out.push(Effect::FetchRing { from });
            }
        }
        let founding = hello.founding.clone();
        self.seen.note(self.now, hello);
        if let Some(founding) = founding {
            self.yield_to(founding, out);
        }
    }

    /// A name that is taken ends a node that is not in a ring; the wrong cluster is only noted
    /// while the node starts, since its own may yet answer.
    pub(super) fn refused(&mut self, refusal: Refusal, out: &mut Vec<Effect>) {
        match refusal {
            Refusal::NameTaken { .. } | Refusal::NameContested { .. } if self.is_member() => {}
            Refusal::NameContested { .. } => {
                // Only who has a ring says so.
                self.ring_heard = true;
                self.claims.own = true;
            }
            // The ring that says so says more; only who has none has nothing to hand over.
            Refusal::Departed { .. } if self.ring.is_some() => {
                let others = self.known().into_iter();
                out.extend(others.map(|from| Effect::FetchRing { from }));
            }
            Refusal::NameTaken { .. } | Refusal::Departed { .. } | Refusal::NotEmpty { .. } => {
                out.push(Effect::Exit(refusal));
            }
            Refusal::OtherCluster { .. } if self.now < STARTING => self.refused = Some(refusal),
            Refusal::OtherCluster { .. } => {}
        }
    }

    pub(super) fn final_refusal(&mut self) -> Option<Refusal> {
        if self.now < YOUNG {
            return None;
        }
        let refusal = self.refused.take()?;
        let cluster = self.ring.as_ref().map(|r| r.cluster);
        let ours = |h: &Hello| h.ring.map(|r| r.cluster) == cluster;
        (!self.seen.fresh(self.now).any(ours)).then_some(refusal)
    }
}
