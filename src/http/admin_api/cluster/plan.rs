//! What the staged changes would do.

use std::collections::BTreeMap;

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

use super::{Wanted, read, ring_of};
use crate::actors::surveyor::{AllBurdens, Answers};
use crate::dynamo::key::Partition;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{Change, Load, MemberChange, Outline, PlanError, Ring, plan};
use crate::http::admin_api::{Api, going_down, line};
use crate::http::api_error::ApiError;
use crate::wire::transfers::Burden;

/// `GET /cluster/plan`.
pub(super) async fn shown(api: Api) -> Result<HttpResponse, ApiError> {
    answer(&api, &[], false).await
}

/// `POST /cluster/plan`: as if one more change were staged.
pub(super) async fn tried(
    request: HttpRequest,
    payload: Payload,
    api: Api,
) -> Result<HttpResponse, ApiError> {
    let wanted: Wanted = read(&request, payload, &api).await?;
    let change = wanted.on(&*ring_of(&api)?)?;
    answer(&api, &[change], false).await
}

/// What the changes that are staged would do, and these beside them.
pub(super) async fn answer(
    api: &Api,
    more: &[MemberChange],
    changed: bool,
) -> Result<HttpResponse, ApiError> {
    let ring = ring_of(api)?;
    let Ok(burdens) = api.node.survey(AllBurdens).await else {
        return Ok(going_down());
    };
    let (all, next) = committed(&ring, more);
    let staged: Vec<String> = all.iter().map(ToString::to_string).collect();
    let mut shown = json!({
        "epoch": ring.epoch,
        "changed": changed,
        "staged": staged,
        "moving_now": super::moving(&ring),
    });
    let told = match &next {
        Ok(next) => outlined(&ring, next, &burdens),
        Err(why) => json!({"error": why.to_string()}),
    };
    if let (Some(shown), Value::Object(told)) = (shown.as_object_mut(), told) {
        shown.extend(told);
    }
    Ok(line(&shown))
}

/// All that is staged with these beside it, and the ring that it would make.
fn committed(ring: &Ring, more: &[MemberChange]) -> (Vec<MemberChange>, Result<Ring, PlanError>) {
    let stage =
        |ring: Ring, change: &MemberChange| match plan(Some(&ring), &Change::Stage(change.clone()))
        {
            Err(PlanError::NothingToChange) => Ok(ring),
            other => other,
        };
    let staged = match more.iter().try_fold(ring.clone(), stage) {
        Ok(staged) => staged.affairs.staged,
        Err(why) => return (ring.affairs.staged.clone(), Err(why)),
    };
    // As if it had been staged in the ring in force.
    let mut shown = ring.clone();
    shown.affairs.staged.clone_from(&staged);
    let next = if staged.is_empty() {
        Ok(shown)
    } else {
        plan(Some(&shown), &Change::Commit(staged.clone()))
    };
    (staged, next)
}

fn outlined(ring: &Ring, next: &Ring, burdens: &Answers<Burden>) -> Value {
    let outline = Outline::of(ring, next);
    let known: BTreeMap<&NodeId, Burden> = burdens
        .iter()
        .filter_map(|(node, b)| Some((node, (*b)?)))
        .collect();
    let costs: Vec<Burden> = outline
        .loads
        .iter()
        .map(|load| cost(load, &outline, &known))
        .collect();
    let nodes = outline.loads.iter().zip(&costs).map(|(load, cost)| {
        json!({
            "node": load.node.as_str(),
            "before": load.before,
            "after": load.after,
            "gains": load.gains.len(),
            "keys": cost.keys,
            "bytes": cost.bytes,
        })
    });
    let seconds = costs
        .iter()
        .map(|cost| cost.bytes / cost.rate_bytes_s.max(1))
        .max();
    let silent = burdens
        .iter()
        .filter(|(_, b)| b.is_none())
        .map(|(node, _)| node.as_str());
    json!({
        "plan": next.hash().to_string(),
        "moving": outline.moving,
        "nodes": nodes.collect::<Vec<_>>(),
        "seconds": seconds.unwrap_or(0),
        "zones_violated": numbers(&outline.crowded),
        "under_replicated": numbers(&outline.short),
        "lost": numbers(&outline.lost),
        "silent": silent.collect::<Vec<_>>(),
    })
}

/// About what a node has to pull: its partitions, each as heavy as those of the owners are on
/// average. The rate is its own.
fn cost(load: &Load, outline: &Outline, known: &BTreeMap<&NodeId, Burden>) -> Burden {
    let held = |node: &NodeId| {
        let load = outline.loads.iter().find(|load| load.node == *node);
        load.map_or(1, |load| load.before.max(1) as u64)
    };
    let mut sum = Burden {
        rate_bytes_s: known
            .get(&load.node)
            .map_or(DEFAULT_RATE, |b| b.rate_bytes_s),
        ..Burden::default()
    };
    for (_, from) in &load.gains {
        let owners: Vec<(Burden, u64)> = from
            .iter()
            .filter_map(|node| Some((*known.get(node)?, held(node))))
            .collect();
        let count = owners.len().max(1) as u64;
        sum.keys += owners.iter().map(|(b, held)| b.keys / held).sum::<u64>() / count;
        sum.bytes += owners.iter().map(|(b, held)| b.bytes / held).sum::<u64>() / count;
    }
    sum
}

/// What a node begins with that has not been measured.
const DEFAULT_RATE: u64 = 16 << 20;

fn numbers(partitions: &[Partition]) -> Vec<u16> {
    partitions.iter().map(|p| p.number()).collect()
}
