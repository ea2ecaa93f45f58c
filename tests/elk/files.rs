//! The files of the profile `elk`, against grammars, known keys, and each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use quorate::logging::FIELDS;
use serde_json::{Map, Value};

use crate::engine::tool;
use crate::panels::{self, Panel};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docker/elk")
        .join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|why| panic!("{name}: {why}"))
}

/// Runs Python with a program and a text, and reads its JSON; `None` if it fails.
fn python(program: &str, input: &str) -> Option<Value> {
    let mut command = Command::new(tool("elk-python/bin/python"));
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), input).expect("a file");
    let output = command
        .arg("-c")
        .arg(program)
        .arg(file.path())
        .output()
        .expect("Python");
    let text = output.status.success().then_some(output.stdout)?;
    Some(serde_json::from_slice(&text).expect("JSON"))
}

fn yaml(text: &str) -> Value {
    let program = "import json,sys,yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    python(program, text).expect("YAML")
}

/// The configuration as the grammar of Logstash's language takes it apart.
fn pipeline(text: &str) -> Option<Value> {
    let program = "import json,sys; from logstash_pipeline_parser import Pipeline; \
        print(json.dumps(Pipeline(open(sys.argv[1]).read()).parse()))";
    python(program, text)
}

/// Every key of a tree, with dots, lists passed through.
fn keys(value: &Value, before: &str, out: &mut BTreeSet<String>) {
    if let Some(fields) = value.as_object() {
        for (name, value) in fields {
            keys(value, &joined(before, name), out);
        }
    } else if let Some(items) = value.as_array() {
        for item in items {
            keys(item, before, out);
        }
    } else {
        out.insert(before.to_owned());
    }
}

fn joined(before: &str, name: &str) -> String {
    if before.is_empty() {
        name.to_owned()
    } else {
        format!("{before}.{name}")
    }
}

/// Keys of Filebeat's that are documented for 8.19 and 9: a misspelt one would change nothing, and
/// nobody would be told.
const FILEBEAT: [&str; 21] = [
    "filebeat.inputs.type",
    "filebeat.inputs.id",
    "filebeat.inputs.paths",
    "filebeat.inputs.prospector.scanner.fingerprint.length",
    "filebeat.inputs.parsers.ndjson.target",
    "filebeat.inputs.parsers.ndjson.overwrite_keys",
    "filebeat.inputs.parsers.ndjson.expand_keys",
    "filebeat.inputs.parsers.ndjson.add_error_key",
    "filebeat.inputs.parsers.container.stream",
    "filebeat.inputs.parsers.container.format",
    "filebeat.inputs.processors.drop_event.when.not.or.equals.service.name",
    "filebeat.inputs.processors.drop_event.when.not.or.regexp.message",
    "processors.fingerprint.fields",
    "processors.fingerprint.target_field",
    "output.logstash.hosts",
    "output.logstash.loadbalance",
    "output.logstash.ttl",
    "output.logstash.pipelining",
    "http.enabled",
    "http.host",
    "logging.level",
];

#[test]
fn filebeat_knows_every_key_and_reads_what_compose_mounts() {
    let (filebeat, shipper) = (yaml(&read("filebeat.yml")), yaml(&read("shipper.yaml")));
    let mut used = BTreeSet::new();
    keys(&filebeat, "", &mut used);
    let unknown = used.iter().filter(|key| !FILEBEAT.contains(&key.as_str()));
    assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&String>::new());
    let inputs = filebeat["filebeat.inputs"].as_array().expect("inputs");
    let ids: BTreeSet<_> = inputs.iter().map(|input| input["id"].as_str()).collect();
    assert!(ids.len() == inputs.len() && !ids.contains(&None), "{ids:?}");
    let mounts = mounts(&shipper["services"]["filebeat"]);
    for input in inputs {
        assert_eq!(input["type"], "filestream");
        let last = input["parsers"].as_array().and_then(|all| all.last());
        assert!(
            last.is_some_and(|parser| parser["ndjson"].is_object()),
            "{input}"
        );
        for path in input["paths"].as_array().expect("paths") {
            let path = path.as_str().expect("a path");
            let there = mounts
                .keys()
                .any(|mount| path.starts_with(&format!("{mount}/")));
            assert!(there, "{path} is not among {mounts:?}");
        }
    }
    assert_eq!(mounts["/usr/share/filebeat/filebeat.yml"], "./filebeat.yml");
    assert_eq!(mounts["/usr/share/filebeat/data"], "filebeat");
}

