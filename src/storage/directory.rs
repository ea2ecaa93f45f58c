//! The data directory: one process at a time, one node, one format.
//!
//! ```text
//! LOCK     held while in use; says by whom
//! node     the name of the node it belongs to
//! format   what this program needs to know to read the rest; written last, so its presence
//!          means that the directory is set up
//! records/ the engine's
//! left     why this node is no member any more; while it is there, the directory is not opened
//! records-kept-1/ …  what the engine kept of earlier memberships; nothing reads it
//! ```

mod aside;

pub use aside::Readmission;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::ClusterId;

const LOCK: &str = "LOCK";
const NODE: &str = "node";
const FORMAT: &str = "format";
const RECORDS: &str = "records";
const LEFT: &str = "left";
/// What a file system of its own brings along.
const LOST_AND_FOUND: &str = "lost+found";
const FORMAT_PREFIX: &str = "quorate data directory, format ";
const FORMAT_VERSION: u32 = 1;

/// A data directory that no other process uses, for as long as this value lives.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    /// Closing the file releases the lock.
    _lock: File,
}

/// Why a data directory cannot be used. The texts are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process has it.
    #[error("data directory {} is in use by {holder}; stop it, or give --data-dir another \
        directory", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who holds it, from the lock file.
        holder: String,
    },
    /// It belongs to another node.
    #[error("data directory {} belongs to node {found}, not to {wanted}; use --name {found}, or \
        give --data-dir another directory", path.display())]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who asked for it.
        wanted: NodeId,
    },
    /// It belongs to another cluster.
    #[error("data directory {} belongs to cluster {found}, not to {wanted}; give --data-dir an \
        empty directory to join that one", path.display())]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: ClusterId,
        /// The cluster that was to be joined.
        wanted: ClusterId,
    },
    /// Its node has left its cluster.
    #[error("data directory {}: {why}; its data is kept in there, and not used any more. To make \
        it a new member of the same name: quorate cluster rejoin --data-dir {}", path.display(),
        path.display())]
    Left {
        /// The directory.
        path: PathBuf,
        /// What was noted when it left.
        why: String,
    },
    /// A later program wrote it.
    #[error("data directory {} has format {found}, and this version of quorate reads format \
        {FORMAT_VERSION}; start a newer version", path.display())]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It holds something else.
    #[error("{} is not a quorate data directory: it holds {found:?}; give --data-dir an empty \
        or new directory", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What was found there.
        found: String,
    },
    /// One of its files makes no sense.
    #[error("{} is damaged; remove the data directory, and the node gets its data back from the \
        other nodes", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl DataDirectory {
    /// Takes the directory for this process and node, and sets it up if it is new or empty. `pid`
    /// is what others are told while it is in use.
    ///
    /// # Errors
    /// [`DirectoryError`], and then nothing in it has changed.
    pub fn open(path: &Path, node: &NodeId, pid: u32) -> Result<Self, DirectoryError> {
        std::fs::create_dir_all(path).map_err(io_error("create", path))?;
        refuse_foreign(path)?;
        let lock = take_lock(path, node, pid)?;
        match read_if_there(&path.join(FORMAT))? {
            Some(format) => check_format(path, &format)?,
            None => set_up(path, node)?,
        }
        check_node(path, node)?;
        if let Some(why) = read_if_there(&path.join(LEFT))? {
            return Err(DirectoryError::Left {
                path: path.to_owned(),
                why: why.trim_end().to_owned(),
            });
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Where the engine keeps its files.
    #[must_use]
    pub fn records(&self) -> PathBuf {
        self.path.join(RECORDS)
    }

    /// Refuses to serve a cluster other than the one the data came from, if that is known.
    ///
    /// # Errors
    /// [`DirectoryError::OtherCluster`].
    pub fn check_cluster(
        &self,
        known: Option<ClusterId>,
        wanted: ClusterId,
    ) -> Result<(), DirectoryError> {
        match known {
            Some(found) if found != wanted => Err(DirectoryError::OtherCluster {
                path: self.path.clone(),
                found,
                wanted,
            }),
            Some(_) | None => Ok(()),
        }
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |source| DirectoryError::Io {
        doing,
        path,
        source,
    }
}

/// A directory without a format file may hold only what a set-up that was cut short leaves.
fn refuse_foreign(path: &Path) -> Result<(), DirectoryError> {
    if read_if_there(&path.join(FORMAT))?.is_some() {
        return Ok(());
    }
    let mut ours: Vec<String> = [LOCK, NODE, FORMAT, LOST_AND_FOUND]
        .map(str::to_owned)
        .into();
    ours.extend([NODE, FORMAT].map(|name| format!("{name}.new")));
    for entry in std::fs::read_dir(path).map_err(io_error("list", path))? {
        let name = entry.map_err(io_error("list", path))?.file_name();
        let found = name.to_string_lossy().into_owned();
        if !ours.contains(&found) {
            let path = path.to_owned();
            return Err(DirectoryError::Foreign { path, found });
        }
    }
    Ok(())
}

fn take_lock(path: &Path, node: &NodeId, pid: u32) -> Result<File, DirectoryError> {
    let at = path.join(LOCK);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&at).map_err(io_error("open", &at))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)
                .map_err(io_error("read", &at))?;
            return Err(DirectoryError::InUse {
                path: path.to_owned(),
                holder: holder.trim_end().to_owned(),
            });
        }
        Err(TryLockError::Error(source)) => return Err(io_error("lock", &at)(source)),
    }
    let holder = format!("process {pid} (node {node})\n");
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(holder.as_bytes()))
        .map_err(io_error("write", &at))?;
    Ok(file)
}

