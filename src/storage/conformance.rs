//! What every engine must do, as tests that run on each of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::test_runner::Config;
use tempfile::TempDir;

use super::{Change, Engine, Entry, FjallEngine, MemoryEngine, Sync};
use crate::dynamo::key::{Key, Partition};
use crate::dynamo::node_id::NodeId;

/// An engine that can be closed and opened again, if it is of a kind that survives that.
trait Bench {
    fn engine(&self) -> &dyn Engine;
    fn reopen(self) -> Self;
}

impl Bench for MemoryEngine {
    fn engine(&self) -> &dyn Engine {
        self
    }
    fn reopen(self) -> Self {
        self
    }
}

struct OnDisk(FjallEngine, TempDir);

impl OnDisk {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        Self(FjallEngine::open(dir.path()).unwrap(), dir)
    }
}

impl Bench for OnDisk {
    fn engine(&self) -> &dyn Engine {
        &self.0
    }
    fn reopen(self) -> Self {
        let Self(engine, dir) = self;
        drop(engine);
        Self(FjallEngine::open(dir.path()).unwrap(), dir)
    }
}

fn key(text: &str) -> Key {
    Key::new(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn partition(n: u16) -> Partition {
    Partition::new(n).unwrap()
}

fn put(p: u16, k: &str, record: &'static str) -> Change {
    Change::Put(partition(p), key(k), Bytes::from(record))
}

fn names(entries: &[Entry]) -> Vec<String> {
    let name = |(k, _): &Entry| String::from_utf8(k.as_bytes().to_vec()).unwrap();
    entries.iter().map(name).collect()
}

fn a_committed_batch_is_read_back_until_it_is_removed<B: Bench>(new: fn() -> B) {
    let bench = new();
    let batch = vec![
        put(3, "a", "1"),
        put(4, "a", "2"),
        Change::Meta("m", "x".into()),
    ];
    bench.engine().commit(batch, Sync::Disk).unwrap();
    let bench = bench.reopen();
    let get = |p, k| bench.engine().get(partition(p), &key(k)).unwrap();
    assert_eq!(get(3, "a"), Some("1".into()));
    assert_eq!(get(4, "a"), Some("2".into()));
    assert_eq!((get(3, "b"), get(5, "a")), (None, None));
    assert_eq!(bench.engine().meta("m").unwrap(), Some("x".into()));
    assert_eq!(bench.engine().meta("n").unwrap(), None);
    let batch = vec![Change::Remove(partition(3), key("a")), put(4, "a", "3")];
    bench.engine().commit(batch, Sync::Os).unwrap();
    bench.engine().sync().unwrap();
    let bench = bench.reopen();
    let get = |p, k| bench.engine().get(partition(p), &key(k)).unwrap();
    assert_eq!((get(3, "a"), get(4, "a")), (None, Some("3".into())));
}

fn the_last_change_of_a_key_in_a_batch_counts<B: Bench>(new: fn() -> B) {
    let bench = new();
    let again = vec![
        put(0, "a", "1"),
        Change::Remove(partition(0), key("a")),
        put(0, "b", "1"),
        put(0, "b", "2"),
        Change::Meta("m", "x".into()),
        Change::Meta("m", "y".into()),
    ];
    bench.engine().commit(again, Sync::Disk).unwrap();
    let bench = bench.reopen();
    let page = bench.engine().page(partition(0), None, 9).unwrap();
    assert_eq!(page, [(key("b"), Bytes::from("2"))]);
    assert_eq!(bench.engine().meta("m").unwrap(), Some("y".into()));
}

fn pages_follow_one_another_and_stay_in_the_partition<B: Bench>(new: fn() -> B) {
    let bench = new();
    let row = |p: u16, n: usize| (0..n).map(move |i| put(p, &format!("k{i:02}"), "v"));
    let all: Vec<Change> = row(0, 2)
        .chain(row(1, 25))
        .chain(row(2, 1))
        .chain(row(255, 3))
        .collect();
    bench.engine().commit(all, Sync::Os).unwrap();
    let page = |p, after: Option<&Key>, n| bench.engine().page(partition(p), after, n).unwrap();
    let mut seen: Vec<String> = Vec::new();
    let mut last: Option<Key> = None;
    loop {
        let entries = page(1, last.as_ref(), 10);
        let Some((key, _)) = entries.last() else {
            break;
        };
        last = Some(key.clone());
        seen.extend(names(&entries));
    }
    let expected: Vec<String> = (0..25).map(|i| format!("k{i:02}")).collect();
    assert_eq!(seen, expected);
    assert_eq!(names(&page(255, None, 9)), ["k00", "k01", "k02"]);
    assert_eq!(names(&page(1, Some(&key("k2")), 2)), ["k20", "k21"]);
    assert!(page(7, None, 9).is_empty());
    assert!(page(1, None, 0).is_empty());
}

fn any_bytes_may_be_a_key_or_a_record<B: Bench>(new: fn() -> B) {
    let bench = new();
    let longest = Key::new(vec![0xff; 1024].into()).unwrap();
    let zero = Key::new(vec![0].into()).unwrap();
    let big = Bytes::from(vec![7; 3 << 20]);
    let last = partition(255);
    let changes = vec![
        Change::Put(last, longest.clone(), big.clone()),
        Change::Put(last, zero.clone(), Bytes::new()),
    ];
    bench.engine().commit(changes, Sync::Disk).unwrap();
    let bench = bench.reopen();
    let page = bench.engine().page(last, None, 9).unwrap();
    assert_eq!(page, [(zero, Bytes::new()), (longest, big)]);
    assert!(bench.engine().bytes() >= 3 << 20);
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn put_hint(target: &str, k: &str, record: &'static str) -> Change {
    Change::PutHint(node(target), key(k), Bytes::from(record))
}

fn hints_are_kept_by_target_apart_from_records<B: Bench>(new: fn() -> B) {
    let bench = new();
    assert_eq!(bench.engine().hint_targets().unwrap(), []);
    let home = key("a").hash().partition();
    let batch = vec![
        Change::Put(home, key("a"), "record".into()),
        put_hint("n1", "a", "1"),
        put_hint("n10", "a", "10"),
        put_hint("n1", "b", "0"),
        put_hint("n1", "b", "2"),
        put_hint("n.", "c", "3"),
        Change::RemoveHint(node("n."), key("c")),
    ];
    bench.engine().commit(batch, Sync::Disk).unwrap();
    let bench = bench.reopen();
    let hint = |target: &str, k| bench.engine().hint(&node(target), &key(k)).unwrap();
    assert_eq!(
        (hint("n1", "a"), hint("n1", "b")),
        (Some("1".into()), Some("2".into()))
    );
    assert_eq!(
        (hint("n10", "a"), hint("n10", "b")),
        (Some("10".into()), None)
    );
    assert_eq!((hint("n.", "c"), hint("n", "a")), (None, None));
    assert_eq!(
        bench.engine().hint_targets().unwrap(),
        [node("n1"), node("n10")]
    );
    let record = bench.engine().get(home, &key("a")).unwrap();
    assert_eq!(record, Some("record".into()));
    let batch = vec![
        Change::RemoveHint(node("n1"), key("a")),
        Change::RemoveHint(node("n1"), key("b")),
        Change::RemoveHint(node("n2"), key("b")),
    ];
    bench.engine().commit(batch, Sync::Disk).unwrap();
    let bench = bench.reopen();
    assert_eq!(bench.engine().hint_targets().unwrap(), [node("n10")]);
    assert_eq!(bench.engine().hints(&node("n1"), None, 9).unwrap(), []);
}

fn pages_of_hints_follow_one_another_and_stay_with_their_target<B: Bench>(new: fn() -> B) {
    let bench = new();
    let row = |target: &'static str, n: usize| {
        (0..n).map(move |i| put_hint(target, &format!("k{i:02}"), "v"))
    };
    let all = row("n1", 25).chain(row("n10", 3)).chain(row("n", 2));
    bench.engine().commit(all.collect(), Sync::Os).unwrap();
    let (mut seen, mut last): (Vec<Key>, Option<Key>) = (Vec::new(), None);
    loop {
        let page = bench
            .engine()
            .hints(&node("n1"), last.as_ref(), 10)
            .unwrap();
        let Some((key, _)) = page.last() else {
            break;
        };
        last = Some(key.clone());
        seen.extend(page.into_iter().map(|(key, _)| key));
    }
    let place = |key: &Key| (key.hash().partition(), key.clone());
    assert!(seen.is_sorted_by_key(place), "{seen:?}");
    seen.sort_unstable();
    let expected: Vec<Key> = (0..25).map(|i| key(&format!("k{i:02}"))).collect();
    assert_eq!(seen, expected);
    assert_eq!(bench.engine().hints(&node("n"), None, 9).unwrap().len(), 2);
}

fn batches_behave_like_a_map<B: Bench>(new: fn() -> B) {
    let config = Config::with_cases(24);
    proptest!(config, |(batches in vec(vec(op(), 0..12), 0..12))| {
        follow_the_model(new(), batches);
    });
}

/// One step of the model: a partition, a key, and a record to set, or none to remove.
type Op = (u16, u8, Option<Vec<u8>>);

fn op() -> impl Strategy<Value = Op> {
    let partition = prop_oneof![Just(0), Just(1), Just(255)];
    (partition, 0..6_u8, any::<Option<Vec<u8>>>())
}

fn follow_the_model(mut bench: impl Bench, batches: Vec<Vec<Op>>) {
    let mut model: BTreeMap<(Partition, Key), Bytes> = BTreeMap::new();
    for (round, batch) in batches.into_iter().enumerate() {
        let mut changes = Vec::new();
        for (p, k, record) in batch {
            let (p, k) = (partition(p), key(&format!("k{k}")));
            if let Some(record) = record.map(Bytes::from) {
                model.insert((p, k.clone()), record.clone());
                changes.push(Change::Put(p, k, record));
            } else {
                model.remove(&(p, k.clone()));
                changes.push(Change::Remove(p, k));
            }
        }
        let sync = if round % 2 == 0 { Sync::Disk } else { Sync::Os };
        bench.engine().commit(changes, sync).unwrap();
        if round % 4 == 3 {
            bench = bench.reopen();
        }
    }
    for p in [0, 1, 2, 255].map(partition) {
        let held = model.iter().filter(|((q, _), _)| *q == p);
        let held: Vec<Entry> = held.map(|((_, k), r)| (k.clone(), r.clone())).collect();
        assert_eq!(bench.engine().page(p, None, 100).unwrap(), held);
        for (k, record) in held {
            assert_eq!(bench.engine().get(p, &k).unwrap(), Some(record));
        }
    }
}

macro_rules! conforms {
    ($engine:ident, $new:expr, $($law:ident),*) => {
        mod $engine {
            $(#[test]
            fn $law() {
                super::$law($new);
            })*
        }
    };
    ($engine:ident, $new:expr) => {
        conforms!(
            $engine,
            $new,
            a_committed_batch_is_read_back_until_it_is_removed,
            the_last_change_of_a_key_in_a_batch_counts,
            pages_follow_one_another_and_stay_in_the_partition,
            any_bytes_may_be_a_key_or_a_record,
            hints_are_kept_by_target_apart_from_records,
            pages_of_hints_follow_one_another_and_stay_with_their_target,
            batches_behave_like_a_map
        );
    };
}

conforms!(memory, super::MemoryEngine::default);
conforms!(fjall, super::OnDisk::new);
