//! Hands hints over: what this node keeps for another one goes there once that is reachable, in
//! small batches when background work may, and is forgotten only when it has been acknowledged.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use actix::prelude::{Actor, ActorFutureExt, AsyncContext, Context, Recipient, WrapFuture};
use bytes::Bytes;
use futures_util::future::join_all;
use slog::{Logger, debug, info, warn};
use tokio::time::Instant;

use super::action_log::nanos;
use super::background::{Background, Kind};
use super::local_reader::LocalRecords;
use super::replica::{ReplicaWrite, Terms};
use super::ring_view::View;
use super::store_keeper::DropHints;
use super::worker::Worker;
use crate::dynamo::key::Key;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quorum::Fault;
use crate::dynamo::ring::{OwnerSet, Ring};
use crate::storage::hint_bytes;

/// Between two looks at what there is to hand over.
const INTERVAL: Duration = Duration::from_millis(250);
/// Hints handed over together, at most.
const PAGE_HINTS: usize = 256;
/// The same in bytes, but for a single larger hint.
const PAGE_BYTES: usize = 1 << 20;
/// How long a target may take to acknowledge.
const DELIVERY_TIME: Duration = Duration::from_secs(4);

/// The actor; see the module.
#[derive(Debug)]
pub struct HintKeeper {
    parts: HintKeeperParts,
    /// Targets whose hints are being handed over.
    busy: BTreeSet<NodeId>,
    /// Up to which epoch a target that is away has no hints that belong to others by now.
    settled: BTreeMap<NodeId, u64>,
}

/// What the hint keeper works with.
#[derive(Debug, Clone)]
pub struct HintKeeperParts {
    /// The ring, the other nodes, and whether they are there.
    pub worker: Worker,
    /// The hints.
    pub records: LocalRecords,
    /// Forgets them.
    pub store: Recipient<DropHints>,
    /// Says when the next page may be handed over.
    pub background: Background,
    /// Where progress is told.
    pub log: Logger,
}

/// What became of one pass over the hints for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Every hint has been looked at, under the ring of this epoch.
    Whole(u64),
    /// It ended early.
    CutShort,
}

/// A key and an encoded state.
type Hint = (Key, Bytes);

impl HintKeeper {
    /// A keeper that hands over what the records hold for others.
    #[must_use]
    pub fn new(parts: HintKeeperParts) -> Self {
        Self {
            parts,
            busy: BTreeSet::new(),
            settled: BTreeMap::new(),
        }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        let view = self.parts.worker.view();
        if view.ring.is_none() || !view.trusts_its_hints() {
            return;
        }
        // The engine's failure has been told; the next look may find it better.
        let targets = self.parts.records.hint_targets().unwrap_or_default();
        self.settled.retain(|target, _| targets.contains(target));
        for target in targets {
            let is_settled = self.settled.get(&target) == Some(&view.epoch());
            let is_away = !self.parts.is_there(&view, &target);
            if self.busy.contains(&target) || (is_away && is_settled) {
                continue;
            }
            self.busy.insert(target.clone());
            let (parts, of) = (self.parts.clone(), target.clone());
            let pass = async move { parts.hand_over(&of).await };
            ctx.spawn(pass.into_actor(self).map(move |pass, act, _| {
                act.busy.remove(&target);
                match pass {
                    Pass::Whole(epoch) => drop(act.settled.insert(target, epoch)),
                    Pass::CutShort => drop(act.settled.remove(&target)),
                }
            }));
        }
    }
}

impl HintKeeperParts {
    /// Whether hints for the node can go to it.
    fn is_there(&self, view: &View, target: &NodeId) -> bool {
        let ring = view.ring.as_ref();
        let is_member = ring.is_some_and(|ring| ring.member(target).is_some());
        is_member && self.worker.reaches(target)
    }

    /// One pass over the hints for a node.
    async fn hand_over(&self, target: &NodeId) -> Pass {
        let (mut after, mut handed_over, began) = (None, 0_usize, Instant::now());
        let pass = loop {
            let epoch = self.worker.view().epoch();
            let Ok(page) = self.records.hints(target, after.as_ref(), PAGE_HINTS) else {
                break Pass::CutShort;
            };
            let (hints, rest_begins) = first_bytes(page.entries, page.next_after);
            let bytes = hints
                .iter()
                .map(|(key, state)| hint_bytes(key, state))
                .sum();
            self.background.turn(Kind::Hints, bytes).await;
            let (taken, failed) = self.deliver(target, hints).await;
            handed_over += taken.len();
            if !self.forget(target, taken).await || failed {
                break Pass::CutShort;
            }
            after = rest_begins;
            if after.is_none() {
                break Pass::Whole(epoch);
            }
        };
        if handed_over > 0 {
            info!(self.log, "hints handed over"; "event.action" => "hints-handed-over",
                "quorate.peer" => %target, "quorate.hints.count" => handed_over,
                "event.duration" => nanos(began.elapsed()));
        }
        pass
    }

