//! Reads and writes of the key: whom the product's views admit, and when its quorum is met; each is
//! asked once, and remembered.

use quorate::actors::replica::Terms;
use quorate::actors::ring_view::View;
use quorate::dynamo::key::Partition;
use quorate::dynamo::quorum::{Decision, Fault, ReadQuorum};
use quorate::dynamo::ring::OwnerSet;
use quorate::dynamo::version::State;
use tokio::time::Instant;

use super::Fault as Planted;
use super::tables::{Bits, READ, Tables, each, id};

/// What a node says to a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Says {
    /// It refuses, or cannot be asked, or is not heard.
    Nothing,
    /// Its state, which lacks the write.
    Blind,
    /// That it has flipped.
    Flipped,
}

/// Whether a node serves a read and takes a write of the key, as an owner before and after the move.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admitted {
    pub(crate) reads: [Result<(), Refusal>; 2],
    pub(crate) writes: [bool; 2],
}

/// Why a read is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Flipped,
    Otherwise,
}

impl Tables {
    /// Whether a node admits reads and writes of the key under its own ring, as an owner before and
    /// after the move: what it gains is verified or not, and it has flipped for these.
    pub(crate) fn admits(&mut self, node: u8, ring: u8, verified: bool, flips: Bits) -> Admitted {
        let place = (node, ring, verified, flips);
        if let Some(known) = self.admitted.get(&place) {
            return *known;
        }
        let key = self.key;
        let ring = self.ring(ring).clone();
        let epoch = ring.epoch;
        let mut view = View::without_ring(id(node));
        for partition in Partition::all() {
            let row = ring.placement(partition);
            if verified && row.is_gained_by(&view.me) {
                view.verified.insert(partition);
            }
            if row.owners.contains(&view.me) && each(flips).any(|r| row.is_gained_by(&id(r))) {
                view.flipped.insert(partition);
            }
        }
        view.ring = Some(ring);
        let terms = |set| Terms {
            epoch,
            set,
            deadline: Instant::now(),
            trace: None,
        };
        let sets = [OwnerSet::Current, OwnerSet::Incoming];
        let refusal = |fault| match fault {
            Fault::Flipped => Refusal::Flipped,
            _ => Refusal::Otherwise,
        };
        let admitted = Admitted {
            reads: sets.map(|set| view.admit_read(key, &terms(set)).map_err(refusal)),
            writes: sets.map(|set| view.admit_write(key, &terms(set)).is_ok()),
        };
        self.admitted.insert(place, admitted);
        admitted
    }

    /// Whether a read of the key under this ring, of its owners before or after the move, is
    /// answered once the nodes have said this.
    pub(crate) fn is_answered(&mut self, ring: u8, incoming: bool, said: [Says; 4]) -> bool {
        let place = (ring, incoming, said);
        if let Some(known) = self.answers.get(&place) {
            return *known;
        }
        let set = if incoming {
            OwnerSet::Incoming
        } else {
            OwnerSet::Current
        };
        let mut placement = self.ring(ring).placement(self.key).clone();
        if let (Planted::AsksNobodyBefore, true) = (self.fault, incoming) {
            placement.owners = placement.incoming.clone().unwrap_or_default();
        }
        let mut quorum = ReadQuorum::new(&placement, set, READ);
        for (node, says) in (0..).zip(said) {
            match says {
                Says::Nothing => continue,
                Says::Blind => quorum.record(&id(node), Ok(State::default())),
                Says::Flipped => quorum.record(&id(node), Err(Fault::Flipped)),
            };
        }
        let is_answered = quorum.decide() == Decision::Done;
        self.answers.insert(place, is_answered);
        is_answered
    }
}
