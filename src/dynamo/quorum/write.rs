//! Counting the acknowledgements of a write, in both owner sets while a partition moves.
//!
//! Every owner is a slot, filled by the owner itself or by a fallback that keeps a hint for it. No
//! fallback stands in two slots, so W filled slots are W nodes.

use std::collections::VecDeque;

use super::{Acks, Decision, Fault, Shortfall};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::Placement;
use crate::mutant::Mutant;

/// The quorum of one write.
#[derive(Debug)]
pub struct WriteQuorum {
    sets: Vec<OwnerCount>,
    /// One an owner, old or new, in the order of [`Placement::writers`].
    slots: Vec<Slot>,
    /// Fallbacks that stand in no slot yet, the nearest first.
    spare: VecDeque<NodeId>,
}

/// What a write leaves to do when no outcome is awaited any more.
#[derive(Debug, PartialEq, Eq)]
pub enum WriteFollowUp {
    /// Every owner, or a fallback for it, has the write.
    Nothing,
    /// These owners miss it, and nobody keeps it for them.
    Hint(Vec<NodeId>),
}

#[derive(Debug)]
struct OwnerCount {
    owners: Vec<NodeId>,
    needed: usize,
}

type Outcome = Result<(), Fault>;

#[derive(Debug)]
struct Slot {
    owner: NodeId,
    home: Option<Outcome>,
    /// The last fallback that was called up, and its outcome.
    fallback: Option<(NodeId, Option<Outcome>)>,
}

impl Slot {
    fn fallback_outcome(&self) -> Option<Outcome> {
        self.fallback.as_ref().and_then(|(_, outcome)| *outcome)
    }

    fn is_home(&self) -> bool {
        self.home == Some(Ok(())) || self.home.is_some() && Mutant::FaultCountsAsAck.is_chosen()
    }

    fn is_filled(&self) -> bool {
        let hinted = self.fallback_outcome();
        let is_hinted =
            hinted == Some(Ok(())) || hinted.is_some() && Mutant::HintFaultCountsAsAck.is_chosen();
        self.is_home() || is_hinted
    }

    /// Whether a fallback stands in it, or has been asked to.
    fn has_fallback(&self) -> bool {
        self.fallback
            .as_ref()
            .is_some_and(|(_, outcome)| outcome.is_none_or(|o| o.is_ok()))
    }

    /// Whether nothing that is under way can fill it.
    fn is_lost(&self) -> bool {
        matches!(self.home, Some(Err(_))) && !self.has_fallback()
    }
}

impl WriteQuorum {
    /// W of the owners and, while the partition moves, W of the incoming owners too; W is clamped
    /// to the size of each set.
    #[must_use]
    pub fn new(placement: &Placement, w: usize) -> Self {
        let sets = std::iter::once(&placement.owners).chain(placement.incoming.as_ref());
        let count = |owners: &Vec<NodeId>| OwnerCount {
            owners: owners.clone(),
            needed: w.clamp(1, owners.len().max(1)),
        };
        let slot = |owner: &NodeId| Slot {
            owner: owner.clone(),
            home: None,
            fallback: None,
        };
        Self {
            sets: sets.map(count).collect(),
            slots: placement.writers().map(slot).collect(),
            spare: VecDeque::new(),
        }
    }

    /// Names the fallbacks that may be called up, the nearest first.
    pub fn stand_by(&mut self, fallbacks: impl IntoIterator<Item = NodeId>) {
        self.spare.extend(fallbacks);
    }

    /// How many fallbacks are left.
    #[must_use]
    pub fn spare(&self) -> usize {
        self.spare.len()
    }

    /// The first owner whose slot is neither filled nor kept for by a fallback.
    #[must_use]
    pub fn vacancy(&self) -> Option<&NodeId> {
        let vacant = |slot: &&Slot| !slot.is_filled() && !slot.has_fallback();
        self.slots.iter().find(vacant).map(|slot| &slot.owner)
    }

    /// Calls up the next fallback for an owner; it is then awaited. `None` when none is left, or
    /// the slot has one.
    pub fn call_up(&mut self, owner: &NodeId) -> Option<NodeId> {
        let slot = self.slots.iter_mut().find(|slot| slot.owner == *owner)?;
        if slot.is_filled() || slot.has_fallback() {
            return None;
        }
        let fallback = self.spare.pop_front()?;
        slot.fallback = Some((fallback.clone(), None));
        Some(fallback)
    }

