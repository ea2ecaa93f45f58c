//! `/figures`: what this node knows of every member, and what each says of itself.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::ConsoleApi;
use crate::http::admin_api::{AdminApi, going_down, line, member};
use crate::metrics::histogram::MICROS;

pub(super) async fn figures(
    api: web::Data<AdminApi>,
    console: web::Data<ConsoleApi>,
) -> HttpResponse {
    let (view, life) = (api.node.view(), api.node.life());
    let mut members: Vec<Value> = Vec::new();
    if let Some(ring) = view.ring.as_deref() {
        let Ok(told) = api.node.all_figures(&console.link, ring).await else {
            return going_down();
        };
        for (is, (_, figures)) in ring.members.iter().zip(told) {
            let mut row = member(&api, ring, is);
            if let Value::Object(row) = &mut row {
                row.insert("figures".to_owned(), json!(figures));
            }
            members.push(row);
        }
    }
    let ring = view.ring.as_deref();
    line(&json!({
        "node": view.me.as_str(),
        "version": env!("CARGO_PKG_VERSION"),
        "state": life.state.to_string(),
        "waiting_for": life.waiting,
        "cluster": ring.map(|ring| ring.cluster.to_string()),
        "replicas": ring.map(|ring| ring.replicas),
        "ring": ring.map(|ring| json!({
            "epoch": ring.epoch,
            "hash": ring.hash().to_string(),
            "moving": ring.moving(),
            "staged": ring.affairs.staged.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })),
        "bounds_us": MICROS,
        "members": members,
    }))
}
