//! `/log-level`: how much the node logs.

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::json;

use super::{Api, json_body, line};
use crate::http::api_error::ApiError;
use crate::logging::LevelName;

/// Longest body.
const BODY_BYTES: usize = 256;

/// What the body is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    level: String,
}

pub(super) async fn show(api: Api) -> HttpResponse {
    shown(&api)
}

pub(super) async fn set(
    request: HttpRequest,
    payload: Payload,
    api: Api,
) -> Result<HttpResponse, ApiError> {
    let body = json_body(&request, payload, (&api, BODY_BYTES)).await?;
    let asked = serde_json::from_slice::<Asked>(&body);
    let asked = asked.map_err(|_other_shape| ApiError::BodyInvalid)?;
    let level = LevelName::parse(&asked.level).ok_or(ApiError::LevelUnknown)?;
    api.node.set_log_level(LevelName(level));
    Ok(shown(&api))
}

fn shown(api: &Api) -> HttpResponse {
    let level = LevelName(api.node.logs.level());
    line(&json!({"level": level.as_str()}))
}
