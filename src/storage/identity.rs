//! The durable facts about this node itself: which data directory this is, which life of it, how
//! the last run ended, and which epochs it may open.
//!
//! Each is one small value of the engine's metadata: a version byte, numbers, a CRC-32C.

use bytes::{Buf, BufMut, Bytes};

use super::{Change, Engine, EngineError};
use crate::dynamo::node_id::Incarnation;
use crate::dynamo::ring::ClusterId;
use crate::mutant::Mutant;

/// Epochs that one write to the disk makes available.
pub const EPOCH_BLOCK: u64 = 65_536;

const IDENTITY: &str = "identity";
const EPOCH_LEASE: &str = "epoch_lease";
pub(super) const VERSION: u8 = 1;

/// When an acknowledged write is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Before it is acknowledged.
    #[default]
    Always,
    /// At most 200 ms after it is acknowledged.
    Interval,
    /// When the operating system sees fit.
    Os,
}

/// Who this node is, as its data directory knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Names the data directory; random, made with it.
    pub data_id: u64,
    /// Names the life in which this node mints.
    pub incarnation: Incarnation,
    /// Rises with every start.
    pub boot: u64,
    /// Whether the last run ended with everything on the disk; false while one is under way.
    pub clean_shutdown: bool,
    /// What the current run promises, and in an unclean ending the last one did.
    pub durability: Durability,
    /// The cluster it has joined.
    pub cluster: Option<ClusterId>,
}

/// How a data directory was found at a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It is new.
    New,
    /// It holds all that was ever acknowledged.
    Whole,
    /// The last run was cut short and may have lost acknowledged writes; the incarnation is new.
    MayHaveLost,
}

/// Why the node's own facts cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A later program wrote them.
    #[error("this data directory's {0} has format {1}, written by a newer version of quorate")]
    Newer(&'static str, u8),
    /// One of them is damaged.
    #[error(
        "this data directory's {0} is damaged; remove the directory, and the node gets its \
        data back from the other nodes"
    )]
    Damaged(&'static str),
}

impl Identity {
    /// Reads the identity for a new run and makes the start durable: the boot number rises, and
    /// the incarnation is new when the last run may have lost what it acknowledged. A directory
    /// without an identity gets one.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn begin(
        engine: &dyn Engine,
        durability: Durability,
        mut random: impl FnMut() -> u64,
    ) -> Result<(Self, Found), IdentityError> {
        let (mut identity, found) = match Self::read(engine)? {
            None => (Self::fresh(durability, &mut random), Found::New),
            Some(last) if last.clean_shutdown || last.durability == Durability::Always => {
                (last, Found::Whole)
            }
            Some(last) => (last, Found::MayHaveLost),
        };
        if found == Found::MayHaveLost {
            identity.incarnation = Incarnation(random());
        }
        identity.boot += 1;
        identity.clean_shutdown = false;
        identity.durability = durability;
        engine.commit(vec![identity.change()], super::Sync::Disk)?;
        Ok((identity, found))
    }

    /// The change that stores it; to be committed with [`Sync::Disk`](super::Sync::Disk).
    #[must_use]
    pub fn change(&self) -> Change {
        let mut out = Vec::with_capacity(48);
        out.put_u8(VERSION);
        out.put_u64(self.data_id);
        out.put_u64(self.incarnation.0);
        out.put_u64(self.boot);
        out.put_u8(u8::from(self.clean_shutdown));
        out.put_u8(match self.durability {
            Durability::Always => 0,
            Durability::Interval => 1,
            Durability::Os => 2,
        });
        out.put_u8(u8::from(self.cluster.is_some()));
        out.put_u64(self.cluster.map_or(0, |cluster| cluster.0));
        Change::Meta(IDENTITY, sealed(out))
    }

    fn fresh(durability: Durability, random: &mut impl FnMut() -> u64) -> Self {
        Self {
            data_id: random(),
            incarnation: Incarnation(random()),
            boot: 0,
            clean_shutdown: true,
            durability,
            cluster: None,
        }
    }

    fn read(engine: &dyn Engine) -> Result<Option<Self>, IdentityError> {
        let Some(stored) = engine.meta(IDENTITY)? else {
            return Ok(None);
        };
        let mut fields = opened(IDENTITY, &stored, 35)?;
        let identity = Self {
            data_id: fields.get_u64(),
            incarnation: Incarnation(fields.get_u64()),
            boot: fields.get_u64(),
            clean_shutdown: fields.get_u8() == 1,
            durability: match fields.get_u8() {
                0 => Durability::Always,
                1 => Durability::Interval,
                2 => Durability::Os,
                _ => return Err(IdentityError::Damaged(IDENTITY)),
            },
            cluster: (fields.get_u8() == 1).then(|| ClusterId(fields.get_u64())),
        };
        Ok(Some(identity))
    }
}

