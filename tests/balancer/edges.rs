//! What the balancer lets through, what it says itself, and what it makes of what Consul knows.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use quorate::limits::Limits;
use serde_json::{Value, json};

use crate::support::balancer::Balancer;
use crate::support::connection::Connection;
use crate::support::consul::Consul;
use crate::support::http::escaped;
use crate::support::tools::tool;
use crate::support::{Answer, Client, Cluster, Node, eventually, free_address};
use crate::{changes, long};

const SOON: Duration = Duration::from_secs(20);

fn lb(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docker/lb")
        .join(file)
}

/// Registers a service that Consul does not check.
pub(crate) fn register(consul: &Consul, id: &str, address: &str) {
    let (host, port) = address.rsplit_once(':').unwrap();
    let port: u16 = port.parse().unwrap();
    let service = json!({"ID": id, "Name": "quorate", "Tags": ["production"],
        "Address": host, "Port": port});
    consul.put("/v1/agent/service/register", &service);
}

/// What `quorate lb render` and the template make of what Consul knows: the same.
fn rendered(consul: &Consul) -> String {
    let ours = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["lb", "render", "--consul", &consul.address])
        .output()
        .unwrap();
    assert!(ours.status.success(), "{ours:?}");
    let ours = String::from_utf8(ours.stdout).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("rendered.conf");
    let template = format!("{}:{}", lb("upstream.ctmpl").display(), out.display());
    let theirs = Command::new(tool("consul-template"))
        .args([
            "-once",
            "-template",
            &template,
            "-consul-addr",
            &consul.address,
        ])
        .output()
        .unwrap();
    assert!(theirs.status.success(), "{theirs:?}");
    assert_eq!(ours.trim(), std::fs::read_to_string(out).unwrap().trim());
    ours
}

/// What nginx thinks of the balancer's configuration with these upstream lines.
fn nginx_test(nginx: &str, upstream: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let conf = std::fs::read_to_string(lb("nginx.conf")).unwrap();
    let conf = conf.replace("@LISTEN@", &free_address());
    std::fs::write(dir.path().join("nginx.conf"), conf).unwrap();
    std::fs::write(dir.path().join("upstream.conf"), upstream).unwrap();
    let mut command = Command::new(tool(nginx));
    command
        .arg("-t")
        .arg("-p")
        .arg(dir.path())
        .args(["-c", "nginx.conf"]);
    command.output().unwrap()
}

#[test]
fn both_versions_of_nginx_take_no_node_one_and_three() {
    let consul = Consul::start();
    for nodes in 0..=3 {
        if nodes > 0 {
            register(
                &consul,
                &format!("n{nodes}"),
                &format!("127.0.0.{nodes}:8080"),
            );
        }
        let upstream = rendered(&consul);
        assert_eq!(upstream.matches("max_fails").count(), nodes, "{upstream}");
        for nginx in ["nginx-1.22", "nginx-1.31"] {
            let tested = nginx_test(nginx, &upstream);
            assert!(
                tested.status.success(),
                "{nginx}, {nodes} nodes: {tested:?}"
            );
        }
    }
    let srv = std::fs::read_to_string(lb("upstream-srv.conf")).unwrap();
    let srv = srv
        .replace("@DNS@", &consul.dns)
        .replace("@SERVICE@", "quorate");
    let srv = srv.replace("@TAG@", "production");
    assert!(nginx_test("nginx-1.31", &srv).status.success());
    assert!(
        !nginx_test("nginx-1.22", &srv).status.success(),
        "it knows no SRV"
    );
}

#[test]
fn without_a_ready_node_the_balancer_says_so_and_a_node_that_comes_is_used() {
    let consul = Consul::start();
    let balancer = Balancer::start("nginx-1.31", &consul);
    let client = Client::new();
    let url = balancer.url("/v1/key");
    let refused = client.get(&url);
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, "1"),
        "{refused:?}"
    );
    let body = refused.json();
    assert_eq!(
        (&body["code"], &body["outcome"]),
        (&json!("not_ready"), &json!("not_applied"))
    );
    long::slow_answer_outlives_a_reload(&consul, &balancer);
    let cluster = Cluster::start_in(&consul, 1);
    eventually(SOON, "the node is used", || client.get(&url).status == 404);
    eventually(SOON, "no other node is", || balancer.rotation().len() == 1);
    changes::a_storm_is_few_reloads(&consul, &balancer);
    changes::what_nginx_refuses_is_not_taken_over(&consul, &balancer);
    drop(cluster);
    eventually(SOON, "nobody answers any more", || {
        client.get(&url).status == 503
    });
    let refused = client.try_put(&url, &json!(1), "").unwrap();
    assert_eq!(
        refused.json()["outcome"],
        json!("not_applied"),
        "{refused:?}"
    );
}

