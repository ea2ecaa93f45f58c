//! Asks all members at once what an operator wants to know of each, and tells all of them what an
//! operator wants of each.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use actix::Addr;
use actix::prelude::{Actor, Context, Handler, Message, ResponseFuture};
use futures_util::future::join_all;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::asking::ask;
use super::background::{Background, Kind, SetLimits};
use super::custodian::{self, Custodian};
use super::handoff::{GetTransfers, Handoff, SetAtOnce};
use super::link::Link;
use super::ring_view::RingView;
use super::store_keeper::{GetStatus, StoreKeeper};
use crate::dynamo::key::Partition;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::Ring;
use crate::wire::transfers::{Burden, LimitCall, OldCopies, Transfer};

/// How long a member may take to answer.
const ASK_TIME: Duration = Duration::from_secs(2);

/// The actor; see the module.
#[derive(Debug)]
pub struct Surveyor {
    parts: SurveyorParts,
}

/// What a survey works with.
#[derive(Debug, Clone)]
pub struct SurveyorParts {
    /// Whom to ask.
    pub view: RingView,
    /// To the others.
    pub link: Link,
    /// Knows this node's transfers.
    pub handoff: Addr<Handoff>,
    /// Knows this node's old copies.
    pub custodian: Addr<Custodian>,
    /// Knows this node's burden.
    pub store: Addr<StoreKeeper>,
    /// Knows and takes this node's limits.
    pub background: Background,
}

/// A member, and its answer if it gave one.
pub type Answers<T> = Vec<(NodeId, Option<T>)>;

/// Asks how far the partitions are that this node gains.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<Transfer>")]
pub struct OwnTransfers;

/// Asks how much this node holds.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Burden")]
pub struct OwnBurden;

/// Limits this node's transfers.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct LimitOwn(pub LimitCall);

/// Asks how far all partitions are that move.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Answers<Vec<Transfer>>")]
pub struct AllTransfers;

/// Asks how much each member holds.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Answers<Burden>")]
pub struct AllBurdens;

/// Limits the transfers of all members.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Answers<()>")]
pub struct LimitAll(pub LimitCall);

/// Every partition on its way to every node, also of those that do not answer.
#[must_use]
pub fn every_transfer(ring: &Ring, answers: &Answers<Vec<Transfer>>) -> Vec<Transfer> {
    let known = answers
        .iter()
        .filter_map(|(node, t)| Some((node, t.as_ref()?)));
    let known: BTreeMap<&NodeId, &Vec<Transfer>> = known.collect();
    let of = |node: &NodeId, partition: Partition| match known.get(node) {
        None => Transfer::unknown(partition, node),
        Some(all) => {
            let told = all.iter().find(|t| t.partition == partition.number());
            told.map_or_else(|| Transfer::of(partition, node), Transfer::clone)
        }
    };
    let mut all: Vec<Transfer> = ring
        .gainers()
        .into_iter()
        .flat_map(|node| ring.gains(node).map(move |partition| of(node, partition)))
        .collect();
    all.sort_by(|a, b| (a.partition, &a.to).cmp(&(b.partition, &b.to)));
    all
}

impl Surveyor {
    /// One that asks the members of the ring in force.
    #[must_use]
    pub fn new(parts: SurveyorParts) -> Self {
        Self { parts }
    }
}

impl SurveyorParts {
    async fn own_transfers(&self) -> Vec<Transfer> {
        self.handoff.send(GetTransfers).await.unwrap_or_default()
    }

    async fn own_burden(&self) -> Burden {
        let (store, background) = (
            self.store.send(GetStatus).await,
            self.background.status().await,
        );
        let kept = self.custodian.send(custodian::GetStatus).await;
        let kept = kept.unwrap_or_default();
        let transfers = background
            .ok()
            .and_then(|s| s.get(Kind::Transfers.as_str()).copied());
        Burden {
            keys: store.as_ref().map_or(0, |store| store.keys),
            bytes: store.as_ref().map_or(0, |store| store.bytes),
            rate_bytes_s: transfers.map_or(0, |kind| kind.rate_bytes_s),
            kept: OldCopies {
                partitions: kept.partitions as u64,
                keys: kept.keys,
                seconds_left: kept.seconds_left,
            },
        }
    }

