//! What the verbs on one key share: how it is asked for, and what the answers hold.

use std::io::Read;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::connection::segment;
use super::endpoints::{Answer, EndpointArgs, Request, ask};
use super::failure::Failure;
use super::output::{OutputArgs, Streams, line};

/// A key, and how its requests want to be served.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct RecordArgs {
    /// Which record
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(super) key: String,
    /// Replicas that must agree, instead of the cluster's own number
    #[arg(long, short, value_name = "N")]
    quorum: Option<std::num::NonZeroU32>,
    /// strict: only the owners of the key may serve
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    #[command(flatten)]
    at: EndpointArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// Which replicas may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Owners only
    Strict,
}

/// What is sent: fields that are `None` are not there.
#[derive(Debug, Default, Serialize)]
pub(super) struct Body<'a> {
    /// Raw JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<&'a RawValue>,
    /// A token from an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) clock: Option<&'a str>,
}

/// What a read, or an error that shows the record, says.
#[derive(Debug, Deserialize)]
pub(super) struct Found {
    /// Every concurrent value.
    #[serde(default)]
    pub(super) value: Vec<Box<RawValue>>,
    /// What covers exactly these.
    pub(super) clock: String,
}

/// What a write says.
#[derive(Debug, Deserialize)]
struct Written {
    message: String,
    clock: String,
    #[serde(default)]
    siblings: Option<u64>,
}

impl RecordArgs {
    /// Reads the record. The answer may be a refusal.
    pub(super) async fn read(&self, streams: &mut Streams<'_>) -> Result<Answer, Failure> {
        self.ask("GET", String::new(), None, streams).await
    }

    /// Changes the record, under a name of its own: asked twice, it is done once.
    pub(super) async fn write(
        &self,
        method: &'static str,
        body: Option<Body<'_>>,
        streams: &mut Streams<'_>,
    ) -> Result<Answer, Failure> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(Failure::Random)?;
        let fields = format!("idempotency-key: {:032x}\r\n", u128::from_be_bytes(id));
        let body = body.map(|body| serde_json::to_vec(&body)).transpose()?;
        self.ask(method, fields, body, streams).await
    }

    async fn ask(
        &self,
        method: &'static str,
        fields: String,
        body: Option<Vec<u8>>,
        streams: &mut Streams<'_>,
    ) -> Result<Answer, Failure> {
        let request = Request {
            method,
            path: self.path(),
            fields,
            body,
        };
        let timeout = self.at.timeout.timeout;
        ask(&self.at.endpoints, timeout, &request, streams.chatter).await
    }

    fn path(&self) -> String {
        let quorum = self.quorum.map(|n| format!("quorum={n}"));
        let mode = self.mode.map(|mode| match mode {
            Mode::Strict => "mode=strict".to_owned(),
        });
        let query: Vec<String> = quorum.into_iter().chain(mode).collect();
        let key = segment(&self.key);
        if query.is_empty() {
            format!("/v1/{key}")
        } else {
            format!("/v1/{key}?{}", query.join("&"))
        }
    }

    /// Shows what a write did: its clock, for the next one, and the rest beside it.
    pub(super) fn show_write(
        &self,
        answer: &Answer,
        streams: &mut Streams<'_>,
    ) -> Result<(), Failure> {
        self.show_refusal(answer, streams)?;
        let written: Written = serde_json::from_slice(&answer.body)?;
        writeln!(streams.chatter, "{}", written.message.escape_debug())?;
        if let Some(siblings) = written.siblings.filter(|n| *n > 1) {
            writeln!(streams.chatter, "the key now has {siblings} siblings")?;
        }
        show_acks(answer, streams)?;
        let data = if self.output.is_json() {
            &answer.body[..]
        } else {
            written.clock.as_bytes()
        };
        Ok(line(streams.data, data)?)
    }

    /// Ends the command if the answer is a refusal, having shown it where JSON is wanted.
    pub(super) fn show_refusal(
        &self,
        answer: &Answer,
        streams: &mut Streams<'_>,
    ) -> Result<(), Failure> {
        if answer.is_success() {
            return Ok(());
        }
        if self.output.is_json() {
            line(streams.data, &answer.body)?;
            streams.data.flush()?;
        }
        Err(answer.refusal())
    }
}

