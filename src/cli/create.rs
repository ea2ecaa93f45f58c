//! `quorate create`.

use super::failure::Failure;
use super::output::Streams;
use super::record::{Body, Found, RecordArgs, value};

/// What `create` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    record: RecordArgs,
    /// JSON; anything else is taken as a JSON string; - reads standard input
    #[arg(allow_hyphen_values = true)]
    value: String,
}

/// Writes a key that has no value; prints the clock. If it has one, says which.
pub(super) async fn run(args: Args, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let value = value(&args.value, streams)?;
    let body = Body {
        value: Some(&value),
        clock: None,
    };
    let answer = args.record.write("POST", Some(body), streams).await?;
    if answer.status == 409 && !args.record.output.is_json() {
        let found: Found = serde_json::from_slice(&answer.body)?;
        for value in &found.value {
            writeln!(streams.chatter, "there is: {}", value.get())?;
        }
        writeln!(streams.chatter, "clock: {}", found.clock)?;
    }
    args.record.show_write(&answer, streams)
}
