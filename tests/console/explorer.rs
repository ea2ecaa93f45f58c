//! One key, its replicas and its conflicts; and names and pages that mean harm.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::http::escaped;
use crate::support::{Client, Cluster, eventually};
use crate::{PATIENCE, figure, open};

/// Two values that nobody has merged, on a key.
pub(crate) fn conflict(cluster: &Cluster, key: &str, values: [&Value; 2]) {
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
    every_replica_shows_both(&browser);
    browser.wait(&format!(
        "/[1-9]/.test({})",
        figure("Reads in conflict, 1 min")
    ));
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
    conflict(&cluster, "keys", [&json!("a"), &json!("b")]);
    resolved_by_keyboard(&browser, &cluster);
    hostile_names(&browser, &cluster);
    assert_eq!(browser.complaints(), Vec::<String>::new());
    a_foreign_page_gets_nothing(&cluster);
}

/// Each owner by its name, with both values; one may get the second a moment later.
fn every_replica_shows_both(browser: &Browser) {
    let rows = "[...document.querySelectorAll('.replicas tbody tr')]";
    let names = format!("{rows}.map(r => r.querySelector('th').textContent).sort().join(' ')");
    assert_eq!(browser.eval(&names), "n1 n2 n3");
    let both = format!(
        "{rows}.every(r => r.cells[1].textContent === 'owner' \
         && ['tea', 'eggs'].every(v => r.cells[2].textContent.includes(v)))"
    );
    eventually(PATIENCE, "every replica has both values", || {
        look_for(browser, "cart");
        browser.wait(&format!("{SIBLINGS} === 2"));
        browser.eval(&both) == true
    });
}

/// Presses Tab until the focus is where this is true.
fn tab_to(browser: &Browser, place: &str) {
    for _ in 0..80 {
        browser.press("Tab");
        if browser.eval(&format!("document.activeElement.{place}")) == true {
            return;
        }
    }
    panic!("Tab does not lead to {place}");
}

/// From the beginning of the page to one value, without a click.
fn resolved_by_keyboard(browser: &Browser, cluster: &Cluster) {
    open(browser, cluster, "");
    browser.wait("!document.getElementById('main').hidden");
    tab_to(browser, "id === 'key'");
    browser.write("keys");
    browser.press("Enter");
    browser.wait(&format!("{SIBLINGS} === 2"));
    let kept: Value = serde_json::from_str(&browser.text(".sibling:nth-child(1) pre")).unwrap();
    tab_to(browser, "className === 'keep'");
    browser.press("Enter");
    browser.wait("document.getElementById('sure').open");
    tab_to(browser, "id === 'sure-yes'");
    browser.press("Enter");
    browser.wait(&format!("{SIBLINGS} === 1"));
    let left = Client::new().get(&cluster.nodes[1].url("keys")).values();
    assert_eq!(left, [kept]);
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
    let page = Client::new().get(&format!("http://{admin}/"));
    let policy = page.header("content-security-policy");
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.split("; ").any(|is| is == part), "{policy}");
    }
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
