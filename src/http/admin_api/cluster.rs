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
use serde_json::{Value, json};

use self::plan::Plan;
use self::wanted::Wanted;
use super::{Api, going_down, json_body, line, names, only};
use crate::actors::handle::Readiness;
use crate::actors::surveyor::{AllBurdens, AllTransfers, Answers, LimitAll, every_transfer};
use crate::dynamo::membership::promise::Loss;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{Change, MemberChange, Outline, PlanError, Ring, plan as planned};
use crate::http::api_error::ApiError;
use crate::wire::transfers::{LimitCall, Step};

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
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reverting {
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Committing {
    epoch: u64,
    #[serde(default)]
    without: Option<Vec<String>>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancelling {
    #[serde(default)]
    force: bool,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limiting {
    #[serde(default)]
    at_once: Option<u32>,
    #[serde(default)]
    bytes_s: Option<u64>,
    #[serde(default)]
    dry_run: bool,
}

async fn stage(request: HttpRequest, payload: Payload, api: Api) -> Result<HttpResponse, ApiError> {
    let wanted: Wanted = read(&request, payload, &api).await?;
    let ring = ring_of(&api)?;
    if wanted.is_so(&ring)? {
        return plan::answer(&api, &ring, Plan::of(&ring, false)).await;
    }
    let change = wanted.on(&ring)?;
    refuse_silent_loss(&ring, &change, wanted.accepts_loss())?;
    let made = make(&api, &ring, Change::Stage(change)).await?;
    let ring = ring_of(&api)?;
    plan::answer(&api, &ring, Plan::of(&ring, made.changed)).await
}

async fn revert(
    request: HttpRequest,
    payload: Payload,
    api: Api,
) -> Result<HttpResponse, ApiError> {
    let wanted: Reverting = read(&request, payload, &api).await?;
    let node = wanted.node.as_deref().map(id).transpose()?;
    let (ring, change) = (ring_of(&api)?, Change::Revert(node));
    if wanted.dry_run {
        let next = foreseen(&ring, &change)?;
        return plan::answer(&api, &ring, Plan::staging(&ring, next.as_ref())).await;
    }
    let made = make(&api, &ring, change).await?;
    let ring = ring_of(&api)?;
    plan::answer(&api, &ring, Plan::of(&ring, made.changed)).await
}

async fn commit(
    request: HttpRequest,
    payload: Payload,
    api: Api,
) -> Result<HttpResponse, ApiError> {
    let wanted: Committing = read(&request, payload, &api).await?;
    let (epoch, dry_run) = (wanted.epoch, wanted.dry_run);
    let ring = ring_of(&api)?;
    let named = wanted.without.as_ref();
    let without = named.map(|names| names.iter().map(|name| id(name)).collect());
    let without: Option<Vec<NodeId>> = without.transpose()?;
    let since = ring.affairs.under_way.as_ref().map(|change| change.since);
    if since.is_some_and(|since| since.checked_sub(1) == Some(epoch)) {
        let gainers = ring.gainers();
        // Then somebody else's commit was another one.
        let differs = without.iter().flatten().any(|node| gainers.contains(node));
        if differs {
            return Err(ApiError::RingChanged(ring.epoch));
        }
        if dry_run {
            return plan::answer(&api, &ring, Plan::staging(&ring, None)).await;
        }
        return Ok(Made::nothing(&ring).answer(false));
    }
    if ring.epoch != epoch {
        return Err(ApiError::RingChanged(ring.epoch));
    }
    let mut changes = ring.committable();
    let without = plan::as_shown(&api, (&ring, &changes), without)?;
    changes.extend(without.iter().cloned().map(MemberChange::Spare));
    let change = Change::Commit(changes);
    if dry_run {
        let changes = foreseen(&ring, &change)?.is_some();
        let plan = Plan::committing(&ring, changes, without);
        return plan::answer(&api, &ring, plan).await;
    }
    Ok(make(&api, &ring, change).await?.answer(false))
}

async fn cancel(
    request: HttpRequest,
    payload: Payload,
    api: Api,
) -> Result<HttpResponse, ApiError> {
    let Cancelling { force, dry_run } = read(&request, payload, &api).await?;
    let ring = ring_of(&api)?;
    let Ok(all) = api.node.survey(AllTransfers).await else {
        return Ok(going_down());
    };
    let has_flipped = all
        .iter()
        .filter_map(|(_, transfers)| transfers.as_ref())
        .flatten()
        .any(|transfer| transfer.step == Step::Flipped);
    if has_flipped && !force {
        return Err(ApiError::ChangeRefused(PlanError::Flipped));
    }
    act(&api, &ring, Change::Cancel, dry_run).await
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
    let About { node, dry_run } = read(&request, payload, &api).await?;
    let (node, ring) = (id(&node)?, ring_of(&api)?);
    act(&api, &ring, Change::Steer { node, down }, dry_run).await
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
    let wanted: Limiting = read(&request, payload, &api).await?;
    let (at_once, bytes_s) = (wanted.at_once, wanted.bytes_s);
    if at_once == Some(0) || bytes_s == Some(0) {
        return Err(ApiError::FieldInvalid("at_once or bytes_s"));
    }
    let told = if wanted.dry_run {
        // Who answers this would be told.
        let all = api.node.survey(AllBurdens).await;
        all.map(who_answered)
    } else {
        let all = api.node.survey(LimitAll(LimitCall { at_once, bytes_s }));
        all.await.map(who_answered)
    };
    let Ok((limited, silent)) = told else {
        return Ok(going_down());
    };
    let told = json!({
        "at_once": at_once,
        "bytes_s": bytes_s,
        "limited": names(&limited),
        "silent": names(&silent),
    });
    Ok(line(&marked(told, wanted.dry_run)))
}

/// Those that gave an answer, and those that gave none.
fn who_answered<T>(all: Answers<T>) -> (Vec<NodeId>, Vec<NodeId>) {
    let (told, silent): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, a)| a.is_some());
    let names = |nodes: Answers<T>| nodes.into_iter().map(|(node, _)| node).collect();
    (names(told), names(silent))
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

/// What came of a change, or would.
struct Made {
    /// The epoch in force.
    epoch: u64,
    changed: bool,
    /// Partitions that move by then.
    moving: usize,
}

impl Made {
    fn nothing(ring: &Ring) -> Self {
        Self {
            epoch: ring.epoch,
            changed: false,
            moving: ring.moving(),
        }
    }

    fn answer(&self, dry_run: bool) -> HttpResponse {
        let Self {
            epoch,
            changed,
            moving,
        } = self;
        let made = json!({"epoch": epoch, "changed": changed, "moving": moving});
        line(&marked(made, dry_run))
    }
}

/// An answer that says so if nothing was done.
fn marked(mut answer: Value, dry_run: bool) -> Value {
    if let (Some(fields), true) = (answer.as_object_mut(), dry_run) {
        fields.insert("dry_run".to_owned(), Value::Bool(true));
    }
    answer
}

async fn act(
    api: &Api,
    ring: &Ring,
    change: Change,
    dry_run: bool,
) -> Result<HttpResponse, ApiError> {
    let made = if dry_run {
        let next = foreseen(ring, &change)?;
        next.map_or_else(
            || Made::nothing(ring),
            |next| Made {
                epoch: ring.epoch,
                changed: true,
                moving: next.moving(),
            },
        )
    } else {
        make(api, ring, change).await?
    };
    Ok(made.answer(dry_run))
}

/// Proposes it, unless it is so already.
async fn make(api: &Api, ring: &Ring, change: Change) -> Result<Made, ApiError> {
    if foreseen(ring, &change)?.is_none() {
        return Ok(Made::nothing(ring));
    }
    propose(api, ring, change).await?;
    let ring = ring_of(api)?;
    Ok(Made {
        changed: true,
        ..Made::nothing(&ring)
    })
}

/// The ring that a change would make; none if it is so already.
fn foreseen(ring: &Ring, change: &Change) -> Result<Option<Ring>, ApiError> {
    match planned(Some(ring), change) {
        Ok(next) => Ok(Some(next)),
        Err(PlanError::NothingToChange) => Ok(None),
        Err(PlanError::NotMoving) if matches!(change, Change::Cancel) => Ok(None),
        Err(why) => Err(ApiError::ChangeRefused(why)),
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
