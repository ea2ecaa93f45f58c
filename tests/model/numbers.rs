//! Small numbers for what is large and few.

use std::collections::HashMap;
use std::hash::Hash;

/// Things by their numbers, and the other way round.
pub(crate) struct Numbered<T> {
    pub(crate) all: Vec<T>,
    numbers: HashMap<T, u16>,
}

impl<T: Clone + Eq + Hash> Numbered<T> {
    pub(crate) fn new() -> Self {
        Self {
            all: Vec::new(),
            numbers: HashMap::new(),
        }
    }

    pub(crate) fn number(&mut self, thing: T) -> u16 {
        let next = u16::try_from(self.all.len()).expect("few things");
        *self.numbers.entry(thing).or_insert_with_key(|thing| {
            self.all.push(thing.clone());
            next
        })
    }
}
