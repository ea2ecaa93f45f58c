//! The console in a real Chromium: what an operator sees, clicks and types, and what a hostile key
//! does not do.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::indexing_slicing,
    reason = "an absent field fails the test, as it should"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

#[cfg(feature = "extra")]
#[path = "console/pictures.rs"]
mod pictures;
mod support;

use support::browser::Browser;
use support::http::escaped;
use support::{Client, Cluster, eventually};

const PATIENCE: Duration = Duration::from_secs(30);

fn open(browser: &Browser, cluster: &Cluster, fragment: &str) {
    browser.open("about:blank");
    browser.open(&format!("http://{}/{fragment}", cluster.nodes[0].admin));
}

fn row(name: &str) -> String {
    format!("document.querySelector('[data-member=\"{name}\"]')")
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
    let bench = Bench::of(
        &cluster,
        &["--keys", "100", "--connections", "3", "--rate", "200"],
    );
    browser.wait("/^[1-9]/.test(document.querySelector('#strip .figure').innerText)");
    browser.wait("document.querySelector('#strip .under').innerText.includes('p99')");
    browser.wait(&format!("/ · /.test({}.innerText)", row("n2")));
    assert_eq!(browser.complaints(), Vec::<String>::new());

    a_change_is_shown_staged_and_under_way(&browser, &mut cluster);

    cluster.nodes[1].kill();
    browser.wait(&format!("{}.innerText.includes('AWAY')", row("n2")));
    browser.wait("document.querySelector('#ring .big').textContent === '3/4'");
    browser.wait(&told("n2 does not answer n1"));
    browser.wait("document.querySelectorAll('#ring .away').length > 0");
    cluster.nodes[1].spawn();
    browser.wait(&told("n2 answers n1 again"));
    browser.wait(&format!("{}.innerText.includes('READY')", row("n2")));
    assert_eq!(browser.complaints(), Vec::<String>::new());
    drop(bench);
    // An open page must not hold up a node that is told to stop.
    cluster.nodes[0].signal(Signal::TERM);
    assert!(cluster.nodes[0].wait_exit(Duration::from_secs(8)).success());
    browser.wait("document.getElementById('banner').innerText.includes('does not answer')");
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

/// Two values that nobody has merged, on a key.
fn conflict(cluster: &Cluster, key: &str, values: [&Value; 2]) {
    let (client, nodes) = (Client::new(), &cluster.nodes);
    let clock = client.post(&nodes[0].url(key), &json!("first")).clock();
    for (node, value) in nodes.iter().zip(values) {
        assert_eq!(client.put(&node.url(key), value, &clock).status, 200);
    }
    let seen = client.get(&nodes[2].url(key)).values();
    assert_eq!(seen.len(), 2, "{seen:?}");
}

fn look_for(browser: &Browser, key: &str) {
    browser.eval("document.getElementById('key').value = ''");
    browser.click("#key");
    browser.write(key);
    browser.press("Enter");
}

const SIBLINGS: &str = "document.querySelectorAll('.sibling').length";

#[test]
fn a_conflict_is_resolved_by_clicking_and_hostile_names_are_only_names() {
    let cluster = Cluster::start(3);
    let (tea, eggs) = (
        json!(["milk", "tea"]),
        json!(["milk", "eggs", 12_345_678_901_234_567_890_u64]),
    );
    conflict(&cluster, "cart", [&tea, &eggs]);
    let browser = Browser::start();
    open(&browser, &cluster, "");
    browser.wait("!document.getElementById('main').hidden");
    look_for(&browser, "cart");
    browser.wait(&format!("{SIBLINGS} === 2"));
    browser.wait("document.querySelectorAll('.replicas tbody tr').length === 3");
    // Escape changes nothing.
    let keep = ".sibling:nth-child(1) .keep";
    browser.click(keep);
    browser.wait("document.getElementById('sure').open");
    browser.press("Escape");
    browser.wait("!document.getElementById('sure').open");
    assert_eq!(
        Client::new()
            .get(&cluster.nodes[1].url("cart"))
            .values()
            .len(),
        2
    );
    let kept: Value = serde_json::from_str(&browser.text(".sibling:nth-child(1) pre")).unwrap();
    browser.click(keep);
    browser.wait("document.getElementById('sure').open");
    browser.click("#sure-yes");
    browser.wait(&format!("{SIBLINGS} === 1"));
    for node in &cluster.nodes {
        let left = Client::new().get(&node.url("cart")).values();
        assert_eq!(left, std::slice::from_ref(&kept));
    }
    conflict(&cluster, "list", [&json!(1), &json!(2)]);
    look_for(&browser, "list");
    browser.wait(&format!("{SIBLINGS} === 2"));
    by_keyboard(&browser);
    by_hand(&browser, &cluster);
    hostile_names(&browser, &cluster);
    assert_eq!(browser.complaints(), Vec::<String>::new());
    a_foreign_page_gets_nothing(&cluster);
}

/// A merged value of the operator's own, with a number that no browser could hold.
fn by_hand(browser: &Browser, cluster: &Cluster) {
    browser.eval("document.getElementById('merged').value = ''");
    browser.click("#merged");
    browser.write("[1, 2");
    browser.click(".merge .strong");
    browser.wait("document.querySelector('.merge [role=alert]').innerText.includes('not JSON')");
    browser.click("#merged");
    browser.eval("document.getElementById('merged').value = ''");
    browser.write("[1, 2, 18446744073709551617]");
    browser.click(".merge .strong");
    browser.wait("document.getElementById('sure').open");
    browser.click("#sure-yes");
    browser.wait(&format!("{SIBLINGS} === 1"));
    let body = Client::new().get(&cluster.nodes[2].url("list")).body;
    assert!(body.contains("[[1, 2, 18446744073709551617]]"), "{body}");
}

/// Everything can be reached with Tab, and the ring can be walked.
fn by_keyboard(browser: &Browser) {
    browser.eval("document.querySelector('.skip').focus()");
    let mut left = vec!["ring", "TR", "events", "key", "encoded", "merged"];
    for _ in 0..60 {
        browser.press("Tab");
        let place = browser.eval("document.activeElement.id || document.activeElement.tagName");
        left.retain(|wanted| place != *wanted);
        if place == "ring" {
            browser.press("ArrowRight");
            browser.press("ArrowRight");
            let note = browser.text("#ring-note");
            assert!(note.starts_with("Partition 1: n"), "{note}");
        }
        if place == "SUMMARY" {
            browser.press("Enter");
        }
    }
    assert_eq!(left, Vec::<&str>::new());
}

fn hostile_names(browser: &Browser, cluster: &Cluster) {
    let attack = "<img src=x onerror=\"window.owned=1\">";
    let names = [
        attack,
        "\"'><script>window.owned=1</script>",
        "\u{202e}evil\u{2066}",
        "a/b?c#d%41 &",
        "..",
        "ключ-鍵-🔑",
    ];
    for name in names {
        let value = json!({ "html": attack, "name": name });
        let answer = Client::new().post(&cluster.nodes[0].url(&escaped(name)), &value);
        assert_eq!(answer.status, 201, "{name}");
        look_for(browser, name);
        browser
            .wait("document.querySelector('.sibling pre')?.innerText.includes('onerror') === true");
        let shown = browser.text("#found .key");
        assert!(!shown.contains('\u{202e}'), "{shown:?}");
        browser.eval("document.getElementById('found').replaceChildren()");
    }
    // Bytes that no text box can hold.
    assert_eq!(
        Client::new()
            .post(&cluster.nodes[0].url("%00%FF"), &json!("bytes"))
            .status,
        201
    );
    browser.click("#encoded");
    look_for(browser, "%00%FF");
    browser.wait("document.querySelector('.sibling pre')?.innerText === '\"bytes\"'");
    browser.click("#encoded");
    assert_eq!(
        browser.eval("document.querySelectorAll('img[src=x]').length"),
        0
    );
    assert_eq!(browser.eval("typeof window.owned"), "undefined");
}

/// One request with headers that no library would send, and the status of its answer.
fn raw(address: &str, head: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("{head}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn a_foreign_page_gets_nothing(cluster: &Cluster) {
    let admin = &cluster.nodes[0].admin;
    let delete = "DELETE /v1/cart HTTP/1.1\r\nhost: 127.0.0.1:1";
    let rows = [
        (
            "GET /status HTTP/1.1\r\nhost: rebound.example.org".to_owned(),
            403,
        ),
        (
            "GET /explore?key=cart HTTP/1.1\r\nhost: rebound.example.org".to_owned(),
            403,
        ),
        (format!("{delete}\r\norigin: http://evil.example.org"), 403),
        (format!("{delete}\r\norigin: null"), 403),
        (format!("{delete}\r\norigin: http://127.0.0.1:2"), 403),
        (
            "PUT /background HTTP/1.1\r\nhost: 127.0.0.1:1\r\norigin: http://evil.example.org"
                .to_owned(),
            403,
        ),
        ("GET /status HTTP/1.1\r\nhost: localhost".to_owned(), 200),
        (format!("{delete}\r\norigin: http://127.0.0.1:1"), 200),
    ];
    for (head, status) in rows {
        assert_eq!(raw(admin, &head), status, "{head}");
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
