//! Waiting for a change to be over, and telling how far it is.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use super::show::progress;
use crate::cli::admin::AdminArgs;
use crate::cli::failure::Failure;
use crate::cli::output::{Format, Streams, line};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Until nothing is staged and nothing moves.
pub(super) async fn until_committed(
    admin: &AdminArgs,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let mut told = false;
    loop {
        let plan = admin.get("/cluster/plan".to_owned(), streams).await?;
        let staged = plan.get("staged").and_then(Value::as_array);
        if staged.is_none_or(Vec::is_empty) {
            return until_at_rest(admin, streams).await;
        }
        if !told {
            writeln!(streams.chatter, "waiting for somebody to commit it")?;
            told = true;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Until nothing moves.
pub(super) async fn until_at_rest(
    admin: &AdminArgs,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let mut last = String::new();
    loop {
        let shown = admin.get("/cluster/transfers".to_owned(), streams).await?;
        let epoch = shown.get("epoch").and_then(Value::as_u64).unwrap_or(0);
        if shown.get("moving").and_then(Value::as_u64) == Some(0) {
            return match admin.output.for_reports(streams) {
                Format::Json => Ok(line(streams.data, shown.to_string().as_bytes())?),
                Format::Table => Ok(writeln!(streams.data, "done; epoch {epoch} is at rest")?),
            };
        }
        let now = progress(&shown);
        if now != last {
            writeln!(streams.chatter, "{now}")?;
            last = now;
        }
        sleep(LOOK_EVERY).await;
    }
}
