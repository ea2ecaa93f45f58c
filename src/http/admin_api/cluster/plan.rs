//! What the staged changes would do.

use std::collections::BTreeMap;

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

use super::{Wanted, read, ring_of};
use crate::actors::surveyor::{AllBurdens, Answers};
use crate::dynamo::key::Partition;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{
    Change, Load, Member, MemberChange, Outline, PlanError, Ring, left_below, plan,
};
use crate::http::admin_api::{Api, going_down, line, names};
use crate::http::api_error::ApiError;
use crate::wire::hello::Program;
use crate::wire::peer::SPARES;
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
    let Planned {
        staged,
        spared,
        next,
    } = committed(api, &ring, more);
    let staged: Vec<String> = staged.iter().map(ToString::to_string).collect();
    let mut shown = json!({
        "epoch": ring.epoch,
        "changed": changed,
        "staged": staged,
        "moving_now": ring.moving(),
        "spared": names(&spared),
    });
    let told = match &next {
        Ok(next) => outlined(api, (&ring, next), &burdens),
        Err(why) => json!({"error": why.to_string()}),
    };
    if let (Some(shown), Value::Object(told)) = (shown.as_object_mut(), told) {
        shown.extend(told);
    }
    Ok(line(&shown))
}

/// All that is staged, who would get nothing by it, and the ring that it would make.
struct Planned {
    staged: Vec<MemberChange>,
    spared: Vec<NodeId>,
    next: Result<Ring, PlanError>,
}

/// As if these changes were staged too.
fn committed(api: &Api, ring: &Ring, more: &[MemberChange]) -> Planned {
    let stage =
        |ring: Ring, change: &MemberChange| match plan(Some(&ring), &Change::Stage(change.clone()))
        {
            Err(PlanError::NothingToChange) => Ok(ring),
            other => other,
        };
    let staged = match more.iter().try_fold(ring.clone(), stage) {
        Ok(staged) => staged.affairs.staged,
        Err(why) => {
            return Planned {
                staged: ring.affairs.staged.clone(),
                spared: Vec::new(),
                next: Err(why),
            };
        }
    };
    // As if it had been staged in the ring in force.
    let mut shown = ring.clone();
    shown.affairs.staged.clone_from(&staged);
    let changes = shown.committable();
    let spared = spared(api, &shown, &changes);
    let next = if staged.is_empty() {
        Ok(shown)
    } else {
        plan(Some(&shown), &Change::Commit(sparing(&changes, &spared)))
    };
    Planned {
        staged,
        spared,
        next,
    }
}

/// The members that get nothing by these changes because they do not answer this node; none, if
/// they would get nothing anyhow.
pub(super) fn spared(api: &Api, ring: &Ring, changes: &[MemberChange]) -> Vec<NodeId> {
    let life = api.node.life();
    let mut said = ring.voters().filter_map(|m| life.programs.get(&m.id));
    let knows = |said: &Option<Program>| said.as_ref().is_some_and(|said| said.can(SPARES));
    if !said.all(knows) {
        // As before there was such a thing; a member that does not know it could not agree.
        return Vec::new();
    }
    let away = |m: &&Member| !is_reachable(api, &m.id) && !ring.is_down(&m.id);
    let goes = |m: &&Member| changes.iter().any(|change| change.takes_out(&m.id));
    let away: Vec<NodeId> = (ring.voters().filter(away))
        .filter(|m| !goes(m))
        .map(|m| m.id.clone())
        .collect();
    let next = plan(Some(ring), &Change::Commit(changes.to_vec()));
    let waits = next.is_ok_and(|next| next.gainers().iter().any(|id| away.contains(id)));
    if waits { away } else { Vec::new() }
}

fn sparing(changes: &[MemberChange], spared: &[NodeId]) -> Vec<MemberChange> {
    let spared = spared.iter().cloned().map(MemberChange::Spare);
    changes.iter().cloned().chain(spared).collect()
}

fn is_reachable(api: &Api, id: &NodeId) -> bool {
    let health = api.node.health_of(id);
    health.is_none_or(|health| health.is_reachable())
}

fn outlined(api: &Api, (ring, next): (&Ring, &Ring), burdens: &Answers<Burden>) -> Value {
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
    let gainers = next.gainers().into_iter();
    let waits_for: Vec<&str> = gainers
        .filter(|id| next.is_down(id) || !is_reachable(api, id))
        .map(NodeId::as_str)
        .collect();
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
        "below_read_quorum": numbers(&left_below(ring, next, api.read_quorum)),
        "lost": numbers(&outline.lost),
        "silent": silent.collect::<Vec<_>>(),
        "waits_for": waits_for,
    })
}

