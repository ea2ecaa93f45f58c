//! Metrics as their users meet them: a real Prometheus scrapes a real cluster with the
//! configuration that is shipped, and the rules, the dashboard and the documents name only metrics
//! that exist.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::indexing_slicing,
    reason = "an absent field fails the test, as it should"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use quorate::metrics::catalogue::{self, Kind};
use serde_json::{Value, json};

mod support;

use support::http::escaped;
use support::{Client, Cluster, eventually, free_address};

const FOLDER: &str = "docker/monitoring";
const PATIENCE: Duration = Duration::from_secs(30);
/// What is there only while something is kept, held up or ever was equal.
const SOMETIMES: [&str; 5] = [
    "quorate_hints_pending",
    "quorate_hints_bytes",
    "quorate_hints_oldest_seconds",
    "quorate_reaping_blocked_partitions",
    "process_max_fds",
];

fn shipped(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join(FOLDER).join(path)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Runs a program to its end and gives what it said.
fn promtool(arguments: &[&str], files: &[PathBuf]) -> String {
    let mut command = Command::new("promtool");
    let output = command.args(arguments).args(files).output();
    let output = output.unwrap_or_else(|e| panic!("promtool, which `make tools` installs: {e}"));
    let said = [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned());
    assert!(output.status.success(), "promtool {arguments:?}: {said:?}");
    said.concat()
}

#[test]
fn the_rules_are_sound_and_alert_when_they_should() {
    let rules = ["rules/quorate.rules.yml", "rules/quorate.alerts.yml"].map(shipped);
    let said = promtool(&["check", "rules"], &rules);
    assert_eq!(said.matches("SUCCESS").count(), 2, "{said}");
    promtool(&["test", "rules"], &[shipped("rules/quorate.tests.yml")]);
}

#[test]
fn every_alert_has_a_test_in_which_it_fires() {
    let tests = read(&shipped("rules/quorate.tests.yml"));
    let alerts = read(&shipped("rules/quorate.alerts.yml"));
    let names = alerts
        .lines()
        .filter_map(|l| l.trim().strip_prefix("- alert: "));
    let has_test = |name: &str| {
        let start = format!("alertname: {name}\n        exp_alerts:\n");
        tests.contains(&start)
    };
    let (fired, silent): (Vec<&str>, Vec<&str>) = names.partition(|name| has_test(name));
    assert!(fired.len() > 10, "{fired:?}");
    assert_eq!(silent, Vec::<&str>::new());
}

/// Prometheus, gone when dropped.
struct Prometheus {
    child: Child,
    address: String,
}

impl Prometheus {
    /// With the shipped configuration, whose paths are those of its container, made to fit here.
    fn start(dir: &Path, nodes: &[&str], token: &Path) -> Self {
        let config = read(&shipped("prometheus.yml"))
            .replace("/secrets/admin.token", token.to_str().unwrap())
            .replace(
                "/etc/prometheus/targets.yml",
                dir.join("targets.json").to_str().unwrap(),
            )
            .replace("/etc/prometheus/rules", shipped("rules").to_str().unwrap())
            .replace("scrape_interval: 5s", "scrape_interval: 1s")
            .replace("evaluation_interval: 15s", "evaluation_interval: 1s");
        let path = dir.join("prometheus.yml");
        std::fs::write(&path, &config).unwrap();
        let targets = json!([{ "targets": nodes }]).to_string();
        std::fs::write(dir.join("targets.json"), targets).unwrap();
        promtool(&["check", "config"], std::slice::from_ref(&path));
        let (address, log) = (free_address(), dir.join("prometheus.log"));
        let log = std::fs::File::create(log).unwrap();
        let mut command = Command::new("prometheus");
        command.args(["--config.file", path.to_str().unwrap()]);
        command.args(["--storage.tsdb.path", dir.join("tsdb").to_str().unwrap()]);
        command.args(["--web.listen-address", &address, "--log.level", "warn"]);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let child =
            child.unwrap_or_else(|e| panic!("prometheus, which `make tools` installs: {e}"));
        Self { child, address }
    }

    /// Whether it can work an expression out, or what it says of it.
    fn takes(&self, query: &str) -> Result<(), String> {
        let url = format!(
            "http://{}/api/v1/query?query={}",
            self.address,
            escaped(query)
        );
        let answer = Client::new().get(&url);
        let is_well = answer.json()["status"] == "success";
        is_well.then_some(()).ok_or(answer.body)
    }

    fn ask(&self, path: &str) -> Value {
        let url = format!("http://{}/api/v1/{path}", self.address);
        let answer = Client::new().try_get(&url);
        answer.map_or(Value::Null, |answer| answer.json()["data"].clone())
    }

    /// The one number that an expression comes to.
    fn number(&self, query: &str) -> Option<f64> {
        let answer = self.ask(&format!("query?query={}", escaped(query)));
        answer["result"][0]["value"][1].as_str()?.parse().ok()
    }

    /// Something is counted, however much.
    fn is_counted(&self, query: &str) {
        eventually(PATIENCE, &format!("{query} is more than nothing"), || {
            self.number(query).is_some_and(|is| is > 0.0)
        });
    }

    fn comes_to(&self, query: &str, number: f64) {
        eventually(PATIENCE, &format!("{query} is {number}"), || {
            self.number(query)
                .is_some_and(|is| (is - number).abs() < 1e-9)
        });
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_real_prometheus_scrapes_a_cluster_with_the_shipped_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("admin.token");
    std::fs::write(&token, "operators-token-1\n").unwrap();
    let mut cluster = Cluster::prepare(3, &["--admin-token-file", token.to_str().unwrap()]);
    cluster.spawn_all();
    cluster.nodes.iter().for_each(|n| n.wait_ready(PATIENCE));
    let admins: Vec<&str> = cluster.nodes.iter().map(|n| n.admin.as_str()).collect();
    let prometheus = Prometheus::start(dir.path(), &admins, &token);
    let client = Client::new();
    for i in 0..30 {
        let node = &cluster.nodes[i % 3];
        assert_eq!(
            client.post(&node.url(&format!("k{i}")), &json!(i)).status,
            201
        );
        assert_eq!(client.get(&node.url(&format!("k{i}"))).status, 200);
        assert_eq!(client.get(&node.url(&format!("no{i}"))).status, 404);
    }
    let count = |operation: &str, outcome: &str| {
        let labels = format!("{{operation=\"{operation}\",outcome=\"{outcome}\"}}");
        format!("sum(quorate_coordinator_operations_total{labels})")
    };
    prometheus.comes_to("sum(up)", 3.0);
    prometheus.comes_to(&count("create", "done"), 30.0);
    prometheus.comes_to(&count("get", "done"), 30.0);
    prometheus.comes_to(&count("get", "not_found"), 30.0);
    prometheus.comes_to("sum(quorate_coordinator_duration_seconds_count)", 90.0);
    prometheus.comes_to("sum(quorate_read_siblings_bucket{le=\"0.0\"})", 30.0);
    prometheus.comes_to(
        "sum(quorate_http_requests_total{route=\"/v1/{key}\",status=\"201\"})",
        30.0,
    );
    prometheus.comes_to("sum(quorate_partitions{role=\"owner\"})", 768.0);
    prometheus.comes_to("sum(quorate_keys)", 90.0);
    prometheus.comes_to("min(quorate_members{state=\"READY\"})", 3.0);
    prometheus.comes_to("count(process_resident_memory_bytes > 1e6)", 3.0);
    prometheus.comes_to("max(quorate_ring_epoch)", 1.0);
    everything_is_scraped(&prometheus);
    rules_work(&prometheus);
    every_question_of_the_dashboard_is_understood(&prometheus);
    cluster.nodes[2].kill();
    prometheus.comes_to("sum(up)", 2.0);
    prometheus.comes_to("max(quorate_partitions_under_replicated)", 256.0);
    prometheus.comes_to("count(quorate_member_reachable{peer=\"n3\"} == 0)", 2.0);
    faults_are_counted(&prometheus, &mut cluster);
}

/// What it costs that members are away: one, then two; then both are back.
fn faults_are_counted(prometheus: &Prometheus, cluster: &mut Cluster) {
    let client = Client::new();
    for i in 0..5 {
        let url = cluster.nodes[i % 2].url(&format!("missed{i}"));
        assert_eq!(client.post(&url, &json!(i)).status, 201);
    }
    let failed = |peer: &str| {
        let labels = format!("{{peer=\"{peer}\",outcome!=\"answered\"}}");
        format!("sum(quorate_replica_calls_total{labels})")
    };
    prometheus.is_counted("sum(quorate_hints_pending{peer=\"n3\"})");
    prometheus.is_counted(&failed("n3"));
    prometheus.comes_to("sum(quorate_quorum_shortfalls_total)", 0.0);
    cluster.nodes[1].kill();
    prometheus.comes_to("sum(up)", 1.0);
    prometheus.comes_to("quorate_member_reachable{peer=\"n2\"}", 0.0);
    for i in 0..3 {
        let read = client.get(&cluster.nodes[0].url(&format!("k{i}")));
        assert_eq!(read.status, 503, "{read:?}");
    }
    prometheus.comes_to(
        "sum(quorate_quorum_shortfalls_total{operation=\"get\"})",
        3.0,
    );
    prometheus.is_counted(&failed("n2"));
    cluster.spawn_dead();
    prometheus.comes_to("sum(up)", 3.0);
    prometheus.comes_to("sum(quorate_hints_pending) or vector(0)", 0.0);
    prometheus.is_counted("sum(quorate_hints_delivered_total)");
}

fn every_question_of_the_dashboard_is_understood(prometheus: &Prometheus) {
    for question in questions() {
        let question = question.replace("$instance", ".*");
        assert!(!question.contains('$'), "another variable: {question}");
        assert_eq!(prometheus.takes(&question), Ok(()), "{question}");
    }
    assert!(prometheus.takes("sum(").is_err());
}

fn everything_is_scraped(prometheus: &Prometheus) {
    let names = prometheus.ask("label/__name__/values");
    let names: BTreeSet<&str> = names
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for spec in catalogue::ALL {
        let name = match spec.kind {
            Kind::Histogram => format!("{}_count", spec.name),
            Kind::Counter | Kind::Gauge => spec.exposed(),
        };
        let there = names.contains(name.as_str());
        assert!(
            there || SOMETIMES.contains(&name.as_str()),
            "{name} is not scraped"
        );
    }
    let known = exposed();
    let others = names
        .iter()
        .filter(|n| n.starts_with("quorate_") && !known.contains(**n));
    assert_eq!(
        others.collect::<Vec<_>>(),
        Vec::<&&str>::new(),
        "not in the catalogue"
    );
}

fn rules_work(prometheus: &Prometheus) {
    eventually(PATIENCE, "every rule was evaluated", || {
        let answer = prometheus.ask("rules");
        let groups = answer["groups"].as_array().cloned().unwrap_or_default();
        let rules: Vec<&Value> = groups
            .iter()
            .flat_map(|g| g["rules"].as_array().unwrap())
            .collect();
        rules.len() == 19 && rules.iter().all(|rule| rule["health"] == "ok")
    });
    prometheus.comes_to(
        "count(operation:quorate_coordinator_operations:rate1m)",
        4.0,
    );
}

/// Every name that Prometheus knows a metric of ours by.
fn exposed() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for spec in catalogue::ALL {
        match spec.kind {
            Kind::Counter | Kind::Gauge => drop(names.insert(spec.exposed())),
            Kind::Histogram => {
                let parts = ["_bucket", "_sum", "_count"];
                names.extend(parts.map(|part| format!("{}{part}", spec.name)));
            }
        }
    }
    names
}

/// The words of a text that could be metrics of ours.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    let ours = words.filter(|w| w.starts_with("quorate_") || w.starts_with("process_"));
    ours.filter(|word| !word.contains(':')).collect()
}

