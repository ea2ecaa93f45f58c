//! The committed contract of `/cluster` against what is mounted and answered.

mod again;
mod dry;

use std::collections::BTreeSet;

use actix_web::http::Method;
use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
use serde_json::{Value, json};

use crate::http::admin_api::app;
use crate::http::admin_api::tests::api;
use crate::http::client_api::OPENAPI;

fn contract() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

/// Answers a request; gives status and JSON.
async fn answer(method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let (_node, api) = api(None).await;
    let app = init_service(app(api)).await;
    let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap();
    let request = TestRequest::default().method(method).uri(path);
    let request = match body {
        Some(body) => request.set_json(body),
        None => request,
    };
    let answer = call_service(&app, request.to_request()).await;
    (answer.status().as_u16(), read_body_json(answer).await)
}

fn fields(value: &Value) -> BTreeSet<&str> {
    let names = value.as_object().into_iter().flatten();
    names.map(|(name, _)| name.as_str()).collect()
}

fn required(schema: &Value) -> BTreeSet<&str> {
    let names = schema["required"].as_array().into_iter().flatten();
    names.filter_map(Value::as_str).collect()
}

#[actix::test]
async fn every_path_of_the_contract_takes_its_methods_and_no_other() {
    let contract = contract();
    for (path, resource) in contract["x-admin-paths"].as_object().unwrap() {
        for method in ["get", "post", "put", "delete"] {
            let (status, said) = answer(method, path, None).await;
            let is_known = resource.get(method).is_some();
            assert_eq!(status != 405, is_known, "{method} {path}: {said}");
            assert_ne!(status, 404, "{method} {path}: {said}");
        }
    }
}

/// By the literals of the file that mounts them.
#[test]
fn every_path_that_is_mounted_is_in_the_contract() {
    let contract = contract();
    let source = include_str!("../cluster.rs");
    let literals = source.split('"').filter(|text| {
        let word = text.strip_prefix('/').unwrap_or_default();
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase())
    });
    let mounted: BTreeSet<String> = literals.map(|path| format!("/cluster{path}")).collect();
    assert!(mounted.len() >= 8, "{mounted:?}");
    assert_eq!(
        mounted.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        fields(&contract["x-admin-paths"])
    );
}

#[actix::test]
async fn answers_have_the_fields_of_the_contract_and_no_other() {
    let contract = contract();
    let schemas = &contract["components"]["schemas"];
    let leave = json!({"change": "leave", "node": "b"});
    let rows = [
        ("get", "/cluster/transfers", None, "Transfers"),
        ("get", "/cluster/plan", None, "Plan"),
        ("post", "/cluster/plan", Some(&leave), "Plan"),
    ];
    for (method, path, body, schema) in rows {
        let (status, said) = answer(method, path, body).await;
        assert_eq!(status, 200, "{method} {path}: {said}");
        let schema = &schemas[schema];
        let (found, known) = (fields(&said), fields(&schema["properties"]));
        assert!(required(schema).is_subset(&found), "{path}: {said}");
        assert!(found.is_subset(&known), "{path}: {said}");
        let item = &schema["properties"]["transfers"]["items"];
        for transfer in said["transfers"].as_array().into_iter().flatten() {
            assert_eq!(fields(transfer), required(item), "{transfer}");
        }
    }
}

#[actix::test]
async fn a_body_with_a_field_that_the_contract_does_not_have_is_refused() {
    let contract = contract();
    for (path, resource) in contract["x-admin-paths"].as_object().unwrap() {
        for (method, operation) in resource.as_object().unwrap() {
            if operation.get("body").is_some() {
                let body = json!({"colour": "red"});
                let (status, said) = answer(method, path, Some(&body)).await;
                assert_eq!(
                    (status, &said["code"]),
                    (400, &json!("body_invalid")),
                    "{path}"
                );
            }
        }
    }
}
