//! From operations to panels.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::engine::{Elasticsearch, Shipper};
use crate::jobs::init;
use crate::ledger::Ledger;
use crate::panels::{Panel, Row};
use crate::smoke::smoke;
use crate::support::lines::Line;
use crate::support::{Client, Cluster, eventually};

const SOON: Duration = Duration::from_mins(1);

/// Three nodes whose log files lie in one directory.
fn cluster() -> (Cluster, Vec<PathBuf>) {
    let mut cluster = Cluster::prepare(3, &["--log-format", "off"]);
    let logs = cluster.dir.path().join("logs");
    std::fs::create_dir(&logs).expect("a directory");
    let mut files = Vec::new();
    for node in &mut cluster.nodes {
        let file = logs.join(format!("{}.jsonl", node.name));
        node.extra
            .extend(["--log-file".to_owned(), file.display().to_string()]);
        files.push(file);
    }
    cluster.spawn_all();
    (cluster, files)
}

/// The last line of this kind.
fn last(file: &Path, action: &str) -> Option<Line> {
    let mut lines = Line::so_far(file).into_iter();
    lines.rfind(|line| line.is("event.action", action))
}

/// Seed defect 25: a misspelt filter kept one slice of the pie at zero for ever. Here every panel
/// gives exactly the operations that were made.
#[test]
fn seed_defect_25_every_panel_shows_the_operations_that_were_made() {
    let elastic = Elasticsearch::start();
    let (mut cluster, files) = cluster();
    elastic.wait();
    let prepared = init("elasticsearch", &[("ELASTICSEARCH_URL", &elastic.url(""))]);
    assert!(prepared.status.success(), "{prepared:?}");
    let shipper = Shipper::start(&cluster.dir.path().join("logs"), &elastic);
    cluster.wait_ready();
    let mut ledger = Ledger::default();
    ledger.fill(&cluster.nodes);
    let keys = cluster.nodes[0].status()["keys"]
        .as_u64()
        .expect("a number");
    let told = |file: &PathBuf| {
        last(file, "keys-stored").is_some_and(|l| l.number("quorate.keys.count") == Some(keys))
    };
    eventually(SOON, "every node tells of its keys", || {
        files.iter().all(told)
    });
    let shown = Shown::by(&elastic);
    let alive = || {
        elastic.count();
        shown.rows("Count of active nodes")
    };
    eventually(SOON, "three signs of life", || alive()[0]["active"] == 3);
    assert_eq!(alive()[0]["members"], 3.0);
    smoke(&elastic, &cluster.nodes[0], &mut ledger);
    let clock = ledger.set(&cluster.nodes[0], "alone");

    cluster.nodes[2].kill();
    let down = || last(&files[0], "peer-down").is_some();
    eventually(SOON, "the silence of a node is told", down);
    for n in 0..5 {
        ledger.set(&cluster.nodes[0], &format!("missed-{n}"));
    }
    let kept = |file: &PathBuf| {
        last(file, "heartbeat")
            .and_then(|l| l.number("quorate.hints.pending"))
            .unwrap_or(0)
    };
    eventually(SOON, "hints are told of", || {
        files.iter().take(2).map(kept).sum::<u64>() >= 5
    });
    assert!(cluster.nodes[1].stop().success());
    ledger.update_alone(&cluster.nodes[0], "alone", &clock);
    assert!(cluster.nodes[0].stop().success());

    let lines: Vec<Line> = files.iter().flat_map(|file| Line::all(file)).collect();
    let wanted = u64::try_from(lines.len()).expect("a number");
    eventually(SOON, "every line is a document", || {
        elastic.count() >= wanted
    });
    assert_eq!((elastic.count(), shipper.refused().as_str()), (wanted, ""));
    refuses_another_type(&elastic);
    keeps_a_week(&elastic);
    has_the_operations(&shown, &ledger);
    has_the_times(&shown, &ledger, &lines);
    has_the_nodes(&shown, &lines, keys);
    has_the_states(&shown, &lines);
    has_the_troubles(&shown, &lines);
    let all: BTreeSet<String> = Panel::all().into_iter().map(|panel| panel.title).collect();
    assert_eq!(*shown.titles.borrow(), all, "no panel goes without a look");
}