/// About what a node has to pull: its partitions, each as heavy as those of the owners are on
/// average. The rate is its own.
fn cost(load: &Load, outline: &Outline, known: &BTreeMap<&NodeId, Burden>) -> Burden {
    let held = |node: &NodeId| {
        let load = outline.loads.iter().find(|load| load.node == *node);
        load.map_or(1, |load| load.before.max(1) as u128)
    };
    let sum = |of: fn(&Burden) -> u128| {
        let gains = load.gains.iter().map(|(_, from)| {
            let owners = from.iter();
            let shares = owners.filter_map(|node| Some(of(known.get(node)?) * PARTS / held(node)));
            mean(shares)
        });
        u64::try_from((gains.sum::<u128>() + PARTS / 2) / PARTS).unwrap_or(u64::MAX)
    };
    Burden {
        keys: sum(owned_keys),
        bytes: sum(owned_bytes),
        rate_bytes_s: known
            .get(&load.node)
            .map_or(DEFAULT_RATE, |b| b.rate_bytes_s),
        ..Burden::default()
    }
}

/// Without the copies of what others own now.
fn owned_keys(burden: &Burden) -> u128 {
    burden.keys.saturating_sub(burden.kept.keys).into()
}

/// The part of the bytes that the owned keys are of all; how many those of the copies take is not
/// known.
fn owned_bytes(burden: &Burden) -> u128 {
    u128::from(burden.bytes) * owned_keys(burden) / u128::from(burden.keys.max(1))
}

/// Shares are counted in so small parts of a key, or byte, that what is rounded away of each of the
/// partitions comes to nothing in their sum.
const PARTS: u128 = 1 << 32;

fn mean(of: impl Iterator<Item = u128>) -> u128 {
    let (sum, count) = of.fold((0, 0), |(sum, count), one| (sum + one, count + 1));
    sum / count.max(1)
}

/// What a node begins with that has not been measured.
const DEFAULT_RATE: u64 = 16 << 20;

fn numbers(partitions: &[Partition]) -> Vec<u16> {
    partitions.iter().map(|p| p.number()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::transfers::OldCopies;

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn burden(keys: u64, bytes: u64, kept: u64) -> Burden {
        Burden {
            keys,
            bytes,
            rate_bytes_s: 7,
            kept: OldCopies {
                keys: kept,
                ..OldCopies::default()
            },
        }
    }

    /// Keys and bytes of a and b, copies among the keys of a, partitions gained out of the 256 that
    /// both own; keys and bytes to pull.
    #[test]
    fn what_a_node_pulls_is_the_share_of_its_partitions_in_what_their_owners_hold() {
        let rows = [
            ((500, 50_000, 0), (500, 50_000), 192, 375, 37_500),
            ((500, 50_000, 0), (500, 50_000), 256, 500, 50_000),
            // Fewer keys than partitions.
            ((100, 1000, 0), (100, 1000), 128, 50, 500),
            ((1, 300, 0), (1, 300), 128, 1, 150),
            ((1, 300, 0), (1, 300), 127, 0, 149),
            ((3, 100, 0), (3, 100), 255, 3, 100),
            // Owners that differ, as while one catches up.
            ((200, 0, 0), (100, 0), 256, 150, 0),
            // Copies of what others own now are no part of it.
            ((750, 75_000, 250), (500, 50_000), 128, 250, 25_000),
            (
                (u64::MAX, u64::MAX, 0),
                (u64::MAX, u64::MAX),
                256,
                u64::MAX,
                u64::MAX,
            ),
        ];
        for (row, (a, b, gained, keys, bytes)) in rows.into_iter().enumerate() {
            let owners = vec![id("a"), id("b")];
            let load = |node: &str, before, gained| Load {
                node: id(node),
                before,
                after: 256,
                gains: Partition::all()
                    .take(gained)
                    .map(|p| (p, owners.clone()))
                    .collect(),
            };
            let outline = Outline {
                moving: gained,
                loads: vec![load("a", 256, 0), load("b", 256, 0), load("c", 0, gained)],
                crowded: Vec::new(),
                short: Vec::new(),
                lost: Vec::new(),
            };
            let ids = [id("a"), id("b")];
            let held = [burden(a.0, a.1, a.2), burden(b.0, b.1, 0)];
            let known = ids.iter().zip(held).collect();
            let found = cost(&load("c", 0, gained), &outline, &known);
            assert_eq!((found.keys, found.bytes), (keys, bytes), "row {row}");
            assert_eq!(found.rate_bytes_s, DEFAULT_RATE);
        }
    }
}
