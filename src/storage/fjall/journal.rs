//! Looks through the journals before the engine does. The engine cuts a journal where its framing
//! ends, because a crash leaves the last batch unfinished there; it would cut as quietly at a
//! flipped bit in the middle, and lose everything acknowledged behind it.
//!
//! ```text
//! batch = 1, u32 items, u64 number | item… | 3, u64 checksum, "FJL\x03"
//! item  = 2, kind, compression | u64 keyspace | u16 key | u32 value | u32 value as stored | key | value
//!       = 4, u64 keyspace
//! ```
//! All numbers are little-endian. Behind the last batch there are zeros, or what a crash left of a
//! batch: it ends early and has no end mark, or lacks sectors in its midst (see [`super::torn`]). The
//! engine checks the checksums itself, but for that one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::torn;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// Kinds of items: 0 sets, 1 and 2 remove.
const LAST_KIND: u8 = 2;
/// The one compression there is; 0 is none.
const LZ4: u8 = 1;
const MAGIC: [u8; 4] = *b"FJL\x03";
/// Length of a start mark.
pub(super) const START_BYTES: usize = 1 + 4 + 8;
/// Length of an end mark.
pub(super) const END_BYTES: usize = 1 + 8 + MAGIC.len();
/// Numbers of batches rise, and not by more than this from one to the next.
const LARGEST_STEP: u64 = 1 << 24;

/// Why the journals are not what was written.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    /// There is more behind a place that makes no sense.
    #[error("{} is damaged at byte {at}", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// Where the batch begins that is none.
        at: u64,
    },
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The journal, or their folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// How far a journal makes sense.
struct Walk {
    reader: BufReader<File>,
    /// The number of the last whole batch.
    last: Option<u64>,
}

/// What is at a place of a journal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// A batch, or a part of one, whose framing makes sense.
    Sound,
    /// What a crash may leave, if nothing follows it.
    Short,
    /// What no crash leaves.
    Wrong,
}

/// Checks every journal in the folder, which may not be there yet.
pub(super) fn inspect(folder: &Path) -> Result<(), JournalError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| JournalError::Io { path, source }
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(folder)(error)),
    };
    let mut journals = Vec::new();
    for entry in entries {
        let path = entry.map_err(io(folder))?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            journals.push((number(&path), path));
        }
    }
    journals.sort();
    let newest = journals.last().map(|(_, path)| path.clone());
    for (_, path) in journals {
        match verdict(&path).map_err(io(&path))? {
            Verdict::Sound => {}
            // Another one was begun only after this one was synced whole.
            Verdict::Torn(at) if newest.as_ref() == Some(&path) => {
                torn::cut(&path, at).map_err(io(&path))?;
            }
            Verdict::Torn(at) | Verdict::Damaged(at) => {
                return Err(JournalError::Damaged { path, at });
            }
        }
    }
    Ok(())
}

