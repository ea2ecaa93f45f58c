//! How many keys the store holds, kept exactly: a batch that changes the numbers carries them.

use bytes::{Buf, BufMut};

use super::identity::{VERSION, opened, sealed};
use super::{Change, Engine, IdentityError};

const COUNTS: &str = "counts";

/// What a record is to a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Presence {
    /// There is no record.
    #[default]
    Absent,
    /// It has a value.
    Live,
    /// All its values were deleted.
    Deleted,
}

/// Records by what they are to a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Keys with a value.
    pub live: u64,
    /// Keys of which only the delete is left.
    pub deleted: u64,
}

impl Counts {
    /// The numbers as of the last batch.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn read(engine: &dyn Engine) -> Result<Self, IdentityError> {
        let Some(stored) = engine.meta(COUNTS)? else {
            return Ok(Self::default());
        };
        let mut fields = opened(COUNTS, &stored, 16)?;
        Ok(Self {
            live: fields.get_u64(),
            deleted: fields.get_u64(),
        })
    }

    /// Moves one key from what it was to what it is.
    pub fn shift(&mut self, was: Presence, is: Presence) {
        if let Some(count) = self.of(was) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = self.of(is) {
            *count += 1;
        }
    }

    /// The change that stores them.
    #[must_use]
    pub fn change(&self) -> Change {
        let mut out = vec![VERSION];
        out.put_u64(self.live);
        out.put_u64(self.deleted);
        Change::Meta(COUNTS, sealed(out))
    }

    fn of(&mut self, presence: Presence) -> Option<&mut u64> {
        match presence {
            Presence::Absent => None,
            Presence::Live => Some(&mut self.live),
            Presence::Deleted => Some(&mut self.deleted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{MemoryEngine, Sync};

    #[test]
    fn counts_follow_the_keys_and_are_read_back() {
        use Presence::{Absent, Deleted, Live};
        let engine = MemoryEngine::default();
        let mut counts = Counts::read(&engine).unwrap();
        let steps = [
            (Absent, Live),
            (Absent, Live),
            (Absent, Deleted),
            (Live, Deleted),
            (Deleted, Absent),
        ];
        for (was, is) in steps {
            counts.shift(was, is);
        }
        assert_eq!((counts.live, counts.deleted), (1, 1));
        engine.commit(vec![counts.change()], Sync::Disk).unwrap();
        assert_eq!(Counts::read(&engine).unwrap(), counts);
    }
}