/// A node that cannot start says so in words, before there is a log or beside it. Other containers'
/// lines are dropped.
#[test]
fn filebeat_takes_what_a_node_that_cannot_start_says() {
    let filebeat = yaml(&read("filebeat.yml"));
    let drops = &filebeat["filebeat.inputs"][1]["processors"][0]["drop_event"];
    let kept = &drops["when"]["not"]["or"];
    assert_eq!(kept[0]["equals"]["service.name"], "quorate");
    let begins = kept[1]["regexp"]["message"].as_str().expect("a pattern");
    let words = begins
        .strip_prefix("^(")
        .and_then(|rest| rest.strip_suffix(')'));
    let words: Vec<&str> = words.expect("a choice of words").split('|').collect();
    let is_kept = |line: &str| words.iter().any(|word| line.starts_with(word));
    for flags in [
        &["--replicas", "none"][..],
        &["--data-dir", "/proc/no/such/place"],
        &["--config", "/no/such/file"],
    ] {
        let mut node = Command::new(env!("CARGO_BIN_EXE_quorate"));
        let output = node.arg("server").args(flags).output().expect("a node");
        assert!(!output.status.success(), "{flags:?}");
        let said = String::from_utf8(output.stderr).expect("a text");
        let first = said.lines().next().unwrap_or_default();
        assert!(is_kept(first), "{flags:?}: {said}");
    }
    for other in [
        "2026-01-01T00:00:00Z [INFO]  agent: Consul agent running!",
        "172.28.80.1 - - [01/Jan/2026] \"GET /v1/quorate HTTP/1.1\" 200",
    ] {
        assert!(!is_kept(other), "{other}");
    }
}

/// What a service mounts: where, and from where.
fn mounts(service: &Value) -> BTreeMap<String, String> {
    let volumes = service["volumes"].as_array().into_iter().flatten();
    let pair = |volume: &Value| {
        let mut parts = volume.as_str().expect("a short form").split(':');
        let (from, to) = (parts.next().expect("from"), parts.next().expect("to"));
        (to.to_owned(), from.to_owned())
    };
    volumes.map(pair).collect()
}

#[test]
fn logstash_routes_and_takes_no_line_apart() {
    let text = read("logstash.conf");
    let parsed = pipeline(&text).expect("a pipeline").to_string();
    for part in [
        "[\"port\",[5044]]",
        "[\"data_stream\",[true]]",
        "[\"beats\",",
        "quorate.node",
    ] {
        assert!(parsed.contains(part), "{part} in {parsed}");
    }
    for filter in ["grok", "dissect", "json", "ruby"] {
        assert!(!parsed.contains(&format!("[[\"{filter}\",")), "{filter}");
    }
    let broken = [
        text.replacen("beats {", "beats", 1),
        text.replacen("=>", "=", 1),
        format!("{text}}}"),
    ];
    for broken in broken {
        assert!(pipeline(&broken).is_none(), "accepted: {broken}");
    }
    let settings = yaml(&read("logstash.yml"));
    assert_eq!(settings["queue.type"], "persisted");
    assert_eq!(settings["dead_letter_queue.enable"], true);
}

/// Seed defect 25: only one host shipped logs, images were `latest`, addresses were edited by hand,
/// and a password stood in the README.
#[test]
fn seed_defect_25_every_host_can_ship_with_pinned_images_and_no_password() {
    let (whole, shipper) = (yaml(&read("compose.yaml")), yaml(&read("shipper.yaml")));
    assert_eq!(
        whole["include"][0], "shipper.yaml",
        "the same file that other hosts include"
    );
    let services = |file: &Value| file["services"].as_object().expect("services").clone();
    let all = services(&whole).into_iter().chain(services(&shipper));
    let all: Map<String, Value> = all.collect();
    assert_eq!(all.len(), 8, "{:?}", all.keys());
    for (name, service) in &all {
        assert_eq!(service["profiles"][0], "elk", "{name}");
        let image = service["image"].as_str().expect("an image");
        assert!(image.ends_with(":${ELASTIC_VERSION:-8.19.21}"), "{image}");
        for (to, from) in mounts(service) {
            let file = from.strip_prefix("./").map(path);
            assert!(
                file.is_none_or(|file| file.exists()),
                "{name} mounts {from} on {to}"
            );
        }
    }
    let address = all["filebeat"]["environment"]["LOGSTASH_HOSTS"].as_str();
    assert_eq!(address, Some("${QUORATE_LOGSTASH:-logstash:5044}"));
    for file in [
        "compose.yaml",
        "shipper.yaml",
        "filebeat.yml",
        "logstash.conf",
        "init.sh",
    ] {
        let text = read(file).to_lowercase();
        let numbers = |word: &str| word.split('.').filter(|n| n.parse::<u8>().is_ok()).count();
        let is_loopback = |word: &str| word.contains("127.0.0.1");
        let addresses = text.split(|c: char| !c.is_ascii_digit() && c != '.');
        let odd: Vec<_> = addresses
            .filter(|w| numbers(w) == 4 && !is_loopback(w))
            .collect();
        assert!(odd.iter().all(|w| *w == "0.0.0.0"), "{file}: {odd:?}");
        assert!(!text.contains("changeme"), "{file}");
    }
}

