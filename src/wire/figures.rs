//! What a node says of itself to another one that shows the whole cluster to an operator. Names
//! are optional: a node of another version leaves some out, and may add more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A node's figures at one moment; counters since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// The version of its program.
    pub version: String,
    /// How far it has come.
    pub state: String,
    /// What it waits for, if anything.
    pub waiting_for: Option<String>,
    /// The epoch of its ring.
    pub epoch: u64,
    /// Since when it runs: what turns two counts into a rate.
    pub uptime_ms: u64,
    /// What clients asked of it, by operation.
    pub operations: BTreeMap<String, OperationFigures>,
    /// Keys with a value.
    pub keys: u64,
    /// Keys of which only the delete is left.
    pub tombstones: u64,
    /// What its store takes.
    pub bytes: u64,
    /// What it keeps for others.
    pub hints: BTreeMap<String, HintFigures>,
    /// Hints that it got rid of where they belong.
    pub hints_delivered: u64,
    /// Reads by how many values they showed: 0, 1, 2, 3, up to 5, 10, 25, 50, 100, more.
    pub siblings: Vec<u64>,
    /// Replicas that its reads found behind.
    pub read_repairs: u64,
    /// Keys that anti-entropy brought into agreement.
    pub keys_repaired: u64,
    /// Partitions that differed from another owner's at the last look.
    pub differing: u64,
    /// Damaged records found, and those of them mended.
    pub damaged: (u64, u64),
    /// Operations in flight, and how many may be.
    pub in_flight: (u64, u64),
    /// Partitions that it gains and does not hold yet.
    pub gaining: u64,
    /// Partitions whose records it lost and has not got back.
    pub recovering: u64,
    /// Bytes of work that no client waits for, by kind.
    pub background: BTreeMap<String, u64>,
    /// Its time on a processor.
    pub cpu_ms: u64,
    /// Its memory.
    pub resident_bytes: u64,
}

/// One operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OperationFigures {
    /// How many were answered, whatever the answer.
    pub answered: u64,
    /// How many of them the cluster owed more.
    pub failed: u64,
    /// How many took how long, by the steps of `bounds_us`, and last, longer than all of them.
    pub steps: Vec<u64>,
}

/// What is kept for one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HintFigures {
    /// How many writes.
    pub count: u64,
    /// What they come to.
    pub bytes: u64,
    /// For how long there have been any.
    pub oldest_seconds: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_another_version_are_taken_as_far_as_they_go() {
        #[derive(Serialize)]
        struct Later {
            state: &'static str,
            keys: u64,
            moons: u8,
        }
        let later = Later {
            state: "READY",
            keys: 7,
            moons: 2,
        };
        let bytes = rmp_serde::to_vec_named(&later).unwrap();
        let figures: Figures = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!((figures.state.as_str(), figures.keys), ("READY", 7));
        assert_eq!(figures.operations.len(), 0);
    }
}
