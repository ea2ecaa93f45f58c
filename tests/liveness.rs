//! P6 and P10: one node hangs or dies under a stream of requests, and its fellows serve on.

#![allow(clippy::indexing_slicing, reason = "a failure here fails the test")]
#![allow(
    clippy::disallowed_methods,
    reason = "other processes live in real time"
)]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use support::{Client, Cluster, Node, eventually};

/// The deadlines of reads and writes, and what may pass beyond them.
const READ_TIME: Duration = Duration::from_millis(2500);
const WRITE_TIME: Duration = Duration::from_millis(4500);
/// After so long the others have found a node out.
const FOUND_OUT: Duration = Duration::from_secs(2);
/// How many requests after that are enough to count a success of 99.9 %.
const ENOUGH: usize = 3000;
const CLIENTS: usize = 4;

/// One request as its client saw it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    began: Instant,
    took: Duration,
    is_read: bool,
    status: u16,
}

impl Seen {
    fn is_success(&self) -> bool {
        matches!(self.status, 200 | 201)
    }

    fn is_in_time(&self) -> bool {
        let bound = if self.is_read { READ_TIME } else { WRITE_TIME };
        self.took <= bound
    }
}

/// Creates, reads and puts one key after the other, at one node after the other, until told to
/// stop or until enough was seen since the moment.
fn stream(client: usize, nodes: &[&Node], since: Instant, stop: &AtomicBool) -> Vec<Seen> {
    let (http, mut seen) = (Client::new(), Vec::new());
    let mut late = 0;
    for n in client.. {
        if stop.load(Ordering::Relaxed) || late >= ENOUGH / CLIENTS {
            break;
        }
        let url = nodes[n % nodes.len()].url(&format!("c{client}-{n}"));
        let mut note = |is_read, ask: &dyn Fn() -> Option<support::Answer>| {
            let began = Instant::now();
            let answer = ask();
            let status = answer.as_ref().map_or(0, |answer| answer.status);
            let took = began.elapsed();
            seen.push(Seen {
                began,
                took,
                is_read,
                status,
            });
            late += usize::from(began > since + FOUND_OUT);
            answer
        };
        note(false, &|| http.try_post(&url, &json!({ "value": n })));
        let read = note(true, &|| http.try_get(&url));
        if let Some(read) = read.filter(|read| read.status == 200) {
            note(false, &|| http.try_put(&url, &json!([n]), &read.clock()));
        }
    }
    seen
}

/// What a running node says of another one.
fn member(of: &Node, name: &str) -> serde_json::Value {
    let status = of.status();
    let members = status["members"].as_array().cloned().unwrap_or_default();
    let found = members.into_iter().find(|member| member["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is no member of {status}"))
}

fn is_preferred_by_all(nodes: &[&Node], name: &str, preferred: bool) -> bool {
    nodes
        .iter()
        .all(|node| member(node, name)["preferred"] == preferred)
}

/// Every request ended in time, and of those from two seconds after the trouble on, all but one in
/// a thousand succeeded.
fn assert_served(seen: &[Seen], since: Instant) {
    let overdue: Vec<_> = seen.iter().filter(|seen| !seen.is_in_time()).collect();
    assert!(overdue.is_empty(), "{overdue:?}");
    let late: Vec<_> = seen
        .iter()
        .filter(|s| s.began > since + FOUND_OUT)
        .collect();
    assert!(
        late.len() >= ENOUGH,
        "{} requests prove nothing",
        late.len()
    );
    let failed: Vec<_> = late.iter().filter(|seen| !seen.is_success()).collect();
    let allowed = late.len() / 1000;
    assert!(
        failed.len() <= allowed,
        "{} of {}: {failed:?}",
        failed.len(),
        late.len()
    );
    // Whoever waits for the node that is gone waits far longer than for any of the others.
    let waited = late
        .iter()
        .filter(|seen| seen.took > Duration::from_millis(1300));
    assert!(
        waited.count() <= allowed,
        "requests wait for the node that is gone"
    );
}

/// Streams requests past a node that gets into trouble, and gives them when there are enough.
fn serve_past(nodes: &[&Node], trouble: impl FnOnce()) -> (Vec<Seen>, Instant) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        trouble();
        let since = Instant::now();
        let stop = &stop;
        let streams: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || stream(client, nodes, since, stop)))
            .collect();
        let found_out = || is_preferred_by_all(nodes, "n5", false);
        eventually(Duration::from_secs(10), "n5 is found out", found_out);
        let took = since.elapsed();
        if took > FOUND_OUT + Duration::from_millis(500) {
            stop.store(true, Ordering::Relaxed);
            panic!("n5 was found out after {took:?} only");
        }
        let seen = streams
            .into_iter()
            .flat_map(|stream| stream.join().unwrap_or_else(|_| panic!("a stream failed")));
        (seen.collect(), since)
    })
}

