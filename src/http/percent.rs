//! Percent-decoding as RFC 3986 has it, to bytes: an escape that is none is refused, and no two
//! texts with different bytes become one.

use std::borrow::Cow;

/// The bytes behind a text, or `None` if a `%` is not followed by two hex digits.
pub(super) fn decode(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(first) = text.iter().position(|&b| b == b'%') else {
        return Some(Cow::Borrowed(text));
    };
    let (plain, mut rest) = text.split_at_checked(first)?;
    let mut out = Vec::with_capacity(text.len());
    out.extend_from_slice(plain);
    while let Some((&byte, tail)) = rest.split_first() {
        rest = if byte == b'%' {
            let ([high, low], tail) = tail.split_first_chunk()?;
            out.push(digit(*high)? << 4 | digit(*low)?);
            tail
        } else {
            out.push(byte);
            tail
        };
    }
    Some(Cow::Owned(out))
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_decode_once_and_broken_ones_not_at_all() {
        let rows: &[(&str, Option<&[u8]>)] = &[
            ("plain", Some(b"plain")),
            ("", Some(b"")),
            ("a%2Fb", Some(b"a/b")),
            ("a%2fb", Some(b"a/b")),
            ("a%252Fb", Some(b"a%2Fb")),
            ("%FF%00%0d", Some(b"\xff\0\r")),
            ("a+b", Some(b"a+b")),
            ("%", None),
            ("%2", None),
            ("a%zz", None),
            ("%+1", None),
            ("%%41", None),
        ];
        for (text, expected) in rows {
            assert_eq!(decode(text.as_bytes()).as_deref(), *expected, "{text}");
        }
    }
}
