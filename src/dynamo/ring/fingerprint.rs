//! The ring's hash: every field that decides ownership, each with its length before it, so that
//! two different rings never feed the same bytes.

use std::hash::Hasher;

use fnv::FnvHasher;

use super::{Affairs, Departure, Member, MemberChange, NodeId, Ring, RingHash, fmix64};

pub(super) fn of(ring: &Ring) -> RingHash {
    let mut feed = Feed(FnvHasher::default());
    feed.number(ring.cluster.0);
    feed.number(ring.epoch);
    feed.count(ring.replicas);
    feed.count(ring.members.len());
    ring.members.iter().for_each(|member| feed.member(member));
    feed.count(ring.placements.len());
    for row in &ring.placements {
        feed.names(&row.owners);
        feed.count(row.incoming.iter().count());
        row.incoming.iter().for_each(|to| feed.names(to));
    }
    feed.affairs(&ring.affairs);
    RingHash(fmix64(feed.0.finish()))
}

struct Feed(FnvHasher);

impl Feed {
    fn number(&mut self, n: u64) {
        self.0.write(&n.to_le_bytes());
    }

    fn count(&mut self, n: usize) {
        self.number(n as u64);
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.write(text.as_bytes());
    }

    fn member(&mut self, member: &Member) {
        self.text(member.id.as_str());
        self.number(member.data_id);
        self.text(&member.zone);
        self.number(member.weight.into());
    }

    /// Nothing for what a ring of the first version can say too: a join, a move, a rest.
    fn affairs(&mut self, affairs: &Affairs) {
        let leaving = affairs
            .under_way
            .as_ref()
            .map_or(&[][..], |change| &change.leaving);
        let forgot = affairs
            .under_way
            .as_ref()
            .is_some_and(|change| change.forgot);
        if *affairs
            == (Affairs {
                under_way: affairs.under_way.clone(),
                ..Affairs::default()
            })
            && leaving.is_empty()
            && !forgot
        {
            return;
        }
        self.count(affairs.staged.len());
        affairs.staged.iter().for_each(|change| self.change(change));
        self.number(affairs.under_way.as_ref().map_or(0, |change| change.since));
        self.number(forgot.into());
        self.count(leaving.len());
        for (id, how) in leaving {
            self.text(id.as_str());
            self.departure(*how);
        }
        self.names(&affairs.down);
        self.count(affairs.departed.len());
        for gone in &affairs.departed {
            self.text(gone.id.as_str());
            self.number(gone.data_id);
            self.departure(gone.how);
            self.number(gone.epoch);
        }
    }

    fn change(&mut self, change: &MemberChange) {
        match change {
            MemberChange::Join(member) => {
                self.number(0);
                self.member(member);
            }
            MemberChange::Leave(node) => {
                self.number(1);
                self.text(node.as_str());
            }
            MemberChange::Replace { old, new } => {
                self.number(2);
                self.text(old.as_str());
                self.member(new);
            }
            MemberChange::Forget(node) => {
                self.number(3);
                self.text(node.as_str());
            }
            MemberChange::Weight { node, weight } => {
                self.number(4);
                self.text(node.as_str());
                self.number((*weight).into());
            }
            MemberChange::Zone { node, zone } => {
                self.number(5);
                self.text(node.as_str());
                self.text(zone);
            }
            MemberChange::Spare(node) => {
                self.number(6);
                self.text(node.as_str());
            }
        }
    }

    fn departure(&mut self, how: Departure) {
        self.number(match how {
            Departure::Left => 0,
            Departure::Replaced => 1,
            Departure::Forgotten => 2,
        });
    }

    fn names(&mut self, names: &[NodeId]) {
        self.count(names.len());
        for id in names {
            self.text(id.as_str());
        }
    }
}
