//! An exact set of dots: a version vector and a cloud of single dots beyond it.

use super::{Actor, Dot};

/// A set of writes: for each vector entry all of `1..=n`, and beside them the dots of the cloud.
///
/// Both lists are sorted and hold no duplicates, and a dot that touches the vector is folded into
/// it, so two equal sets are equal values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Context {
    vector: Vec<(Actor, u64)>,
    cloud: Vec<Dot>,
}

impl Context {
    /// The empty set: what the reader of a key never written has seen.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Builds the set from any lists: sorts, drops zeros and duplicates, folds.
    #[must_use]
    pub fn from_parts(vector: Vec<(Actor, u64)>, cloud: Vec<Dot>) -> Self {
        let mut out = Self {
            vector: Vec::with_capacity(vector.len()),
            cloud,
        };
        for (actor, n) in vector {
            out.raise(actor, n);
        }
        out.fold();
        out
    }

    /// The vector's entries, sorted by actor.
    #[must_use]
    pub fn vector(&self) -> &[(Actor, u64)] {
        &self.vector
    }

    /// The single dots beyond the vector, sorted.
    #[must_use]
    pub fn cloud(&self) -> &[Dot] {
        &self.cloud
    }

    /// Whether no write is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vector.is_empty() && self.cloud.is_empty()
    }

    /// Whether the write is in the set.
    #[must_use]
    pub fn covers(&self, dot: Dot) -> bool {
        self.vector_of(dot.actor) >= dot.n || self.cloud.binary_search(&dot).is_ok()
    }

    /// Whether every write of the other set is in this one.
    #[must_use]
    pub fn covers_all(&self, other: &Self) -> bool {
        // A canonical set has no cloud dot that touches its vector entry, so the entry of one
        // actor in `other` is covered only by the vector of `self`.
        other
            .vector
            .iter()
            .all(|&(actor, n)| self.vector_of(actor) >= n)
            && other.cloud.iter().all(|&dot| self.covers(dot))
    }

    /// The highest write of this actor in the set, 0 if there is none.
    #[must_use]
    pub fn highest(&self, actor: Actor) -> u64 {
        let after = self.cloud.partition_point(|d| d.actor <= actor);
        let single = after.checked_sub(1).and_then(|i| self.cloud.get(i));
        let single = single.filter(|d| d.actor == actor).map_or(0, |d| d.n);
        self.vector_of(actor).max(single)
    }

    /// Every actor that has a write in the set, vector first.
    pub fn actors(&self) -> impl Iterator<Item = Actor> + '_ {
        self.vector
            .iter()
            .map(|e| e.0)
            .chain(self.cloud.iter().map(|d| d.actor))
    }

    /// Adds all writes of the other set.
    pub fn join(&mut self, other: &Self) {
        for &(actor, n) in &other.vector {
            self.raise(actor, n);
        }
        self.cloud.extend_from_slice(&other.cloud);
        self.fold();
    }

    /// Adds one write.
    pub fn add(&mut self, dot: Dot) {
        if !self.covers(dot) {
            self.cloud.push(dot);
            self.fold();
        }
    }

    /// The part of the set that ends, for each actor, before its first of these dots.
    pub(super) fn before(&self, dots: &[Dot]) -> Self {
        let first = |actor: Actor| {
            let own = dots.iter().filter(|d| d.actor == actor);
            own.map(|d| d.n).min().unwrap_or(u64::MAX)
        };
        let entry = |&(actor, n): &(Actor, u64)| (actor, n.min(first(actor).saturating_sub(1)));
        let cloud = self.cloud.iter().filter(|d| d.n < first(d.actor));
        Self::from_parts(
            self.vector.iter().map(entry).collect(),
            cloud.copied().collect(),
        )
    }

    fn vector_of(&self, actor: Actor) -> u64 {
        match self.vector.binary_search_by_key(&actor, |e| e.0) {
            Ok(i) => self.vector.get(i).map_or(0, |e| e.1),
            Err(_absent) => 0,
        }
    }

    fn raise(&mut self, actor: Actor, n: u64) {
        match self.vector.binary_search_by_key(&actor, |e| e.0) {
            Ok(i) => {
                if let Some(entry) = self.vector.get_mut(i) {
                    entry.1 = entry.1.max(n);
                }
            }
            Err(i) if n > 0 => self.vector.insert(i, (actor, n)),
            Err(_zero) => {}
        }
    }

    /// Sorts the cloud and moves into the vector every dot that touches it.
    fn fold(&mut self) {
        if self.cloud.is_empty() {
            return;
        }
        let mut cloud = std::mem::take(&mut self.cloud);
        cloud.sort_unstable();
        cloud.dedup();
        cloud.retain(|dot| {
            let known = self.vector_of(dot.actor);
            let before = dot.n.saturating_sub(1);
            if before == known {
                self.raise(dot.actor, dot.n);
            }
            before > known
        });
        self.cloud = cloud;
    }
}
