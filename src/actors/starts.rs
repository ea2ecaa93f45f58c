//! The lifecycle's memory of starts: this node's own, which the others judge, and theirs.

use std::collections::BTreeSet;
use std::time::Duration;

use actix::Addr;
use slog::{Logger, warn};

use super::store_keeper::{SaveMeta, StoreKeeper};
use crate::dynamo::membership::boots::{Boot, Boots, Seen};
use crate::dynamo::node_id::NodeId;
use crate::storage::{Engine, EngineError};

/// Name of the stored memory.
const META_BOOTS: &str = "boots";
/// How long a node that has started again waits for the judgement of silent nodes. One that comes
/// later still counts; at risk is then what was minted in between, and what others took of its old
/// records meanwhile (docs/consistency.md, Deletes).
const PATIENCE: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub struct Starts {
    own: Boot,
    seen: Boots,
    vouched_by: BTreeSet<NodeId>,
    renewing: bool,
    settled: bool,
    log: Logger,
}

impl Starts {
    /// Reads back what is remembered of others. A node that starts for the first time has no past
    /// to doubt.
    ///
    /// # Errors
    /// [`EngineError`]; an unreadable memory is one too.
    pub fn restore(engine: &dyn Engine, own: Boot, log: Logger) -> Result<Self, EngineError> {
        let stored = engine.meta(META_BOOTS)?;
        let stored = stored.map(|bytes| rmp_serde::from_slice::<Vec<(u64, Boot)>>(&bytes));
        let stored = stored
            .transpose()
            .map_err(|error| EngineError::Broken(Box::new(error)))?;
        Ok(Self {
            own,
            seen: Boots::from_parts(stored.unwrap_or_default()),
            vouched_by: BTreeSet::new(),
            renewing: false,
            settled: own.number <= 1,
            log,
        })
    }

    /// Whether the others have yet to judge this start.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        !self.settled
    }

    /// This node's own start, as far as its run has come.
    pub(super) fn own(&self) -> Boot {
        self.own
    }

    /// Takes note of another node's start; gives the number that it has fallen behind, if it has.
    pub(super) fn note(
        &mut self,
        data_id: u64,
        boot: Boot,
        store: &Addr<StoreKeeper>,
    ) -> Option<u64> {
        match self.seen.note(data_id, boot) {
            Seen::Before => None,
            Seen::RolledBack(seen) => Some(seen),
            Seen::Later => {
                let parts: Vec<(u64, Boot)> = self.seen.parts().collect();
                if let Ok(value) = rmp_serde::to_vec_named(&parts) {
                    store.do_send(SaveMeta {
                        name: META_BOOTS,
                        value: value.into(),
                    });
                }
                None
            }
        }
    }

    /// Takes a judgement of this node's start; gives the boot number to renew under, if it must.
    pub(super) fn judged(
        &mut self,
        by: NodeId,
        boot: Boot,
        rolled_back: Option<u64>,
    ) -> Option<u64> {
        if boot != self.own || self.renewing {
            return None;
        }
        let Some(seen) = rolled_back else {
            self.vouched_by.insert(by);
            return None;
        };
        warn!(self.log, "a later start of this node was seen before"; "quorate.peer" => %by,
            "quorate.boot" => boot.number, "quorate.boot_seen" => seen);
        self.renewing = true;
        Some(seen + 1)
    }

    /// The store goes on under a new incarnation, as this start.
    pub(super) fn renewed(&mut self, boot: u64) {
        self.own.number = boot;
        self.renewing = false;
    }

    /// The number has risen while the node runs.
    pub(super) fn counted_on(&mut self, number: u64) {
        self.own.number = self.own.number.max(number);
    }

    /// Whether the doubt ends now; true once.
    pub(super) fn is_settled<'a>(
        &mut self,
        mut others: impl Iterator<Item = &'a NodeId>,
        since_start: Duration,
    ) -> bool {
        if self.settled || self.renewing {
            return false;
        }
        let judged = others.all(|id| self.vouched_by.contains(id));
        self.settled = judged || since_start >= PATIENCE;
        self.settled
    }
}

#[cfg(test)]
mod tests {
    use slog::{Discard, o};

    use super::*;
    use crate::storage::MemoryEngine;

    const NOW: Duration = Duration::ZERO;

    fn starts(number: u64) -> Starts {
        let log = Logger::root(Discard, o!());
        Starts::restore(&MemoryEngine::default(), Boot { number, life: 7 }, log).unwrap()
    }

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    #[test]
    fn a_first_start_is_not_doubted() {
        assert!(!starts(1).is_doubtful());
        assert!(starts(2).is_doubtful());
    }

    #[test]
    fn the_doubt_ends_once_with_the_last_judgement_or_with_patience() {
        let (b, c) = (id("b"), id("c"));
        let others = [&b, &c];
        let mut node = starts(2);
        let own = node.own();
        assert_eq!(node.judged(b.clone(), own, None), None);
        assert!(!node.is_settled(others.into_iter(), NOW));
        assert_eq!(node.judged(c.clone(), own, None), None);
        assert!(node.is_settled(others.into_iter(), NOW));
        assert!(!node.is_settled(others.into_iter(), NOW), "only once");
        assert!(starts(2).is_settled(others.into_iter(), PATIENCE));
    }

    #[test]
    fn a_rolled_back_node_renews_before_anybody_vouches_for_it() {
        let (b, mut node) = (id("b"), starts(2));
        let old = node.own();
        assert_eq!(node.judged(b.clone(), old, Some(5)), Some(6));
        assert_eq!(
            node.judged(b.clone(), old, Some(5)),
            None,
            "it is renewing already"
        );
        assert!(
            !node.is_settled([&b].into_iter(), PATIENCE),
            "not while it renews"
        );
        node.renewed(6);
        assert_eq!(node.judged(b.clone(), old, None), None);
        assert!(
            !node.is_settled([&b].into_iter(), NOW),
            "that was about the old start"
        );
        let own = node.own();
        assert_eq!((own.number, node.judged(b.clone(), own, None)), (6, None));
        assert!(node.is_settled([&b].into_iter(), NOW));
    }
}
