//! What becomes of records when the disk misbehaves.

use std::fs::{File, OpenOptions};
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

/// Makes some sectors of a batch what they were before it was written.
fn unwrite(journal: &Path, batch: std::ops::Range<u64>, is_lost: impl Fn(u64) -> bool) {
    let file = OpenOptions::new().write(true).open(journal).unwrap();
    for sector in (batch.start / 512)..batch.end.div_ceil(512) {
        let from = batch.start.max(sector * 512);
        let to = batch.end.min((sector + 1) * 512);
        if is_lost(sector - batch.start / 512) {
            let zeros = vec![0; usize::try_from(to - from).unwrap()];
            file.write_all_at(&zeros, from).unwrap();
        }
    }
}

/// Two small batches and one of several sectors.
fn a_large_batch_at_the_end(dir: &TempDir) -> (PathBuf, Vec<u64>) {
    let (journal, mut begins) = batches(dir, 2);
    let engine = open(dir);
    let large = (2..8).map(|n| Change::Put(partition(), key(n), vec![b'v'; 500].into()));
    engine.commit(large.collect(), Sync::Disk).unwrap();
    drop(engine);
    begins.push(end_of(&journal));
    (journal, begins)
}

/// Power that goes in the middle of a sync leaves any of the sectors that were on their way.
#[test]
fn p1_a_last_batch_of_which_sectors_never_reached_the_disk_is_left_out() {
    let dir = TempDir::new().unwrap();
    let (journal, begins) = a_large_batch_at_the_end(&dir);
    let name = journal.strip_prefix(dir.path()).unwrap();
    let sectors = begins[3].div_ceil(512) - begins[2] / 512;
    assert!(sectors > 5, "{begins:?}");
    let one_lost = (0..sectors).map(|lost| 1_u64 << lost);
    let one_there = (0..sectors).map(|there| !(1_u64 << there));
    let mixed = [
        0b01_0101_0101,
        0b10_1010_1010,
        0b00_1100_1100,
        0b11_0011_0011,
    ];
    for lost in one_lost.chain(one_there).chain(mixed) {
        let copy = copy(&dir);
        let path = copy.path().join(name);
        unwrite(&path, begins[2]..begins[3], |sector| {
            lost >> sector & 1 == 1
        });
        for _start in 0..2 {
            let engine = FjallEngine::open(&copy.path().join("records"));
            let engine = engine.unwrap_or_else(|error| panic!("lost {lost:b}: {error}"));
            let get = |n| engine.get(partition(), &key(n)).unwrap();
            let before = (Some("value 0".into()), Some("value 1".into()));
            assert_eq!((get(0), get(1)), before, "lost {lost:b}");
            assert!((2..8).all(|n| get(n).is_none()), "lost {lost:b}");
            let put = Change::Put(partition(), key(0), "value 0".into());
            engine.commit(vec![put], Sync::Disk).unwrap();
        }
    }
}

#[test]
fn p11_a_lost_sector_that_was_synced_is_refused() {
    let dir = TempDir::new().unwrap();
    let (journal, begins) = a_large_batch_at_the_end(&dir);
    let engine = open(&dir);
    let put = Change::Put(partition(), key(9), "later".into());
    engine.commit(vec![put], Sync::Disk).unwrap();
    drop(engine);
    let name = journal.strip_prefix(dir.path()).unwrap();
    for lost in 0..begins[3].div_ceil(512) - begins[2] / 512 {
        let copy = copy(&dir);
        let batch = begins[2]..begins[3];
        unwrite(&copy.path().join(name), batch, |sector| sector == lost);
        let opened = FjallEngine::open(&copy.path().join("records"));
        assert!(matches!(opened, Err(EngineError::Damaged(_))), "{lost}");
    }
}

/// What is written ahead into a journal is what was there, and makes its blocks exist.
#[test]
fn a_journal_is_filled_with_zeros_ahead_of_its_batches() {
    let dir = TempDir::new().unwrap();
    let engine = open(&dir);
    let value = Bytes::from(vec![b'v'; 40_000]);
    let (mut least, mut written) = (u64::MAX, 0);
    for n in 0..40 {
        let put = Change::Put(partition(), key(n), value.clone());
        engine.commit(vec![put], Sync::Disk).unwrap();
        written += value.len() as u64;
        let journal = ahead::newest(&dir.path().join("records")).unwrap().unwrap();
        let file = File::open(journal).unwrap();
        least = least.min(ahead::first_hole(&file).unwrap() - written);
    }
    assert!((1..ahead::CHUNK as u64).contains(&least), "{least}");
    drop(engine);
    let engine = open(&dir);
    for n in 0..40 {
        assert_eq!(
            engine.get(partition(), &key(n)).unwrap(),
            Some(value.clone())
        );
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