/// What panels show, and which were looked at.
struct Shown<'a> {
    elastic: &'a Elasticsearch,
    titles: RefCell<BTreeSet<String>>,
}

impl<'a> Shown<'a> {
    fn by(elastic: &'a Elasticsearch) -> Self {
        Self {
            elastic,
            titles: RefCell::default(),
        }
    }

    fn rows(&self, title: &str) -> Vec<Row> {
        self.titles.borrow_mut().insert(title.to_owned());
        let panel = Panel::titled(title);
        panel.rows(&self.elastic.search(&panel.request()))
    }
}

/// The sums of a column by the values of another.
fn sums(rows: &[Row], by: &str, of: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for row in rows {
        let count = row[of].as_u64().expect("a count");
        if count > 0 {
            *sums.entry(text(&row[by])).or_default() += count;
        }
    }
    sums
}

fn pairs(rows: &[Row], by: [&str; 2], of: &str) -> BTreeMap<(String, String), u64> {
    let counted = rows.iter().filter(|row| row[of] != 0);
    let pair = |row: &Row| {
        let count = row[of].as_u64().expect("a count");
        ((text(&row[by[0]]), text(&row[by[1]])), count)
    };
    counted.map(pair).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn has_the_operations(shown: &Shown<'_>, ledger: &Ledger) {
    let show = |title| shown.rows(title);
    let by_node = sums(&show("All actions"), "node", "operations");
    assert_eq!(by_node, ledger.by_node());
    let lower = |rows: Vec<Row>| -> Vec<Row> {
        let lowered = |mut row: Row| {
            let name = text(&row["action"]).to_lowercase();
            row.insert("action".to_owned(), json!(name));
            row
        };
        rows.into_iter().map(lowered).collect()
    };
    let per_node = pairs(
        &lower(show("Actions per node")),
        ["node", "action"],
        "operations",
    );
    assert_eq!(per_node, ledger.actions);
    let ratio = sums(&lower(show("Ratio of actions")), "action", "operations");
    assert_eq!(ratio, ledger.by_action());
    assert_eq!(ratio.len(), 4, "no slice is empty: {ratio:?}");
    let outcomes = sums(&show("Outcomes"), "outcome", "operations");
    assert_eq!(outcomes, ledger.outcomes);
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");
    let results = pairs(&show("Results"), ["result", "action"], "operations");
    assert_eq!(results, ledger.results);
    assert_eq!(
        sums(&show("Siblings"), "siblings", "operations"),
        ledger.siblings
    );
    assert_eq!(
        sums(&show("Refused requests"), "code", "requests"),
        ledger.refused
    );
}

/// Percentiles are estimates: each lies between the extremes, and they are in order.
fn has_the_times(shown: &Shown<'_>, ledger: &Ledger, lines: &[Line]) {
    let rows = shown.rows("Latency by action");
    assert_eq!(sums(&rows, "action", "operations"), ledger.by_action());
    for row in rows {
        let of_action = lines
            .iter()
            .filter(|line| line.is("event.action", &text(&row["action"])));
        let times = of_action.filter_map(|line| line.number("event.duration"));
        let times: Vec<f64> = times
            .map(|n| Duration::from_nanos(n).as_secs_f64() * 1e9)
            .collect();
        let least = times.iter().copied().fold(f64::INFINITY, f64::min);
        let most = times.iter().copied().fold(0.0, f64::max);
        let at = |column: &str| row[column].as_f64().expect("a time");
        let in_order = [least, at("p50"), at("p95"), at("p99"), most];
        assert!(in_order.is_sorted(), "{row:?} in {in_order:?}");
        assert!(
            least > 1000.0,
            "no operation takes less than a microsecond: {least}"
        );
    }
}

fn has_the_nodes(shown: &Shown<'_>, lines: &[Line], keys: u64) {
    let rows = shown.rows("Stored keys");
    let nodes: BTreeSet<String> = rows.iter().map(|row| text(&row["node"])).collect();
    assert_eq!(nodes, BTreeSet::from(["n1", "n2", "n3"].map(str::to_owned)));
    for row in &rows {
        let node = text(&row["node"]);
        let told = lines.iter().rfind(|line| {
            line.is("service.node.name", &node) && line.is("event.action", "keys-stored")
        });
        let told = told.expect("a line");
        assert_eq!(row["count"].as_u64(), told.number("quorate.keys.count"));
        assert_eq!(Some(&row["sample"]), told.get("quorate.keys.sample"));
        assert!(row["count"].as_u64() >= Some(keys), "{row:?}");
        let sample: BTreeSet<&str> = row["sample"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(sample.len(), 20, "{row:?}");
    }
}

/// The second of a line, as a panel's grid has it.
fn second(line: &Line) -> String {
    let stamp = line.text("@timestamp");
    format!("{}.000Z", stamp.split('.').next().expect("a time"))
}

fn has_the_states(shown: &Shown<'_>, lines: &[Line]) {
    let mut nodes: BTreeMap<(String, String), BTreeSet<&str>> = BTreeMap::new();
    let mut hints: BTreeMap<(String, String), u64> = BTreeMap::new();
    let beats = lines.iter().filter(|l| l.is("event.action", "heartbeat"));
    for line in beats {
        let node = line.text("service.node.name");
        let state = (line.text("service.state").to_owned(), second(line));
        nodes.entry(state).or_default().insert(node);
        let kept = hints.entry((node.to_owned(), second(line))).or_default();
        let pending = line.number("quorate.hints.pending").expect("a number");
        *kept = pending.max(*kept);
    }
    let said = nodes
        .into_iter()
        .map(|(at, nodes)| (at, u64::try_from(nodes.len()).expect("a few")));
    let said: BTreeMap<(String, String), u64> = said.collect();
    let states = pairs(&shown.rows("State timeline"), ["state", "time"], "nodes");
    assert_eq!(states, said);
    assert!(said.keys().any(|(state, _)| state == "READY"), "{said:?}");
    // A maximum is a broken number.
    let rows = shown.rows("Hints pending").into_iter().map(|row| {
        let most = row["hints"].as_f64().expect("a number");
        ((text(&row["node"]), text(&row["time"])), most)
    });
    let rows: BTreeMap<(String, String), f64> = rows.collect();
    let as_float = |n: u64| f64::from(u32::try_from(n).expect("a few"));
    let said = hints.iter().map(|(at, n)| (at.clone(), as_float(*n)));
    assert_eq!(rows, said.collect());
    let most = |name: &str| {
        let of_node = hints.iter().filter(|((node, _), _)| node == name);
        of_node.map(|(_, hints)| *hints).max().unwrap_or_default()
    };
    assert!(most("n1") + most("n2") >= 5, "{hints:?}");
    assert_eq!(most("n3"), 0, "{hints:?}");
}

fn has_the_troubles(shown: &Shown<'_>, lines: &[Line]) {
    let mut troubles: BTreeMap<(String, String), u64> = BTreeMap::new();
    for line in lines
        .iter()
        .filter(|l| ["warn", "error"].contains(&l.text("log.level")))
    {
        let key = |name| line.text(name).to_owned();
        *troubles
            .entry((key("message"), key("service.node.name")))
            .or_default() += 1;
    }
    let told = pairs(
        &shown.rows("Errors and warnings"),
        ["message", "node"],
        "lines",
    );
    assert_eq!(told, troubles);
    let silent = ("a member does not answer".to_owned(), "n1".to_owned());
    assert!(troubles.contains_key(&silent), "{troubles:?}");
}

/// The mappings are in force: a text in the place of a number is not taken.
fn refuses_another_type(elastic: &Elasticsearch) {
    let wrong = json!({"@timestamp": "2026-01-01T00:00:00.000Z", "event.duration": "long"});
    let url = elastic.url("/logs-quorate.node-default/_create/wrong");
    let answer = Client::new().try_post(&url, &wrong).expect("an answer");
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.body.contains("event.duration"), "{answer:?}");
}

/// The template's retention is that of the data stream, as the cluster's state has it: this server
/// comes without the requests that would show it.
fn keeps_a_week(elastic: &Elasticsearch) {
    let state = Client::new().get(&elastic.url("/_cluster/state/metadata"));
    let streams = &state.json()["metadata"]["data_stream"]["data_stream"];
    let lifecycle = &streams["logs-quorate.node-default"]["lifecycle"];
    let week = json!({"enabled": true, "data_retention": "7d"});
    assert_eq!(*lifecycle, week, "{streams}");
}
