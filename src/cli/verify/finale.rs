//! After the faults: do the replicas become equal, and what does every node show?

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::super::connection::segment;
use super::asker::{Asker, Question};
use super::history::{Convergence, Phase};
use super::recorder::Recorder;
use super::session::{ANSWER_TIME, read_finally};

/// How often the replicas are compared.
const COMPARE_EVERY: Duration = Duration::from_millis(500);

/// Keys compared at once.
const LANES: usize = 8;

/// Connections to each node for the final reads.
const READERS: usize = 3;

/// Final readers are numbered from here.
const FIRST_READER: u32 = 1000;

/// Where a key lives, as a node's admin listener says it.
#[derive(Deserialize)]
struct Home {
    owners: Vec<String>,
}

/// A connection to each node's admin listener, by the node's name.
type Askers = BTreeMap<String, Asker>;

/// Waits until the owners of every key hold the same, without changing anything by looking.
pub(super) async fn converge(
    keys: &BTreeSet<String>,
    admins: &[(String, String)],
    limit: Duration,
) -> Convergence {
    let begin = Instant::now();
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let keys: Vec<String> = keys.iter().skip(lane).step_by(LANES).cloned().collect();
        let askers = admins.iter();
        let askers: Askers = askers
            .map(|(name, admin)| (name.clone(), Asker::new(admin.clone())))
            .collect();
        lanes.spawn_local(compare(keys, askers, begin, limit));
    }
    let mut whole = Convergence::default();
    for lane in lanes.join_all().await {
        whole.after = whole.after.max(lane.after);
        whole.differing.extend(lane.differing);
    }
    whole.differing.sort_unstable();
    whole
}

/// Looks at these keys again and again until all are equal, or the time is over.
async fn compare(
    mut keys: Vec<String>,
    mut askers: Askers,
    begin: Instant,
    limit: Duration,
) -> Convergence {
    loop {
        let mut differing = Vec::new();
        for key in keys {
            if !is_equal(&key, &mut askers).await {
                differing.push(key);
            }
        }
        let elapsed = begin.elapsed();
        if differing.is_empty() || elapsed > limit {
            return Convergence {
                after: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
                differing,
            };
        }
        keys = differing;
        sleep(COMPARE_EVERY).await;
    }
}

/// Whether all owners of the key hold the same; not if any of them does not answer.
async fn is_equal(key: &str, askers: &mut Askers) -> bool {
    let key = segment(key);
    let Some(asker) = askers.values_mut().next() else {
        return false;
    };
    let home = ask(asker, &format!("/ring/{key}")).await;
    let Some(home) = home.and_then(|home| Home::deserialize(home).ok()) else {
        return false;
    };
    let mut first: Option<Value> = None;
    for owner in &home.owners {
        let Some(asker) = askers.get_mut(owner.as_str()) else {
            return false;
        };
        let Some(held) = ask(asker, &format!("/replica/{key}")).await else {
            return false;
        };
        if *first.get_or_insert_with(|| held.clone()) != held {
            return false;
        }
    }
    first.is_some()
}

pub(super) async fn ask(asker: &mut Asker, path: &str) -> Option<Value> {
    let question = Question {
        method: "GET",
        path,
        fields: "",
        body: None,
    };
    let reply = asker.ask(question, ANSWER_TIME).await.ok()?;
    let is_ok = reply.status == 200;
    is_ok.then(|| serde_json::from_slice(&reply.body).ok())?
}

/// Reads every key from every node.
pub(super) async fn read_all(phase: Phase, endpoints: &[String], recorder: &Rc<RefCell<Recorder>>) {
    let keys: Rc<[String]> = recorder.borrow().keys.iter().cloned().collect();
    let mut readers = JoinSet::new();
    let mut session = FIRST_READER;
    for endpoint in endpoints {
        for part in 0..READERS {
            let (keys, recorder) = (Rc::clone(&keys), Rc::clone(recorder));
            let mut asker = Asker::new(endpoint.clone());
            readers.spawn_local(async move {
                for key in keys.iter().skip(part).step_by(READERS) {
                    read_finally(&mut asker, &recorder, key, (phase, session)).await;
                }
            });
            session += 1;
        }
    }
    readers.join_all().await;
}
