//! The figures of a node, and those of all members: what the console shows of the cluster. Any
//! node gathers them for the operator who happens to look at it.

use std::time::Duration;

use futures_util::future::join_all;

use super::admin_handle::AdminHandle;
use super::asking::ask;
use super::link::Link;
use super::peer_handle::GoingDown;
use crate::dynamo::key::Partition;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::Ring;
use crate::metrics::counter::Label;
use crate::metrics::operations::Operation;
use crate::metrics::process::Process;
use crate::wire::figures::{Figures, HintFigures, OperationFigures};

/// Where a node is asked for its figures.
pub const PATH: &str = "/peer/v1/figures";
/// How long one may take to tell; an operator looks once a second.
const PATIENCE: Duration = Duration::from_millis(800);

impl AdminHandle {
    /// This node's own figures.
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn figures(&self) -> Result<Figures, GoingDown> {
        let (store, entropy) = (self.store().await?, self.entropy().await?);
        let background = self.background.status().await?;
        let (life, view) = (self.life(), self.view());
        let (depth, capacity) = self.in_flight();
        let process = Process::look();
        let hints = store.hints.into_iter().map(|(target, hints)| {
            let figures = HintFigures {
                count: hints.count,
                bytes: hints.bytes,
                oldest_seconds: hints.oldest_seconds,
            };
            (target, figures)
        });
        let done = |(kind, shown): (&'static str, super::background::KindShown)| {
            (kind.to_owned(), shown.done_bytes)
        };
        Ok(Figures {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: view.state(life.state).to_string(),
            waiting_for: life.waiting.clone(),
            epoch: view.epoch(),
            uptime_ms: millis(self.started.elapsed()),
            operations: self.operations(),
            keys: store.keys,
            tombstones: store.tombstones,
            bytes: store.bytes,
            hints: hints.collect(),
            hints_delivered: store.hints_delivered,
            siblings: self.in_flight.counts().siblings().steps,
            read_repairs: self.reads().repaired,
            keys_repaired: entropy.pairs.iter().map(|p| p.keys_repaired).sum(),
            differing: entropy
                .pairs
                .iter()
                .map(|p| p.partitions_differing as u64)
                .sum(),
            damaged: (store.damaged, store.mended),
            in_flight: (depth as u64, capacity as u64),
            gaining: self.gaining(),
            recovering: count(|partition| view.recovering.contains(partition)),
            background: background.into_iter().map(done).collect(),
            cpu_ms: millis(Duration::try_from_secs_f64(process.cpu_seconds).unwrap_or_default()),
            resident_bytes: process.resident_bytes,
        })
    }

    /// The figures of every member, in the ring's order; `None` for one that did not tell in time.
    ///
    /// # Errors
    /// [`GoingDown`].
    pub async fn all_figures(
        &self,
        link: &Link,
        ring: &Ring,
    ) -> Result<Vec<(NodeId, Option<Figures>)>, GoingDown> {
        let own = self.figures().await?;
        let me = &self.view().me;
        let others = ring.members.iter().filter(|member| member.id != *me);
        let asked = others.map(|member| async move {
            // A member that does not answer would hold up the whole page each time.
            let is_there = self.health.of(&member.id).is_reachable();
            let answer = async {
                ask(link, (ring, &member.id), PATH, &(), PATIENCE)
                    .await
                    .ok()
            };
            let figures = if is_there { answer.await } else { None };
            (member.id.clone(), figures)
        });
        let mut told = join_all(asked).await;
        told.push((me.clone(), Some(own)));
        let place = |id: &NodeId| ring.members.iter().position(|member| member.id == *id);
        told.sort_by_key(|(id, _)| place(id));
        Ok(told)
    }

    fn operations(&self) -> std::collections::BTreeMap<String, OperationFigures> {
        let counts = self.in_flight.counts();
        let figures = Operation::ALL.iter().map(|operation| {
            let figures = OperationFigures {
                answered: counts.answered(*operation),
                failed: counts.failures(*operation),
                steps: counts.durations(*operation).steps,
            };
            (operation.as_str().to_owned(), figures)
        });
        figures.collect()
    }

    /// Partitions that this node gains and has not verified yet.
    fn gaining(&self) -> u64 {
        let view = self.view();
        let Some(ring) = &view.ring else { return 0 };
        ring.gains(&view.me)
            .filter(|partition| !view.verified.contains(*partition))
            .count() as u64
    }
}

fn count(is_so: impl Fn(Partition) -> bool) -> u64 {
    Partition::all()
        .filter(|partition| is_so(*partition))
        .count() as u64
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