/// The epochs this node may open: those from `next` up to, but not including, `end`. Whatever
/// lies below a stored end may have been used, so a restart goes on from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochLease {
    next: u64,
    end: u64,
}

impl EpochLease {
    /// The lease of a new run: empty, at the end of the last one's.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn resume(engine: &dyn Engine) -> Result<Self, IdentityError> {
        let end = match engine.meta(EPOCH_LEASE)? {
            Some(stored) => opened(EPOCH_LEASE, &stored, 8)?.get_u64(),
            None => 1,
        };
        let inside = u64::from(Mutant::LeaseResumedInside.is_chosen()) * EPOCH_BLOCK;
        let next = end.saturating_sub(inside).max(1);
        Ok(Self { next, end })
    }

    /// The first epoch that was never opened.
    #[must_use]
    pub fn next_epoch(&self) -> u64 {
        self.next
    }

    /// Takes an epoch, if one is left.
    pub fn take(&mut self) -> Option<u64> {
        let epoch = self.next;
        let left = epoch < self.end;
        self.next += u64::from(left);
        left.then_some(epoch)
    }

    /// Whether the next [`EpochLease::take`] finds nothing.
    #[must_use]
    pub fn is_used_up(&self) -> bool {
        self.next == self.end
    }

    /// This lease made longer by a block, and the change that must be on the disk before the
    /// longer lease is used.
    #[must_use]
    pub fn renewed(self) -> (Self, Change) {
        let end = self.end + EPOCH_BLOCK;
        let mut out = vec![VERSION];
        out.put_u64(end);
        (Self { end, ..self }, Change::Meta(EPOCH_LEASE, sealed(out)))
    }
}

pub(super) fn sealed(mut out: Vec<u8>) -> Bytes {
    out.put_u32(crc32c::crc32c(&out));
    out.into()
}

/// The fields of a stored value: `length` bytes of numbers.
pub(super) fn opened<'a>(
    name: &'static str,
    stored: &'a [u8],
    length: usize,
) -> Result<&'a [u8], IdentityError> {
    match opened_any(name, stored)? {
        fields if fields.len() == length => Ok(fields),
        _ => Err(IdentityError::Damaged(name)),
    }
}

