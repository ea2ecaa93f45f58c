//! `quorate get`.

use super::failure::Failure;
use super::output::{Streams, line};
use super::record::{Found, RecordArgs, show_acks};

/// What `get` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    record: RecordArgs,
}

/// Prints the values, one a line, as raw JSON; their clock goes to standard error. With `-o json`
/// the whole answer.
pub(super) async fn run(args: Args, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let answer = args.record.read(streams).await?;
    args.record.show_refusal(&answer, streams)?;
    if args.record.output.is_json() {
        return Ok(line(streams.data, &answer.body)?);
    }
    let found: Found = serde_json::from_slice(&answer.body)?;
    for value in &found.value {
        line(streams.data, one_line(value.get()).as_bytes())?;
    }
    streams.data.flush()?;
    writeln!(streams.chatter, "clock: {}", found.clock)?;
    show_acks(&answer, streams)
}

/// The same JSON on one line: a line break in JSON is always white space between two tokens.
fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_several_lines_becomes_one() {
        assert_eq!(
            one_line("{\n\"a\": 1,\r\n\"b\": \"\\n\"}"),
            "{ \"a\": 1,  \"b\": \"\\n\"}"
        );
    }
}
