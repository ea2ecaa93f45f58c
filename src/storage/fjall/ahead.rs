//! Writes zeros into the journal ahead of the engine. The engine makes a journal as one long hole,
//! so that a sync would nearly always have to note new blocks of the file beside its data; with
//! blocks that are there already it writes the data and nothing else. What the file holds is the
//! same: zeros behind the last batch.
//!
//! Only what is still a hole is written, and the engine writes from front to back, so no batch is
//! in the way. A journal that was opened anew after a restart has no hole, and grows until the
//! engine begins the next.

use std::fs::{File, OpenOptions, read_dir};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{SeekFrom, seek};

use super::journal::number;

/// Written at once; the commit that it falls to takes so much longer.
pub(super) const CHUNK: usize = 512 * 1024;

static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// How far the journal is filled.
#[derive(Debug)]
pub(super) struct Ahead {
    folder: PathBuf,
    /// Bytes that are ready, as far as is known.
    ready: AtomicU64,
}

impl Ahead {
    /// For the journals in a folder.
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            ready: AtomicU64::new(0),
        }
    }

    /// Before about so many bytes are committed, by the thread that commits. If it does not work,
    /// for want of space or because the filesystem knows no holes, syncs take longer and nothing
    /// else.
    pub(super) fn make_ready(&self, bytes: u64) {
        let ready = self.ready.load(Ordering::Relaxed);
        let left = ready.checked_sub(bytes).unwrap_or_else(|| {
            drop(self.fill());
            (CHUNK as u64).saturating_sub(bytes)
        });
        self.ready.store(left, Ordering::Relaxed);
    }

    fn fill(&self) -> io::Result<()> {
        let Some(journal) = newest(&self.folder)? else {
            return Ok(());
        };
        let file = OpenOptions::new().write(true).open(journal)?;
        let (from, end) = (first_hole(&file)?, file.metadata()?.len());
        let fits = usize::try_from(end.saturating_sub(from)).unwrap_or(CHUNK);
        let zeros = ZEROS.get(..fits.min(CHUNK)).unwrap_or_default();
        file.write_all_at(zeros, from)
    }
}

/// The journal that the engine writes to: the one with the highest number.
pub(super) fn newest(folder: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            newest = newest.max(number(&path).map(|number| (number, path)));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// Where nothing was ever written; the end of the file if there is no such place.
pub(super) fn first_hole(file: &File) -> io::Result<u64> {
    Ok(seek(file, SeekFrom::Hole(0))?)
}