/// Every expression of the Grafana dashboard.
fn questions() -> Vec<String> {
    let dashboard: Value =
        serde_json::from_str(&read(&shipped("grafana/dashboards/quorate.json"))).unwrap();
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            expressions.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    expressions
}

#[test]
fn the_dashboard_and_the_rules_name_only_metrics_that_exist() {
    let mut known = exposed();
    // As texts for people name them.
    known.extend(catalogue::ALL.iter().map(|spec| spec.exposed()));
    let mut expressions = questions();
    assert!(expressions.len() > 25, "{}", expressions.len());
    let rules = [
        "rules/quorate.rules.yml",
        "rules/quorate.alerts.yml",
        "rules/quorate.tests.yml",
    ];
    expressions.extend(rules.map(|path| read(&shipped(path))));
    let recorded = read(&shipped("rules/quorate.rules.yml"));
    for expression in &expressions {
        for name in metrics_in(expression) {
            assert!(
                known.contains(name),
                "{name} does not exist; in {expression}"
            );
        }
        let names = expression.split(|c: char| c.is_whitespace() || "()\"'".contains(c));
        for name in names.filter(|n| n.contains(":quorate_") || n.starts_with("quorate:")) {
            let name = name.split(['{', '[']).next().unwrap();
            assert!(
                recorded.contains(&format!("record: {name}\n")),
                "{name} is not recorded"
            );
        }
    }
}
