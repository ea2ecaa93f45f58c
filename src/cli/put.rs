//! `quorate put`.

use super::failure::Failure;
use super::output::Streams;
use super::record::{Body, Found, RecordArgs, value};

/// What `put` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    record: RecordArgs,
    /// JSON; anything else is taken as a JSON string; - reads standard input
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// What was seen when the value was made; without it the key is read first, and what is found
    /// is replaced
    #[arg(long, short, value_name = "CLOCK")]
    clock: Option<String>,
}

/// Writes a key; prints the clock.
pub(super) async fn run(args: Args, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let value = value(&args.value, streams)?;
    let clock = match args.clock {
        Some(clock) => clock,
        None => seen(&args.record, streams).await?,
    };
    let body = Body {
        value: Some(&value),
        clock: Some(&clock),
    };
    let answer = args.record.write("PUT", Some(body), streams).await?;
    args.record.show_write(&answer, streams)
}

/// The clock of what is there now, be it nothing.
async fn seen(record: &RecordArgs, streams: &mut Streams<'_>) -> Result<String, Failure> {
    let answer = record.read(streams).await?;
    if answer.status != 404 {
        record.show_refusal(&answer, streams)?;
    }
    let found: Found = serde_json::from_slice(&answer.body)?;
    if found.value.len() > 1 {
        let n = found.value.len();
        writeln!(
            streams.chatter,
            "the key has {n} siblings: this value replaces them all"
        )?;
    }
    Ok(found.clock)
}