/// Says who stands behind an answer.
pub(super) fn show_acks(answer: &Answer, streams: &mut Streams<'_>) -> Result<(), Failure> {
    if let Some(acks) = &answer.acks {
        writeln!(streams.chatter, "acks: {acks}")?;
    }
    Ok(())
}

/// A value from the command line: itself if it is JSON, a JSON string if it is not, and read from
/// standard input if it is `-`. Says so if something that looks like JSON is none.
pub(super) fn value(argument: &str, streams: &mut Streams<'_>) -> Result<Box<RawValue>, Failure> {
    let mut text = argument.to_owned();
    if argument == "-" {
        text.clear();
        std::io::stdin().lock().read_to_string(&mut text)?;
        if text.is_empty() {
            return Err(Failure::Usage(
                "standard input is empty: an empty text is written as '\"\"'",
            ));
        }
    }
    let value = json_or_string(text.strip_suffix('\n').unwrap_or(&text))?;
    if value.get().starts_with('"') && text.trim_start().starts_with(['{', '[']) {
        writeln!(
            streams.chatter,
            "the value is not JSON: it is written as a text"
        )?;
    }
    Ok(value)
}

fn json_or_string(text: &str) -> Result<Box<RawValue>, serde_json::Error> {
    RawValue::from_string(text.trim().to_owned())
        .or_else(|_not_json| serde_json::value::to_raw_value(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        record: RecordArgs,
    }

    #[test]
    fn a_key_and_its_options_become_a_path() {
        let rows: [(&[&str], &str); 4] = [
            (&["a/b"], "/v1/a%2Fb"),
            (&["k", "--quorum", "3"], "/v1/k?quorum=3"),
            (
                &["k", "-q", "1", "--mode", "strict"],
                "/v1/k?quorum=1&mode=strict",
            ),
            (&["--", "-k"], "/v1/-k"),
        ];
        for (args, want) in rows {
            let line = Line::try_parse_from([&["get"], args].concat()).unwrap();
            assert_eq!(line.record.path(), want);
        }
    }

    #[test]
    fn a_value_is_json_if_it_can_be_and_a_string_otherwise() {
        let rows = [
            ("7", "7"),
            (" {\"b\":1, \"a\":1e400} ", "{\"b\":1, \"a\":1e400}"),
            ("\"x\"", "\"x\""),
            ("null", "null"),
            ("Luke Skywalker", "\"Luke Skywalker\""),
            ("", "\"\""),
            ("nul", "\"nul\""),
            ("1 2", "\"1 2\""),
            ("line\nbreak", "\"line\\nbreak\""),
        ];
        for (text, want) in rows {
            assert_eq!(json_or_string(text).unwrap().get(), want, "{text:?}");
        }
    }

    #[test]
    fn what_looks_like_json_and_is_none_is_told() {
        let rows = [
            ("{\"a\":1", 1),
            ("[1,]", 1),
            ("{\"a\":1}", 0),
            ("\"{\"", 0),
            ("plain text", 0),
        ];
        for (text, notes) in rows {
            let (mut data, mut chatter) = (Vec::new(), Vec::new());
            let mut streams = Streams {
                data: &mut data,
                chatter: &mut chatter,
                is_terminal: false,
            };
            assert!(value(text, &mut streams).is_ok());
            let said = String::from_utf8(chatter).unwrap();
            assert_eq!(said.lines().count(), notes, "{text}: {said}");
        }
    }

    #[test]
    fn a_body_holds_only_what_is_given() {
        let value = json_or_string("1.0").unwrap();
        let body = |value, clock| serde_json::to_string(&Body { value, clock }).unwrap();
        assert_eq!(body(Some(&*value), None), "{\"value\":1.0}");
        assert_eq!(
            body(Some(&*value), Some("c")),
            "{\"value\":1.0,\"clock\":\"c\"}"
        );
        assert_eq!(body(None, Some("c")), "{\"clock\":\"c\"}");
    }
}
