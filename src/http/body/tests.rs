//! Bodies that are taken, byte for byte, and bodies that are refused.

use actix_web::http::header::{HeaderName, HeaderValue};

use super::*;
use crate::http::api_error::Code;

fn headers(rows: &[(HeaderName, &str)]) -> HeaderMap {
    let pair =
        |(name, value): &(HeaderName, &str)| (name.clone(), HeaderValue::from_str(value).unwrap());
    rows.iter().map(pair).collect()
}

fn json() -> HeaderMap {
    headers(&[(header::CONTENT_TYPE, "application/json")])
}

fn parse(body: impl Into<Bytes>, allowed: Allowed) -> Result<Fields, Code> {
    fields(&json(), &body.into(), allowed, &Limits::default()).map_err(|e| e.code())
}

fn nested(depth: usize) -> String {
    // The object itself is one level.
    let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
    format!("{{\"value\":{open}{close}}}")
}

/// Seed defect 24: a missing value was stored as null, and a large body was a 500.
#[test]
fn seed_defect_24_bodies_are_one_object_with_the_fields_of_the_call() {
    let rows: &[(&[u8], Option<Code>)] = &[
        (b"{\"value\":1}", None),
        (b" {\n\"value\" :\t1 } ", None),
        (b"{\"v\\u0061lue\":1}", None),
        (b"", Some(Code::BodyInvalid)),
        (b"null", Some(Code::BodyInvalid)),
        (b"[]", Some(Code::BodyInvalid)),
        (b"\"x\"", Some(Code::BodyInvalid)),
        (b"{\"value\":1", Some(Code::BodyInvalid)),
        (b"{\"value\":1}x", Some(Code::BodyInvalid)),
        (b"{\"value\":1}{\"value\":1}", Some(Code::BodyInvalid)),
        (b"\xef\xbb\xbf{\"value\":1}", Some(Code::BodyInvalid)),
        (b"{\"value\":NaN}", Some(Code::BodyInvalid)),
        (b"{\"value\":\"\xff\"}", Some(Code::BodyInvalid)),
        (b"{\"value\":\"a\nb\"}", Some(Code::BodyInvalid)),
        (b"{\"value\":01}", Some(Code::BodyInvalid)),
        (b"{\"value\":1,}", Some(Code::BodyInvalid)),
        (b"{'value':1}", Some(Code::BodyInvalid)),
        (b"{\"value\":1,\"value\":1}", Some(Code::FieldRepeated)),
        (
            b"{\"value\":1,\"v\\u0061lue\":1}",
            Some(Code::FieldRepeated),
        ),
        (b"{\"value\":1,\"valu\":1}", Some(Code::FieldUnknown)),
        (b"{\"Value\":1}", Some(Code::FieldUnknown)),
        (b"{\"value\":1,\"clock\":\"\"}", Some(Code::FieldUnknown)),
    ];
    for (body, expected) in rows {
        let outcome = parse(body.to_vec(), Allowed::Value).err();
        assert_eq!(outcome, *expected, "{}", body.escape_ascii());
    }
    assert_eq!(parse("{}", Allowed::Value).unwrap().value, None);
    assert_eq!(parse("", Allowed::Clock), Ok(Fields::default()));
    assert_eq!(
        parse("{\"value\":1}", Allowed::Clock),
        Err(Code::FieldUnknown)
    );
}

#[test]
fn a_value_is_kept_byte_for_byte() {
    for value in [
        "null",
        "\"\"",
        "0",
        "false",
        "{}",
        "[]",
        "1e400",
        "18446744073709551617",
        "0.1",
        "-0",
        "0.10",
        "1E+2",
        "{ \"b\" : 1,\t\"a\":[ ] }",
        "\"\\u00e9\\ud83d\\n\"",
        "\"é\"",
        "{\"a\":1,\"a\":2}",
    ] {
        let body = format!("{{\"value\":  {value} \n}}");
        let fields = parse(body, Allowed::Value).unwrap();
        assert_eq!(fields.value.as_deref(), Some(value.as_bytes()));
    }
}

