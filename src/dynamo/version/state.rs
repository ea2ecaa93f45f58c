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

/// A past write whose request may come again, or may have been tried elsewhere: remembered after
/// its value is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Remembered {
    /// The write.
    pub dot: Dot,
    /// Whether it is remembered only because its minter's reply may be lost on the way. There are
    /// many of these, so they do not push out the others.
    pub brief: bool,
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
    /// Of each actor the last [`State::REMEMBERED_PER_ACTOR`] writes that are to be remembered, and
    /// as many that are so only briefly.
    pub remembered: Vec<Remembered>,
}

impl State {
    /// How many requests are remembered of each actor. A bound by actor and count, not by time,
    /// keeps `sync` commutative and associative. It means: an attempt that comes to light after the
    /// minter of its twin has minted this many more such writes of the same key is not
    /// recognised, and shows as one sibling more; a retry with a key is then written once more.
    pub const REMEMBERED_PER_ACTOR: usize = 8;

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
            brief: false,
            request: s.request,
        });
        self.remembered
            .iter()
            .copied()
            .chain(living)
            .find(|r| r.request.id == id)
    }

    /// Remembers what is known of a request's writes, for when their values are gone.
    pub fn remember(&mut self, id: u128, brief: bool) {
        let own = self.siblings.iter().filter(|s| s.request.id == id);
        self.remembered.extend(own.map(|s| Remembered {
            dot: s.dot,
            brief,
            request: s.request,
        }));
        self.trim_remembered();
    }

    pub(super) fn holds(&self, dot: Dot) -> bool {
        self.siblings.binary_search_by_key(&dot, |s| s.dot).is_ok()
    }

    pub(super) fn trim_remembered(&mut self) {
        self.remembered.sort_unstable();
        self.remembered.dedup();
        let all = std::mem::take(&mut self.remembered);
        for run in all.chunk_by(|a, b| a.dot.actor == b.dot.actor) {
            for brief in [false, true] {
                let kind = run.iter().filter(|r| r.brief == brief);
                let surplus = kind.clone().count();
                let surplus = surplus.saturating_sub(Self::REMEMBERED_PER_ACTOR);
                self.remembered.extend(kind.skip(surplus));
            }
        }
        self.remembered.sort_unstable();
    }
}
