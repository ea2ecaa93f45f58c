//! `/cluster`: who is a member, and how that changes. Changes are staged, shown, and then made as
//! one epoch.

mod plan;
#[cfg(test)]
mod tests;
mod wanted;

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::future::join;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use self::wanted::Wanted;
use super::{Api, going_down, json_body, line, only};
use crate::actors::handle::Readiness;
use crate::actors::surveyor::{AllBurdens, AllTransfers, LimitAll, every_transfer};
use crate::dynamo::membership::promise::Loss;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{Change, MemberChange, Outline, PlanError, Ring, plan as planned};
use crate::http::api_error::ApiError;
use crate::wire::transfers::LimitCall;

/// Longest body: a change with the longest names takes some 200 bytes.
const BODY_BYTES: usize = 4096;

/// Mounts what is below `/cluster`.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    let posts = [
        ("/stage", web::post().to(stage)),
        ("/revert", web::post().to(revert)),
        ("/commit", web::post().to(commit)),
        ("/cancel", web::post().to(cancel)),
        ("/down", web::post().to(down)),
        ("/up", web::post().to(up)),
    ];
    for (path, route) in posts {
        config.service(
            web::resource(path)
                .route(route)
                .default_service(only("POST")),
        );
    }
    config
        .service(
            web::resource("/plan")
                .route(web::get().to(plan::shown))
                .route(web::post().to(plan::tried))
                .default_service(only("GET, POST")),
        )
        .service(
            web::resource("/transfers")
                .route(web::get().to(transfers))
                .route(web::put().to(limit))
                .default_service(only("GET, PUT")),
        );
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    node: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reverting {
    #[serde(default)]
    node: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Committing {
    epoch: u64,
    #[serde(default)]
    without: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancelling {
    #[serde(default)]
    force: bool,
}

async fn stage(request: HttpRequest, payload: Payload, api: Api) -> Result<HttpResponse, ApiError> {
    let wanted: Wanted = read(&request, payload, &api).await?;
    let ring = ring_of(&api)?;
    if wanted.is_so(&ring)? {
        return plan::answer(&api, &[], false).await;
    }
    let change = wanted.on(&ring)?;
    refuse_silent_loss(&ring, &change, wanted.accepts_loss())?;
    let changed = make(&api, &ring, Change::Stage(change)).await?;
    plan::answer(&api, &[], changed).await
}

async fn revert(
    request: HttpRequest,
    payload: Payload,
    api: Api,
) -> Result<HttpResponse, ApiError> {
    let wanted: Reverting = read(&request, payload, &api).await?;
    let node = wanted.node.as_deref().map(id).transpose()?;
    let ring = ring_of(&api)?;
    let changed = make(&api, &ring, Change::Revert(node)).await?;
    plan::answer(&api, &[], changed).await
}

async fn commit(
    request: HttpRequest,
    payload: Payload,
    api: Api,
) -> Result<HttpResponse, ApiError> {
    let Committing { epoch, without } = read(&request, payload, &api).await?;
    let ring = ring_of(&api)?;
    let without = without.map(|names| names.iter().map(|name| id(name)).collect());
    let without: Option<Vec<NodeId>> = without.transpose()?;
    let since = ring.affairs.under_way.as_ref().map(|change| change.since);
    if since == Some(epoch + 1) {
        let gainers = ring.gainers();
        // Then somebody else's commit was another one.
        let differs = without.iter().flatten().any(|node| gainers.contains(node));
        return match differs {
            true => Err(ApiError::RingChanged(ring.epoch)),
            false => Ok(made(&ring, false)),
        };
    }
    if ring.epoch != epoch {
        return Err(ApiError::RingChanged(ring.epoch));
    }
    let mut changes = ring.committable();
    let spared = without.unwrap_or_else(|| plan::spared(&api, &ring, &changes));
    changes.extend(spared.into_iter().map(MemberChange::Spare));
    let changed = make(&api, &ring, Change::Commit(changes)).await?;
    Ok(made(&*ring_of(&api)?, changed))
}

async fn cancel(
    request: HttpRequest,
    payload: Payload,
    api: Api,
) -> Result<HttpResponse, ApiError> {
    let Cancelling { force } = read(&request, payload, &api).await?;
    let ring = ring_of(&api)?;
    let Ok(all) = api.node.survey(AllTransfers).await else {
        return Ok(going_down());
    };
    let flipped =
        |t: &crate::wire::transfers::Transfer| t.step == crate::wire::transfers::Step::Flipped;
    let has_flipped = all
        .iter()
        .filter_map(|(_, t)| t.as_ref())
        .flatten()
        .any(flipped);
    if has_flipped && !force {
        return Err(ApiError::ChangeRefused(PlanError::Flipped));
    }
    let changed = make(&api, &ring, Change::Cancel).await?;
    Ok(made(&*ring_of(&api)?, changed))
}

async fn down(request: HttpRequest, payload: Payload, api: Api) -> Result<HttpResponse, ApiError> {
    steer(request, payload, api, true).await
}

async fn up(request: HttpRequest, payload: Payload, api: Api) -> Result<HttpResponse, ApiError> {
    steer(request, payload, api, false).await
}

async fn steer(
    request: HttpRequest,
    payload: Payload,
    api: Api,
    down: bool,
) -> Result<HttpResponse, ApiError> {
    let About { node } = read(&request, payload, &api).await?;
    let (node, ring) = (id(&node)?, ring_of(&api)?);
    let changed = make(&api, &ring, Change::Steer { node, down }).await?;
    Ok(made(&*ring_of(&api)?, changed))
}

async fn transfers(api: Api) -> HttpResponse {
    let asked = (api.node.survey(AllTransfers), api.node.survey(AllBurdens));
    let (Ok(all), Ok(burdens)) = join(asked.0, asked.1).await else {
        return going_down();
    };
    let kept = burdens.iter().filter_map(|(node, burden)| {
        let kept = (*burden)?.kept;
        (kept.partitions > 0).then(|| {
            json!({
                "node": node.as_str(),
                "partitions": kept.partitions,
                "keys": kept.keys,
                "seconds_left": kept.seconds_left,
            })
        })
    });
    let kept: Vec<_> = kept.collect();
    let view = api.node.view();
    let ring = view.ring.as_deref();
    let silent = all.iter().filter(|(_, answer)| answer.is_none());
    let silent: Vec<&str> = silent.map(|(node, _)| node.as_str()).collect();
    let shown = ring.map_or_else(Vec::new, |ring| every_transfer(ring, &all));
    line(&json!({
        "epoch": view.epoch(),
        "moving": ring.map_or(0, Ring::moving),
        "transfers": shown,
        "kept": kept,
        "silent": silent,
    }))
}

async fn limit(request: HttpRequest, payload: Payload, api: Api) -> Result<HttpResponse, ApiError> {
    let limits: LimitCall = read(&request, payload, &api).await?;
    if limits.at_once == Some(0) || limits.bytes_s == Some(0) {
        return Err(ApiError::FieldInvalid("at_once or bytes_s"));
    }
    let Ok(all) = api.node.survey(LimitAll(limits)).await else {
        return Ok(going_down());
    };
    let (told, silent): (Vec<_>, Vec<_>) = all.iter().partition(|(_, answer)| answer.is_some());
    let names = |nodes: &[&(NodeId, Option<()>)]| -> Vec<String> {
        nodes.iter().map(|(node, _)| node.to_string()).collect()
    };
    Ok(line(&json!({
        "at_once": limits.at_once,
        "bytes_s": limits.bytes_s,
        "limited": names(&told),
        "silent": names(&silent),
    })))
}

async fn read<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: Payload,
    api: &Api,
) -> Result<T, ApiError> {
    let body = json_body(request, payload, (api, BODY_BYTES)).await?;
    serde_json::from_slice(&body).or(Err(ApiError::BodyInvalid))
}

fn id(name: &str) -> Result<NodeId, ApiError> {
    NodeId::new(name).or(Err(ApiError::BodyInvalid))
}

fn ring_of(api: &Api) -> Result<std::sync::Arc<Ring>, ApiError> {
    let ring = api.node.view().ring.clone();
    ring.ok_or(ApiError::NotReady(Readiness::New))
}

/// What would be lost is to be known before it is.
fn refuse_silent_loss(ring: &Ring, change: &MemberChange, accepted: bool) -> Result<(), ApiError> {
    if accepted {
        return Ok(());
    }
    let next = planned(Some(ring), &Change::Commit(vec![change.clone()]));
    let outline = Outline::of(ring, &next.map_err(ApiError::ChangeRefused)?);
    Err(ApiError::DataLossNotAccepted(
        outline.short.len(),
        outline.lost.len(),
    ))
}

/// Proposes it; `false` if it is so already.
async fn make(api: &Api, ring: &Ring, change: Change) -> Result<bool, ApiError> {
    let is_cancel = matches!(change, Change::Cancel);
    match propose(api, ring, change).await {
        Ok(()) => Ok(true),
        Err(ApiError::ChangeRefused(PlanError::NothingToChange)) => Ok(false),
        Err(ApiError::ChangeRefused(PlanError::NotMoving)) if is_cancel => Ok(false),
        Err(other) => Err(other),
    }
}

async fn propose(api: &Api, ring: &Ring, change: Change) -> Result<(), ApiError> {
    let proposed = api.node.propose(ring.epoch, change).await;
    match proposed {
        Ok(Ok(_epoch)) => Ok(()),
        Ok(Err(Loss::WrongEpoch { current })) => Err(ApiError::RingChanged(current)),
        Ok(Err(Loss::CannotFollow(why))) => Err(ApiError::ChangeRefused(why)),
        Ok(Err(other)) => Err(ApiError::NotAgreed(other)),
        Err(_going_down) => Err(ApiError::NotReady(Readiness::Draining)),
    }
}

fn made(ring: &Ring, changed: bool) -> HttpResponse {
    line(&json!({"epoch": ring.epoch, "changed": changed, "moving": ring.moving()}))
}