/// Seed defect 21, under load: a hung process never left the ring, and every request for its keys
/// waited for it.
#[test]
fn p10_seed_defect_21_one_paused_node_of_five_is_passed_by_and_comes_back() {
    let cluster = Cluster::start(5);
    let (paused, others) = cluster.nodes.split_last().unwrap();
    let others: Vec<&Node> = others.iter().collect();
    let (seen, since) = serve_past(&others, || paused.signal(Signal::STOP));
    for node in &others {
        let shown = member(node, "n5");
        assert_eq!(shown["reachable"], false, "{shown}");
        assert!(shown["queued"].as_u64().unwrap() < 1024, "{shown}");
    }
    paused.signal(Signal::CONT);
    assert_served(&seen, since);

    let back = || is_preferred_by_all(&others, "n5", true);
    eventually(Duration::from_mins(1), "n5 is preferred again", back);
    for node in &others {
        let drained = || member(node, "n5")["queued"] == 0;
        eventually(Duration::from_secs(10), "nothing waits for n5", drained);
    }
    let read = Client::new().get(&paused.url("c0-0"));
    assert_eq!(read.status, 200, "{read:?}");
}

/// Seed defect 1: of six nodes one was killed, and eight reads later all were down.
#[test]
fn p10_seed_defect_01_one_killed_node_of_five_is_passed_by_and_comes_back() {
    let mut cluster = Cluster::start(5);
    let mut killed = cluster.nodes.pop().unwrap();
    let others: Vec<&Node> = cluster.nodes.iter().collect();
    let (seen, since) = serve_past(&others, || killed.kill());
    assert_served(&seen, since);
    killed.spawn();
    let back = || is_preferred_by_all(&others, "n5", true);
    eventually(Duration::from_mins(1), "n5 is preferred again", back);
}

/// Before: the first create through each other node was answered 504, because its look waited for
/// the paused one until its deadline.
#[test]
fn p10_the_first_requests_after_a_node_has_been_paused_succeed() {
    let cluster = Cluster::start(3);
    let client = Client::new();
    cluster.nodes[2].signal(Signal::STOP);
    for node in &cluster.nodes[..2] {
        let url = node.url(&node.name);
        let created = client.post(&url, &json!(1));
        assert_eq!(created.status, 201, "{created:?}");
        let read = client.get(&url);
        assert_eq!((read.status, read.values()), (200, vec![json!(1)]));
        assert_eq!(client.put(&url, &json!(2), &read.clock()).status, 200);
        assert_eq!(client.delete(&url).status, 200);
    }
    cluster.nodes[2].signal(Signal::CONT);
}

/// P6: whatever the other nodes do, every request ends, and says what it knows.
#[test]
fn p6_with_no_quorum_left_every_request_ends_within_its_deadline() {
    let cluster = Cluster::start(3);
    let client = Client::new();
    let node = &cluster.nodes[0];
    let clock = client.post(&node.url("k"), &json!(1)).clock();
    for hung in &cluster.nodes[1..] {
        hung.signal(Signal::STOP);
    }
    let paused = Instant::now();
    let mut rounds = 0;
    // Every put leaves a sibling on this node's own disk, and there may be a hundred.
    while rounds < 3 || paused.elapsed() < Duration::from_secs(6) && rounds < 50 {
        rounds += 1;
        let timed = |ask: &dyn Fn() -> support::Answer| {
            let began = Instant::now();
            let answer = ask();
            (began.elapsed(), answer)
        };
        let (took, read) = timed(&|| client.get(&node.url("k")));
        assert!(
            took <= READ_TIME && matches!(read.status, 503 | 504),
            "{took:?} {read:?}"
        );
        assert_eq!(read.json()["outcome"], "not_applied");
        let (took, create) = timed(&|| client.post(&node.url("new"), &json!(1)));
        assert!(
            took <= WRITE_TIME && matches!(create.status, 503 | 504),
            "{took:?} {create:?}"
        );
        let (took, put) = timed(&|| client.put(&node.url("k"), &json!(rounds), &clock));
        assert!(
            took <= WRITE_TIME && matches!(put.status, 503 | 504),
            "{took:?} {put:?}"
        );
        assert_eq!(put.json()["outcome"], "unknown", "its own disk has it");
    }
    let fails_early = || {
        let began = Instant::now();
        let read = client.get(&node.url("k"));
        read.status == 503 && began.elapsed() < Duration::from_millis(600)
    };
    eventually(Duration::from_secs(10), "reads fail early", fails_early);
    for hung in &cluster.nodes[1..] {
        hung.signal(Signal::CONT);
    }
    eventually(Duration::from_secs(30), "reads succeed again", || {
        client.get(&node.url("k")).status == 200
    });
}