fn set_up(path: &Path, node: &NodeId) -> Result<(), DirectoryError> {
    let format = format!("{FORMAT_PREFIX}{FORMAT_VERSION}\n");
    for (name, text) in [(NODE, format!("{node}\n")), (FORMAT, format)] {
        let at = path.join(name);
        write_whole(&at, &text).map_err(io_error("write", &at))?;
        let synced = File::open(path).and_then(|directory| directory.sync_all());
        synced.map_err(io_error("sync", path))?;
    }
    Ok(())
}

/// Leaves either the whole file or none.
fn write_whole(at: &Path, text: &str) -> io::Result<()> {
    let new = at.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(new, at)
}

fn read_if_there(at: &Path) -> Result<Option<String>, DirectoryError> {
    match std::fs::read_to_string(at) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // Not UTF-8, which it was when it was written.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(DirectoryError::Damaged {
            path: at.to_owned(),
        }),
        Err(error) => Err(io_error("read", at)(error)),
    }
}

fn check_format(path: &Path, text: &str) -> Result<(), DirectoryError> {
    let number = text.trim_end().strip_prefix(FORMAT_PREFIX);
    match number.and_then(|digits| digits.parse().ok()) {
        Some(FORMAT_VERSION) => Ok(()),
        Some(found) if found > FORMAT_VERSION => Err(DirectoryError::NewerFormat {
            path: path.to_owned(),
            found,
        }),
        Some(_) | None => Err(DirectoryError::Damaged {
            path: path.join(FORMAT),
        }),
    }
}

fn check_node(path: &Path, node: &NodeId) -> Result<(), DirectoryError> {
    let at = path.join(NODE);
    let Some(text) = read_if_there(&at)? else {
        return Err(DirectoryError::Damaged { path: at });
    };
    let found = text.trim_end();
    if found == node.as_str() {
        return Ok(());
    }
    Err(DirectoryError::OtherNode {
        path: path.to_owned(),
        found: found.to_owned(),
        wanted: node.clone(),
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn open(dir: &TempDir, name: &str) -> Result<DataDirectory, String> {
        DataDirectory::open(dir.path(), &node(name), 42).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn refused(dir: &TempDir, name: &str, expected: &str) {
        let text = open(dir, name).unwrap_err();
        assert!(text.contains(expected), "{text}");
        assert!(text.contains(dir.path().to_str().unwrap()), "{text}");
    }

    #[test]
    fn a_directory_is_made_and_opened_again_by_its_node() {
        let dir = TempDir::new().unwrap();
        let inner = dir.path().join("a/b");
        for _ in 0..2 {
            let opened = DataDirectory::open(&inner, &node("n1"), 1).unwrap();
            assert!(opened.records().starts_with(&inner));
        }
    }

    #[test]
    fn a_directory_in_use_is_refused_and_the_holder_named() {
        let dir = TempDir::new().unwrap();
        let held = open(&dir, "n1").unwrap();
        refused(&dir, "n1", "in use by process 42 (node n1)");
        refused(&dir, "n2", "in use by process 42 (node n1)");
        drop(held);
        assert!(open(&dir, "n1").is_ok());
    }

    #[test]
    fn a_directory_of_another_node_is_refused_and_named() {
        let dir = TempDir::new().unwrap();
        drop(open(&dir, "n1").unwrap());
        refused(&dir, "n2", "belongs to node n1, not to n2");
        assert!(open(&dir, "n1").is_ok());
    }

    #[test]
    fn a_directory_of_another_cluster_is_refused_once_its_own_is_known() {
        let dir = TempDir::new().unwrap();
        let opened = open(&dir, "n1").unwrap();
        let (a, b) = (ClusterId(1), ClusterId(2));
        assert!(opened.check_cluster(None, b).is_ok());
        assert!(opened.check_cluster(Some(b), b).is_ok());
        let text = opened.check_cluster(Some(a), b).unwrap_err().to_string();
        let expected = "belongs to cluster 0000000000000001, not to 0000000000000002";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn formats_that_cannot_be_read_are_refused() {
        let dir = TempDir::new().unwrap();
        drop(open(&dir, "n1").unwrap());
        let rows = [
            ("quorate data directory, format 2\n", "has format 2"),
            ("quorate data directory, format x\n", "damaged"),
            ("", "damaged"),
        ];
        for (text, expected) in rows {
            std::fs::write(dir.path().join(FORMAT), text).unwrap();
            refused(&dir, "n1", expected);
        }
    }

    #[test]
    fn a_directory_of_something_else_is_refused_and_left_alone() {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("thesis.tex"), "x").unwrap();
        refused(&dir, "n1", "thesis.tex");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_set_up_that_was_cut_short_is_finished() {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join(LOCK), "process 1").unwrap();
        std::fs::write(dir.path().join(NODE), "n1\n").unwrap();
        std::fs::write(dir.path().join("format.new"), "quo").unwrap();
        std::fs::create_dir(dir.path().join(LOST_AND_FOUND)).unwrap();
        assert!(open(&dir, "n1").is_ok());
    }

    #[test]
    fn a_lost_name_file_is_damage() {
        let dir = TempDir::new().unwrap();
        drop(open(&dir, "n1").unwrap());
        std::fs::remove_file(dir.path().join(NODE)).unwrap();
        refused(&dir, "n1", "damaged");
    }

    #[test]
    fn what_the_system_refuses_is_told() {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let error = DataDirectory::open(&file, &node("n1"), 1).unwrap_err();
        assert!(error.to_string().starts_with("cannot create"), "{error}");
    }
}
