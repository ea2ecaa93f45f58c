//! `quorate delete`.

use super::failure::Failure;
use super::output::Streams;
use super::record::{Body, RecordArgs};

/// What `delete` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    record: RecordArgs,
    /// Deletes only what this clock has seen; without it, everything that is there
    #[arg(long, short, value_name = "CLOCK")]
    clock: Option<String>,
}

/// Deletes a key; prints the clock.
pub(super) async fn run(args: Args, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let body = args.clock.as_deref().map(|clock| Body {
        value: None,
        clock: Some(clock),
    });
    let answer = args.record.write("DELETE", body, streams).await?;
    args.record.show_write(&answer, streams)
}