/// Seed defects 10 and 11: a key pasted into an internal URL, and internal calls on the port of the
/// clients, wiped whole nodes through the balancer.
#[test]
fn seed_defects_10_and_11_through_the_balancer_only_keys_can_be_reached() {
    let consul = Consul::start();
    let cluster = Cluster::start_in(&consul, 1);
    let balancer = Balancer::start("nginx-1.22", &consul);
    let (client, node) = (Client::new(), &cluster.nodes[0]);
    eventually(SOON, "the node is in rotation", || {
        client.get(&balancer.url("/readyz")).status == 200
    });
    let inner = [
        "/status",
        "/ring",
        "/members",
        "/metrics",
        "/background",
        "/peer/v1/ring/get",
        "/peer/v1/hello",
        "/v1/",
        "/v1/../status",
        "//status",
        "/lb/too-large",
    ];
    for path in inner {
        for answer in [
            client.get(&balancer.url(path)),
            client.delete(&balancer.url(path)),
        ] {
            let seen = (answer.status, answer.json()["code"].clone());
            assert_eq!(seen, (404, json!("no_such_resource")), "{path}: {answer:?}");
        }
    }
    let keys = [
        "data",
        "a%2Fb",
        "x%3Fy",
        "data%3Ffrom%3D0%26to%3D1023",
        "%25",
        "%C3%A4",
        "..",
        "a%2F%2Fb",
        "ping",
        "%20",
    ];
    for key in keys {
        let made = client.post(&balancer.url(&format!("/v1/{key}")), &json!(key));
        assert_eq!(made.status, 201, "{key}: {made:?}");
    }
    let wipe = client.delete(&balancer.url("/v1/data%3Ffrom%3D0%26to%3D1023"));
    assert_eq!(wipe.status, 200, "{wipe:?}");
    for key in keys {
        let (read, direct) = (
            client.get(&balancer.url(&format!("/v1/{key}"))),
            client.get(&node.url(key)),
        );
        let is_deleted = key.starts_with("data%3F");
        assert_eq!(
            read.status,
            if is_deleted { 404 } else { 200 },
            "{key}: {read:?}"
        );
        assert_eq!(read.values(), direct.values(), "{key}");
    }
    assert_eq!(
        client.get(&balancer.url("/v1/x%zz")).json()["code"],
        json!("key_invalid")
    );
    a_body_may_be_too_large(&client, &balancer);
    requests_have_ids(&client, &balancer, node);
    writes_are_recognised(&balancer);
    a_long_clock_is_for_the_node(&client, &balancer, node);
    long::outlives_a_reload(&balancer);
    long::outlives_the_end(&balancer);
}

/// Behind the longest key there is, every byte of it escaped.
fn a_long_clock_is_for_the_node(client: &Client, balancer: &Balancer, node: &Node) {
    let limits = Limits::default();
    let key = escaped(&"/".repeat(limits.key_bytes));
    let path = format!("/v1/{key}?clock={}", "x".repeat(limits.clock_bytes));
    let direct = client.delete(&format!("http://{}{path}", node.client));
    let through = client.delete(&balancer.url(&path));
    assert_eq!(direct.json()["code"], json!("clock_invalid"), "{direct:?}");
    assert_eq!(through.json(), direct.json());
}

/// What follows each of the directives of this name.
fn directives<'a>(conf: &'a str, name: &str) -> Vec<&'a str> {
    let lines = conf
        .lines()
        .filter_map(|line| line.trim().strip_suffix(';'));
    let split = lines.filter_map(|line| line.split_once(' '));
    split
        .filter_map(|(n, value)| (n == name).then_some(value))
        .collect()
}

#[test]
fn nginx_has_the_limits_of_the_nodes() {
    let limits = Limits::default();
    let conf = std::fs::read_to_string(lb("nginx.conf")).unwrap();
    let seconds = |of: Duration| format!("{}s", of.as_secs());
    let body = limits.body_bytes().to_string();
    let rows = [
        ("client_max_body_size", body.clone()),
        ("client_body_buffer_size", body),
        ("client_header_timeout", seconds(limits.head_timeout)),
        ("client_body_timeout", seconds(limits.body_timeout)),
    ];
    for (name, due) in rows {
        assert_eq!(directives(&conf, name), [due], "{name}");
    }
    let numbers = |name: &str| -> Vec<u64> {
        let values = directives(&conf, name).into_iter();
        let values =
            values.map(|value| value.trim_start_matches("4 ").trim_end_matches(['s', 'k']));
        values.map(|value| value.parse().unwrap()).collect()
    };
    // To clients as nodes do; to nodes, nginx is the first to let go of an idle connection.
    let idle = limits.keep_alive.as_secs();
    let [to_clients, from_nodes] = numbers("keepalive_timeout")[..] else {
        panic!("{conf}")
    };
    assert_eq!(to_clients, idle);
    assert!(from_nodes < idle);
    let slowest = limits.write_deadline.max(limits.read_deadline).as_secs();
    for name in ["proxy_read_timeout", "proxy_send_timeout"] {
        assert!(numbers(name)[0] > slowest, "{name}");
    }
    // The first line of a delete, whose key is escaped.
    let line = limits.clock_bytes + 3 * limits.key_bytes + 100;
    let buffer = usize::try_from(numbers("large_client_header_buffers")[0]).unwrap() * 1024;
    assert!(buffer >= line, "{buffer} < {line}");
}

