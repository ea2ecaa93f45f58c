//! What replicas hold and exchange for one key.

use bytes::Bytes;

use super::{Context, Dot};

/// Names a client's request, so that its retries can be recognised. Two attempts of one request
/// carry the same id; a request without an `Idempotency-Key` gets a random one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId {
    /// Which request: from the client's `Idempotency-Key`, or random.
    pub id: u128,
    /// What it asked for (operation, value and clock): tells a retry from a reused key.
    pub fingerprint: u64,
}

/// What a write left behind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Body {
    /// The raw JSON text, as the client wrote it.
    Value(Bytes),
    /// A delete.
    Tombstone,
}

/// One of the concurrent versions of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sibling {
    /// The write that made it.
    pub dot: Dot,
    /// What was written.
    pub body: Body,
    /// The request that made it.
    pub request: RequestId,
}

/// Why a write is remembered. Each reason has room of its own, so that the many do not push out the
/// few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Its request has an `Idempotency-Key` and may come again.
    Keyed,
    /// It was minted for another node, which in all likelihood has heard so.
    Afar,
    /// Another owner has been asked for the same, or may yet be, since its coordinator has not heard
    /// of a first attempt.
    Doubtful,
}

impl Reason {
    /// Every one, in order.
    pub const ALL: [Self; 3] = [Self::Keyed, Self::Afar, Self::Doubtful];

    /// How many writes of each actor are remembered for it: the last ones. A bound by actor and
    /// count, not by time, keeps `sync` commutative and associative. It means: an attempt that
    /// comes to light, or a retry that arrives, after this many more such writes of the same minter
    /// to the same key is not recognised, and makes one sibling more.
    #[must_use]
    pub const fn most(self) -> usize {
        match self {
            Self::Keyed | Self::Afar => 8,
            // Only what was under way at the moment of a fault is of this kind.
            Self::Doubtful => 64,
        }
    }

    /// The same for what a write's answer hands on from the clock that came with it.
    #[must_use]
    pub(super) const fn most_handed_on(self) -> usize {
        match self {
            Self::Keyed | Self::Afar => 1,
            Self::Doubtful => 4,
        }
    }
}

/// A past write whose request may come again, or may have been tried elsewhere: remembered after
/// its value is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Remembered {
    /// The write.
    pub dot: Dot,
    /// What for.
    pub reason: Reason,
    /// The request that made it.
    pub request: RequestId,
}

/// The state of a key: what is known of it and which versions live.
///
/// Siblings and remembered requests are sorted by dot; every sibling's dot is in the context.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// Every write this state knows of.
    pub context: Context,
    /// The versions that no known write covers.
    pub siblings: Vec<Sibling>,
    /// Of each actor the last [`Reason::most`] writes for each reason.
    pub remembered: Vec<Remembered>,
}

