//! The key in a request's path. The raw segment is decoded here, strictly and to bytes, because the
//! router decodes lossily: `%FF` and `%FE` would be one key, and so would `%zz` and `%25zz`.

use bytes::Bytes;

use super::api_error::ApiError;
use super::percent;
use crate::dynamo::key::{Key, KeyError};

const PREFIX: &str = "/v1/";

/// The key that `/v1/{key}` names: one raw segment, any bytes once decoded.
pub(super) fn key_of(raw_path: &str) -> Result<Key, ApiError> {
    key_below(PREFIX, raw_path)
}

/// The key in the one raw segment that follows the prefix.
pub(super) fn key_below(prefix: &str, raw_path: &str) -> Result<Key, ApiError> {
    let Some(segment) = raw_path.strip_prefix(prefix) else {
        return Err(ApiError::NoSuchResource);
    };
    if segment.contains('/') {
        return Err(ApiError::NoSuchResource);
    }
    let decoded = percent::decode(segment.as_bytes()).ok_or(ApiError::KeyInvalid)?;
    Key::new(Bytes::from(decoded.into_owned())).map_err(|refused| match refused {
        KeyError::Empty => ApiError::NoSuchResource,
        KeyError::TooLong => ApiError::KeyTooLong,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::api_error::Code;

    /// Seed defect 10: the decoded key was pasted into another URL. Here it is bytes from the first
    /// line on, and distinct escapes stay distinct keys.
    #[test]
    fn seed_defect_10_a_path_names_one_key_or_none() {
        let long = format!("/v1/{}", "%6B".repeat(1024));
        let too_long = format!("/v1/{}", "k".repeat(1025));
        let k = "k".repeat(1024);
        let rows: &[(&str, Result<&[u8], Code>)] = &[
            ("/v1/luke", Ok(b"luke")),
            ("/v1/a%2Fb", Ok(b"a/b")),
            ("/v1/a%252Fb", Ok(b"a%2Fb")),
            ("/v1/a/b", Err(Code::NoSuchResource)),
            ("/v1/a/", Err(Code::NoSuchResource)),
            ("/v1/", Err(Code::NoSuchResource)),
            ("/v1", Err(Code::NoSuchResource)),
            ("/%76%31/luke", Err(Code::NoSuchResource)),
            (
                "/v1/data%3Ffrom%3D0%26to%3D1023",
                Ok(b"data?from=0&to=1023"),
            ),
            ("/v1/%FF", Ok(b"\xff")),
            ("/v1/%C0%AF", Ok(b"\xc0\xaf")),
            ("/v1/%ED%A0%80", Ok(b"\xed\xa0\x80")),
            ("/v1/%00", Ok(b"\0")),
            ("/v1/a+b", Ok(b"a+b")),
            ("/v1/..", Ok(b"..")),
            ("/v1/%2e%2e", Ok(b"..")),
            ("/v1/..%2f..%2fetc", Ok(b"../../etc")),
            ("/v1/%zz", Err(Code::KeyInvalid)),
            ("/v1/%", Err(Code::KeyInvalid)),
            ("/v1/%2", Err(Code::KeyInvalid)),
            (&long, Ok(k.as_bytes())),
            (&too_long, Err(Code::KeyTooLong)),
        ];
        for (path, expected) in rows {
            let outcome = key_of(path);
            let outcome = outcome.as_ref().map(|key| key.as_bytes().as_ref());
            assert_eq!(outcome.map_err(ApiError::code), *expected, "{path}");
        }
    }

    #[test]
    fn composed_and_decomposed_letters_are_two_keys() {
        assert_ne!(key_of("/v1/%C3%A9").ok(), key_of("/v1/e%CC%81").ok());
    }
}
