//! What the clients do: five ways to use keys, each with its own way to lose data. Pure choices.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::bench::Random;

/// One way to use keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Workload {
    /// A set of unique elements, grown through siblings
    W1,
    /// A register: read, merge, write
    W2,
    /// Create, delete, create again
    W3,
    /// A counter: a map of each client's count, siblings merged
    W4,
    /// Many keys, each written once and read later
    W5,
}

/// What a session does next with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Reads it.
    Read,
    /// Reads it, merges what is there, writes the result.
    Merge,
    /// Writes on top of what it saw last, however old that is.
    Write,
    /// Creates it.
    Create,
    /// Deletes what it saw last, however old that is.
    DeleteSeen,
    /// Deletes whatever is there.
    Delete,
}

impl Workload {
    /// The next turn; what needs something seen becomes a merge when nothing is.
    pub(super) fn turn(self, random: &mut Random, has_seen: bool) -> Turn {
        let roll = random.below(100);
        let turn = match (self, roll) {
            (Self::W1, 0..25)
            | (Self::W2 | Self::W3, 0..20)
            | (Self::W4, 0..10)
            | (Self::W5, 50..) => Turn::Read,
            (Self::W1, 25..55) | (Self::W2, 20..) | (Self::W3, 20..35) | (Self::W4, 10..60) => {
                Turn::Merge
            }
            (Self::W1, 55..) | (Self::W4, 60..) => Turn::Write,
            (Self::W3, 35..65) | (Self::W5, 0..50) => Turn::Create,
            (Self::W3, 65..85) => Turn::DeleteSeen,
            (Self::W3, 85..) => Turn::Delete,
        };
        let needs_clock = matches!(turn, Turn::Write | Turn::DeleteSeen);
        if needs_clock && !has_seen {
            Turn::Merge
        } else {
            turn
        }
    }

    /// The value of this name that the session writes, having seen these.
    pub(super) fn value(self, name: &str, session: u32, seen: &[Value]) -> Value {
        match self {
            Self::W1 => {
                let sets = seen
                    .iter()
                    .filter_map(|v| Vec::deserialize(v.get("set")?).ok());
                let mut set: Vec<String> = sets.flatten().collect();
                set.push(name.to_owned());
                set.sort_unstable();
                set.dedup();
                json!({"w": name, "set": set})
            }
            Self::W2 => {
                let most = seen.iter().filter_map(|v| v.get("n")?.as_u64()).max();
                json!({"w": name, "n": most.unwrap_or(0) + 1})
            }
            Self::W3 => json!({"w": name}),
            Self::W4 => json!({"w": name, "counts": count(session, seen)}),
            Self::W5 => json!({"w": name, "pad": "x".repeat(100 + name.len() * 37)}),
        }
    }
}

/// The counts of all siblings merged, and the session's own one more.
fn count(session: u32, seen: &[Value]) -> BTreeMap<String, u64> {
    let mut out = BTreeMap::new();
    let maps = seen
        .iter()
        .filter_map(|v| BTreeMap::<String, u64>::deserialize(v.get("counts")?).ok());
    for (client, count) in maps.flatten() {
        let most = out.entry(client).or_insert(0);
        *most = count.max(*most);
    }
    *out.entry(session.to_string()).or_insert(0) += 1;
    out
}

/// The keys of one workload, shared by its sessions. Each gets so many operations and is then left
/// alone, so that the check stays fast.
pub(super) struct Keys {
    prefix: String,
    /// The keys in use, by number, and how often they were.
    slots: [(usize, usize); SLOTS],
    next: usize,
}

/// Keys of a workload in use at once.
const SLOTS: usize = 3;

/// Operations on one key: far below the 200 that are checked quickly.
const USES: usize = 120;

impl Keys {
    /// Keys whose names begin so.
    pub(super) fn new(prefix: String) -> Self {
        Self {
            prefix,
            slots: std::array::from_fn(|n| (n, 0)),
            next: SLOTS,
        }
    }

    /// One of those in use.
    pub(super) fn pick(&mut self, random: &mut Random) -> String {
        let next = self.next;
        let mut number = 0;
        if let Some((key, uses)) = self.slots.get_mut(random.below(SLOTS)) {
            if *uses >= USES {
                (*key, *uses) = (next, 0);
                self.next += 1;
            }
            *uses += 1;
            number = *key;
        }
        self.name(number)
    }

    /// One that nobody has used.
    pub(super) fn fresh(&mut self) -> String {
        self.next += 1;
        self.name(self.next - 1)
    }

    /// Any that was ever made.
    pub(super) fn any(&self, random: &mut Random) -> String {
        self.name(random.below(self.next))
    }

    /// How many were ever made.
    pub(super) fn made(&self) -> usize {
        self.next
    }

    fn name(&self, number: usize) -> String {
        format!("{}-{number}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_merge_what_was_seen_and_add_their_own() {
        let rows = [
            (
                Workload::W1,
                vec![json!({"set": ["a", "b"]}), json!({"set": ["b", "c"]})],
                json!({"w": "x", "set": ["a", "b", "c", "x"]}),
            ),
            (
                Workload::W2,
                vec![json!({"n": 3}), json!({"n": 5})],
                json!({"w": "x", "n": 6}),
            ),
            (Workload::W2, vec![], json!({"w": "x", "n": 1})),
            (Workload::W3, vec![json!({})], json!({"w": "x"})),
            (
                Workload::W4,
                vec![
                    json!({"counts": {"1": 4, "2": 1}}),
                    json!({"counts": {"1": 2, "2": 9}}),
                ],
                json!({"w": "x", "counts": {"1": 5, "2": 9}}),
            ),
        ];
        for (workload, seen, want) in rows {
            assert_eq!(workload.value("x", 1, &seen), want, "{workload:?}");
        }
    }

    #[test]
    fn nobody_writes_on_top_of_what_was_never_seen() {
        let mut random = Random::new(1);
        for workload in Workload::value_variants() {
            for _ in 0..500 {
                let turn = workload.turn(&mut random, false);
                assert!(
                    !matches!(turn, Turn::Write | Turn::DeleteSeen),
                    "{workload:?}"
                );
            }
        }
    }

    #[test]
    fn a_key_is_left_alone_after_its_uses() {
        let (mut keys, mut random) = (Keys::new("k".to_owned()), Random::new(1));
        let mut uses = BTreeMap::new();
        for _ in 0..5000 {
            *uses.entry(keys.pick(&mut random)).or_insert(0) += 1;
        }
        assert!(uses.values().all(|n| *n <= USES), "{uses:?}");
        assert_eq!(uses.len(), keys.made());
        let fresh = keys.fresh();
        assert!(!uses.contains_key(&fresh), "{fresh}");
    }
}
