//! The id that follows a request through every node and log line. Nothing is decided by it.

use std::fmt;

/// Longest id.
pub const MAX_TRACE_BYTES: usize = 64;

/// 1 to 64 of `A–Z a–z 0–9 . _ -`. It is kept in place: it travels with every operation, and a copy
/// costs less than a share.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId {
    text: [u8; MAX_TRACE_BYTES],
    length: u8,
}

impl TraceId {
    /// Takes an id that is fit to be one.
    #[must_use]
    pub fn new(id: &str) -> Option<Self> {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let mut text = [0; MAX_TRACE_BYTES];
        let place = text.get_mut(..id.len())?;
        place.copy_from_slice(id.as_bytes());
        let length = u8::try_from(id.len()).ok()?;
        (length > 0 && id.bytes().all(is_plain)).then_some(Self { text, length })
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let text = self.text.get(..self.length.into()).unwrap_or_default();
        // Checked when it was made.
        std::str::from_utf8(text).unwrap_or_default()
    }
}

impl From<u64> for TraceId {
    fn from(number: u64) -> Self {
        let (mut text, mut length, mut rest) = ([0; MAX_TRACE_BYTES], 0, number);
        // The last digit first.
        for place in text.iter_mut().take(20) {
            *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            length += 1;
            if rest == 0 {
                break;
            }
        }
        if let Some(digits) = text.get_mut(..usize::from(length)) {
            digits.reverse();
        }
        Self { text, length }
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_an_id() {
        for number in [0, 7, 10, 1_234_567_890, u64::MAX] {
            assert_eq!(TraceId::from(number).as_str(), number.to_string());
        }
    }

    #[test]
    fn an_id_is_short_and_plain() {
        let long = "x".repeat(65);
        for (id, is_one) in [
            ("abc-1._Z", true),
            (&long[..64], true),
            (&long, false),
            ("", false),
            ("a b", false),
            ("a\"b", false),
            ("a\0", false),
            ("é", false),
        ] {
            let trace = TraceId::new(id);
            assert_eq!(trace.is_some(), is_one, "{id}");
            assert!(trace.is_none_or(|trace| trace.as_str() == id), "{id}");
        }
    }
}