/// The number that a journal has for its name.
pub(super) fn number(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// What a journal is, and from where on.
enum Verdict {
    /// As it was written, or so that the engine sees for itself where it ends.
    Sound,
    /// Its last batch never reached the disk whole.
    Torn(u64),
    /// Not what was written.
    Damaged(u64),
}

fn verdict(path: &Path) -> io::Result<Verdict> {
    let reader = BufReader::with_capacity(1 << 16, File::open(path)?);
    let mut walk = Walk { reader, last: None };
    let (mut before, mut at) = (0, 0);
    let found = loop {
        match walk.batch()? {
            Found::Sound => (before, at) = (at, walk.reader.stream_position()?),
            found @ (Found::Short | Found::Wrong) => break found,
        }
    };
    let goes_on = !walk.rest()?.is_empty();
    walk.reader.seek(SeekFrom::Start(at))?;
    let rest = walk.rest()?;
    if found == Found::Short && !goes_on && !walk.has_an_end(&rest) {
        let last = torn::between(walk.reader.get_ref(), before, at)?;
        let torn = torn::lacks_a_sector(before, &last) && !torn::is_whole(&last);
        return Ok(if torn {
            Verdict::Torn(before)
        } else {
            Verdict::Sound
        });
    }
    let torn = torn::lacks_a_sector(at, &rest) && !walk.has_a_batch_behind(&rest);
    Ok(if torn {
        Verdict::Torn(at)
    } else {
        Verdict::Damaged(at)
    })
}

impl Walk {
    fn batch(&mut self) -> io::Result<Found> {
        match self.read_batch() {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Found::Short),
            other => other,
        }
    }

    fn read_batch(&mut self) -> io::Result<Found> {
        match self.u8()? {
            START => {}
            tag => return Ok(unwritten(tag)),
        }
        let (items, number) = (self.u32()?, self.u64()?);
        if !self.may_follow(number) {
            return Ok(Found::Short);
        }
        for _ in 0..items {
            match self.skip_item()? {
                Found::Sound => {}
                broken @ (Found::Short | Found::Wrong) => return Ok(broken),
            }
        }
        match self.u8()? {
            END => {}
            tag => return Ok(unwritten(tag)),
        }
        let (_checksum, magic) = (self.u64()?, self.bytes::<4>()?);
        if magic == MAGIC {
            self.last = Some(number);
            return Ok(Found::Sound);
        }
        let same = magic.iter().zip(MAGIC).take_while(|(a, b)| **a == *b);
        let zeros = magic.iter().rev().take_while(|byte| **byte == 0);
        Ok(if same.count() + zeros.count() < MAGIC.len() {
            Found::Wrong
        } else {
            Found::Short
        })
    }

    fn may_follow(&self, number: u64) -> bool {
        self.last
            .is_none_or(|last| number > last && number - last <= LARGEST_STEP)
    }

    fn skip_item(&mut self) -> io::Result<Found> {
        match self.u8()? {
            ITEM => {
                let (kind, compression, _keyspace) = (self.u8()?, self.u8()?, self.u64()?);
                let key = i64::from(u16::from_le_bytes(self.bytes()?));
                let (value, stored) = (self.u32()?, self.u32()?);
                if kind > LAST_KIND || compression > LZ4 {
                    return Ok(Found::Wrong);
                }
                if compression != LZ4 && value != stored {
                    return Ok(Found::Short);
                }
                self.reader.seek_relative(key + i64::from(stored))?;
                Ok(Found::Sound)
            }
            CLEAR => {
                self.u64()?;
                Ok(Found::Sound)
            }
            tag => Ok(unwritten(tag)),
        }
    }

    /// Whether there is an end mark in the rest, followed by the start of a batch or by nothing.
    fn has_an_end(&self, rest: &[u8]) -> bool {
        behind_ends(rest).any(|behind| behind.is_empty() || self.is_start(behind))
    }

    /// Whether there is an end mark in the rest, followed by the start of a batch.
    fn has_a_batch_behind(&self, rest: &[u8]) -> bool {
        behind_ends(rest).any(|behind| self.is_start(behind))
    }

    fn is_start(&self, bytes: &[u8]) -> bool {
        let number = bytes.get(5..).and_then(|rest| rest.first_chunk());
        bytes.first() == Some(&START)
            && number.is_some_and(|number| self.may_follow(u64::from_le_bytes(*number)))
    }

    /// Everything from here on but the zeros at the end, of which a new journal has very many.
    fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        let (mut zeros, mut taken) = (0, self.reader.fill_buf()?.to_vec());
        while !taken.is_empty() {
            self.reader.consume(taken.len());
            if taken.iter().all(|byte| *byte == 0) {
                zeros += taken.len();
            } else {
                rest.resize(rest.len() + std::mem::take(&mut zeros), 0);
                rest.append(&mut taken);
            }
            taken = self.reader.fill_buf()?.to_vec();
        }
        let used = rest.iter().rposition(|byte| *byte != 0);
        rest.truncate(used.map_or(0, |at| at + 1));
        Ok(rest)
    }

    fn u8(&mut self) -> io::Result<u8> {
        Ok(u8::from_le_bytes(self.bytes()?))
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// What follows each end mark.
fn behind_ends(rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    let marks = rest.windows(END_BYTES).enumerate();
    let ends = marks.filter(|(_, w)| w.first() == Some(&END) && w.ends_with(&MAGIC));
    ends.map(|(at, _)| rest.get(at + END_BYTES..).unwrap_or_default())
}

/// A zero where a tag should be was never written; any other byte there was.
fn unwritten(tag: u8) -> Found {
    if tag == 0 { Found::Short } else { Found::Wrong }
}