    /// Notes an owner's outcome. A later outcome of the same owner replaces a fault, never an
    /// acknowledgement.
    pub fn record(&mut self, node: &NodeId, outcome: Outcome) -> Decision {
        let slot = self.slots.iter_mut().find(|slot| slot.owner == *node);
        if let Some(slot) = slot.filter(|slot| !slot.is_home()) {
            slot.home = Some(outcome);
        }
        self.decide()
    }

    /// Notes the outcome of a fallback that was called up for an owner.
    pub fn record_hint(&mut self, owner: &NodeId, node: &NodeId, outcome: Outcome) -> Decision {
        let slots = self.slots.iter_mut().filter(|slot| slot.owner == *owner);
        for (fallback, known) in slots.filter_map(|slot| slot.fallback.as_mut()) {
            if fallback == node && known.is_none_or(|known| known.is_err()) {
                *known = Some(outcome);
            }
        }
        self.decide()
    }

    /// Whether the slot has what it needs.
    #[must_use]
    pub fn is_filled(&self, owner: &NodeId) -> bool {
        self.slot(owner).is_some_and(Slot::is_filled)
    }

    /// The outcome of the owner itself, if it has one yet.
    #[must_use]
    pub fn outcome(&self, owner: &NodeId) -> Option<Result<(), Fault>> {
        self.slot(owner).and_then(|slot| slot.home)
    }

    /// Whether the quorum is met, out of reach, or open.
    #[must_use]
    pub fn decide(&self) -> Decision {
        let mut decision = Decision::Done;
        for set in &self.sets {
            let got = self.count(set, Slot::is_filled);
            let lost = self
                .count(set, Slot::is_lost)
                .saturating_sub(self.spare.len());
            if set.owners.len() - lost < set.needed {
                let needed = set.needed;
                return Decision::Failed(Shortfall { needed, got });
            }
            if got < set.needed {
                decision = Decision::Wait;
            }
        }
        decision
    }

    /// Whether the quorum can be met by the owners that are said to be reachable.
    #[must_use]
    pub fn foresee(&self, is_reachable: impl Fn(&NodeId) -> bool) -> Decision {
        for set in &self.sets {
            let got = set.owners.iter().filter(|id| is_reachable(id)).count();
            if got < set.needed {
                let needed = set.needed;
                return Decision::Failed(Shortfall { needed, got });
            }
        }
        self.decide()
    }

    /// Who acknowledged so far.
    #[must_use]
    pub fn acks(&self) -> Acks {
        let mut home = self.sets.iter().map(|set| self.count(set, Slot::is_home));
        let is_hinted = |slot: &&Slot| slot.is_filled() && !slot.is_home();
        Acks {
            home: home.next().unwrap_or_default(),
            incoming: home.next(),
            hinted: self.slots.iter().filter(is_hinted).count(),
        }
    }

