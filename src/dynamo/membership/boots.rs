//! What nodes remember of each other's starts. Every start of a node raises its durable boot
//! number, and so does a running one every few seconds while it writes. So a node that starts with
//! a number that somebody has already seen has an older store than it once had: a restored backup,
//! be it a copy of a running node's directory, or a disk that lost what it had synced. Under its
//! old incarnation it would mint dots a second time.

use std::collections::BTreeMap;

/// One start of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// Counts the starts of a data directory, and the stretches of its runs.
    pub number: u64,
    /// Random: tells two starts of one number apart.
    pub life: u64,
}

/// The last start seen of each data directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Boots(BTreeMap<u64, Boot>);

/// What a start means to somebody who remembers the ones before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is the one remembered.
    Before,
    /// It is later than the one remembered, and now remembered itself.
    Later,
    /// The data directory has been further: it was started under this number, and not this time.
    RolledBack(u64),
}

impl Boots {
    /// As it was stored.
    #[must_use]
    pub fn from_parts(starts: impl IntoIterator<Item = (u64, Boot)>) -> Self {
        Self(starts.into_iter().collect())
    }

    /// What to store.
    pub fn parts(&self) -> impl Iterator<Item = (u64, Boot)> + '_ {
        self.0.iter().map(|(data_id, boot)| (*data_id, *boot))
    }

    /// Takes note of a start.
    pub fn note(&mut self, data_id: u64, boot: Boot) -> Seen {
        match self.0.get(&data_id) {
            // What it said before it counted on may come late.
            Some(known) if known.life == boot.life && known.number >= boot.number => Seen::Before,
            Some(known) if known.number >= boot.number => Seen::RolledBack(known.number),
            Some(_) | None => {
                self.0.insert(data_id, boot);
                Seen::Later
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_seen_before_tells_a_rollback() {
        let boot = |number, life| Boot { number, life };
        let mut boots = Boots::default();
        let rows = [
            ("first", 1, boot(1, 11), Seen::Later),
            ("the same process again", 1, boot(1, 11), Seen::Before),
            ("a restart", 1, boot(2, 12), Seen::Later),
            ("another directory", 2, boot(1, 13), Seen::Later),
            ("an older number", 1, boot(1, 14), Seen::RolledBack(2)),
            (
                "the same number, another process",
                1,
                boot(2, 15),
                Seen::RolledBack(2),
            ),
            ("past what was seen", 1, boot(3, 15), Seen::Later),
            ("it counts on", 1, boot(4, 15), Seen::Later),
            ("what it said before", 1, boot(3, 15), Seen::Before),
            (
                "the lost life comes late",
                1,
                boot(2, 12),
                Seen::RolledBack(4),
            ),
            (
                "a copy from while it ran",
                1,
                boot(4, 16),
                Seen::RolledBack(4),
            ),
        ];
        for (what, data_id, boot, expected) in rows {
            assert_eq!(boots.note(data_id, boot), expected, "{what}");
        }
        assert_eq!(Boots::from_parts(boots.parts()), boots);
    }
}
