//! The last batch of a journal after the power has gone. What is written between two syncs may
//! reach the disk in any order, in sectors, so a later part of that batch may be there and an
//! earlier one not. Nobody was told that it is done, and the engine would take the whole journal
//! for damaged: it is cut off here.
//!
//! A part that never reached the disk is zeros, as the file was before. That is looked for in what
//! makes no sense and nowhere else: a sound batch may hold anything.

use std::fs::{File, OpenOptions};
use std::hash::Hasher;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use super::journal::{END_BYTES, START_BYTES};

/// What a disk writes as a whole.
const SECTOR: usize = 512;
/// Of its first bytes, so many hold two that are not zero: no flipped bit makes zeros of them.
const FEWEST: usize = 4;

/// Whether some sector of what begins at this place of a file was never written.
pub(super) fn lacks_a_sector(at: u64, bytes: &[u8]) -> bool {
    let in_sector = usize::try_from(at % SECTOR as u64).unwrap_or(0);
    let first = bytes.len().min(SECTOR - in_sector);
    let (first, others) = bytes.split_at_checked(first).unwrap_or_default();
    let unwritten = |part: &[u8]| part.len() >= FEWEST && part.iter().all(|byte| *byte == 0);
    unwritten(first) || others.chunks(SECTOR).any(unwritten)
}

/// Whether a batch whose framing makes sense is the one that was written.
pub(super) fn is_whole(batch: &[u8]) -> bool {
    let end = batch.len().saturating_sub(END_BYTES);
    let (Some(items), Some(end)) = (batch.get(START_BYTES..end), batch.get(end..)) else {
        return false;
    };
    let mut hasher = Xxh3::default();
    hasher.write(items);
    let noted = end.get(1..).and_then(|rest| rest.first_chunk());
    noted.is_some_and(|noted| u64::from_le_bytes(*noted) == hasher.finish())
}

/// Cuts a journal off, durably.
pub(super) fn cut(path: &Path, at: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(at)?;
    file.sync_all()
}

/// What stands between two places of a file.
pub(super) fn between(file: &File, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes)
}