    /// The faults so far, of owners and fallbacks.
    pub fn faults(&self) -> impl Iterator<Item = Fault> + '_ {
        let outcomes = |slot: &Slot| [slot.home, slot.fallback_outcome()];
        let outcomes = self.slots.iter().flat_map(outcomes);
        outcomes.flatten().filter_map(Result::err)
    }

    /// How far the set that lags most has got.
    #[must_use]
    pub fn shortfall(&self) -> Shortfall {
        let of = |s: &OwnerCount| Shortfall {
            needed: s.needed,
            got: self.count(s, Slot::is_filled),
        };
        let missing = |s: &Shortfall| s.needed.saturating_sub(s.got);
        self.sets
            .iter()
            .map(of)
            .max_by_key(missing)
            .unwrap_or(Shortfall { needed: 1, got: 0 })
    }

    /// What is left to do if no further outcome comes.
    #[must_use]
    pub fn finish(&self) -> WriteFollowUp {
        let missing = self.slots.iter().filter(|slot| !slot.is_filled());
        let missing: Vec<NodeId> = missing.map(|slot| slot.owner.clone()).collect();
        if missing.is_empty() {
            WriteFollowUp::Nothing
        } else {
            WriteFollowUp::Hint(missing)
        }
    }

    /// Who could keep a hint that nobody keeps yet: the fallbacks left, then the owners that
    /// acknowledged.
    pub fn keepers(&self) -> impl Iterator<Item = &NodeId> {
        let home = self.slots.iter().filter(|slot| slot.is_home());
        self.spare.iter().chain(home.map(|slot| &slot.owner))
    }

    fn slot(&self, owner: &NodeId) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.owner == *owner)
    }

    fn count(&self, set: &OwnerCount, which: impl Fn(&Slot) -> bool) -> usize {
        let slots = self.slots.iter().filter(|s| set.owners.contains(&s.owner));
        slots.filter(|slot| which(slot)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &str) -> Vec<NodeId> {
        names
            .chars()
            .map(|name| NodeId::new(&name.to_string()).unwrap())
            .collect()
    }

    fn id(name: char) -> NodeId {
        NodeId::new(&name.to_string()).unwrap()
    }

    fn quorum(owners: &str, incoming: &str, w: usize) -> WriteQuorum {
        let incoming = (!incoming.is_empty()).then(|| ids(incoming));
        WriteQuorum::new(
            &Placement {
                owners: ids(owners),
                incoming,
            },
            w,
        )
    }

    fn failed(needed: usize, got: usize) -> Decision {
        Decision::Failed(Shortfall { needed, got })
    }

    /// Owners, incoming owners, W, outcomes in order (`+` acknowledged, `-` failed), decision.
    #[test]
    fn decisions_follow_the_table() {
        let rows = [
            ("abc", "", 2, "a+", Decision::Wait),
            ("abc", "", 2, "a+a+", Decision::Wait),
            ("abc", "", 2, "a+b+", Decision::Done),
            ("abc", "", 2, "a-b+", Decision::Wait),
            ("abc", "", 2, "a-b-", failed(2, 0)),
            ("abc", "", 2, "a-a+b+", Decision::Done),
            ("abc", "", 9, "a+b+", Decision::Wait),
            ("abc", "", 2, "x+y+", Decision::Wait),
            ("a", "", 2, "a+", Decision::Done),
            // A move needs both sets: c acknowledges only for the old one, d only for the new.
            ("abc", "abd", 2, "a+c+", Decision::Wait),
            ("abc", "abd", 2, "a+b+", Decision::Done),
            ("abc", "abd", 2, "a-d-", failed(2, 0)),
        ];
        for (owners, incoming, w, outcomes, expected) in rows {
            let mut quorum = quorum(owners, incoming, w);
            let mut last = quorum.decide();
            for outcome in outcomes.as_bytes().chunks(2) {
                let acked = outcome[1] == b'+';
                let outcome_of = acked.then_some(()).ok_or(Fault::Unreachable);
                last = quorum.record(&id(char::from(outcome[0])), outcome_of);
            }
            assert_eq!(last, expected, "{owners}/{incoming} W={w} {outcomes}");
        }
    }

    /// Runs a script of words. `b-` is an owner's outcome; `b>x` calls up a fallback for it, which
    /// must be x (`.` is nobody), and `bx+` is that one's outcome.
    fn follow(quorum: &mut WriteQuorum, script: &str) -> Decision {
        for word in script.split_whitespace() {
            let letters: Vec<char> = word.chars().collect();
            let outcome = match letters.last() {
                Some('+') => Ok(()),
                _ => Err(Fault::Unreachable),
            };
            match letters[..] {
                [owner, '>', expected] => {
                    let called = quorum.call_up(&id(owner));
                    let expected = (expected != '.').then(|| id(expected));
                    assert_eq!(called, expected, "{word} of {script}");
                }
                [owner, _] => drop(quorum.record(&id(owner), outcome)),
                [owner, fallback, _] => {
                    quorum.record_hint(&id(owner), &id(fallback), outcome);
                }
                _ => panic!("{word}"),
            }
        }
        quorum.decide()
    }

    fn told(acks: Acks) -> String {
        let incoming = acks.incoming.map(|n| format!("+{n}")).unwrap_or_default();
        format!("{}{incoming}/{}", acks.home, acks.hinted)
    }

    /// Owners, incoming owners, W, fallbacks, script, decision, who acknowledged (home, or
    /// home and incoming, by fallbacks), owners left without.
    #[test]
    fn slots_are_filled_by_owners_or_by_fallbacks_and_never_twice_by_one_node() {
        use Decision::{Done, Wait};
        let rows = [
            ("abc", "", 2, "de", "a+ b- b>d bd+", Done, "1/1", "c"),
            (
                "abc",
                "",
                2,
                "de",
                "a- a>d ad+ b- b>e be+",
                Done,
                "0/2",
                "c",
            ),
            ("abc", "", 2, "d", "a- a>d b- b>. ad+", Wait, "0/1", "bc"),
            (
                "abc",
                "",
                2,
                "d",
                "a- a>d b- ad+ c-",
                failed(2, 1),
                "0/1",
                "bc",
            ),
            ("abc", "", 3, "de", "a+ b+ c- c>d", Wait, "2/0", "c"),
            (
                "abc",
                "",
                3,
                "de",
                "a+ b+ c- c>d cd- c>e ce+",
                Done,
                "2/1",
                "",
            ),
            // A fallback that is left may still save a lost slot; none is left for a second.
            ("abc", "", 2, "d", "a- b-", Wait, "0/0", "abc"),
            ("abc", "", 2, "d", "a- b- c-", failed(2, 0), "0/0", "abc"),
            // The owner itself counts for more than its fallback, and the slot only once.
            ("abc", "", 2, "d", "a- a>d ad+ a+", Wait, "1/0", "bc"),
            ("abc", "", 2, "de", "a- a>d a>. ad+ a>.", Wait, "0/1", "bc"),
            // What one stood in for another has not done is no outcome of this slot.
            ("abc", "", 2, "de", "a- a>d ae+ bd+", Wait, "0/0", "abc"),
            // A slot in both sets counts in both.
            ("abc", "abd", 2, "e", "a- a>e ae+ b+", Done, "1+1/1", "cd"),
            ("abc", "abd", 2, "e", "c- c>e ce+ b+", Wait, "1+1/1", "ad"),
            // An owner counts for its set, and who is in both in both.
            ("abc", "abd", 2, "", "a+ c+", Wait, "2+1/0", "bd"),
            ("abc", "abd", 2, "", "a+ d+", Wait, "1+2/0", "bc"),
            ("abc", "abd", 2, "", "a+ b+ d+", Done, "2+3/0", "c"),
            ("abc", "def", 2, "", "a+ b+", Wait, "2+0/0", "cdef"),
            ("abc", "def", 2, "", "a+ b+ d+ e+ f+", Done, "2+3/0", "c"),
        ];
        for (owners, incoming, w, spare, script, decision, acks, left) in rows {
            let mut quorum = quorum(owners, incoming, w);
            quorum.stand_by(ids(spare));
            let row = format!("{owners}/{incoming} W={w} {script}");
            assert_eq!(follow(&mut quorum, script), decision, "{row}");
            assert_eq!(told(quorum.acks()), acks, "{row}");
            let left = match left {
                "" => WriteFollowUp::Nothing,
                names => WriteFollowUp::Hint(ids(names)),
            };
            assert_eq!(quorum.finish(), left, "{row}");
        }
    }

    #[test]
    fn what_cannot_be_met_by_the_reachable_owners_is_foreseen() {
        let rows = [
            ("abc", "", 2, "ab", Decision::Wait),
            ("abc", "", 2, "a", failed(2, 1)),
            ("abc", "", 3, "ab", failed(3, 2)),
            ("abc", "bcd", 2, "abd", Decision::Wait),
            ("abc", "cde", 2, "ab", failed(2, 0)),
        ];
        for (owners, incoming, w, reachable, expected) in rows {
            let quorum = quorum(owners, incoming, w);
            let reachable = ids(reachable);
            let foreseen = quorum.foresee(|id| reachable.contains(id));
            assert_eq!(foreseen, expected, "{owners}/{incoming} W={w}");
        }
    }

    #[test]
    fn the_vacancies_are_taken_in_the_order_of_the_owners() {
        let mut quorum = quorum("abc", "", 2);
        quorum.stand_by(ids("xyz"));
        assert_eq!(quorum.vacancy(), Some(&id('a')));
        follow(&mut quorum, "a- a>x b+");
        assert_eq!(quorum.vacancy(), Some(&id('c')));
        follow(&mut quorum, "ax-");
        assert_eq!(quorum.vacancy(), Some(&id('a')));
        let keepers: Vec<NodeId> = quorum.keepers().cloned().collect();
        assert_eq!(keepers, ids("yzb"));
    }

    /// Seed defect 2: any HTTP answer counted, 404, 409 and 500 too.
    #[test]
    fn seed_defect_02_no_fault_counts_as_an_acknowledgement() {
        let all = [
            Fault::StaleRing,
            Fault::RingBehind,
            Fault::NotOwner,
            Fault::NotReady,
            Fault::Flipped,
            Fault::Overloaded,
            Fault::Postponed,
            Fault::StorageFull,
            Fault::HintsFull,
            Fault::Damaged,
            Fault::Unreachable,
            Fault::Broken,
            Fault::TimedOut,
        ];
        for fault in all {
            let mut quorum = quorum("abc", "", 2);
            quorum.stand_by(ids("d"));
            quorum.record(&id('a'), Err(fault));
            assert_eq!(quorum.call_up(&id('a')), Some(id('d')));
            quorum.record_hint(&id('a'), &id('d'), Err(fault));
            let second = quorum.record(&id('b'), Err(fault));
            assert_eq!(second, failed(2, 0), "{fault:?}");
        }
    }
}
