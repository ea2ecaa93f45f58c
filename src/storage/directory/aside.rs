//! Data of a node that is no member any more: kept, and never used again by itself.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::{DataDirectory, DirectoryError, LEFT, RECORDS, io_error, read_if_there, write_whole};

impl DataDirectory {
    /// Moves the engine's files aside, within the directory, and notes why: until
    /// [`Readmission::carry_out`] the directory is not opened any more. Gives where they are.
    ///
    /// # Errors
    /// [`DirectoryError::Io`].
    pub fn retire(&self, why: &str) -> Result<PathBuf, DirectoryError> {
        let kept = free_name(&self.path);
        set_aside(&self.path, &kept)?;
        let note = self.path.join(LEFT);
        write_whole(&note, &format!("{why}\n")).map_err(io_error("write", &note))?;
        Ok(kept)
    }

    /// What it takes to make the directory one of a new node of the same name. It must not be in
    /// use, and is not while the result lives.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn readmission(path: &Path, pid: u32) -> Result<Readmission, DirectoryError> {
        let named = path.join(super::NODE);
        let name = read_if_there(&named)?.ok_or(DirectoryError::Damaged {
            path: named.clone(),
        })?;
        let name = name.trim_end().to_owned();
        let node = crate::dynamo::node_id::NodeId::new(&name)
            .map_err(|_invalid| DirectoryError::Damaged { path: named })?;
        let lock = super::take_lock(path, &node, pid)?;
        let has_records = path.join(RECORDS).exists();
        Ok(Readmission {
            name,
            kept: has_records.then(|| free_name(path)),
            path: path.to_owned(),
            _lock: lock,
        })
    }
}

/// A directory that is to be one of a new node of the same name.
#[derive(Debug)]
pub struct Readmission {
    /// The node.
    pub name: String,
    /// Where what the directory holds goes, within the directory; `None` if it holds nothing.
    pub kept: Option<PathBuf>,
    path: PathBuf,
    _lock: File,
}

impl Readmission {
    /// Makes it so.
    ///
    /// # Errors
    /// [`DirectoryError::Io`].
    pub fn carry_out(&self) -> Result<(), DirectoryError> {
        if let Some(kept) = &self.kept {
            set_aside(&self.path, kept)?;
        }
        let left = self.path.join(LEFT);
        if left.exists() {
            std::fs::remove_file(&left).map_err(io_error("remove", &left))?;
        }
        Ok(())
    }
}

/// The first free name after `records-kept-`.
fn free_name(path: &Path) -> PathBuf {
    let names = (1_u32..).map(|n| path.join(format!("{RECORDS}-kept-{n}")));
    let kept = names.into_iter().find(|name| !name.exists());
    kept.unwrap_or_else(|| path.join(format!("{RECORDS}-kept")))
}

fn set_aside(path: &Path, kept: &Path) -> Result<(), DirectoryError> {
    let records = path.join(RECORDS);
    std::fs::rename(&records, kept).map_err(io_error("move aside", &records))?;
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(io_error("sync", path))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::dynamo::node_id::NodeId;

    #[test]
    fn a_directory_that_has_left_keeps_its_data_and_is_opened_only_after_it_is_readmitted() {
        let dir = TempDir::new().unwrap();
        let node = NodeId::new("n1").unwrap();
        let opened = DataDirectory::open(dir.path(), &node, 1).unwrap();
        std::fs::create_dir(opened.records()).unwrap();
        std::fs::write(opened.records().join("0.jnl"), "data").unwrap();
        let kept = opened.retire("n1 left the cluster in epoch 7").unwrap();
        drop(opened);
        assert_eq!(std::fs::read(kept.join("0.jnl")).unwrap(), b"data");
        let refused = DataDirectory::open(dir.path(), &node, 1)
            .unwrap_err()
            .to_string();
        assert!(refused.contains("left the cluster in epoch 7"), "{refused}");
        assert!(
            refused.contains("quorate cluster rejoin --data-dir"),
            "{refused}"
        );
        let again = DataDirectory::readmission(dir.path(), 1).unwrap();
        assert_eq!((again.name.as_str(), &again.kept), ("n1", &None));
        drop(again);
        let refused = DataDirectory::open(dir.path(), &node, 1);
        assert!(refused.is_err(), "nothing was done yet");
        let again = DataDirectory::readmission(dir.path(), 1).unwrap();
        again.carry_out().unwrap();
        drop(again);
        let again = DataDirectory::open(dir.path(), &node, 1).unwrap();
        assert!(!again.records().exists() && kept.exists());
        std::fs::create_dir(again.records()).unwrap();
        let in_use = DataDirectory::readmission(dir.path(), 1)
            .unwrap_err()
            .to_string();
        assert!(in_use.contains("in use"), "{in_use}");
        drop(again);
        let second = DataDirectory::readmission(dir.path(), 1).unwrap();
        second.carry_out().unwrap();
        let second = second.kept.unwrap();
        assert!(second != kept && second.exists() && kept.exists());
    }
}