    /// Sends hints to where they belong now. Gives those that are held there, and whether one that
    /// was sent is not.
    async fn deliver(&self, target: &NodeId, hints: Vec<Hint>) -> (Vec<Hint>, bool) {
        let view = self.worker.view();
        let sent = hints.into_iter().map(async |hint: Hint| {
            let outcome = self.deliver_one(&view, target, &hint).await;
            (hint, outcome)
        });
        let (mut taken, mut failed) = (Vec::new(), false);
        for (hint, outcome) in join_all(sent).await {
            match outcome {
                Ok(true) => taken.push(hint),
                Ok(false) => {}
                Err(fault) => {
                    debug!(self.log, "a hint was not taken"; "quorate.owner" => %target,
                        "quorate.fault" => ?fault);
                    failed = true;
                }
            }
        }
        (taken, failed)
    }

    /// Whether all that should hold the hint do; `false` if its target has to be waited for.
    async fn deliver_one(&self, view: &View, target: &NodeId, hint: &Hint) -> Result<bool, Fault> {
        let (key, state) = hint;
        if state.is_empty() {
            warn!(self.log, "an unreadable hint is dropped"; "quorate.owner" => %target);
            return Ok(true);
        }
        let ring = view.ring.as_ref().ok_or(Fault::RingBehind)?;
        let placement = ring.placement(key.hash().partition());
        let waits = placement.involves(target) && !self.is_there(view, target);
        let homes: Vec<&NodeId> = if waits && !stays(ring, &view.me) {
            // Who goes cannot wait for anybody: all other owners make up for the one that is away.
            placement.writers().filter(|id| *id != target).collect()
        } else if placement.involves(target) {
            if waits {
                return Ok(false);
            }
            // A partition may leave the target before what it gets now has been pulled from it.
            let incoming = placement.incoming.iter().flatten();
            let others = incoming.filter(|id| *id != target);
            std::iter::once(target).chain(others).collect()
        } else {
            placement.writers().collect()
        };
        let terms = Terms {
            epoch: ring.epoch,
            set: OwnerSet::Current,
            deadline: Instant::now() + DELIVERY_TIME,
            trace: None,
        };
        let sent = homes.into_iter().map(async |home: &NodeId| {
            let (key, state) = (key.clone(), state.clone());
            let write = ReplicaWrite { key, state, terms };
            let sent = self.worker.replica(home).write.send(write).await;
            sent.unwrap_or(Err(Fault::Broken))
        });
        join_all(sent)
            .await
            .into_iter()
            .collect::<Result<(), _>>()?;
        Ok(true)
    }

    /// Whether the store has forgotten what was handed over.
    async fn forget(&self, target: &NodeId, acknowledged: Vec<Hint>) -> bool {
        if acknowledged.is_empty() {
            return true;
        }
        let target = target.clone();
        let dropped = self.store.send(DropHints {
            target,
            acknowledged,
        });
        matches!(dropped.await, Ok(Ok(())))
    }
}

/// Whether the node is a member for as long as anybody knows.
fn stays(ring: &Ring, id: &NodeId) -> bool {
    ring.member(id).is_some() && !ring.is_leaving(id)
}

/// As many of the hints as make up a page by their bytes, and after which key the rest begins.
fn first_bytes(mut hints: Vec<Hint>, next_after: Option<Key>) -> (Vec<Hint>, Option<Key>) {
    let mut bytes = 0;
    let mut fits = |(_, state): &Hint| {
        let first = bytes == 0;
        bytes += state.len();
        first || bytes <= PAGE_BYTES
    };
    let count = hints.iter().take_while(|hint| fits(hint)).count();
    if count == hints.len() {
        return (hints, next_after);
    }
    hints.truncate(count);
    let last = hints.last().map(|(key, _)| key.clone());
    (hints, last)
}

impl Actor for HintKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(INTERVAL, Self::look);
    }
}
