//! `/events`: what happens at this node, as server-sent events.

use std::time::Duration;

use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::stream::unfold;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::ConsoleApi;
use crate::actors::watcher::{Event, Subscribe, Subscription};
use crate::http::api_error::{ApiError, Name};

/// Nothing happens for longer than this without a sign of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

pub(super) async fn events(
    request: HttpRequest,
    console: web::Data<ConsoleApi>,
) -> Result<HttpResponse, ApiError> {
    let after = after(request.uri().query())?;
    let subscribed = console.watcher.send(Subscribe { after }).await;
    let Ok(Some(Subscription { recent, coming })) = subscribed else {
        return Err(ApiError::Overloaded);
    };
    let mut first = String::from(":\n\n");
    for event in &recent {
        push(&mut first, event);
    }
    let rest = unfold((Some(first), coming), |(first, mut coming)| async move {
        let block = match first {
            Some(first) => first,
            None => next(&mut coming).await?,
        };
        Some((Ok::<_, std::io::Error>(Bytes::from(block)), (None, coming)))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-store"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(rest))
}

/// The next event, or a sign of life; `None` when the node is about to stop.
async fn next(coming: &mut Receiver<Event>) -> Option<String> {
    let mut block = String::new();
    match timeout(SIGN_OF_LIFE, coming.recv()).await {
        Ok(Ok(event)) => push(&mut block, &event),
        Ok(Err(RecvError::Closed)) => return None,
        // Some were missed, or there were none.
        Ok(Err(RecvError::Lagged(_))) | Err(_) => block.push_str(":\n\n"),
    }
    Some(block)
}

fn push(block: &mut String, event: &Event) {
    for part in [
        "id: ",
        &event.seq.to_string(),
        "\ndata: ",
        &event.text,
        "\n\n",
    ] {
        block.push_str(part);
    }
}

/// The number of the last event that is known already.
fn after(query: Option<&str>) -> Result<u64, ApiError> {
    let Some((name, number)) = query.map(|query| query.split_once('=').unwrap_or((query, "")))
    else {
        return Ok(0);
    };
    if name != "after" {
        return Err(ApiError::ParameterUnknown(Name::of(name.as_bytes())));
    }
    number.parse().or(Err(ApiError::ParameterInvalid("after")))
}
