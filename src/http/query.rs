//! The query of a client's request: three parameters, and no other is passed over in silence.

use std::borrow::Cow;

use super::api_error::{ApiError, Name};
use super::percent;

/// What a query may hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// `quorum`: replicas that must agree; a number beyond `usize` is the largest one.
    pub(super) quorum: Option<usize>,
    /// `mode=strict`.
    pub(super) strict: bool,
    /// `clock`: a token, not yet looked at.
    pub(super) clock: Option<String>,
}

/// Whether a request may carry its clock in the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClockParameter {
    /// `clock` is a parameter like the others.
    Allowed,
    /// `clock` is an unknown parameter.
    Unknown,
}

/// Reads the raw query; `+` stands for itself.
pub(super) fn parse(raw: Option<&str>, clock: ClockParameter) -> Result<Query, ApiError> {
    let mut query = Query::default();
    let mut mode = None;
    let parts = raw.filter(|raw| !raw.is_empty()).into_iter();
    for part in parts.flat_map(|raw| raw.split('&')) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (decode(name)?, decode(value)?);
        let repeated = match name.as_ref() {
            b"quorum" => query.quorum.replace(quorum(&value)?).is_some(),
            b"mode" => mode.replace(strict(&value)?).is_some(),
            b"clock" if clock == ClockParameter::Allowed => {
                query.clock.replace(token(value)?).is_some()
            }
            other => return Err(ApiError::ParameterUnknown(Name::of(other))),
        };
        if repeated {
            return Err(ApiError::ParameterRepeated(Name::of(&name)));
        }
    }
    query.strict = mode.is_some();
    Ok(query)
}

fn decode(text: &str) -> Result<Cow<'_, [u8]>, ApiError> {
    percent::decode(text.as_bytes()).ok_or(ApiError::ParameterInvalid("query"))
}

fn quorum(value: &[u8]) -> Result<usize, ApiError> {
    let invalid = ApiError::ParameterInvalid("quorum");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(invalid);
    }
    let append = |number: usize, digit: &u8| {
        let digit = usize::from(digit - b'0');
        number.saturating_mul(10).saturating_add(digit)
    };
    match value.iter().fold(0, append) {
        0 => Err(invalid),
        number => Ok(number),
    }
}

fn strict(value: &[u8]) -> Result<(), ApiError> {
    match value {
        b"strict" => Ok(()),
        _ => Err(ApiError::ParameterInvalid("mode")),
    }
}

fn token(value: Cow<'_, [u8]>) -> Result<String, ApiError> {
    match String::from_utf8(value.into_owned()) {
        Ok(token) => Ok(token),
        Err(_not_text) => Err(ApiError::ParameterInvalid("clock")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::api_error::Code;

    /// Seed defect 22: `quorum=abc` was a 500, and `quorum=0` could crash the process.
    #[test]
    fn seed_defect_22_a_quorum_is_a_positive_integer_or_refused() {
        for (raw, expected) in [
            ("quorum=1", 1),
            ("quorum=9", 9),
            ("quorum=002", 2),
            ("%71uorum=%32", 2),
            ("quorum=1000000000000000000000000000000", usize::MAX),
        ] {
            let query = parse(Some(raw), ClockParameter::Unknown).unwrap();
            assert_eq!(query.quorum, Some(expected), "{raw}");
        }
        for raw in [
            "0", "000", "-1", "+1", "abc", "1.5", "", "%D9%A3", "0x2", "1%20", "1e3", "%zz",
        ] {
            let outcome = parse(Some(&format!("quorum={raw}")), ClockParameter::Unknown);
            let code = outcome.map_err(|e| e.code());
            assert_eq!(code, Err(Code::ParameterInvalid), "{raw}");
        }
    }

    #[test]
    fn unknown_and_repeated_parameters_are_named() {
        let rows: &[(&str, ApiError)] = &[
            (
                "quorum=1&quorum=1",
                ApiError::ParameterRepeated(Name::of(b"quorum")),
            ),
            (
                "mode=strict&mode=strict",
                ApiError::ParameterRepeated(Name::of(b"mode")),
            ),
            ("mode=fast", ApiError::ParameterInvalid("mode")),
            ("Quorum=1", ApiError::ParameterUnknown(Name::of(b"Quorum"))),
            ("quorum=1&", ApiError::ParameterUnknown(Name::of(b""))),
            (
                "clock=e30%3D",
                ApiError::ParameterUnknown(Name::of(b"clock")),
            ),
        ];
        for (raw, expected) in rows {
            let outcome = parse(Some(raw), ClockParameter::Unknown).unwrap_err();
            assert_eq!(outcome.to_string(), expected.to_string(), "{raw}");
            assert_eq!(outcome.code(), expected.code(), "{raw}");
        }
    }

    #[test]
    fn a_clock_keeps_its_plus_signs() {
        let query = parse(Some("clock=a+b/c%3D&mode=strict"), ClockParameter::Allowed).unwrap();
        assert_eq!(query.clock.as_deref(), Some("a+b/c="));
        assert!(query.strict);
        assert_eq!(
            parse(Some(""), ClockParameter::Allowed).unwrap(),
            Query::default()
        );
        assert_eq!(
            parse(None, ClockParameter::Allowed).unwrap(),
            Query::default()
        );
    }
}