#[test]
fn security_is_on_unless_it_is_turned_off() {
    let switch = "${ELK_SECURITY:-true}";
    let file = yaml(&read("compose.yaml"));
    let services = file["services"].as_object().expect("services");
    let elasticsearch = &services["elasticsearch"]["environment"];
    assert_eq!(elasticsearch["xpack.security.enabled"], switch);
    let mut told = Vec::new();
    for (name, service) in services {
        if service["entrypoint"].to_string().contains("/elk/init.sh") {
            assert_eq!(service["environment"]["ELK_SECURITY"], switch, "{name}");
            told.push(name.as_str());
        }
    }
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(read("init.sh").contains(&format!("security={switch}")));
}

/// Compose waits for the success of a job only if something depends on it; without, `up --wait` may
/// fail because the job has ended, or go on before it has.
#[test]
fn something_waits_for_the_success_of_every_job() {
    let file = yaml(&read("compose.yaml"));
    let services = file["services"].as_object().expect("services");
    let (jobs, others): (Vec<_>, Vec<_>) = services.iter().partition(|(_, service)| {
        let restart = service["restart"].as_str().unwrap_or_default();
        restart.starts_with("on-failure")
    });
    assert_eq!((jobs.len(), others.len()), (3, 4));
    let conditions = |service: &Value| service["depends_on"].as_object().cloned();
    for (job, _) in jobs {
        let waits = |service: &Value| {
            let on = conditions(service).and_then(|all| all.get(job).cloned());
            on.is_some_and(|on| on["condition"] == "service_completed_successfully")
        };
        assert!(others.iter().any(|(_, service)| waits(service)), "{job}");
    }
}

/// The mapped fields with their types.
fn mapping() -> BTreeMap<String, String> {
    fn walk(properties: &Value, before: &str, out: &mut BTreeMap<String, String>) {
        for (name, field) in properties.as_object().expect("properties") {
            let name = joined(before, name);
            if field["properties"].is_object() {
                walk(&field["properties"], &name, out);
                continue;
            }
            for (inner, field) in field["fields"].as_object().into_iter().flatten() {
                out.insert(
                    format!("{name}.{inner}"),
                    field["type"].as_str().expect("a type").into(),
                );
            }
            out.insert(name, field["type"].as_str().expect("a type").to_owned());
        }
    }
    let component: Value = serde_json::from_str(&read("component.json")).expect("JSON");
    let mut out = BTreeMap::new();
    walk(
        &component["template"]["mappings"]["properties"],
        "",
        &mut out,
    );
    out
}

#[test]
fn the_mappings_have_every_field_of_a_line_as_what_it_is() {
    let mapping = mapping();
    for field in FIELDS {
        let mapped = mapping.get(field.name).map(String::as_str);
        assert_eq!(mapped, Some(field.kind.mapping()), "{}", field.name);
    }
    let ours = mapping.keys().filter(|name| name.starts_with("quorate."));
    let unknown = ours.filter(|name| !FIELDS.iter().any(|field| field.name == name.as_str()));
    assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&String>::new());
    let template: Value = serde_json::from_str(&read("template.json")).expect("JSON");
    assert_eq!(template["composed_of"][0], "quorate-mappings");
    assert_eq!(template["template"]["lifecycle"]["data_retention"], "7d");
    assert!(template["data_stream"].is_object());
}

