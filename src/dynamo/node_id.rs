//! Who a node is: its name, given by the operator, and its incarnation, made with its data.

use std::fmt;
use std::sync::Arc;

/// Longest node name in bytes.
pub const MAX_NAME_BYTES: usize = 63;

/// A node's name: 1 to 63 of `A–Z a–z 0–9 . _ -`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(Arc<str>);

/// The text is not a node name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidNodeId;

impl NodeId {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`InvalidNodeId`] when the text is empty, too long, or has another character.
    pub fn new(name: &str) -> Result<Self, InvalidNodeId> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(plain) {
            Ok(Self(name.into()))
        } else {
            Err(InvalidNodeId)
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A random number made with the data directory, and made anew whenever the store may have gone
/// back in time; two lives of a node that could disagree never share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for good in ["n1", "cart-3.eu_west", &"x".repeat(63)] {
            assert_eq!(NodeId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "ä", "a/b", &"x".repeat(64)] {
            assert_eq!(NodeId::new(bad), Err(InvalidNodeId), "{bad:?}");
        }
    }
}
