//! What the staged changes would do.

use std::collections::BTreeMap;

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

use super::{Wanted, foreseen, marked, read, ring_of};
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

/// A plan that is asked for.
pub(super) struct Plan {
    /// What is staged in it.
    staged: Vec<MemberChange>,
    /// Who is to get nothing; otherwise those that do not answer now.
    without: Option<Vec<NodeId>>,
    /// Whether it is another one than before.
    changed: bool,
    dry_run: bool,
}

impl Plan {
    /// What is staged in this ring, by the request at hand or before.
    pub(super) fn of(ring: &Ring, changed: bool) -> Self {
        Self {
            staged: ring.affairs.staged.clone(),
            without: None,
            changed,
            dry_run: false,
        }
    }

    /// What would be staged if a change were made; none if it is so already.
    pub(super) fn staging(ring: &Ring, next: Option<&Ring>) -> Self {
        Self {
            dry_run: true,
            ..Self::of(next.unwrap_or(ring), next.is_some())
        }
    }

    /// What a commit would make.
    pub(super) fn committing(ring: &Ring, changed: bool, without: Vec<NodeId>) -> Self {
        Self {
            without: Some(without),
            dry_run: true,
            ..Self::of(ring, changed)
        }
    }
}

/// `GET /cluster/plan`.
pub(super) async fn shown(api: Api) -> Result<HttpResponse, ApiError> {
    let ring = ring_of(&api)?;
    answer(&api, &ring, Plan::of(&ring, false)).await
}

/// `POST /cluster/plan`: as if one more change were staged.
pub(super) async fn tried(
    request: HttpRequest,
    payload: Payload,
    api: Api,
) -> Result<HttpResponse, ApiError> {
    let wanted: Wanted = read(&request, payload, &api).await?;
    let ring = ring_of(&api)?;
    let next = if wanted.is_so(&ring)? {
        None
    } else {
        foreseen(&ring, &Change::Stage(wanted.on(&ring)?))?
    };
    answer(&api, &ring, Plan::staging(&ring, next.as_ref())).await
}

/// What a plan would do to the ring.
pub(super) async fn answer(api: &Api, ring: &Ring, wanted: Plan) -> Result<HttpResponse, ApiError> {
    let Ok(burdens) = api.node.survey(AllBurdens).await else {
        return Ok(going_down());
    };
    let staged: Vec<String> = wanted.staged.iter().map(ToString::to_string).collect();
    let (spared, next) = committed(api, ring, wanted.staged, wanted.without);
    let mut shown = json!({
        "epoch": ring.epoch,
        "changed": wanted.changed,
        "staged": staged,
        "moving_now": ring.moving(),
        "spared": names(&spared),
    });
    let told = match &next {
        Ok(next) => outlined(api, (ring, next), &burdens),
        Err(why) => json!({"error": why.to_string()}),
    };
    if let (Some(shown), Value::Object(told)) = (shown.as_object_mut(), told) {
        shown.extend(told);
    }
    Ok(line(&marked(shown, wanted.dry_run)))
}

/// Who would get nothing if this were staged, and the ring that it would make.
fn committed(
    api: &Api,
    ring: &Ring,
    staged: Vec<MemberChange>,
    without: Option<Vec<NodeId>>,
) -> (Vec<NodeId>, Result<Ring, PlanError>) {
    // As if it had been staged in the ring in force.
    let mut shown = ring.clone();
    shown.affairs.staged = staged;
    let changes = shown.committable();
    let spared = without.unwrap_or_else(|| spared(api, &shown, &changes));
    let next = if changes.is_empty() {
        Ok(shown)
    } else {
        plan(Some(&shown), &Change::Commit(sparing(&changes, &spared)))
    };
    (spared, next)
}

/// Who gets nothing by a commit, as it was said when the plan was shown. If that was not said
/// nobody did then, and the plan is another one if somebody does now.
pub(super) fn as_shown(
    api: &Api,
    (ring, changes): (&Ring, &[MemberChange]),
    without: Option<Vec<NodeId>>,
) -> Result<Vec<NodeId>, ApiError> {
    if let Some(without) = without {
        return Ok(without);
    }
    let away = spared(api, ring, changes);
    if away.is_empty() {
        Ok(away)
    } else {
        Err(ApiError::PlanChanged)
    }
}

/// The members that get nothing by these changes because they do not answer this node; none, if
/// they would get nothing anyhow.
fn spared(api: &Api, ring: &Ring, changes: &[MemberChange]) -> Vec<NodeId> {
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
