//! What a client has seen of a key, and which of those writes may have been tried twice.

use super::state::trim;
use super::{Body, Context, Reason, Remembered, RequestId, State};

/// How many requests a clock names, lest it grow longer than a client may send.
const MOST: usize = 16;

/// What a client has seen of one key.
///
/// A request that two owners minted is one write under two dots. A replica that holds one of them
/// and is told of the other by its dot alone could not tell that they are one, and would keep what
/// was replaced; so the clock names the requests of the writes of which there may be another attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Clock {
    /// The writes.
    pub seen: Context,
    /// The requests of some of them, sorted by dot.
    pub remembered: Vec<Remembered>,
}

impl Clock {
    /// The clock of whoever has read this state. It names what is shown, unless no other owner can
    /// have been asked for it, and what others certainly have been asked for.
    #[must_use]
    pub fn of(state: &State) -> Self {
        let held = |r: &Remembered| {
            let mut siblings = state.siblings.iter();
            siblings.any(|s| s.dot == r.dot && matches!(s.body, Body::Value(_)))
        };
        let named = state.remembered.iter();
        let mut clock = Self::from(state.context.clone());
        clock.name(named.filter(|r| r.reason == Reason::Doubtful || held(r)));
        clock
    }

    /// Names the requests of more of its writes.
    pub(super) fn name<'a>(&mut self, more: impl IntoIterator<Item = &'a Remembered>) {
        let named = &mut self.remembered;
        named.extend(more);
        // The last reason of a write is the best to be remembered for.
        named.sort_unstable_by(|a, b| b.cmp(a));
        named.dedup_by_key(|r| r.dot);
        named.reverse();
        while named.len() > MOST {
            let least = named.iter().position(|r| r.reason != Reason::Doubtful);
            named.remove(least.unwrap_or(0));
        }
    }

    /// Keeps of each actor what the holder's next writes can still be in need of: without this, a
    /// client that never reads would name more requests with every write.
    pub(super) fn forget_all_but_the_last(&mut self) {
        trim(&mut self.remembered, Reason::most_handed_on, |_| {});
    }

    /// Whether it has seen an attempt of this request.
    pub(super) fn knows(&self, request: RequestId) -> bool {
        self.remembered.iter().any(|r| r.request == request)
    }
}

impl From<Context> for Clock {
    fn from(seen: Context) -> Self {
        Self {
            seen,
            remembered: Vec::new(),
        }
    }
}
