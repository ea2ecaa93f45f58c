//! Data of a node that is no member any more: kept, and never used again by itself.

use std::path::{Path, PathBuf};

use super::{DataDirectory, DirectoryError, LEFT, RECORDS, io_error, read_if_there, write_whole};

impl DataDirectory {
    /// Moves the engine's files aside, within the directory, and notes why: until
    /// [`DataDirectory::readmit`] the directory is not opened any more. Gives where they are.
    ///
    /// # Errors
    /// [`DirectoryError::Io`].
    pub fn retire(&self, why: &str) -> Result<PathBuf, DirectoryError> {
        let kept = set_aside(&self.path)?;
        let note = self.path.join(LEFT);
        write_whole(&note, &format!("{why}\n")).map_err(io_error("write", &note))?;
        Ok(kept)
    }

    /// Makes the directory one of a new node of the same name: what it held is moved aside, within
    /// the directory. Gives where that is; the directory must not be in use.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn readmit(path: &Path, pid: u32) -> Result<(String, Option<PathBuf>), DirectoryError> {
        let named = path.join(super::NODE);
        let name = read_if_there(&named)?.ok_or(DirectoryError::Damaged {
            path: named.clone(),
        })?;
        let name = name.trim_end().to_owned();
        let node = crate::dynamo::node_id::NodeId::new(&name)
            .map_err(|_invalid| DirectoryError::Damaged { path: named })?;
        let _lock = super::take_lock(path, &node, pid)?;
        let kept = path
            .join(RECORDS)
            .exists()
            .then(|| set_aside(path))
            .transpose()?;
        let left = path.join(LEFT);
        if left.exists() {
            std::fs::remove_file(&left).map_err(io_error("remove", &left))?;
        }
        Ok((name, kept))
    }
}

/// The first free name after `records-kept-`.
fn set_aside(path: &Path) -> Result<PathBuf, DirectoryError> {
    let records = path.join(RECORDS);
    let names = (1_u32..).map(|n| path.join(format!("{RECORDS}-kept-{n}")));
    let kept = names.into_iter().find(|name| !name.exists());
    let kept = kept.unwrap_or_else(|| path.join(format!("{RECORDS}-kept")));
    std::fs::rename(&records, &kept).map_err(io_error("move aside", &records))?;
    let synced = std::fs::File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(io_error("sync", path))?;
    Ok(kept)
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
        assert_eq!(
            DataDirectory::readmit(dir.path(), 1).unwrap(),
            ("n1".to_owned(), None)
        );
        let again = DataDirectory::open(dir.path(), &node, 1).unwrap();
        assert!(!again.records().exists() && kept.exists());
        std::fs::create_dir(again.records()).unwrap();
        let in_use = DataDirectory::readmit(dir.path(), 1)
            .unwrap_err()
            .to_string();
        assert!(in_use.contains("in use"), "{in_use}");
        drop(again);
        let (_, second) = DataDirectory::readmit(dir.path(), 1).unwrap();
        assert_ne!(second, Some(kept));
    }
}
