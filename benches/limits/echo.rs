//! The least that any HTTP server here can do: take a body, answer a constant one.

use actix_web::{App, HttpResponse, HttpServer, web};

use super::Outcome;

/// As long as an answer to a put, with something in the place of its clock.
pub(crate) const ANSWER: &str = concat!(
    r#"{"message":"Updated","clock":""#,
    "eyJ2IjoxLCJ2ZWN0b3IiOnsiMTEyMjMzNDQ1NTY2Nzc4OC42NTUzNyI6MX0sImNsb3VkIjp7fSwia2V5Ijoi",
    "MDEyMzQ1Njc4OWFiY2RlZiIsImNsdXN0ZXIiOiIwMTIzNDU2Nzg5YWJjZGVmIiwibWFjIjoiMDEyMzQ1Njc4",
    "OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYifQ==",
    r#"","siblings":1}"#,
);

/// Answers every request with [`ANSWER`], on one worker.
pub(crate) async fn serve(address: &str) -> Outcome<()> {
    let server = HttpServer::new(|| App::new().default_service(web::to(echo)));
    Ok(server.workers(1).bind(address)?.run().await?)
}

async fn echo(body: web::Bytes) -> HttpResponse {
    drop(body);
    HttpResponse::Ok()
        .content_type("application/json")
        .body(ANSWER)
}