    async fn limit_own(&self, limits: LimitCall) {
        if let Some(at_once) = limits.at_once {
            self.handoff.do_send(SetAtOnce(at_once));
        }
        let limit = vec![(Kind::Transfers, limits.bytes_s.and_then(NonZeroU64::new))];
        // A controller that is gone limits nothing any more.
        drop(self.background.limit(SetLimits(limit)).await);
    }

    /// Asks all other members the same.
    async fn ask_others<Q: Serialize, A: DeserializeOwned>(
        &self,
        path: &str,
        question: &Q,
    ) -> Answers<A> {
        let view = self.view.load();
        let Some(ring) = view.ring.as_deref() else {
            return Vec::new();
        };
        let others = ring.members.iter().filter(|member| member.id != view.me);
        join_all(others.map(|member| self.ask_one(ring, &member.id, path, question))).await
    }

    async fn ask_one<Q: Serialize, A: DeserializeOwned>(
        &self,
        ring: &Ring,
        member: &NodeId,
        path: &str,
        question: &Q,
    ) -> (NodeId, Option<A>) {
        let answer = ask(&self.link, (ring, member), path, question, ASK_TIME).await;
        (member.clone(), answer.ok())
    }

    fn me(&self) -> NodeId {
        self.view.load().me.clone()
    }
}

impl Actor for Surveyor {
    type Context = Context<Self>;
}

impl Handler<OwnTransfers> for Surveyor {
    type Result = ResponseFuture<Vec<Transfer>>;

    fn handle(&mut self, _: OwnTransfers, _ctx: &mut Self::Context) -> Self::Result {
        let parts = self.parts.clone();
        Box::pin(async move { parts.own_transfers().await })
    }
}

impl Handler<OwnBurden> for Surveyor {
    type Result = ResponseFuture<Burden>;

    fn handle(&mut self, _: OwnBurden, _ctx: &mut Self::Context) -> Self::Result {
        let parts = self.parts.clone();
        Box::pin(async move { parts.own_burden().await })
    }
}

impl Handler<LimitOwn> for Surveyor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, LimitOwn(limits): LimitOwn, _ctx: &mut Self::Context) -> Self::Result {
        let parts = self.parts.clone();
        Box::pin(async move { parts.limit_own(limits).await })
    }
}

impl Handler<AllTransfers> for Surveyor {
    type Result = ResponseFuture<Answers<Vec<Transfer>>>;

    fn handle(&mut self, _: AllTransfers, _ctx: &mut Self::Context) -> Self::Result {
        let parts = self.parts.clone();
        Box::pin(async move {
            let mut all = parts.ask_others("/peer/v1/transfers", &()).await;
            all.push((parts.me(), Some(parts.own_transfers().await)));
            all
        })
    }
}

impl Handler<AllBurdens> for Surveyor {
    type Result = ResponseFuture<Answers<Burden>>;

    fn handle(&mut self, _: AllBurdens, _ctx: &mut Self::Context) -> Self::Result {
        let parts = self.parts.clone();
        Box::pin(async move {
            let mut all = parts.ask_others("/peer/v1/burden", &()).await;
            all.push((parts.me(), Some(parts.own_burden().await)));
            all
        })
    }
}

impl Handler<LimitAll> for Surveyor {
    type Result = ResponseFuture<Answers<()>>;

    fn handle(&mut self, LimitAll(limits): LimitAll, _ctx: &mut Self::Context) -> Self::Result {
        let parts = self.parts.clone();
        Box::pin(async move {
            let mut all = parts.ask_others("/peer/v1/limit", &limits).await;
            parts.limit_own(limits).await;
            all.push((parts.me(), Some(())));
            all
        })
    }
}
