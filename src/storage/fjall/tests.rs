//! What becomes of records when the disk misbehaves.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use tempfile::TempDir;

use super::*;

fn open(dir: &TempDir) -> FjallEngine {
    FjallEngine::open(&dir.path().join("records")).unwrap()
}

fn partition() -> Partition {
    Partition::new(0).unwrap()
}

fn key(n: usize) -> Key {
    Key::new(format!("k{n}").into()).unwrap()
}

/// So many batches of one record each, in a journal that a crash leaves behind; the journal, and
/// where each batch begins and the last one ends.
fn batches(dir: &TempDir, count: usize) -> (PathBuf, Vec<u64>) {
    let engine = open(dir);
    let folder = dir.path().join("records");
    let is_journal = |path: &PathBuf| path.extension().is_some_and(|e| e == "jnl");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path());
    let journal = files.filter(is_journal).max().unwrap();
    let mut begins = vec![end_of(&journal)];
    for n in 0..count {
        let put = Change::Put(partition(), key(n), format!("value {n}").into());
        engine.commit(vec![put], Sync::Disk).unwrap();
        begins.push(end_of(&journal));
    }
    drop(engine);
    // Most of a journal is room for what is to come; little of it makes for quick copies.
    let file = OpenOptions::new().write(true).open(&journal).unwrap();
    file.set_len(begins[count] + 4096).unwrap();
    (journal, begins)
}

/// Behind the last byte that is not zero, which an end mark's is not.
fn end_of(journal: &Path) -> u64 {
    let bytes = std::fs::read(journal).unwrap();
    bytes
        .iter()
        .rposition(|b| *b != 0)
        .map_or(0, |at| at as u64 + 1)
}

/// A copy of a closed directory, to be spoiled.
fn copy(dir: &TempDir) -> TempDir {
    let to = TempDir::new().unwrap();
    copy_tree(dir.path(), to.path());
    to
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn p1_a_journal_cut_anywhere_in_its_last_batch_keeps_all_before_it() {
    let dir = TempDir::new().unwrap();
    let (journal, begins) = batches(&dir, 3);
    let name = journal.strip_prefix(dir.path()).unwrap();
    for cut in begins[2]..=begins[3] {
        let copy = copy(&dir);
        let file = OpenOptions::new().write(true).open(copy.path().join(name));
        file.unwrap().set_len(cut).unwrap();
        let engine = open(&copy);
        let get = |n| engine.get(partition(), &key(n)).unwrap();
        assert_eq!(
            (get(0), get(1)),
            (Some("value 0".into()), Some("value 1".into())),
            "{cut}"
        );
        let last = (cut == begins[3]).then(|| "value 2".into());
        assert_eq!(get(2), last, "cut at {cut} of {begins:?}");
    }
}

#[test]
fn p11_a_flipped_bit_anywhere_in_the_journal_is_refused_or_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let (journal, begins) = batches(&dir, 3);
    let name = journal.strip_prefix(dir.path()).unwrap();
    let mut refused = 0;
    for at in begins[0]..begins[3] {
        let copy = copy(&dir);
        let path = copy.path().join(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        let bit = at % 8;
        file.write_all_at(&[byte[0] ^ 1 << bit], at).unwrap();
        match FjallEngine::open(&copy.path().join("records")) {
            Err(EngineError::Damaged(_)) => refused += 1,
            Err(other) => panic!("bit {bit} of byte {at}: {other}"),
            Ok(engine) => {
                for n in 0..3 {
                    let record = engine.get(partition(), &key(n)).unwrap();
                    assert_eq!(
                        record,
                        Some(format!("value {n}").into()),
                        "bit {bit} of byte {at}"
                    );
                }
            }
        }
    }
    assert!(refused > (begins[3] - begins[0]) * 3 / 4, "{refused}");
}

/// The largest table of the records.
fn table(dir: &Path) -> PathBuf {
    let (mut tables, mut folders) = (Vec::new(), vec![dir.join("records/keyspaces")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.path().parent().unwrap().ends_with("tables") {
                tables.push((entry.metadata().unwrap().len(), entry.path()));
            }
        }
    }
    tables.into_iter().max().unwrap().1
}

#[test]
fn p11_a_flipped_bit_in_a_table_is_never_read_as_a_record() {
    let dir = TempDir::new().unwrap();
    let (_, begins) = batches(&dir, 40);
    let engine = open(&dir);
    engine.records.rotate_memtable_and_wait().unwrap();
    drop(engine);
    let whole = table(dir.path());
    let name = whole.strip_prefix(dir.path()).unwrap();
    let length = std::fs::metadata(&whole).unwrap().len();
    let mut detected = 0;
    for at in (0..length).step_by(7) {
        let copy = copy(&dir);
        let path = copy.path().join(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 4], at).unwrap();
        let read = || {
            let engine = FjallEngine::open(&copy.path().join("records"))?;
            (0..begins.len() - 1).try_for_each(|n| {
                let record = engine.get(partition(), &key(n))?;
                assert_eq!(record, Some(format!("value {n}").into()), "byte {at}");
                Ok(())
            })
        };
        match read() {
            Ok(()) => {}
            Err(EngineError::Damaged(_)) => detected += 1,
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    assert!(detected > 10, "{detected} of {length} bytes");
}

#[test]
fn a_disk_that_is_almost_full_takes_metadata_and_removals_only() {
    let dir = TempDir::new().unwrap();
    let mut engine = open(&dir);
    engine.reserve = u64::MAX;
    let (partition, key) = (partition(), key(1));
    let meta = Change::Meta("m", "1".into());
    let put = Change::Put(partition, key.clone(), "1".into());
    let refused = engine.commit(vec![meta.clone(), put], Sync::Disk);
    assert!(matches!(refused, Err(EngineError::Full)));
    assert_eq!(engine.meta("m").unwrap(), None);
    let remove = Change::Remove(partition, key);
    engine.commit(vec![meta, remove], Sync::Disk).unwrap();
    assert_eq!(engine.meta("m").unwrap(), Some("1".into()));
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = FjallEngine::open(&file).err().unwrap();
    assert!(matches!(error, EngineError::Broken(_)), "{error}");
}

#[test]
fn two_engines_on_one_directory_are_refused() {
    let dir = TempDir::new().unwrap();
    let _held = open(&dir);
    assert!(FjallEngine::open(&dir.path().join("records")).is_err());
}
