//! The few things of an HTTP/1.1 response that this program's own servers say: status, length, and
//! whether the connection stays.

use std::str;

/// Longest head in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Longest body in bytes: a hundred siblings of 1 MiB, and some.
const MAX_BODY_BYTES: usize = 128 * 1024 * 1024;

/// The framing of a response whose head has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// Its status.
    pub(super) status: u16,
    /// Where its body begins.
    pub(super) head: usize,
    /// How long its body is.
    pub(super) body: usize,
    /// Whether the connection ends with it.
    pub(super) close: bool,
}

/// The bytes are not a response this program reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// The first line.
    #[error("not an HTTP/1.1 response")]
    StatusLine,
    /// A head without end.
    #[error("a response head of more than 64 KiB")]
    HeadTooLong,
    /// No length, two lengths, or one that is not a number.
    #[error("a response without one plain content-length")]
    Length,
    /// A length beyond all bounds.
    #[error("a response of more than 128 MiB")]
    BodyTooLong,
}

/// Reads the head at the front of the bytes; `None` while it is not there whole.
pub(super) fn frame(bytes: &[u8]) -> Result<Option<Frame>, Malformed> {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
        return if bytes.len() > MAX_HEAD_BYTES {
            Err(Malformed::HeadTooLong)
        } else {
            Ok(None)
        };
    };
    let head = bytes.get(..end).unwrap_or_default();
    let status = status(head).ok_or(Malformed::StatusLine)?;
    let body = match status {
        100..=199 | 204 | 304 => 0,
        _ => length(head)?,
    };
    let close = header(head, "connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
    Ok(Some(Frame {
        status,
        head: end + 4,
        body,
        close,
    }))
}

fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.1 ")?;
    let digits = rest.get(..3)?;
    let ends = rest.get(3).is_none_or(|b| matches!(b, b' ' | b'\r'));
    let status = str::from_utf8(digits).ok()?.parse().ok()?;
    (ends && (100..600).contains(&status)).then_some(status)
}

fn length(head: &[u8]) -> Result<usize, Malformed> {
    let mut lengths = headers(head, "content-length");
    let (Some(text), None) = (lengths.next(), lengths.next()) else {
        return Err(Malformed::Length);
    };
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Malformed::Length);
    }
    match text.parse() {
        Ok(length) if length <= MAX_BODY_BYTES => Ok(length),
        _ => Err(Malformed::BodyTooLong),
    }
}

/// The first header of this name.
pub(super) fn header<'a>(head: &'a [u8], name: &'a str) -> Option<&'a str> {
    headers(head, name).next()
}

fn headers<'a>(head: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = head.split(|b| *b == b'\n').skip(1);
    let fields = lines.filter_map(|line| str::from_utf8(line).ok()?.split_once(':'));
    fields
        .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_framed_by_their_length() {
        let framed = |status, head, body, close| {
            Ok(Some(Frame {
                status,
                head,
                body,
                close,
            }))
        };
        let rows: [(&str, Result<Option<Frame>, Malformed>); 15] = [
            ("", Ok(None)),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n", Ok(None)),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
                framed(200, 38, 5, false),
            ),
            (
                "HTTP/1.1 404 Not Found\r\nContent-Length:0\r\nConnection: close\r\n\r\n",
                framed(404, 63, 0, true),
            ),
            ("HTTP/1.1 204 No Content\r\n\r\n", framed(204, 27, 0, false)),
            (
                "HTTP/1.1 503\r\ncontent-length: 1\r\n\r\n",
                framed(503, 35, 1, false),
            ),
            ("HTTP/1.0 200 OK\r\n\r\n", Err(Malformed::StatusLine)),
            ("HTTP/1.1 2000 OK\r\n\r\n", Err(Malformed::StatusLine)),
            ("HTTP/1.1 +20 OK\r\n\r\n", Err(Malformed::StatusLine)),
            ("SSH-2.0-x\r\n\r\n", Err(Malformed::StatusLine)),
            ("HTTP/1.1 200 OK\r\n\r\n", Err(Malformed::Length)),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
                Err(Malformed::Length),
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
                Err(Malformed::Length),
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 134217729\r\n\r\n",
                Err(Malformed::BodyTooLong),
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
                Err(Malformed::BodyTooLong),
            ),
        ];
        for (text, want) in rows {
            assert_eq!(frame(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn a_head_without_end_is_refused() {
        let endless = vec![b'x'; MAX_HEAD_BYTES + 1];
        assert_eq!(frame(&endless), Err(Malformed::HeadTooLong));
    }

    #[test]
    fn a_head_that_arrives_byte_by_byte_is_framed_once() {
        let text = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}";
        let whole = frame(text).unwrap().unwrap();
        for n in 0..text.len() {
            let seen = frame(&text[..n]).unwrap();
            assert_eq!(seen.is_some(), n >= whole.head, "{n}");
        }
    }

    #[test]
    fn headers_are_found_in_any_case() {
        let head = b"HTTP/1.1 200 OK\r\nX-Quorate-Acks:  home=2,hinted=0 \r\nA: b";
        assert_eq!(header(head, "x-quorate-acks"), Some("home=2,hinted=0"));
        assert_eq!(header(head, "a"), Some("b"));
        assert_eq!(header(head, "http/1.1 200 ok"), None);
    }
}
