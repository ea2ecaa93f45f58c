//! `/figures`: what this node knows of every member, and what each says of itself.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::ConsoleApi;
use crate::http::admin_api::{AdminApi, going_down, line, member, standing, with};
use crate::metrics::histogram::MICROS;

pub(super) async fn figures(
    api: web::Data<AdminApi>,
    console: web::Data<ConsoleApi>,
) -> HttpResponse {
    let view = api.node.view();
    let ring = view.ring.as_deref();
    let mut members: Vec<Value> = Vec::new();
    if let Some(ring) = ring {
        let Ok(told) = api.node.all_figures(&console.link, ring).await else {
            return going_down();
        };
        let told = told.into_iter().map(|(_, figures)| figures);
        members.extend(
            (ring.members.iter().zip(told))
                .map(|(is, figures)| with(member(&api, ring, is), json!({ "figures": figures }))),
        );
    }
    let more = json!({
        "replicas": ring.map(|ring| ring.replicas),
        "bounds_us": MICROS,
        "members": members,
    });
    line(&with(standing(&api, ring, |_| Value::Null), more))
}