#[test]
fn the_first_stranger_is_named() {
    let body = Bytes::from_static(b"{\"colo\\u0000ur\":1,\"value\":1,\"x\":2}");
    let refused = fields(&json(), &body, Allowed::Value, &Limits::default()).unwrap_err();
    assert_eq!(refused.to_string(), "Unknown field: colo\\x00ur");
}

#[test]
fn depth_counts_brackets_outside_of_texts() {
    let brackets = format!("{{\"value\":\"\\\"{}\"}}", "[".repeat(1000));
    let rows = [
        (nested(127), None),
        (nested(128), None),
        (nested(129), Some(Code::BodyTooDeep)),
        (nested(100_000), Some(Code::BodyTooDeep)),
        (
            format!("{{\"value\":{}", "[".repeat(100_000)),
            Some(Code::BodyTooDeep),
        ),
        (brackets, None),
    ];
    for (i, (body, expected)) in rows.into_iter().enumerate() {
        assert_eq!(parse(body, Allowed::Value).err(), expected, "row {i}");
    }
}

#[test]
fn a_clock_is_absent_null_a_text_or_no_clock() {
    let rows = [
        ("{\"value\":1}", ClockField::Absent),
        ("{\"value\":1,\"clock\":null}", ClockField::Null),
        (
            "{\"value\":1,\"clock\":\"e3\\u0030=\"}",
            ClockField::Text("e30=".to_owned()),
        ),
        (
            "{\"value\":1,\"clock\":\"\"}",
            ClockField::Text(String::new()),
        ),
        ("{\"value\":1,\"clock\":7}", ClockField::Other),
        ("{\"value\":1,\"clock\":{\"node\":1}}", ClockField::Other),
        ("{\"value\":1,\"clock\":\"\\ud800\"}", ClockField::Other),
    ];
    for (body, expected) in rows {
        assert_eq!(
            parse(body, Allowed::ValueAndClock).unwrap().clock,
            expected,
            "{body}"
        );
    }
}

#[test]
fn a_body_is_declared_as_plain_json() {
    type Row<'a> = (&'a [(HeaderName, &'a str)], Option<Code>);
    let body = Bytes::from_static(b"{\"value\":1}");
    let limits = Limits::default();
    let rows: &[Row<'_>] = &[
        (&[(header::CONTENT_TYPE, "application/json")], None),
        (
            &[(header::CONTENT_TYPE, "Application/JSON; charset=utf-8")],
            None,
        ),
        (
            &[(header::CONTENT_TYPE, "application/json;charset=\"UTF-8\"")],
            None,
        ),
        (&[], Some(Code::ContentTypeUnsupported)),
        (
            &[(header::CONTENT_TYPE, "text/plain")],
            Some(Code::ContentTypeUnsupported),
        ),
        (
            &[(header::CONTENT_TYPE, "application/json; charset=utf-16")],
            Some(Code::ContentTypeUnsupported),
        ),
        (
            &[(header::CONTENT_TYPE, "multipart/form-data; boundary=x")],
            Some(Code::ContentTypeUnsupported),
        ),
        (
            &[
                (header::CONTENT_TYPE, "application/json"),
                (header::CONTENT_TYPE, "text/plain"),
            ],
            Some(Code::ContentTypeUnsupported),
        ),
        (
            &[
                (header::CONTENT_TYPE, "application/json"),
                (header::CONTENT_ENCODING, "gzip"),
            ],
            Some(Code::ContentEncodingUnsupported),
        ),
        (
            &[
                (header::CONTENT_TYPE, "application/json"),
                (header::CONTENT_ENCODING, "identity"),
            ],
            None,
        ),
    ];
    for (rows, expected) in rows {
        let outcome = fields(&headers(rows), &body, Allowed::Value, &limits);
        assert_eq!(outcome.err().map(|e| e.code()), *expected, "{rows:?}");
    }
}

#[test]
fn a_value_over_the_limit_is_refused() {
    let limit = Limits::default().value_bytes;
    for (length, expected) in [(limit, None), (limit + 1, Some(Code::ValueTooLarge))] {
        let body = format!("{{\"value\":\"{}\"}}", "x".repeat(length - 2));
        assert_eq!(parse(body, Allowed::Value).err(), expected, "{length}");
    }
}