/// The fields of a stored value, however many bytes there are.
pub(super) fn opened_any<'a>(
    name: &'static str,
    stored: &'a [u8],
) -> Result<&'a [u8], IdentityError> {
    let damaged = IdentityError::Damaged(name);
    let Some((body, sum)) = stored.split_last_chunk() else {
        return Err(damaged);
    };
    if crc32c::crc32c(body) != u32::from_be_bytes(*sum) {
        return Err(damaged);
    }
    match body.split_first() {
        Some((&VERSION, fields)) => Ok(fields),
        Some((&version, _)) if version > VERSION => Err(IdentityError::Newer(name, version)),
        Some(_) | None => Err(damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{MemoryEngine, Sync};

    fn counting() -> impl FnMut() -> u64 {
        let mut last = 100;
        move || {
            last += 1;
            last
        }
    }

    #[test]
    fn a_new_directory_gets_an_identity_that_stays() {
        let engine = MemoryEngine::default();
        let mut random = counting();
        let (first, found) = Identity::begin(&engine, Durability::Always, &mut random).unwrap();
        assert_eq!((found, first.boot, first.cluster), (Found::New, 1, None));
        assert_ne!(first.data_id, first.incarnation.0);
        let cluster = Some(ClusterId(7));
        let joined = Identity { cluster, ..first };
        engine.commit(vec![joined.change()], Sync::Disk).unwrap();
        let (second, found) = Identity::begin(&engine, Durability::Always, &mut random).unwrap();
        assert_eq!(
            (found, second),
            (Found::Whole, Identity { boot: 2, ..joined })
        );
    }

    #[test]
    fn the_incarnation_is_new_only_after_a_run_that_may_have_lost_what_it_acknowledged() {
        let rows = [
            (Durability::Always, false, Found::Whole),
            (Durability::Always, true, Found::Whole),
            (Durability::Interval, false, Found::MayHaveLost),
            (Durability::Interval, true, Found::Whole),
            (Durability::Os, false, Found::MayHaveLost),
            (Durability::Os, true, Found::Whole),
        ];
        for (durability, clean_shutdown, expected) in rows {
            let engine = MemoryEngine::default();
            let mut random = counting();
            let (last, _) = Identity::begin(&engine, durability, &mut random).unwrap();
            let ended = Identity {
                clean_shutdown,
                ..last
            };
            engine.commit(vec![ended.change()], Sync::Disk).unwrap();
            let row = format!("{durability:?}, clean: {clean_shutdown}");
            let (now, found) = Identity::begin(&engine, Durability::Os, &mut random).unwrap();
            assert_eq!(found, expected, "{row}");
            let renewed = now.incarnation != last.incarnation;
            assert_eq!(renewed, expected == Found::MayHaveLost, "{row}");
            assert_eq!((now.data_id, now.boot), (last.data_id, 2), "{row}");
            assert!(
                !now.clean_shutdown && now.durability == Durability::Os,
                "{row}"
            );
        }
    }

    #[test]
    fn epochs_are_leased_before_use_and_never_given_twice() {
        let engine = MemoryEngine::default();
        let lease = EpochLease::resume(&engine).unwrap();
        assert!(lease.is_used_up());
        let (mut lease, change) = lease.renewed();
        engine.commit(vec![change], Sync::Disk).unwrap();
        assert_eq!((lease.take(), lease.take()), (Some(1), Some(2)));
        assert_eq!(lease.next_epoch(), 3);
        let mut after = EpochLease::resume(&engine).unwrap();
        assert_eq!((after.next_epoch(), after.take()), (1 + EPOCH_BLOCK, None));
        let rest = std::iter::from_fn(|| lease.take()).count();
        assert_eq!((rest as u64, lease.is_used_up()), (EPOCH_BLOCK - 2, true));
    }

    #[test]
    fn damage_and_newer_formats_are_told_apart() {
        let engine = MemoryEngine::default();
        let begin = || Identity::begin(&engine, Durability::Always, counting());
        let (identity, _) = begin().unwrap();
        let Change::Meta(name, good) = identity.change() else {
            panic!("an identity is metadata")
        };
        let body = &good[..good.len() - 4];
        let with = |at: usize, byte: u8| {
            let mut bytes = body.to_vec();
            bytes[at] = byte;
            sealed(bytes)
        };
        let mut flipped = good.to_vec();
        flipped[3] ^= 1;
        let rows: [(&str, Bytes, &str); 6] = [
            ("flipped", flipped.into(), "damaged"),
            ("short", good.slice(..2), "damaged"),
            ("cut", sealed(body[..20].to_vec()), "damaged"),
            ("mode", with(26, 9), "damaged"),
            ("old", with(0, 0), "damaged"),
            ("newer", with(0, 2), "newer version"),
        ];
        for (row, bytes, expected) in rows {
            engine
                .commit(vec![Change::Meta(name, bytes)], Sync::Disk)
                .unwrap();
            let error = begin().unwrap_err().to_string();
            assert!(error.contains(expected), "{row}: {error}");
        }
    }
}
