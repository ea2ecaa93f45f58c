//! Sets of a key's writes by their places: a key has a few hundred, and a set of them is a few
//! words.

/// A set of small numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bits(Vec<u64>);

const WORD: usize = 64;

impl Bits {
    /// The empty set.
    pub(super) const fn nothing() -> Self {
        Self(Vec::new())
    }

    /// Adds a number.
    pub(super) fn insert(&mut self, n: usize) {
        let word = n / WORD;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(bits) = self.0.get_mut(word) {
            *bits |= 1 << (n % WORD);
        }
    }

    /// Whether the number is in the set.
    pub(super) fn contains(&self, n: usize) -> bool {
        let word = self.0.get(n / WORD).copied().unwrap_or(0);
        word & (1 << (n % WORD)) != 0
    }

    /// Adds all of the other set.
    pub(super) fn join(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    /// The numbers that are not in the other set, in order.
    pub(super) fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = usize> + 'a {
        let all = 0..self.0.len() * WORD;
        all.filter(|n| self.contains(*n) && !other.contains(*n))
    }
}

impl Extend<usize> for Bits {
    fn extend<T: IntoIterator<Item = usize>>(&mut self, numbers: T) {
        numbers.into_iter().for_each(|n| self.insert(n));
    }
}

impl FromIterator<usize> for Bits {
    fn from_iter<T: IntoIterator<Item = usize>>(numbers: T) -> Self {
        let mut out = Self::default();
        out.extend(numbers);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_was_put_in_and_nothing_else() {
        let mut a: Bits = [0, 63, 64, 200].into_iter().collect();
        let b: Bits = [1, 64, 300].into_iter().collect();
        let of = |set: &Bits| set.without(&Bits::default()).collect::<Vec<_>>();
        assert_eq!(of(&a), [0, 63, 64, 200]);
        assert_eq!(a.without(&b).collect::<Vec<_>>(), [0, 63, 200]);
        assert!(a.contains(64) && !a.contains(65) && !a.contains(10_000));
        a.join(&b);
        assert_eq!(of(&a), [0, 1, 63, 64, 200, 300]);
    }
}
