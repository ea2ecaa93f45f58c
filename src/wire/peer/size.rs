//! About how large operations and their results are in a message.

use bytes::Bytes;

use super::{Action, Done};
use crate::dynamo::version::Body;

impl Action {
    /// About how many bytes it takes in a message.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Read => 64,
            Self::Write(state) => 64 + state.len(),
            Self::Mint(mint) => {
                let merged = mint.merged.iter().flat_map(|state| &state.siblings);
                let merged = merged.map(|sibling| 64 + length(&sibling.body));
                256 + length(&mint.body) + merged.sum::<usize>()
            }
        }
    }
}

fn length(body: &Body) -> usize {
    match body {
        Body::Value(value) => value.len(),
        Body::Tombstone => 0,
    }
}

impl Done {
    /// About how many bytes it takes in a message.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Read(state) => 64 + state.as_ref().map_or(0, Bytes::len),
            Self::Written | Self::RequestReused => 64,
            Self::Minted(state, ..)
            | Self::AlreadyExists(state)
            | Self::NothingToDelete(state)
            | Self::TooManySiblings(state) => 256 + state.len(),
        }
    }
}
