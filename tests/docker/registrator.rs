//! The profile `registrator` without its image, which no package registry has: what registrator 7.4
//! was seen to register by a container's labels is told to Consul in its stead.

use serde_json::{Map, Value, json};

use crate::support::netns::Network;
use crate::{Host, ONE_HOST, TURN, UP, serves};

/// What the real one makes of a container that it is run beside with `-internal`.
fn entry(container: &Value) -> Value {
    let name = container["Name"].as_str().expect("a name");
    let address = &container["NetworkSettings"]["Networks"]["quorate_default"]["IPAddress"];
    let address = address.as_str().expect("an address");
    let labels = container["Config"]["Labels"].as_object().expect("labels");
    let ours = labels.iter().filter_map(|(label, value)| {
        let what = label.strip_prefix("SERVICE_8080_")?;
        Some((what.to_ascii_lowercase(), value.clone()))
    });
    let mut meta: Map<String, Value> = ours.collect();
    let mut own = |what: &str| {
        let value = meta.remove(what).unwrap_or_default();
        value.as_str().expect("a label").to_owned()
    };
    let (service, tags) = (own("name"), own("tags"));
    let tags: Vec<&str> = tags.split(',').collect();
    let id = format!("a-host:{}:8080", name.trim_start_matches('/'));
    let said = |what: &str| meta[what].as_str().expect("a label");
    json!({
        "ID": id, "Name": service, "Tags": tags, "Address": address, "Port": 8080,
        "Check": {
            "CheckID": format!("service:{id}"), "Name": format!("Service '{service}' check"),
            "HTTP": format!("http://{address}:8080{}", said("check_http")),
            "Interval": said("check_interval"), "Timeout": said("check_timeout"),
        },
        "Weights": {"Passing": 1, "Warning": 1}, "Meta": meta,
    })
}

#[test]
fn nodes_that_registrator_registers_by_their_labels_found_a_cluster_behind_the_balancer() {
    let _turn = TURN.lock();
    let network = Network::enter(1);
    let mut host = Host::start(&network, 0);
    host.environment = vec![
        ("QUORATE_PUBLISH", host.engine.address.clone()),
        ("QUORATE_REGISTER", "no".to_owned()),
    ];
    host.compose(ONE_HOST, &["up", "--detach", "--no-build"]);
    let consul = "http://172.28.80.10:8500/v1";
    let known = format!("{consul}/catalog/service/quorate");
    let all = host.engine.on_host("curl", &["-sSf", &known]);
    assert_eq!(all, "[]", "a node has registered itself");
    let register = format!("{consul}/agent/service/register");
    for node in ["n1", "n2", "n3"] {
        let entry = entry(&host.inspect(&format!("quorate-{node}-1"))).to_string();
        let put = [
            "-sSf",
            "-X",
            "PUT",
            "--data",
            entry.as_str(),
            register.as_str(),
        ];
        host.engine.on_host("curl", &put);
    }
    host.compose(ONE_HOST, &UP);
    serves(&host.base(8080), "key");
    let members = ["exec", "-T", "n1", "quorate", "members"];
    let members = host.compose(ONE_HOST, &members);
    let members: Value = serde_json::from_str(&members).expect("JSON");
    assert_eq!(members.as_array().map(Vec::len), Some(3), "{members}");
    host.compose(ONE_HOST, &["down", "--timeout", "0"]);
}
