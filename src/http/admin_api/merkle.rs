//! `GET /merkle`: the digests that owners compare.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Api, going_down};
use crate::dynamo::key::Partition;
use crate::http::api_error::ApiError;

#[derive(Deserialize)]
pub(super) struct Query {
    partition: Option<u16>,
}

/// The roots of the partitions that this node owns, or the leaves of one.
pub(super) async fn merkle(api: Api, query: web::Query<Query>) -> Result<HttpResponse, ApiError> {
    match query.partition.map(Partition::new) {
        None => Ok(roots(&api).await),
        Some(Some(partition)) => Ok(leaves(&api, partition).await),
        Some(None) => Err(ApiError::NoSuchResource),
    }
}

async fn roots(api: &Api) -> HttpResponse {
    let Ok(roots) = api.node.roots().await else {
        return going_down();
    };
    let shown = |(partition, root): (Partition, Option<_>)| -> (String, Value) {
        let root = root.map(|root: crate::dynamo::merkle::Digest| root.to_string());
        (partition.number().to_string(), json!(root))
    };
    let roots: serde_json::Map<_, _> = roots.into_iter().map(shown).collect();
    HttpResponse::Ok().json(json!({"epoch": api.node.view().epoch(), "roots": roots}))
}

async fn leaves(api: &Api, partition: Partition) -> HttpResponse {
    let Ok(leaves) = api.node.leaves(partition).await else {
        return going_down();
    };
    let shown = leaves.map(|leaves| {
        let leaves = (0_u16..)
            .zip(leaves.as_slice())
            .filter(|(_, leaf)| **leaf != 0);
        let leaves = leaves.map(|(n, leaf)| (n.to_string(), json!(format!("{leaf:016x}"))));
        leaves.collect::<serde_json::Map<_, _>>()
    });
    HttpResponse::Ok().json(json!({"partition": partition.number(), "leaves": shown}))
}