#[test]
fn every_reference_of_the_dashboard_leads_to_an_object_of_the_file() {
    let objects = panels::objects();
    let id = |object: &Value| (object["type"].clone(), object["id"].clone());
    let there: Vec<(Value, Value)> = objects.iter().map(id).collect();
    for object in &objects {
        assert!(
            object["coreMigrationVersion"].is_string()
                && object["typeMigrationVersion"].is_string()
        );
        for reference in object["references"].as_array().expect("references") {
            assert!(there.contains(&id(reference)), "{reference}");
        }
    }
    let dashboard = objects.last().expect("a dashboard");
    assert_eq!(dashboard["type"], "dashboard");
    let panels = dashboard["attributes"]["panelsJSON"]
        .as_str()
        .expect("panels");
    let panels: Vec<Value> = serde_json::from_str(panels).expect("JSON");
    let references = dashboard["references"].as_array().expect("references");
    let named: BTreeSet<&str> = references
        .iter()
        .filter_map(|r| r["name"].as_str())
        .collect();
    let mut taken = BTreeSet::new();
    for panel in &panels {
        let (index, grid) = (
            panel["panelIndex"].as_str().expect("an index"),
            &panel["gridData"],
        );
        let reference = panel["panelRefName"].as_str().expect("a name");
        assert!(
            named.contains(format!("{index}:{reference}").as_str()),
            "{panel}"
        );
        assert_eq!(grid["i"], index);
        let at = |name: &str| grid[name].as_u64().expect("a number");
        assert!(at("x") + at("w") <= 48, "{panel}");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{panel} lies over another");
            }
        }
    }
    assert_eq!(panels.len(), named.len());
    assert_eq!(panels.len(), Panel::all().len());
}

#[test]
fn every_panel_has_its_columns_and_asks_for_fields_that_are_mapped() {
    let mapping = mapping();
    for object in panels::objects()
        .iter()
        .filter(|object| object["type"] == "lens")
    {
        let layer = object["references"][0]["name"].as_str().expect("a name");
        let title = object["attributes"]["title"].as_str().expect("a title");
        let panel = Panel::titled(title);
        assert_eq!(
            layer,
            format!("indexpattern-datasource-layer-{}", panel.layer)
        );
        let ordered: BTreeSet<&String> = panel.order.iter().collect();
        assert_eq!(ordered, panel.columns.keys().collect(), "{title}");
        for (id, column) in &panel.columns {
            assert!(column["scale"].is_string(), "{title}: {id} would be empty");
            let field = column["sourceField"].as_str();
            let counts = column["operationType"] == "count" && field == Some("___records___");
            let filters = column["operationType"] == "filters" && field.is_none();
            let mapped = field.and_then(|field| mapping.get(field));
            let sorted = mapped.is_some_and(|kind| kind != "text");
            assert!(counts || filters || sorted, "{title}: {id} of {field:?}");
        }
        for id in accessors(&panel.visualization) {
            assert!(panel.columns.contains_key(&id), "{title}: {id}");
        }
        for field in fields(&panel.request()["query"]) {
            assert!(mapping.contains_key(&field), "{title}: {field}");
        }
    }
}

/// The columns that a visualisation shows.
fn accessors(visualization: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    keys_ending(visualization, &mut all);
    assert!(!all.is_empty(), "{visualization}");
    all
}

fn keys_ending(value: &Value, out: &mut BTreeSet<String>) {
    let names = [
        "columnId",
        "xAccessor",
        "splitAccessor",
        "metricAccessor",
        "secondaryMetricAccessor",
    ];
    let lists = ["accessors", "primaryGroups", "metrics"];
    for (name, value) in value.as_object().into_iter().flatten() {
        if names.contains(&name.as_str()) {
            out.extend(value.as_str().map(str::to_owned));
        } else if lists.contains(&name.as_str()) {
            let ids = value.as_array().into_iter().flatten();
            out.extend(ids.filter_map(Value::as_str).map(str::to_owned));
        } else {
            keys_ending(value, out);
        }
    }
    for item in value.as_array().into_iter().flatten() {
        keys_ending(item, out);
    }
}

/// The fields that a query names.
fn fields(query: &Value) -> Vec<String> {
    let clauses = query["bool"]["filter"].as_array().expect("clauses");
    let named = clauses
        .iter()
        .flat_map(|clause| clause.as_object().expect("a clause").values());
    named
        .flat_map(|of| of.as_object().expect("fields").keys().cloned())
        .collect()
}