impl State {
    /// Whether nothing was ever written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.context.is_empty()
    }

    /// The live values as a reader sees them, in the order of their dots: no tombstones, and the
    /// attempts of one request once, and not at all when another of them was superseded.
    #[must_use]
    pub fn live(&self) -> Vec<(&Sibling, &Bytes)> {
        let mut seen: Vec<(&Sibling, &Bytes)> = Vec::with_capacity(self.siblings.len());
        for sibling in &self.siblings {
            if let Body::Value(value) = &sibling.body
                && !seen
                    .iter()
                    .any(|(s, v)| s.request == sibling.request && *v == value)
                && !self.is_belated(sibling)
            {
                seen.push((sibling, value));
            }
        }
        seen
    }

    /// Whether a reader would see a value.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.siblings
            .iter()
            .any(|s| matches!(s.body, Body::Value(_)) && !self.is_belated(s))
    }

    /// Whether another attempt of the same request was read and superseded before this one came to
    /// light: its client and the readers of its value are done with it.
    pub(super) fn is_belated(&self, sibling: &Sibling) -> bool {
        self.remembered
            .iter()
            .any(|r| r.request == sibling.request && r.dot != sibling.dot && !self.holds(r.dot))
    }

    /// The write of a request that is still known, by its id.
    #[must_use]
    pub fn written_by(&self, id: u128) -> Option<Remembered> {
        let living = self.siblings.iter().map(|s| Remembered {
            dot: s.dot,
            reason: Reason::Doubtful,
            request: s.request,
        });
        self.remembered
            .iter()
            .copied()
            .chain(living)
            .find(|r| r.request.id == id)
    }

    /// Remembers what is known of a request's writes, for when their values are gone.
    pub fn remember(&mut self, id: u128, reason: Reason) {
        self.note(id, reason);
        self.trim_remembered();
    }

    /// Takes over what a client's clock knows of writes that are in the context. What reaches an
    /// owner by a clock first may reach others so, too.
    pub(super) fn learn(&mut self, named: &[Remembered]) {
        let known = |n: &&Remembered| self.remembered.iter().any(|r| r.dot == n.dot);
        let news = named.iter().filter(|n| !known(n)).map(doubtful);
        self.remember_all(named.iter().copied().chain(news).collect());
    }

    /// Remembers a write for another node. What has to make room for it while its coordinator has
    /// not heard of it becomes doubtful.
    pub fn remember_afar(&mut self, id: u128, is_unheard: impl Fn(u128) -> bool) {
        self.note(id, Reason::Afar);
        let mut unheard = Vec::new();
        self.crowd_out(|r| {
            if r.reason == Reason::Afar && is_unheard(r.request.id) {
                unheard.push(doubtful(r));
            }
        });
        self.remember_all(unheard);
    }

    /// What was written for another node becomes doubtful if that should have heard of it by now.
    pub fn doubt(&mut self, is_overdue: impl Fn(u128) -> bool) {
        let afar = self.remembered.iter().filter(|r| r.reason == Reason::Afar);
        let overdue = afar.filter(|r| is_overdue(r.request.id)).map(doubtful);
        self.remember_all(overdue.collect());
    }

    fn remember_all(&mut self, more: Vec<Remembered>) {
        if !more.is_empty() {
            self.remembered.extend(more);
            self.trim_remembered();
        }
    }

    fn note(&mut self, id: u128, reason: Reason) {
        let own = self.siblings.iter().filter(|s| s.request.id == id);
        self.remembered.extend(own.map(|s| Remembered {
            dot: s.dot,
            reason,
            request: s.request,
        }));
    }

    pub(super) fn holds(&self, dot: Dot) -> bool {
        self.siblings.binary_search_by_key(&dot, |s| s.dot).is_ok()
    }

    /// Keeps of each actor the last ones for each reason.
    pub(super) fn trim_remembered(&mut self) {
        self.crowd_out(|_| {});
    }

    /// The same, and tells what has to go.
    fn crowd_out(&mut self, gone: impl FnMut(&Remembered)) {
        trim(&mut self.remembered, Reason::most, gone);
    }
}

fn doubtful(remembered: &Remembered) -> Remembered {
    Remembered {
        reason: Reason::Doubtful,
        ..*remembered
    }
}

/// Sorts, and keeps of each actor the last so many for each reason.
pub(super) fn trim(
    remembered: &mut Vec<Remembered>,
    most: fn(Reason) -> usize,
    mut gone: impl FnMut(&Remembered),
) {
    remembered.sort_unstable();
    remembered.dedup();
    let (mut actor, mut left) = (None, Reason::ALL.map(|reason| (reason, 0)));
    remembered.reverse();
    remembered.retain(|r| {
        if actor != Some(r.dot.actor) {
            actor = Some(r.dot.actor);
            left = Reason::ALL.map(|reason| (reason, most(reason)));
        }
        let room = left
            .iter_mut()
            .find(|(reason, room)| *reason == r.reason && *room > 0);
        let Some((_, room)) = room else {
            gone(r);
            return false;
        };
        *room -= 1;
        true
    });
    remembered.reverse();
}
