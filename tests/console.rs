//! The console in a real Chromium: what an operator sees, clicks and types, and what a hostile key
//! does not do.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::indexing_slicing,
    reason = "an absent field fails the test, as it should"
)]

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

#[path = "console/explorer.rs"]
mod explorer;
#[cfg(feature = "extra")]
#[path = "console/pictures.rs"]
mod pictures;
mod support;

use support::browser::Browser;
use support::{Client, Cluster, eventually};

const PATIENCE: Duration = Duration::from_secs(30);

fn open(browser: &Browser, cluster: &Cluster, fragment: &str) {
    browser.open("about:blank");
    browser.open(&format!("http://{}/{fragment}", cluster.nodes[0].admin));
}

fn row(name: &str) -> String {
    format!("document.querySelector('[data-member=\"{name}\"]')")
}

/// A figure about the data, by its name.
fn figure(name: &str) -> String {
    format!(
        "[...document.querySelectorAll('#strip .health div')]\
         .find(e => e.querySelector('dt').textContent === '{name}').querySelector('dd').textContent"
    )
}

/// What is shown of the whole cluster's GETs, PUTs and so on.
fn tile(operation: &str) -> String {
    format!(
        "[...document.querySelectorAll('#strip .tile')]\
         .find(e => e.querySelector('h2')?.textContent === '{operation}').textContent"
    )
}

/// Whether the events have a line with this text.
fn told(text: &str) -> String {
    format!(
        "document.getElementById('events').innerText.includes({})",
        json!(text)
    )
}

/// `quorate bench` at all nodes, until it is dropped.
struct Bench(Child);