fn a_body_may_be_too_large(client: &Client, balancer: &Balancer) {
    let long = client.post(&balancer.url("/v1/long"), &json!("x".repeat(1_100_000)));
    assert_eq!(
        (long.status, long.json()["code"].clone()),
        (413, json!("body_too_large"))
    );
}

/// What nginx repeats under one name is answered as the first time, not by what it did itself.
fn writes_are_recognised(balancer: &Balancer) {
    let mut connection = Connection::to(&balancer.address);
    let json = "content-type: application/json\r\n";
    for (method, body, due) in [("POST", r#"{"value":1}"#, 201), ("DELETE", "", 200)] {
        let head = format!("{method} /v1/named");
        let lines = format!("idempotency-key: {method}-1\r\n{json}");
        for _ in 0..2 {
            let answer = connection.call(&head, &lines, body).unwrap();
            assert_eq!(answer.status, due, "{method}: {answer:?}");
        }
    }
}

/// The request's id in nginx is the node's correlation id, and in both logs; so is the client's own.
fn requests_have_ids(client: &Client, balancer: &Balancer, node: &Node) {
    let url = balancer.url("/v1/data");
    let read = client.get(&url);
    let id = read.header("x-correlation-id").to_owned();
    assert_eq!(id.len(), 32, "{read:?}");
    let line = || {
        let text = balancer.log_text();
        let line = text
            .lines()
            .find(|line| line.contains(&id))
            .map(str::to_owned);
        line.map(|line| serde_json::from_str::<Value>(&line).unwrap())
    };
    eventually(SOON, "the request is logged", || line().is_some());
    let line = line().unwrap();
    assert_eq!(line["trace.id"], json!(id));
    assert_eq!(line["http.response.status_code"], json!(200));
    let own = client.put_with(
        &url,
        &json!(1),
        &read.clock(),
        &[("x-correlation-id", "mine-1")],
    );
    assert_eq!(own.header("x-correlation-id"), "mine-1", "{own:?}");
    for (id, action) in [(id.as_str(), "get"), ("mine-1", "update")] {
        let is_told = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            line["trace.id"] == id && line["event.action"] == action
        };
        eventually(SOON, "the node has logged it under the same id", || {
            node.log_text().lines().any(is_told)
        });
    }
}

/// A node that takes one request, tells of it, and breaks off.
fn breaking_node(socket: TcpListener, requests: usize) -> Receiver<String> {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for stream in socket.incoming().take(requests) {
            let mut stream = stream.unwrap();
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).unwrap();
            let text = String::from_utf8_lossy(&head[..read]).into_owned();
            stream.flush().unwrap();
            tell.send(text).unwrap();
        }
    });
    told
}

/// The header's value in a request as it was sent.
fn header(request: &str, name: &str) -> Option<String> {
    let lines = request.lines().filter_map(|line| line.split_once(": "));
    let mut found = lines.filter(|(n, _)| n.eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value.to_owned())
}

/// What two nodes are called that both break off, and the name that each sees; nginx then avoids
/// both for a while, so they are good for two requests.
struct Breaking {
    balancer: Balancer,
    told: [Receiver<String>; 2],
    _consul: Consul,
}

impl Breaking {
    fn start() -> Self {
        let consul = Consul::start();
        let sockets = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        for (n, socket) in sockets.iter().enumerate() {
            let address = socket.local_addr().unwrap().to_string();
            register(&consul, &format!("n{n}"), &address);
        }
        Self {
            balancer: Balancer::start("nginx-1.22", &consul),
            told: sockets.map(|socket| breaking_node(socket, 2)),
            _consul: consul,
        }
    }

    /// The name under which a write that was answered so went to both nodes.
    fn name(&self, method: &str, answer: &Answer) -> String {
        let outcome = answer.json()["outcome"].clone();
        assert_eq!(
            (answer.status, outcome),
            (504, json!("unknown")),
            "{method}"
        );
        let names = self.told.each_ref().map(|told| {
            let request = told.recv_timeout(SOON).unwrap();
            let head = format!("{method} /v1/key ");
            assert!(request.starts_with(&head), "{request}");
            header(&request, "idempotency-key").unwrap()
        });
        assert_eq!(names[0], names[1], "{method}");
        names[0].clone()
    }
}

/// Nobody can know what became of a write whose node breaks off: it goes to another one as the same.
#[test]
fn a_write_that_breaks_off_is_repeated_at_another_node_under_one_name() {
    let client = Client::new();
    let nodes = Breaking::start();
    let url = nodes.balancer.url("/v1/key");
    let posted = nodes.name("POST", &client.post(&url, &json!(1)));
    let put = nodes.name("PUT", &client.try_put(&url, &json!(1), "").unwrap());
    assert_ne!(posted, put);
    let nodes = Breaking::start();
    let url = nodes.balancer.url("/v1/key");
    nodes.name("DELETE", &client.try_delete(&url).unwrap());
    let own = [("idempotency-key", "mine")];
    let put = client.put_with(&url, &json!(1), "", &own);
    assert_eq!(nodes.name("PUT", &put), "mine");
}
