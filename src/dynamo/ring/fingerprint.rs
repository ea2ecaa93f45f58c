//! The ring's hash: every field that decides ownership, each with its length before it, so that
//! two different rings never feed the same bytes.

use std::hash::Hasher;

use fnv::FnvHasher;

use super::{NodeId, Ring, RingHash, fmix64};

pub(super) fn of(ring: &Ring) -> RingHash {
    let mut feed = Feed(FnvHasher::default());
    feed.number(ring.cluster.0);
    feed.number(ring.epoch);
    feed.count(ring.replicas);
    feed.count(ring.members.len());
    for member in &ring.members {
        feed.text(member.id.as_str());
        feed.number(member.data_id);
        feed.text(&member.zone);
        feed.number(member.weight.into());
    }
    feed.count(ring.placements.len());
    for row in &ring.placements {
        feed.names(&row.owners);
        feed.count(row.incoming.iter().count());
        row.incoming.iter().for_each(|to| feed.names(to));
    }
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

    fn names(&mut self, names: &[NodeId]) {
        self.count(names.len());
        for id in names {
            self.text(id.as_str());
        }
    }
}