impl Bench {
    fn of(cluster: &Cluster, args: &[&str]) -> Self {
        let nodes = cluster.running().map(|node| node.client.as_str());
        let nodes: Vec<&str> = nodes.collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.args(["bench", "--op", "mixed", "--seconds", "600", "--endpoints"]);
        command.arg(nodes.join(",")).args(args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn goes_on(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Each node in the zone beside it.
fn in_zones(cluster: &mut Cluster, zones: &[&str]) {
    for (node, zone) in cluster.nodes.iter_mut().zip(zones) {
        node.extra.extend(["--zone", zone].map(str::to_owned));
    }
}

#[test]
fn the_page_shows_a_cluster_that_works_grows_and_loses_a_node() {
    let mut cluster = Cluster::start(3);
    let browser = Browser::start();
    open(&browser, &cluster, "");
    browser.wait("document.querySelectorAll('#members-body tr').length === 3");
    for name in ["n1", "n2", "n3"] {
        browser.wait(&format!("{}.innerText.includes('READY')", row(name)));
    }
    browser.wait("document.querySelectorAll('#ring .held').length >= 3");
    browser.wait("document.querySelector('#ring .big').textContent === '3/3'");
    let mut bench = Bench::of(
        &cluster,
        &["--keys", "100", "--connections", "3", "--rate", "200"],
    );
    for operation in ["get", "put"] {
        browser.wait(&format!(
            "/^{operation}[1-9].*p50 [0-9].*p99 [0-9]/.test({})",
            tile(operation)
        ));
    }
    browser.wait(&format!("/ · /.test({}.innerText)", row("n2")));
    a_member_goes_and_returns(&browser, &mut cluster);
    assert!(bench.goes_on());
    assert_eq!(browser.complaints(), Vec::<String>::new());
    a_change_is_shown_staged_and_under_way(&browser, &mut cluster);
    assert_eq!(browser.complaints(), Vec::<String>::new());
    assert!(bench.goes_on());
    drop(bench);
    // An open page must not hold up a node that is told to stop.
    cluster.nodes[0].signal(Signal::TERM);
    assert!(cluster.nodes[0].wait_exit(Duration::from_secs(8)).success());
    browser.wait("document.getElementById('banner').innerText.includes('does not answer')");
}

/// Operations that the first node has answered.
fn answered(cluster: &Cluster) -> u64 {
    let url = format!("http://{}/figures", cluster.nodes[0].admin);
    let figures = Client::new().get(&url).json();
    let members = figures["members"].as_array().unwrap();
    let first = members.iter().find(|member| member["name"] == "n1");
    let operations = first.unwrap()["figures"]["operations"].clone();
    let count = |name: &str| operations[name]["answered"].as_u64().unwrap();
    count("get") + count("put")
}

fn a_member_goes_and_returns(browser: &Browser, cluster: &mut Cluster) {
    assert_eq!(browser.eval(&figure("Hints kept")), "0");
    cluster.nodes[1].kill();
    browser.wait(&format!("{}.innerText.includes('AWAY')", row("n2")));
    browser.wait("document.querySelector('#ring .big').textContent === '2/3'");
    browser.wait(&told("n2 does not answer n1"));
    browser.wait("document.querySelectorAll('#ring .away').length > 0");
    browser.wait(&format!("/^[1-9]/.test({})", figure("Hints kept")));
    let before = answered(cluster);
    eventually(PATIENCE, "the others go on", || {
        answered(cluster) > before + 100
    });
    browser.wait(&format!("/^put[1-9]/.test({})", tile("put")));
    browser.wait("document.querySelector('#ring .big').textContent === '2/3'");
    cluster.nodes[1].spawn();
    browser.wait(&told("n2 answers n1 again"));
    browser.wait(&format!("{}.innerText.includes('READY')", row("n2")));
    browser.wait("document.querySelector('#ring .big').textContent === '3/3'");
    browser.wait(&format!("{} === '0'", figure("Hints kept")));
}

/// What `quorate cluster` says to an operator who asks this node.
fn operator(cluster: &Cluster, node: usize, args: &[&str]) -> Value {
    let args = [&["cluster"], args, &["-o", "json"]].concat();
    let (code, out, err) = cluster.nodes[node].command_line(&args);
    assert_eq!(code, 0, "{out}{err}");
    serde_json::from_str(&out).unwrap()
}

fn a_change_is_shown_staged_and_under_way(browser: &Browser, cluster: &mut Cluster) {
    assert_eq!(
        browser.eval("document.getElementById('changes').hidden"),
        true
    );
    let new = cluster.add();
    new.extra
        .extend(["--auto-commit", "false"].map(str::to_owned));
    new.spawn();
    browser.wait("document.getElementById('plan').innerText.includes('join n4')");
    browser.wait("document.getElementById('plan').innerText.includes('0 → 192 partitions')");
    operator(cluster, 3, &["limit", "transfers", "1", "1"]);
    let epoch = operator(cluster, 0, &["plan"])["epoch"].to_string();
    operator(cluster, 0, &["commit", "--epoch", &epoch]);
    browser.wait("document.querySelectorAll('#members-body tr').length === 4");
    browser.wait(&told("n4 is a member"));
    browser.wait(&told("partitions begin to move"));
    browser.wait("document.getElementById('transfers').innerText.includes('not begun')");
    browser.wait("document.querySelectorAll('#ring .moving').length > 0");
    browser.wait("document.getElementById('plan').innerText === ''");
    operator(cluster, 0, &["limit", "transfers", "4", "none"]);
    browser.wait(&format!("{}.innerText.includes('READY')", row("n4")));
    browser.wait("document.querySelectorAll('#ring [data-owner=n4]').length > 0");
    browser.wait("document.getElementById('changes').hidden");
}

/// Whether what is shown has exactly these, in order, as this datum.
fn distinct(shown: &str, datum: &str, values: &str) -> String {
    format!(
        "[...new Set([...document.querySelectorAll('{shown}')].map(e => e.dataset.{datum}))].sort().join(' ') === '{values}'"
    )
}

#[test]
fn the_ring_shows_the_zones_and_who_is_on_the_way_out() {
    let mut cluster = Cluster::prepare(4, &[]);
    in_zones(&mut cluster, &["east", "west", "south", "east"]);
    cluster.spawn_all();
    cluster.wait_ready();
    let browser = Browser::start();
    open(&browser, &cluster, "");
    for shown in ["#ring .zone-edge", "#zones li"] {
        browser.wait(&distinct(shown, "zone", "east south west"));
    }
    browser.wait("document.getElementById('zones').innerText.includes('2 members')");
    // Every partition has an owner in each.
    browser.eval("document.getElementById('ring').focus()");
    for _ in 0..3 {
        browser.press("ArrowRight");
        let note = browser.text("#ring-note");
        for zone in [" in east", " in west", " in south"] {
            assert!(note.contains(zone), "{note}");
        }
    }
    assert_eq!(
        browser.eval("document.querySelectorAll('#ring .crowded').length"),
        0
    );
    browser.eval("document.querySelector('#zones [data-zone=east]').focus()");
    browser.wait(&distinct("#ring .lit", "owner", "n1 n4"));
    browser.eval("document.activeElement.blur()");
    browser.wait("document.querySelectorAll('#ring.dimmed').length === 0");

    for node in 0..4 {
        operator(&cluster, node, &["limit", "transfers", "1", "1"]);
    }
    let epoch = operator(&cluster, 0, &["leave", "n4"])["epoch"].to_string();
    operator(&cluster, 0, &["commit", "--epoch", &epoch]);
    browser.wait("document.querySelectorAll('#ring .moving').length > 0");
    browser.wait(&distinct("#ring .held.unsettled", "owner", "n4"));
    browser.wait(&format!("{}.innerText.includes('LEAVING')", row("n4")));
    browser.wait("document.getElementById('ring-note').innerText.includes('n4 is LEAVING')");
    assert_eq!(cluster.nodes[3].status()["state"], "LEAVING");
    on_a_phone(&browser);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// Nothing lies beyond the edge, in light nor in dark.
fn on_a_phone(browser: &Browser) {
    let paper = "getComputedStyle(document.body).backgroundColor";
    for (scheme, colour) in [("light", "rgb(246, 245, 241)"), ("dark", "rgb(18, 21, 24)")] {
        browser.screen(390, 844, scheme);
        browser.wait(&format!("{paper} === '{colour}'"));
        browser.wait("document.documentElement.scrollWidth === 390");
        browser.wait("document.getElementById('zones').getBoundingClientRect().right <= 390");
    }
}

#[test]
fn with_a_token_the_page_asks_for_it_and_holds_no_data_before() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("admin.token");
    std::fs::write(&token, "open-sesame-open-sesame-open-sesame-open-sesame\n").unwrap();
    let mut cluster = Cluster::prepare(
        1,
        &[
            "--admin-token-file",
            token.to_str().unwrap(),
            "--replicas",
            "1",
            "--read-quorum",
            "1",
            "--write-quorum",
            "1",
        ],
    );
    cluster.spawn_all();
    cluster.nodes[0].wait_ready(PATIENCE);
    let browser = Browser::start();
    open(&browser, &cluster, "");
    browser.wait("!document.getElementById('door').hidden");
    browser.wait("document.activeElement.id === 'token'");
    assert_eq!(browser.eval("document.getElementById('main').hidden"), true);
    browser.write("wrong");
    browser.press("Enter");
    browser.wait(
        "!document.getElementById('door').hidden && document.getElementById('token').value === ''",
    );
    browser.click("#token");
    browser.write("open-sesame-open-sesame-open-sesame-open-sesame");
    browser.press("Enter");
    browser.wait("document.querySelectorAll('#members-body tr').length === 1");
    browser.wait(&told("n1"));
    let answers = [
        ("/", 200),
        ("/console/app.js", 200),
        ("/console/no.js", 401),
        ("/figures", 401),
        ("/events", 401),
        ("/explore?key=a", 401),
        ("/metrics", 401),
        ("/v1/a", 401),
    ];
    for (path, status) in answers {
        let url = format!("http://{}{path}", cluster.nodes[0].admin);
        eventually(PATIENCE, &url, || Client::new().get(&url).status == status);
    }
}
