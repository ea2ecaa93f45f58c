//! `quorate log-level`.

use serde_json::{Value, json};

use super::admin::AdminArgs;
use super::failure::Failure;
use super::output::{Format, Streams, cell, line};

/// What `log-level` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The level from now on, until the node starts again; without it, the present one is shown
    #[arg(value_parser = ["error", "warn", "info", "debug", "trace"])]
    level: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Shows or sets how much a node logs.
pub(super) async fn run(args: Args, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let path = "/log-level".to_owned();
    let answer = match &args.level {
        Some(level) => {
            let asked = json!({ "level": level });
            args.admin.put(path, &asked, streams).await?
        }
        None => args.admin.get(path, streams).await?,
    };
    let shown = match args.admin.output.for_reports(streams) {
        Format::Json => answer.to_string(),
        Format::Table => cell(answer.get("level").filter(|level| **level != Value::Null)),
    };
    Ok(line(streams.data, shown.as_bytes())?)
}
